use super::*;
use crate::record::ReportedConfig;
use crate::{Device, DeviceState, Id, Tag};

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn device() -> Device {
    Device {
        device: id("lamp-17"),
        owner: id("harbour"),
        offered_to: None,
        model: "Lamp X".to_owned(),
        hardware_class: "lamp-v1".to_owned(),
        district: Scope::new("north/harbour").unwrap(),
        gateway: Some(id("gw-1")),
        key: None,
        tags: vec![Tag {
            name: "pole".to_owned(),
            value: "it's \"17\"".to_owned(),
        }],
        status: DeviceStatus::Suspended,
        registered_height: 3,
    }
}

fn state() -> DeviceState {
    DeviceState {
        version: Some("1.10.0".parse().unwrap()),
        release: Some(id("lamp-1.10")),
        digest: None,
        security_counter: 0,
        report_counter: 0,
        drifted: true,
        active_rollout: None,
        confirmed: Vec::new(),
        key_rotations: 0,
    }
}

const HOUR: u64 = 3_600_000;
const NOW: u64 = 1_000_000 * HOUR;

/// Whether a filter chooses the lamp, which was last seen two hours ago.
fn matches(text: &str) -> bool {
    let filter: Filter = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    let (device, state) = (device(), state());
    let config = ReportedConfig {
        device: device.device.clone(),
        document: Hash([7; 32]),
        applied: true,
        detail: String::new(),
        attested: true,
        height: 9,
    };
    filter.matches(&DeviceFacts {
        device: &device,
        state: Some(&state),
        config: Some(&config),
        alarms: &["lampFailure".to_owned()],
        last_seen_ms: Some(NOW - 2 * HOUR),
        now_ms: NOW,
    })
}

#[test]
fn each_field_is_compared() {
    let hash = Hash([7; 32]).to_string();
    for yes in [
        "device==lamp-17",
        "device==lamp-*",
        "model=='Lamp X'",
        "model==\"Lamp X\"",
        "model!=Lamp",
        "hardware_class==lamp-v1",
        "district==north",
        "district==north/harbour",
        "district!=north/har",
        "tag.pole=='it\\'s \"17\"'",
        "tag.pole==*",
        "tag.ring==none",
        "owner==harbour",
        "gateway==gw-1",
        "gateway!=none",
        "status==suspended",
        "version==1.10.0",
        "version=gt=1.9.9",
        "version<2.0.0",
        "version>=1.10.0",
        "release==lamp-1.10",
        "drifted==true",
        "rollout==none",
        &format!("config=={hash}"),
        "config_applied==true",
        "alarm==lampFailure",
        "alarm==*",
        "alarm!=none",
        "last_seen=lt=-1h",
        "last_seen=gt=-3h",
        "last_seen<=-2h",
        "last_seen=ge=-2h",
        &format!("last_seen<{NOW}"),
        "device=in=(lamp-1,lamp-17)",
        "device=out=(lamp-1,lamp-2)",
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in [
        "device==lamp-1",
        "model=='Lamp*'",
        "model==lamp*",
        "district==north/har",
        "district==south",
        "tag.pole==none",
        "gateway==none",
        "status==active",
        "version=gt=1.10.0",
        "version=lt=1.9.0",
        "release==none",
        "drifted==false",
        "alarm==none",
        "alarm==door",
        "last_seen=lt=-2h",
        "last_seen=gt=-90m",
        "last_seen=lt=-1d",
        "device=out=(lamp-17,lamp-2)",
    ] {
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn and_binds_more_than_or_and_brackets_group() {
    // Wrong and wrong, or right.
    assert!(matches("owner==a;owner==b,owner==harbour"));
    assert!(matches("owner==harbour,owner==a;owner==b"));
    assert!(!matches("(owner==harbour,owner==a);owner==b"));
    assert!(matches("owner==a and owner==b or owner==harbour"));
    assert!(!matches(
        "( owner == harbour or owner == a ) and owner == b"
    ));
    // Words of the language are values too.
    assert!(matches("owner!=and,owner==or") && !matches("owner==and or owner==or"));
}

fn fault(text: &str) -> (usize, FilterFault) {
    let error = text.parse::<Filter>().unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("sign {}", error.position)),
        "{error}"
    );
    (error.position, error.fault)
}

#[test]
fn faults_name_their_place() {
    let unknown = |name: &str| FilterFault::UnknownField(name.to_owned());
    assert_eq!(fault("colour==red"), (1, unknown("colour")));
    assert_eq!(fault("owner==a;colour==red"), (10, unknown("colour")));
    // Places count signs, not bytes.
    assert_eq!(fault("model==Größe;colour==red"), (14, unknown("colour")));
    assert_eq!(fault("tag==red"), (1, unknown("tag")));
    let (position, wrong) = fault("owner=like=a");
    assert_eq!(
        (position, wrong),
        (6, FilterFault::UnknownOperator("=like=".to_owned()))
    );
    let (position, wrong) = fault("owner=lt=a");
    assert!(
        matches!(wrong, FilterFault::Operator { .. }) && position == 6,
        "{wrong}"
    );
    let (position, wrong) = fault("last_seen==5");
    assert!(
        matches!(wrong, FilterFault::Operator { .. }) && position == 10,
        "{wrong}"
    );
    for (text, position) in [
        ("status==broken", 9),
        ("version=gt=1.2", 12),
        ("version=gt=none", 12),
        ("drifted==none", 10),
        ("last_seen=lt=-5y", 14),
        ("last_seen=lt=-99999999999999999d", 14),
        ("last_seen=lt=9007199254740993", 14),
        ("config==abc", 9),
        ("district==NORTH//", 11),
        ("owner==a;status=in=(active,asleep)", 28),
    ] {
        let (at, wrong) = fault(text);
        assert!(
            matches!(wrong, FilterFault::Value { .. }),
            "{text}: {wrong}"
        );
        assert_eq!(at, position, "{text}");
    }
    for (text, position) in [
        ("", 1),
        ("owner", 6),
        ("owner==", 8),
        ("owner==a;", 10),
        ("(owner==a", 10),
        ("owner=in=a", 10),
        ("owner=in=()", 11),
        ("owner==;owner==a", 8),
    ] {
        let (at, wrong) = fault(text);
        assert!(
            matches!(wrong, FilterFault::Missing { .. }),
            "{text}: {wrong}"
        );
        assert_eq!(at, position, "{text}");
    }
    let unexpected = |got, wanted| FilterFault::Unexpected { got, wanted };
    let end = "`;`, `,` or the end";
    assert_eq!(fault("owner==a)"), (9, unexpected(')', end)));
    assert_eq!(fault("owner==a b"), (10, unexpected('b', end)));
    assert_eq!(fault("owner=='a"), (8, FilterFault::OpenQuote));
    assert_eq!(fault("owner==\u{7}"), (8, unexpected('\u{7}', "a value")));
}

#[test]
fn a_filter_has_bounds() {
    let nested = |depth| format!("{}owner==a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(FILTER_DEPTH_MAX).parse::<Filter>().is_ok());
    let (position, wrong) = fault(&nested(FILTER_DEPTH_MAX + 1));
    assert_eq!(
        (position, wrong),
        (FILTER_DEPTH_MAX + 2, FilterFault::TooDeep)
    );
    // Brackets one after the other are not deep.
    let flat = vec!["(owner==a)"; FILTER_TERMS_MAX].join(",");
    assert!(flat.parse::<Filter>().is_ok());
    let (position, wrong) = fault(&format!("{flat},owner==b"));
    assert_eq!(wrong, FilterFault::TooMany);
    assert_eq!(position, flat.len() + 9);
    let values = vec!["a"; FILTER_TERMS_MAX + 1].join(",");
    assert_eq!(
        fault(&format!("owner=in=({values})")).1,
        FilterFault::TooMany
    );
    let long = format!("model=={}", "ä".repeat(FILTER_BYTES_MAX));
    let (_, wrong) = fault(&long);
    assert_eq!(wrong, FilterFault::TooLong { got: long.len() });
    let most = format!("model=={}", "x".repeat(FILTER_BYTES_MAX - 7));
    assert!(most.parse::<Filter>().is_ok());
}

#[test]
fn no_text_makes_the_parser_panic() {
    let pieces = [
        "(", ")", "'", "\"", "\\", "=", "==", "=in=", "!", "<", ";", ",", " and ", "owner", "tag.",
        "é", "\u{0}", "-", "9", "*", "none",
    ];
    let mut seed: u64 = 7;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..seed % 9 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if let Err(error) = text.parse::<Filter>() {
            assert!(
                error.position <= text.chars().count() + 1,
                "{text:?}: {error}"
            );
        }
    }
}
