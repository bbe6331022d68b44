mod inventory;
mod mapping;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::link_format::{DOCUMENT_BYTES_MAX, LinkFormatError, parse};
use super::registration::{REGISTRATIONS_MAX, endpoint_name};
use super::value::{integer, parse_tlv, text};
use super::version::{Comparison, compare};
use super::*;
use crate::coap::{Code, Peer, Request, Response, format};

fn addr(port: u16) -> Peer {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

fn registration(queries: &[&str], links: &str) -> Request {
    let request = Request::new(Code::POST, path::REGISTRATION);
    let request = request.with_payload(format::LINK_FORMAT, links.as_bytes().to_vec());
    queries
        .iter()
        .fold(request, |r, q| r.with_query((*q).to_owned()))
}

/// Registers a Thing under the name in its request.
fn register(
    registry: &mut Registry,
    now: Instant,
    peer: Peer,
    request: &Request,
    location: &str,
) -> Result<Registration, RegistrationError> {
    let endpoint = endpoint_name(request)?.to_owned();
    registry.register(now, peer, endpoint, request, location.to_owned())
}

#[test]
fn links_with_attributes_are_read() {
    let text = r#"</>;rt="oma.lwm2m";ct=11543, </3/0>,</5/0>;ver=1.1;obs,</33000/0>"#;
    let links = parse(text.as_bytes()).unwrap();
    let targets: Vec<&str> = links.iter().map(|l| l.target.as_str()).collect();
    assert_eq!(targets, ["/", "/3/0", "/5/0", "/33000/0"]);
    assert_eq!(
        links[0].attributes[0],
        ("rt".to_owned(), "oma.lwm2m".to_owned())
    );
    assert_eq!(links[2].attributes[1], ("obs".to_owned(), String::new()));
    assert_eq!(parse(b"").unwrap(), []);
    let quoted = parse(
        br#" </a> ;t="x,<y>;\"z" ; b= , </c>
"#,
    );
    let quoted = quoted.unwrap();
    let attribute = |(name, value): &(String, String)| format!("{name}:{value}");
    let attributes: Vec<_> = quoted[0].attributes.iter().map(attribute).collect();
    assert_eq!(attributes, ["t:x,<y>;\"z", "b:"]);
    assert_eq!(quoted.len(), 2);
}

#[test]
fn malformed_links_are_refused() {
    for text in [
        "<",
        "/3/0",
        "</3/0>,",
        "</3/0>;",
        "</3/0>;a=\"",
        "</3/0>x",
        "</3/0>;=1",
        "</3/0>;=",
        "</3/0>;;a",
        "</3/0",
        "</3/0>,</5/0",
        "</3/0>;a=\"é",
        "</3/0>;a=\"\\",
        "</3/0>;a=\"\\\"",
        ",</3/0>",
        "</3/0>,,</5/0>",
    ] {
        let result = parse(text.as_bytes());
        assert_eq!(result, Err(LinkFormatError::Malformed), "{text}");
    }
    assert_eq!(parse(&[0xFF]), Err(LinkFormatError::NotText));
    let many = format!("</1>{}", ";a".repeat(17));
    assert_eq!(
        parse(many.as_bytes()),
        Err(LinkFormatError::TooManyAttributes)
    );
    let long = DOCUMENT_BYTES_MAX + 1;
    assert_eq!(
        parse(&vec![b'a'; long]),
        Err(LinkFormatError::TooLong(long))
    );
}

#[test]
fn a_device_may_list_hundreds_of_objects() {
    let many: Vec<String> = (0..1_000).map(|n| format!("</3300/{n}>")).collect();
    assert_eq!(parse(many.join(",").as_bytes()).unwrap().len(), 1_000);
}

/// Documents near to the link format, most of them valid.
const LINKS: &str = concat!(
    "(</?[a-z0-9]{0,3}>",
    "(;[a-z]{1,2}(=(\"[a-z<>;, ]{0,4}\"|[a-z0-9]{1,3}))?){0,3}",
    ",? ?){0,4}"
);

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[<>/0-9;,=\"\\\\ a-zé]{0,60}") {
        let _ = parse(text.as_bytes());
    }

    /// An accepted document is parsed completely: its links, written again, parse to the same.
    #[test]
    fn accepted_links_are_complete(text in LINKS) {
        if let Ok(links) = parse(text.as_bytes()) {
            let written: Vec<String> = links.iter().map(|link| {
                let attributes = link.attributes.iter();
                let attributes = attributes.map(|(name, value)| format!(";{name}=\"{value}\""));
                format!("<{}>{}", link.target, attributes.collect::<String>())
            }).collect();
            prop_assert_eq!(parse(written.join(",").as_bytes()), Ok(links));
        }
    }

    #[test]
    fn any_tlv_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse_tlv(&bytes);
    }

    #[test]
    fn any_value_in_any_format_is_read_or_not(
        content_format in prop::sample::select(vec![0, 42, 60, 110, 112, 1542, 11542, 11543]),
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let response = Response::content(content_format, bytes);
        let _ = (integer(&response, 3), text(&response, 3));
    }

    #[test]
    fn an_id_maps_to_itself_in_upper_and_lower_case(name in "[a-z0-9][a-z0-9._]{0,30}") {
        let endpoints = Endpoints::default();
        let device = endpoints.device(&name).unwrap();
        prop_assert_eq!(device.as_str(), &name);
        prop_assert_eq!(endpoints.device(&name.to_ascii_uppercase()), Some(device));
    }
}

#[test]
fn all_spellings_of_a_name_are_one_device() {
    let endpoints = Endpoints::default();
    let device = |name: &str| endpoints.device(name).map(|id| id.to_string());
    for name in [
        "00124b0018aabbcc",
        "00124B0018AABBCC",
        "00:12:4b:00:18:aa:bb:cc",
        "00-12-4B-00-18-AA-BB-CC",
        "urn:dev:mac:00124b0018aabbcc",
        "URN:DEV:OS:00124B0018AABBCC",
        "urn:dev:os:00:12:4b:00:18:aa:bb:cc",
    ] {
        assert_eq!(device(name).as_deref(), Some("00124b0018aabbcc"), "{name}");
    }
    for (name, id) in [
        ("00:12:4B:AA:BB:CC", "00124baabbcc"),
        ("Lamp-001", "lamp-001"),
        ("urn:imei:354658090100980", "urn-imei-354658090100980"),
        ("urn:dev:os:32473-123456", "urn-dev-os-32473-123456"),
        ("urn:uuid:F81D4FAE-7DEC", "urn-uuid-f81d4fae-7dec"),
        ("node+7", "node-7"),
        ("00:12:4b", "00-12-4b"),
    ] {
        assert_eq!(device(name).as_deref(), Some(id), "{name}");
    }
    assert_eq!(device(":lamp"), None);
    assert_eq!(device(&"x".repeat(65)), None);
}

#[test]
fn a_table_maps_any_name_to_a_device() {
    let table = [
        ("URN:IMEI:354658090100980", "lamp-101"),
        ("lamp-1", "lamp-2"),
    ];
    let entry = |(name, id): (&str, &str)| (name.to_owned(), id.parse().unwrap());
    let endpoints = Endpoints::new(&table.into_iter().map(entry).collect());
    let device = |name: &str| endpoints.device(name).unwrap().to_string();
    assert_eq!(device("urn:imei:354658090100980"), "lamp-101");
    assert_eq!(device("LAMP-1"), "lamp-2");
    assert_eq!(device("lamp-3"), "lamp-3");
}

#[test]
fn versions_are_compared_by_their_numbers() {
    let wanted = "1.1.10".parse().unwrap();
    for same in [
        "1.1.10",
        "v1.1.10",
        "V1.1.10",
        " 1.1.10\n",
        "1.1.10+build7",
        "1.1.10\0",
    ] {
        assert_eq!(compare(wanted, same), Comparison::Same, "{same:?}");
    }
    for other in ["1.1.1", "1.1.100", "v2.1.10", "11.1.0"] {
        assert_eq!(compare(wanted, other), Comparison::Other, "{other:?}");
    }
    for unknown in [
        "",
        "1.1",
        "1.1.10-rc1",
        "release 7",
        "1.1.10.0",
        "vv1.1.10",
        "01.1.10",
    ] {
        assert_eq!(compare(wanted, unknown), Comparison::Unknown, "{unknown:?}");
    }
}

#[test]
fn values_come_as_text_or_tlv() {
    let response = Response::content(format::TEXT, b"2".to_vec());
    assert_eq!(integer(&response, 3), Some(2));
    for padded in ["2\0", " 2\r\n\0\0"] {
        let response = Response::content(format::TEXT, padded.as_bytes().to_vec());
        assert_eq!(integer(&response, 3), Some(2), "{padded:?}");
    }
    let response = Response::content(format::TEXT, b"2\x001".to_vec());
    assert_eq!(integer(&response, 3), None);
    let response = Response::content(format::LWM2M_TLV, vec![0xC1, 3, 2]);
    assert_eq!(integer(&response, 3), Some(2));
    assert_eq!(integer(&response, 5), None);
    let response = Response::content(format::LWM2M_TLV, vec![0xC2, 3, 0xFF, 0xFE]);
    assert_eq!(integer(&response, 3), Some(-2));
    let tlv = [&[0xC8, 3, 9][..], b"1.0.0-rc1"].concat();
    let response = Response::content(format::LWM2M_TLV, tlv);
    assert_eq!(text(&response, 3).as_deref(), Some("1.0.0-rc1"));
    assert_eq!(integer(&Response::new(Code::NOT_FOUND), 3), None);
    assert_eq!(parse_tlv(&[0xC8, 3, 9, 1]), None);
}

#[test]
fn values_come_in_the_format_that_the_answer_names() {
    let number = |content_format, bytes: &[u8]| {
        integer(&Response::content(content_format, bytes.to_vec()), 3)
    };
    let words =
        |content_format, bytes: &[u8]| text(&Response::content(content_format, bytes.to_vec()), 3);
    assert_eq!(number(format::CBOR, &[0x02]), Some(2));
    assert_eq!(number(format::LWM2M_TLV_OLD, &[0xC1, 3, 2]), Some(2));
    // A resource inside its object instance.
    assert_eq!(number(format::LWM2M_TLV, &[0x03, 0, 0xC1, 3, 2]), Some(2));
    let json = br#"[{"bn":"/5/0/","n":"5","v":1},{"n":"3","v":2}]"#;
    assert_eq!(number(format::SENML_JSON, json), Some(2));
    assert_eq!(
        number(format::SENML_JSON, br#"[{"bn":"/5/0/3","v":2.0}]"#),
        Some(2)
    );
    assert_eq!(
        number(format::SENML_JSON, br#"[{"bn":"/5/0/3","v":2.5}]"#),
        None
    );
    let old = br#"{"bn":"/5/0/","e":[{"n":"3","v":2}]}"#;
    assert_eq!(number(format::LWM2M_JSON, old), Some(2));
    let json = br#"[{"bn":"/3/0/3","vs":"2.0.0"}]"#;
    assert_eq!(words(format::SENML_JSON, json).as_deref(), Some("2.0.0"));
    // [{-2: "/5/0/3", 2: 2}] and [{-2: "/3/0/", 0: "3", 3: "2.0.0"}]
    let cbor = [&[0x81, 0xA2, 0x21, 0x66][..], b"/5/0/3", &[0x02, 0x02]].concat();
    assert_eq!(number(format::SENML_CBOR, &cbor), Some(2));
    let head = [&[0x81, 0xA3, 0x21, 0x65][..], b"/3/0/", &[0x00, 0x61, b'3']].concat();
    let cbor = [&head[..], &[0x03, 0x65], b"2.0.0"].concat();
    assert_eq!(words(format::SENML_CBOR, &cbor).as_deref(), Some("2.0.0"));
    assert_eq!(number(format::SENML_CBOR, &cbor[..9]), None);
    // A floating-point number, which small encoders use for every number.
    let float = [
        &[0x81, 0xA2, 0x21, 0x66][..],
        b"/5/0/3",
        &[0x02, 0xFA, 0x40, 0, 0, 0],
    ]
    .concat();
    assert_eq!(number(format::SENML_CBOR, &float), Some(2));
}

#[test]
fn state_and_result_determine_the_stage() {
    let stage = |state, result| {
        let state = FirmwareState::from_value(state).unwrap();
        Stage::of(state, UpdateResult::from_value(result).unwrap())
    };
    assert_eq!(stage(1, 0), Stage::Downloading);
    assert_eq!(stage(2, 0), Stage::Downloaded);
    assert_eq!(stage(3, 0), Stage::Installing);
    assert_eq!(stage(0, 1), Stage::Trial);
    assert_eq!(stage(0, 0), Stage::Idle);
    assert_eq!(
        stage(0, 5),
        Stage::Rejected(UpdateResult::IntegrityCheckFailed)
    );
    assert_eq!(
        stage(0, 6),
        Stage::Rejected(UpdateResult::UnsupportedPackage)
    );
    assert_eq!(stage(0, 7), Stage::Rejected(UpdateResult::InvalidUri));
    for failed in [2, 3, 4, 8, 9] {
        assert_eq!(
            stage(0, failed),
            Stage::Failed(UpdateResult::from_value(failed).unwrap())
        );
    }
    assert_eq!(stage(2, 8), Stage::Failed(UpdateResult::UpdateFailed));
    assert_eq!(stage(0, 10), Stage::Cancelled);
    assert_eq!(stage(2, 11), Stage::Postponed);
    assert_eq!(FirmwareState::from_value(4), None);
    assert_eq!(UpdateResult::from_value(12), None);
    for value in 0..12 {
        assert_eq!(
            i64::from(UpdateResult::from_value(value).unwrap().value()),
            value
        );
    }
}

#[test]
fn a_registration_lasts_while_it_is_extended() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let request = registration(&["ep=lamp-1", "lt=60", "lwm2m=1.1", "b=U"], "</3/0>,</5/0>");
    let thing = register(&mut registry, now, addr(1), &request, "a").unwrap();
    assert!(thing.objects.updatable && !thing.objects.agent);
    assert_eq!(registry.next_expiry(), Some(now + Duration::from_secs(60)));
    let updated_at = now + Duration::from_secs(59);
    let update = Request::new(Code::POST, "/rd/a");
    let thing = registry.update(updated_at, addr(2), "a", &update).unwrap();
    assert_eq!(thing.peer, Some(addr(2)));
    assert_eq!(registry.find_by_peer(addr(1)), None);
    assert_eq!(registry.find_by_peer(addr(2)).unwrap().endpoint, "lamp-1");
    assert_eq!(registry.expire(updated_at + Duration::from_secs(59)), []);
    assert_eq!(
        registry.expire(updated_at + Duration::from_secs(60)).len(),
        1
    );
    assert_eq!(
        registry.update(updated_at, addr(2), "a", &update),
        Err(RegistrationError::Unknown)
    );
    assert_eq!(registry.next_expiry(), None);
}

#[test]
fn lifetimes_are_between_five_seconds_and_thirty_days() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let month = 30 * 86_400;
    let cases = [
        ("lt=0", month),
        ("lt=1", 5),
        ("lt=60", 60),
        ("lt=4294967295", month),
        ("b=U", 86_400),
    ];
    for (argument, seconds) in cases {
        let request = registration(&["ep=lamp-1", argument], "</3/0>");
        let thing = register(&mut registry, now, addr(1), &request, "a").unwrap();
        assert_eq!(thing.lifetime, Duration::from_secs(seconds), "{argument}");
    }
}

#[test]
fn a_second_registration_replaces_the_first() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let request = registration(&["ep=lamp-1", "lwm2m=1.2"], "</33000/0>,</5>");
    register(&mut registry, now, addr(1), &request, "a").unwrap();
    let thing = register(&mut registry, now, addr(2), &request, "b").unwrap();
    assert!(thing.objects.agent && thing.objects.updatable);
    assert_eq!(registry.deregister("a"), Err(RegistrationError::Unknown));
    assert_eq!(
        registry.find_by_endpoint("lamp-1").unwrap().peer,
        Some(addr(2))
    );
    assert_eq!(registry.deregister("b").unwrap().endpoint, "lamp-1");
    assert_eq!(registry.find_by_endpoint("lamp-1"), None);
    assert_eq!(registry.find_by_peer(addr(2)), None);
}

#[test]
fn queue_mode_is_asked_for_in_the_forms_of_both_versions() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let mut queue_mode = |queries: &[&str]| {
        let queries = [&["ep=lamp", "lt=0"], queries].concat();
        let request = registration(&queries, "</3/0>");
        let registered = register(&mut registry, now, addr(1), &request, "a").unwrap();
        assert_eq!(registered.lifetime, Duration::from_secs(30 * 86_400));
        registered.queue_mode
    };
    assert!(queue_mode(&["b=UQ"]), "1.0, whose version may be left out");
    assert!(queue_mode(&["lwm2m=1.1", "b=U", "Q"]));
    assert!(queue_mode(&["lwm2m=1.1", "b=UT", "Q="]));
    assert!(!queue_mode(&["lwm2m=1.1", "b=U"]));
    assert!(!queue_mode(&["lwm2m=1.2"]));
    // An update changes it if it names a binding.
    let update = |registry: &mut Registry, queries: &[&str]| {
        let request = registration(queries, "");
        registry
            .update(now, addr(1), "a", &request)
            .unwrap()
            .queue_mode
    };
    assert!(update(&mut registry, &["b=U", "Q"]));
    assert!(update(&mut registry, &["lt=60"]));
    assert!(!update(&mut registry, &["b=U"]));
    let elsewhere = registration(&["b=S"], "");
    let refused = registry.update(now, addr(1), "a", &elsewhere);
    assert_eq!(refused.unwrap_err().code(), Code::BAD_REQUEST);
}

#[test]
fn bad_registrations_are_refused() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let mut refused = |queries: &[&str], links: &str| {
        let request = registration(queries, links);
        register(&mut registry, now, addr(1), &request, "a")
            .unwrap_err()
            .code()
    };
    assert_eq!(refused(&["lwm2m=1.1"], ""), Code::BAD_REQUEST);
    assert_eq!(refused(&["ep=a b", "lwm2m=1.1"], ""), Code::BAD_REQUEST);
    assert_eq!(
        refused(&["ep=a", "lwm2m=1.1", "lt=soon"], ""),
        Code::BAD_REQUEST
    );
    assert_eq!(
        refused(&["ep=a", "lwm2m=2.0"], ""),
        Code::PRECONDITION_FAILED
    );
    assert_eq!(
        refused(&["ep=a", "lwm2m=1.1", "b=S"], ""),
        Code::BAD_REQUEST
    );
    assert_eq!(
        refused(&["ep=a", "lwm2m=1.1", "b=T"], ""),
        Code::BAD_REQUEST
    );
    assert_eq!(refused(&["ep=a", "lwm2m=1.1"], "</5"), Code::BAD_REQUEST);
    let deep = r#"</a/b/c/d/e>;rt="oma.lwm2m""#;
    assert_eq!(refused(&["ep=a", "lwm2m=1.1"], deep), Code::BAD_REQUEST);
}

#[test]
fn udp_is_among_the_transports_of_a_fielded_device() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    for binding in ["b=U", "b=UQ", "b=UQS", "b=US", "b=UT", "b=UN", "b=SU"] {
        let queries = ["ep=lamp", "lwm2m=1.0", "lt=30", "sms=+11296929753", binding];
        let request = registration(&queries, r#"</>;rt="oma.lwm2m";ct=11,</1/0>,</3/0>,</5/0>"#);
        let thing = register(&mut registry, now, addr(1), &request, binding).unwrap();
        assert!(thing.objects.updatable && thing.objects.root.is_empty());
    }
}

#[test]
fn objects_may_be_below_another_root() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let links = r#"</lwm2m>;rt="other oma.lwm2m",</lwm2m/3/0>,</lwm2m/5/0>,</33000/0>"#;
    let request = registration(&["ep=lamp", "lwm2m=1.1"], links);
    let objects = register(&mut registry, now, addr(1), &request, "a")
        .unwrap()
        .objects;
    assert_eq!(objects.root, ["lwm2m"]);
    assert!(objects.updatable && !objects.agent);
}

#[test]
fn a_thing_that_checks_orders_lists_another_version_of_the_object() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    for (links, checks) in [
        ("</5/0>,</33000/0>;ver=1.1", true),
        ("</33000>;ver=\"1.1\",</33000/0>", true),
        ("</x>;rt=\"oma.lwm2m\",</x/33000/0>;ver=1.1", true),
        ("</5/0>;ver=1.1,</33000/0>", false),
        ("</33000/0>;ver=1.0", false),
        ("</33000/0>;rt=1.1", false),
        ("</33001/0>;ver=1.1,</33000/0>", false),
        ("</x/33000/0>;ver=1.1,</33000/0>", false),
    ] {
        let request = registration(&["ep=lamp", "lwm2m=1.1"], links);
        let thing = register(&mut registry, now, addr(1), &request, "a").unwrap();
        assert_eq!(thing.objects.checks_orders, checks, "{links}");
    }
}

#[test]
fn a_thing_that_takes_casts_lists_an_attribute_of_the_object() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    for (links, takes) in [
        ("</5/0>,</33000/0>;ver=1.1;cast=1", true),
        ("</33000>;cast=\"1\",</33000/0>", true),
        ("</33000/0>;ver=1.1", false),
        ("</33000/0>;cast=2", false),
        ("</33000/0>,</5/0>;cast=1", false),
    ] {
        let request = registration(&["ep=lamp", "lwm2m=1.1"], links);
        let thing = register(&mut registry, now, addr(1), &request, "a").unwrap();
        assert_eq!(thing.objects.takes_casts, takes, "{links}");
    }
}

/// Another Thing registers from the same address, by DHCP or by a datagram with a false source.
#[test]
fn an_address_belongs_to_the_newest_registration() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let thing = |name: &str| registration(&[&format!("ep={name}"), "lwm2m=1.1"], "</5/0>");
    let (first, second) = (thing("lamp-101"), thing("lamp-102"));
    register(&mut registry, now, addr(1), &first, "a").unwrap();
    register(&mut registry, now, addr(1), &second, "b").unwrap();
    let displaced = registry.find_by_endpoint("lamp-101").unwrap();
    assert_eq!(
        displaced.peer, None,
        "what is meant for it must not go there"
    );
    let update = Request::new(Code::POST, "/rd/a");
    let moved = registry.update(now, addr(2), "a", &update).unwrap();
    assert_eq!(moved.peer, Some(addr(2)));
    assert_eq!(registry.find_by_peer(addr(1)).unwrap().endpoint, "lamp-102");
    assert_eq!(registry.find_by_peer(addr(2)).unwrap().endpoint, "lamp-101");
    // Back at the first address: now the other one is displaced.
    registry.update(now, addr(1), "a", &update).unwrap();
    assert_eq!(registry.find_by_endpoint("lamp-102").unwrap().peer, None);
    registry.deregister("b").unwrap();
    assert_eq!(registry.find_by_peer(addr(1)).unwrap().endpoint, "lamp-101");
}

#[test]
fn the_table_is_bounded() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    for n in 0..REGISTRATIONS_MAX {
        let request = registration(&[&format!("ep=lamp-{n}"), "lwm2m=1.1"], "</5/0>");
        register(&mut registry, now, addr(n as u16), &request, &n.to_string()).unwrap();
    }
    let request = registration(&["ep=one-more", "lwm2m=1.1"], "</5/0>");
    let error = register(&mut registry, now, addr(9999), &request, "x").unwrap_err();
    assert_eq!(error, RegistrationError::Full);
    let again = registration(&["ep=lamp-7", "lwm2m=1.1"], "</5/0>");
    register(&mut registry, now, addr(9999), &again, "x").unwrap();
}

#[test]
fn all_values_of_an_instance_are_read_with_their_names() {
    use super::records::records;
    use super::senml::{SenmlRecord, SenmlValue};
    let named = |name: &str, value| SenmlRecord {
        name: name.to_owned(),
        value: Some(value),
    };
    let dimmer = [0xC8, 0x16, 0xDB, 1, 40];
    let on = [0xE1, 0x16, 0xDA, 1];
    let level = [0xE1, 0x16, 0xDB, 40];
    let temperature = [&[0xE4, 0x16, 0x44][..], &21.5f32.to_be_bytes()].concat();
    let unit = [&[0xE3, 0x16, 0x45][..], b"Cel"].concat();
    let inside = [&on[..], &level, &temperature, &unit].concat();
    let expected = [
        named("/3311/0/5850", SenmlValue::Boolean(true)),
        named("/3311/0/5851", SenmlValue::Integer(40)),
        named("/3311/0/5700", SenmlValue::Float(21.5)),
        named("/3311/0/5701", SenmlValue::Text("Cel".to_owned())),
    ];
    let flat = Response::content(format::LWM2M_TLV, inside.clone());
    assert_eq!(records(&flat, &["3311", "0"]).unwrap(), expected);
    // The same inside of its instance, as an answer about the object.
    let instance = [&[0x08, 0, inside.len() as u8][..], &inside].concat();
    let whole = Response::content(format::LWM2M_TLV, instance);
    assert_eq!(records(&whole, &["3311"]).unwrap(), expected);
    let resource = Response::content(format::LWM2M_TLV, level.to_vec());
    let [record] = &records(&resource, &["3311", "0", "5851"]).unwrap()[..] else {
        panic!("one value")
    };
    assert_eq!(record.name, "/3311/0/5851");
    // Numbers that JSON can't have, and what is malformed.
    let nan = [&[0xE4, 0x16, 0x44][..], &f32::NAN.to_be_bytes()].concat();
    let nan = Response::content(format::LWM2M_TLV, nan);
    let nan = records(&nan, &["3303", "0"]).unwrap();
    assert!(matches!(nan[0].value, Some(SenmlValue::Bytes(_))));
    let short = Response::content(format::LWM2M_TLV, dimmer.to_vec());
    assert_eq!(records(&short, &["3311", "0"]), None);
    let text = Response::content(format::TEXT, b"40".to_vec());
    assert_eq!(records(&text, &["3311", "0", "5851"]), None);
}

#[test]
fn the_listed_sensors_and_actuators_are_observable() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let mut links: Vec<String> = (0..20).map(|n| format!("</lw/3311/{n}>")).collect();
    links.insert(
        0,
        r#"</lw>;rt="oma.lwm2m",</lw/3/0>,</lw/3303>,</3300/1>"#.to_owned(),
    );
    let request = registration(&["ep=lamp"], &links.join(","));
    let registered = register(&mut registry, now, addr(1), &request, "a").unwrap();
    let observable = registered.objects.observable;
    assert_eq!(observable.len(), 8);
    assert_eq!(observable[..2], ["/3311/0", "/3311/1"]);
}

proptest! {
    #[test]
    fn any_bytes_are_values_or_refused(bytes: Vec<u8>, kind in 0..3usize) {
        let format = [format::LWM2M_TLV, format::SENML_CBOR, format::SENML_JSON][kind];
        let response = Response::content(format, bytes);
        let _ = super::records::records(&response, &["3311", "0"]);
        let _ = super::value::integers(&response, 8);
    }
}
