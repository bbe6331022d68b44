use std::cell::Cell;
use std::io;
use std::path::Path;

use lamplighter_types::{
    Action, AlarmChange, ConfigReport, DeviceEvent, EventsAction, Hash, Severity, Signature,
};

use crate::agent::intake::Unfit;
use crate::agent::refused::{Refused, RefusedError};
use crate::spool::Outgoing;
use crate::verify::tests::id;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn report() -> Outgoing {
    Outgoing::Config(ConfigReport {
        device: id("lamp"),
        document: Hash::ZERO,
        applied: true,
        detail: String::new(),
        counter: 3,
        signature: None,
    })
}

fn add(refused: &mut Refused) -> io::Result<()> {
    let reason = ("config.document".to_owned(), "no document".to_owned());
    refused.add(&report(), &reason, 1)
}

thread_local! {
    static SYNCS: Cell<u32> = const { Cell::new(0) };
    static BROKEN: Cell<bool> = const { Cell::new(false) };
}

fn sync(_file: &Path) -> io::Result<()> {
    SYNCS.set(SYNCS.get() + 1);
    match BROKEN.get() {
        true => Err(io::Error::other("broken")),
        false => Ok(()),
    }
}

#[test]
fn a_letter_lasts_only_once_the_directory_has_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let mut refused = Refused::with_directory_sync(path.clone(), sync);
    BROKEN.set(true);
    assert!(add(&mut refused).is_err(), "the new file may be gone again");
    BROKEN.set(false);
    add(&mut refused).unwrap();
    assert_eq!(SYNCS.get(), 2, "the file is there, but not yet for good");
    add(&mut refused).unwrap();
    assert_eq!(SYNCS.get(), 2);
    let full = std::fs::File::options().write(true).open(&path).unwrap();
    full.set_len(16 * 1024 * 1024).unwrap();
    add(&mut refused).unwrap();
    assert_eq!(SYNCS.get(), 3, "two names have changed");
    assert!(path.with_extension("before.jsonl").exists());
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
}

/// As `docs/gateway.md` has it.
#[test]
fn an_event_can_be_taken_out_of_its_letter_and_sent_by_hand() {
    let event = DeviceEvent {
        device: id("lamp"),
        sequence: 7,
        time_ms: 1,
        kind: "lampFailure".to_owned(),
        severity: Severity::Major,
        alarm: AlarmChange::Raise,
        data: "{}".to_owned(),
        signature: Some(Signature([7; 64])),
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let reason = ("devices.wrong_status".to_owned(), "suspended".to_owned());
    let outgoing = Outgoing::Event(event.clone());
    Refused::new(path.clone())
        .add(&outgoing, &reason, 1)
        .unwrap();
    let line: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(line["code"], "devices.wrong_status");
    let action = serde_json::json!({"events": {"append": {"events": [line["report"]["Event"]]}}});
    let events = vec![event];
    assert_eq!(
        serde_json::from_value::<Action>(action).unwrap(),
        Action::Events(EventsAction::Append { events })
    );
}

#[test]
fn a_torn_line_does_not_swallow_the_next_letter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    std::fs::write(&path, "{\"time_ms\":1,\"co").unwrap();
    let mut refused = Refused::new(path.clone());
    add(&mut refused).unwrap();
    add(&mut refused).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let whole = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert_eq!((whole.count(), text.lines().count()), (2, 3), "{text}");
}

#[test]
fn nonsense_of_a_thing_pushes_nothing_out_for_days() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let mut refused = Refused::new(path.clone());
    let bytes = vec![7; 16 * 1024];
    let mut flood = |from_ms: u64, until_ms: u64| {
        let times = (from_ms..until_ms).step_by(5 * MINUTE_MS as usize);
        let tries = times.flat_map(|time_ms| [time_ms; 20]);
        let mut write = |ms| refused.add_unread("lamp", &bytes, Unfit::Malformed, ms);
        tries.filter(|time_ms| write(*time_ms).is_ok()).count()
    };
    let now = 20_000 * DAY_MS;
    assert!(flood(now, now + 1) > 1, "some at once");
    assert!(flood(now + 1, now + 2 * DAY_MS) > 100, "and others later");
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length < 16 * 1024 * 1024, "{length} bytes in two days");
    assert!(!path.with_extension("before.jsonl").exists());
    // Small ones of others are still taken, as long as they are few.
    let mut refused = Refused::new(path);
    for minute in 0..60 {
        let time_ms = now + minute * MINUTE_MS;
        for _ in 0..8 {
            let small = refused.add_unread("lamp", &[7; 100], Unfit::Malformed, time_ms);
            assert!(!matches!(small, Err(RefusedError::TooMany)));
        }
    }
}
