use lamplighter_types::{
    AlarmChange, ConfigReport, DeploymentReport, DeploymentState, Device, DeviceEvent,
    DeviceSigned, DeviceStatus, Hash, Scope, SecretKey, Severity, codec,
};

use crate::lwm2m::agent::ThingReport;
use crate::runtime::device_table::DeviceTable;
use crate::runtime::report_check::{RejectReason, Remedy, ReportCheck};
use crate::spool::OutgoingReport;
use crate::verify::tests::id;

fn key() -> SecretKey {
    SecretKey::from_seed([5; 32])
}

fn chain() -> Hash {
    Hash::of(b"chain")
}

pub(super) fn device(name: &str, with_key: bool) -> Device {
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

pub(super) fn devices(dir: &tempfile::TempDir) -> DeviceTable {
    let devices = DeviceTable::open(dir.path().join("devices.json")).unwrap();
    devices.update([("lamp", true), ("mute", false)].map(|(name, with_key)| {
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

fn check_event(
    devices: &DeviceTable,
    chain_id: &Hash,
    endpoint: &str,
    bytes: &[u8],
) -> Result<OutgoingReport, RejectReason> {
    let check = ReportCheck {
        devices,
        chain_id,
        endpoint,
    };
    check.event(bytes)
}

fn check_report(
    devices: &DeviceTable,
    endpoint: &str,
    report: &ThingReport,
) -> Result<Option<OutgoingReport>, RejectReason> {
    let check = ReportCheck {
        devices,
        chain_id: &chain(),
        endpoint,
    };
    check.report(&codec::encode(report))
}

#[test]
fn only_events_of_the_device_itself_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir);
    let check = |endpoint: &str, event: &DeviceEvent| {
        check_event(&devices, &chain(), endpoint, &codec::encode(event))
    };
    let good = signed(event("lamp"));
    assert_eq!(
        check("lamp", &good),
        Ok(OutgoingReport::Event(good.clone()))
    );
    assert_eq!(
        check("mute", &good),
        Ok(OutgoingReport::Event(good.clone())),
        "it is signed: from which address it comes does not matter"
    );
    assert_eq!(
        check("lamp", &event("mute")),
        Err(RejectReason::OtherDevice)
    );
    assert_eq!(check("lamp", &event("lamp")), Err(RejectReason::Unsigned));
    assert!(
        check("mute", &event("mute")).is_ok(),
        "without a key the gateway vouches"
    );
    assert_eq!(
        check("mute", &signed(event("mute"))),
        Err(RejectReason::Signature)
    );
    assert_eq!(
        check("removed", &event("removed")),
        Err(RejectReason::Unknown)
    );
    let mut changed = good.clone();
    changed.severity = Severity::Critical;
    assert_eq!(check("lamp", &changed), Err(RejectReason::Signature));
    let long = signed(DeviceEvent {
        data: "d".repeat(1_025),
        ..event("lamp")
    });
    assert_eq!(check("lamp", &long), Err(RejectReason::TooLong));
    let broken_clock = signed(DeviceEvent {
        time_ms: u64::MAX,
        ..event("lamp")
    });
    assert_eq!(check("lamp", &broken_clock), Err(RejectReason::Malformed));
    let turned = signed(DeviceEvent {
        data: "\u{202e}kram".to_owned(),
        ..event("lamp")
    });
    assert_eq!(check("lamp", &turned), Err(RejectReason::ControlCharacter));
    let zero = signed(DeviceEvent {
        sequence: 0,
        ..event("lamp")
    });
    assert_eq!(check("lamp", &zero), Err(RejectReason::SequenceZero));
    let bytes = codec::encode(&good);
    for cut in 0..bytes.len() {
        let cut = check_event(&devices, &chain(), "lamp", &bytes[..cut]);
        assert_eq!(cut, Err(RejectReason::Malformed));
    }
    let elsewhere = check_event(&devices, &Hash::of(b"other"), "lamp", &bytes);
    assert_eq!(elsewhere, Err(RejectReason::Signature), "of another ledger");
}

#[test]
fn only_malformed_reports_are_discarded() {
    let never = [
        RejectReason::Malformed,
        RejectReason::TooLong,
        RejectReason::ControlCharacter,
        RejectReason::SequenceZero,
    ];
    assert!(
        never
            .iter()
            .all(|reason| reason.remedy() == Remedy::Discard)
    );
    for reason in [RejectReason::OtherDevice, RejectReason::Unknown] {
        assert_eq!(reason.remedy(), Remedy::Register);
    }
    for reason in [RejectReason::Signature, RejectReason::Unsigned] {
        assert_eq!(reason.remedy(), Remedy::Retry, "the key may become known");
    }
}

#[test]
fn an_unsigned_text_is_sanitized_and_a_signed_one_must_be_valid() {
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
    let check = |report: ConfigReport| {
        let endpoint = report.device.to_string();
        check_report(&devices, &endpoint, &ThingReport::Config(report))
    };
    let long = "é\u{1b}[2J".repeat(400);
    let Ok(Some(OutgoingReport::Config(checked))) = check(config("mute", &long)) else {
        panic!("not accepted")
    };
    assert!(checked.detail.starts_with("é\u{fffd}[2J"));
    lamplighter_contracts::validate::text("detail", &checked.detail, 1_000).unwrap();
    assert!(checked.detail.len() > 990);
    let signed = |detail: &str| {
        let mut report = config("lamp", detail);
        report.sign(&chain(), &key());
        check(report)
    };
    assert!(signed("two\nlines").is_ok());
    assert_eq!(signed("\u{1b}[2J"), Err(RejectReason::ControlCharacter));
    assert_eq!(
        signed("turned \u{202e}around"),
        Err(RejectReason::ControlCharacter)
    );
    assert_eq!(signed(&"d".repeat(1_001)), Err(RejectReason::TooLong));
}

#[test]
fn reports_keep_their_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let devices = devices(&dir);
    let check = |report: &ThingReport| check_report(&devices, "lamp", report);
    let mut report = ConfigReport {
        device: id("lamp"),
        document: Hash::ZERO,
        applied: true,
        detail: String::new(),
        counter: 3,
        signature: None,
    };
    report.sign(&chain(), &key());
    let checked = check(&ThingReport::Config(report.clone())).unwrap();
    assert_eq!(checked, Some(OutgoingReport::Config(report)));
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
        check(&ThingReport::Deployment(step)),
        Ok(None),
        "the ledger cancels by itself"
    );
}
