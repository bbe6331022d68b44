use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use lamplighter_types::{
    Action, AlarmChange, ConfigReport, DeviceEvent, EventsAction, Hash, Severity, Signature,
};
use tempfile::TempDir;

use crate::runtime::dead_letter::{DeadLetterError, DeadLetterFile};
use crate::runtime::report_check::RejectReason;
use crate::spool::OutgoingReport;
use crate::submission::Rejection;
use crate::verify::tests::id;

const MINUTE: Duration = Duration::from_secs(60);

fn rejection(code: &str) -> Rejection {
    Rejection {
        code: code.to_owned(),
        message: "refused".to_owned(),
    }
}

fn add(file: &mut DeadLetterFile) -> Result<(), DeadLetterError> {
    let report = OutgoingReport::Config(ConfigReport {
        device: id("lamp"),
        document: Hash::ZERO,
        applied: true,
        detail: String::new(),
        counter: 3,
        signature: None,
    });
    file.add_report(&report, &rejection("config.document"), 1)
}

thread_local! {
    static SYNCS: Cell<u32> = const { Cell::new(0) };
    static BROKEN: Cell<bool> = const { Cell::new(false) };
}

fn sync(_file: &Path) -> io::Result<()> {
    SYNCS.set(SYNCS.get() + 1);
    if BROKEN.get() {
        return Err(io::Error::other("broken"));
    }
    Ok(())
}

#[test]
fn a_letter_is_durable_only_once_the_directory_has_its_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("refused.jsonl");
    let mut file = DeadLetterFile::with_directory_sync(path.clone(), Instant::now(), sync);
    BROKEN.set(true);
    assert!(add(&mut file).is_err(), "a crash may lose the new file");
    BROKEN.set(false);
    add(&mut file).unwrap();
    assert_eq!(
        SYNCS.get(),
        2,
        "the file is there, but its name was not synced"
    );
    add(&mut file).unwrap();
    assert_eq!(SYNCS.get(), 2);
    let full = std::fs::File::options().write(true).open(&path).unwrap();
    full.set_len(16 * 1024 * 1024).unwrap();
    add(&mut file).unwrap();
    assert_eq!(SYNCS.get(), 3, "two names have changed");
    assert!(path.with_extension("before.jsonl").exists());
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
}

/// `docs/gateway.md` describes it.
#[test]
fn an_event_can_be_copied_from_its_letter_and_sent_by_hand() {
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
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("refused.jsonl");
    let outgoing = OutgoingReport::Event(event.clone());
    DeadLetterFile::new(path.clone(), Instant::now())
        .add_report(&outgoing, &rejection("devices.wrong_status"), 1)
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
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("refused.jsonl");
    std::fs::write(&path, "{\"time_ms\":1,\"co").unwrap();
    let mut file = DeadLetterFile::new(path.clone(), Instant::now());
    add(&mut file).unwrap();
    add(&mut file).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let whole = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert_eq!((whole.count(), text.lines().count()), (2, 3), "{text}");
}

/// Adds a malformed message.
fn add_message(
    file: &mut DeadLetterFile,
    bytes: &[u8],
    now: Instant,
) -> Result<(), DeadLetterError> {
    file.add_message("lamp", bytes, RejectReason::Malformed, 1_000, now)
}

#[test]
fn rejected_messages_are_written_but_not_without_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("refused.jsonl");
    let now = Instant::now();
    let mut file = DeadLetterFile::new(path.clone(), now);
    add_message(&mut file, &[1, 2, 255], now).unwrap();
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(&path).unwrap().trim()).unwrap();
    assert_eq!(line["code"], "gateway.malformed");
    assert_eq!(
        (&line["endpoint"], &line["bytes"]),
        (&"lamp".into(), &"0102ff".into())
    );
    let written = (0..100)
        .filter(|_| add_message(&mut file, &[1, 2, 255], now).is_ok())
        .count();
    assert!(written < 100);
    let refused = add_message(&mut file, &[1, 2, 255], now);
    assert!(matches!(refused, Err(DeadLetterError::TooMany)));
    add_message(&mut file, &[1, 2, 255], now + MINUTE).unwrap();
}

#[test]
fn malformed_messages_push_no_letter_out_for_days() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("refused.jsonl");
    let start = Instant::now();
    let mut file = DeadLetterFile::new(path.clone(), start);
    let bytes = vec![7; 16 * 1024];
    let at_once = (0..20)
        .filter(|_| add_message(&mut file, &bytes, start).is_ok())
        .count();
    assert!(at_once > 1);
    let mut written = 0;
    for step in 1..2 * 24 * 12 {
        let now = start + step * 5 * MINUTE;
        let tries = (0..20).filter(|_| add_message(&mut file, &bytes, now).is_ok());
        written += tries.count();
    }
    assert!(written > 100);
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length < 16 * 1024 * 1024, "{length} bytes in two days");
    assert!(!path.with_extension("before.jsonl").exists());
    // Short messages of others are still accepted, as long as they are few.
    let mut file = DeadLetterFile::new(path, start);
    for minute in 0..60 {
        for _ in 0..8 {
            let short = add_message(&mut file, &[7; 100], start + minute * MINUTE);
            assert!(!matches!(short, Err(DeadLetterError::TooMany)));
        }
    }
}

/// Fills a file to its last byte.
fn fill(path: &Path) {
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path);
    file.unwrap().set_len(16 * 1024 * 1024).unwrap();
}

#[test]
fn full_files_refuse_letters_and_drop_none() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("refused.jsonl");
    let before = path.with_extension("before.jsonl");
    let now = Instant::now();
    let mut file = DeadLetterFile::new(path.clone(), now);
    fill(&path);
    // The second file is for what the ledger rejected.
    let refused = add_message(&mut file, &[1], now);
    assert!(matches!(refused, Err(DeadLetterError::Full { .. })));
    add(&mut file).unwrap();
    let refused = add_message(&mut file, &[1], now);
    assert!(matches!(refused, Err(DeadLetterError::Full { .. })));
    fill(&path);
    assert!(matches!(add(&mut file), Err(DeadLetterError::Full { .. })));
    assert!(path.exists() && before.exists());
    std::fs::remove_file(&before).unwrap();
    add(&mut file).unwrap();
    std::fs::remove_file(&before).unwrap();
    add_message(&mut file, &[1], now).unwrap();
}
