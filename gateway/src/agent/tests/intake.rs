use lamplighter_types::limits::ID_BYTES_MAX;
use lamplighter_types::work::{DeviceMark, DevicesHeld, SyncRequest};
use lamplighter_types::{
    AlarmChange, ConfigReport, DeploymentReport, DeploymentState, Device, DeviceEvent,
    DeviceSigned, DeviceStatus, Hash, Scope, SecretKey, Severity, codec,
};

use crate::agent::devices::{DEVICES_MAX, Devices, HELD_AT_ONCE_MAX, Learnt};
use crate::agent::intake::{self, Remedy, Unfit};
use crate::agent::refused::{Refused, RefusedError};
use crate::lwm2m::agent::ThingReport;
use crate::spool::Outgoing;
use crate::verify::tests::id;

fn key() -> SecretKey {
    SecretKey::from_seed([5; 32])
}

fn chain() -> Hash {
    Hash::of(b"chain")
}

fn device(name: &str, with_key: bool) -> Device {
    Device {
        device: id(name),
        owner: id("city"),
        offered_to: None,
        model: "lamp".to_owned(),
        hardware_class: "lamp-v1".to_owned(),
        district: Scope::city(),
        gateway: Some(id("gw")),
        key: with_key.then(|| key().public()),
        tags: Vec::new(),
        status: DeviceStatus::Active,
        registered_height: 1,
    }
}

fn devices(dir: &tempfile::TempDir) -> Devices {
    let devices = Devices::open(dir.path().join("devices.json")).unwrap();
    devices.learn([("lamp", true), ("mute", false)].map(|(name, with_key)| {
        let found = Some(device(name, with_key));
        (id(name), found, 5)
    }));
    devices
}

fn event(name: &str) -> DeviceEvent {
    DeviceEvent {
        device: id(name),
        sequence: 1,
        time_ms: 1,
        kind: "x-test".to_owned(),
        severity: Severity::Minor,
        alarm: AlarmChange::None,
        data: String::new(),
        signature: None,
    }
}

fn signed(mut event: DeviceEvent) -> DeviceEvent {
    event.sign(&chain(), &key());
    event
}

#[test]
fn only_what_the_device_itself_says_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir);
    let take = |endpoint: &str, event: &DeviceEvent| {
        intake::event(&devices, &chain(), endpoint, &codec::encode(event))
    };
    let good = signed(event("lamp"));
    assert_eq!(take("lamp", &good), Ok(Outgoing::Event(good.clone())));
    assert_eq!(
        take("mute", &good),
        Ok(Outgoing::Event(good.clone())),
        "it is signed: from which address it comes does not matter"
    );
    assert_eq!(take("lamp", &event("mute")), Err(Unfit::OtherDevice));
    assert_eq!(take("lamp", &event("lamp")), Err(Unfit::Unsigned));
    assert!(
        take("mute", &event("mute")).is_ok(),
        "without a key the gateway vouches"
    );
    assert_eq!(take("mute", &signed(event("mute"))), Err(Unfit::Signature));
    assert_eq!(take("gone", &event("gone")), Err(Unfit::Unknown));
    let mut changed = good.clone();
    changed.severity = Severity::Critical;
    assert_eq!(take("lamp", &changed), Err(Unfit::Signature));
    let long = signed(DeviceEvent {
        data: "d".repeat(1_025),
        ..event("lamp")
    });
    assert_eq!(take("lamp", &long), Err(Unfit::TooLong));
    let zero = signed(DeviceEvent {
        sequence: 0,
        ..event("lamp")
    });
    assert_eq!(take("lamp", &zero), Err(Unfit::SequenceZero));
    let bytes = codec::encode(&good);
    for cut in 0..bytes.len() {
        let cut = intake::event(&devices, &chain(), "lamp", &bytes[..cut]);
        assert_eq!(cut, Err(Unfit::Malformed));
    }
    let elsewhere = intake::event(&devices, &Hash::of(b"other"), "lamp", &bytes);
    assert_eq!(elsewhere, Err(Unfit::Signature), "of another ledger");
}

#[test]
fn only_what_will_never_be_right_is_to_be_forgotten() {
    let never = [
        Unfit::Malformed,
        Unfit::TooLong,
        Unfit::ControlCharacter,
        Unfit::SequenceZero,
    ];
    assert!(never.iter().all(|unfit| unfit.remedy() == Remedy::Forget));
    for unfit in [Unfit::OtherDevice, Unfit::Unknown] {
        assert_eq!(unfit.remedy(), Remedy::Register);
    }
    for unfit in [Unfit::Signature, Unfit::Unsigned] {
        assert_eq!(unfit.remedy(), Remedy::Wait, "the key may become known");
    }
}

#[test]
fn what_is_to_be_forgotten_is_written_down_but_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let mut refused = Refused::new(path.clone());
    let mut write = |time_ms| refused.add_unread("lamp", &[1, 2, 255], Unfit::Malformed, time_ms);
    write(1_000).unwrap();
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(&path).unwrap().trim()).unwrap();
    assert_eq!(line["code"], "gateway.malformed");
    assert_eq!(
        (&line["endpoint"], &line["bytes"]),
        (&"lamp".into(), &"0102ff".into())
    );
    let taken = (0..100).filter(|_| write(1_001).is_ok()).count();
    assert!(taken < 100);
    assert!(matches!(write(1_002), Err(RefusedError::TooMany)));
    write(1_001 + 60_000).unwrap();
}

#[test]
fn a_text_of_a_thing_without_a_key_is_made_fit_and_a_signed_one_must_be() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir);
    let config = |name: &str, detail: &str| ConfigReport {
        device: id(name),
        document: Hash::ZERO,
        applied: false,
        detail: detail.to_owned(),
        counter: 3,
        signature: None,
    };
    let take = |report: ConfigReport| {
        let endpoint = report.device.to_string();
        let bytes = codec::encode(&ThingReport::Config(report));
        intake::report(&devices, &chain(), &endpoint, &bytes)
    };
    let long = "é\u{1b}[2J".repeat(400);
    let Ok(Some(Outgoing::Config(taken))) = take(config("mute", &long)) else {
        panic!("not taken")
    };
    assert!(taken.detail.starts_with("é\u{fffd}[2J"));
    lamplighter_contracts::validate::text("detail", &taken.detail, 1_000).unwrap();
    assert!(taken.detail.len() > 990);
    let signed = |detail: &str| {
        let mut report = config("lamp", detail);
        report.sign(&chain(), &key());
        take(report)
    };
    assert!(signed("two\nlines").is_ok());
    assert_eq!(signed("\u{1b}[2J"), Err(Unfit::ControlCharacter));
    assert_eq!(signed(&"d".repeat(1_001)), Err(Unfit::TooLong));
}

#[test]
fn reports_keep_their_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir);
    let take =
        |report: &ThingReport| intake::report(&devices, &chain(), "lamp", &codec::encode(report));
    let mut report = ConfigReport {
        device: id("lamp"),
        document: Hash::ZERO,
        applied: true,
        detail: String::new(),
        counter: 3,
        signature: None,
    };
    report.sign(&chain(), &key());
    let taken = take(&ThingReport::Config(report.clone())).unwrap();
    assert_eq!(taken, Some(Outgoing::Config(report)));
    let mut step = DeploymentReport {
        rollout: id("r1"),
        device: id("lamp"),
        from: DeploymentState::Downloading,
        to: DeploymentState::Cancelled,
        code: 10,
        digest: None,
        seen_height: 1,
        counter: 4,
        detail: String::new(),
        signature: None,
    };
    step.sign(&chain(), &key());
    assert_eq!(
        take(&ThingReport::Deployment(step)),
        Ok(None),
        "the ledger cancels by itself"
    );
}

#[test]
fn devices_are_known_after_a_restart_and_never_older() {
    let dir = tempfile::tempdir().unwrap();
    let known = devices(&dir);
    assert!(known.admits("lamp") && !known.admits("other") && !known.admits("../x"));
    assert_eq!(
        known.learn([(id("lamp"), None, 4)]).gone,
        [],
        "an older proof"
    );
    assert_eq!(known.learn([(id("lamp"), None, 6)]).gone, [id("lamp")]);
    known.learn([(id("lamp"), Some(device("lamp", true)), 5)]);
    assert!(!known.admits("lamp"), "an older proof again");
    known.save().unwrap();
    assert!(!known.is_changed());
    drop(known);
    let again = Devices::open(dir.path().join("devices.json")).unwrap();
    assert!(!again.admits("lamp") && again.admits("mute"));
}

/// All that a gateway of many devices holds is said, in ranges that leave no name out, and nothing
/// of what is its own no more.
#[test]
fn what_is_held_is_said_in_ranges_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let known = Devices::open(dir.path().join("devices.json")).unwrap();
    assert_eq!(known.held(), [DevicesHeld::default()]);
    let count = 2 * HELD_AT_ONCE_MAX + 5;
    let name = |n: usize| format!("{n:05}-{}", "n".repeat(ID_BYTES_MAX - 6));
    known.learn((0..count).map(|n| (id(&name(n)), Some(device(&name(n), true)), 5)));
    known.learn([(id(&name(7)), None, 6)]);
    let held = known.held();
    assert_eq!(held.len(), 3);
    assert_eq!((&held[0].after, &held[2].until), (&None, &None));
    for pair in held.windows(2) {
        assert!(pair[0].until.is_some());
        assert_eq!(pair[0].until, pair[1].after);
    }
    for range in &held {
        let devices = Some(range.clone());
        let since = None;
        let json = serde_json::to_vec(&SyncRequest { since, devices }).unwrap();
        assert!(
            json.len() < 64 * 1024,
            "{} bytes hold a slow link up",
            json.len()
        );
        let first = range.devices.keys().next();
        let last = range.devices.keys().next_back();
        assert!(range.after.is_none() || range.after.as_ref() < first);
        assert!(range.until.is_none() || range.until.as_ref() >= last);
    }
    let names: Vec<_> = held.iter().flat_map(|range| range.devices.keys()).collect();
    assert_eq!(names.len(), count - 1);
    assert!(!names.contains(&&id(&name(7))));
    let mark = &held[0].devices[&id(&name(8))];
    assert_eq!(*mark, DeviceMark::of(&device(&name(8), true)));
    assert_ne!(*mark, DeviceMark::of(&device(&name(8), false)));
}

#[test]
fn there_are_no_more_devices_than_there_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let known = Devices::open(dir.path().join("devices.json")).unwrap();
    let name = |n: usize| format!("lamp-{n:05}");
    let many = DEVICES_MAX + 3;
    let learnt = known.learn((0..many).map(|n| (id(&name(n)), Some(device(&name(n), true)), 5)));
    assert_eq!(learnt.left_out, 3);
    // One that went makes place for another.
    known.learn([(id(&name(0)), None, 6)]);
    let learnt = known.learn([(id("late"), Some(device("late", true)), 6)]);
    assert_eq!(learnt, Learnt::default());
    assert!(known.admits("late"));
}
