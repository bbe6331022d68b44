use lamplighter_types::{
    AlarmChange, ConfigReport, DeploymentReport, DeploymentState, Device, DeviceEvent,
    DeviceSigned, DeviceStatus, Hash, Scope, SecretKey, Severity, codec,
};

use crate::agent::devices::Devices;
use crate::agent::intake::{self, Unfit};
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
    devices
        .learn(&id("lamp"), Some(device("lamp", true)), 5)
        .unwrap();
    devices
        .learn(&id("mute"), Some(device("mute", false)), 5)
        .unwrap();
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
    assert_eq!(take("mute", &good), Err(Unfit::OtherDevice));
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
    assert!(
        !known.learn(&id("lamp"), None, 4).unwrap(),
        "an older proof"
    );
    assert!(known.learn(&id("lamp"), None, 6).unwrap());
    assert!(
        !known
            .learn(&id("lamp"), Some(device("lamp", true)), 5)
            .unwrap()
    );
    drop(known);
    let again = Devices::open(dir.path().join("devices.json")).unwrap();
    assert!(!again.admits("lamp") && again.admits("mute"));
}
