use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::link_format::{LINKS_MAX, LinkError, parse};
use super::registration::REGISTRATIONS_MAX;
use super::value::{integer, parse_tlv, text};
use super::*;
use crate::coap::{Code, Request, Response, format};

fn addr(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn registration(queries: &[&str], links: &str) -> Request {
    let request = Request::new(Code::POST, path::REGISTRATION);
    let request = request.with_payload(format::LINK_FORMAT, links.as_bytes().to_vec());
    queries
        .iter()
        .fold(request, |r, q| r.with_query((*q).to_owned()))
}

#[test]
fn links_with_attributes_are_read() {
    let text = r#"</>;rt="oma.lwm2m";ct=11543, </3/0>,</5/0>;ver=1.1;obs,</33000/0>"#;
    let links = parse(text.as_bytes()).unwrap();
    let targets: Vec<&str> = links.iter().map(|l| l.target.as_str()).collect();
    assert_eq!(targets, ["/", "/3/0", "/5/0", "/33000/0"]);
    assert_eq!(
        links[0].attributes[0],
        ("rt".to_owned(), Some("oma.lwm2m".to_owned()))
    );
    assert_eq!(links[2].attributes[1], ("obs".to_owned(), None));
    assert_eq!(parse(b"").unwrap(), []);
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
    ] {
        assert!(
            matches!(parse(text.as_bytes()), Err(LinkError::Malformed(_))),
            "{text}"
        );
    }
    assert_eq!(parse(&[0xFF]), Err(LinkError::NotText));
    let many = vec!["</1>"; LINKS_MAX + 1].join(",");
    assert_eq!(parse(many.as_bytes()), Err(LinkError::TooMany));
    assert_eq!(parse(&[b'a'; 5000]), Err(LinkError::TooLong(5000)));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[<>/0-9;,=\" a-zé]{0,60}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn any_tlv_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse_tlv(&bytes);
    }
}

#[test]
fn values_come_as_text_or_tlv() {
    let response = Response::content(format::TEXT, b"2".to_vec());
    assert_eq!(integer(&response, 3), Some(2));
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
fn state_and_result_give_the_stage() {
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
fn a_registration_lives_as_long_as_it_is_prolonged() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let request = registration(&["ep=lamp-1", "lt=60", "lwm2m=1.1", "b=U"], "</3/0>,</5/0>");
    let thing = registry
        .register(now, addr(1), &request, "a".to_owned())
        .unwrap();
    assert!(thing.updatable && !thing.agent);
    assert_eq!(registry.next_expiry(), Some(now + Duration::from_secs(60)));
    let later = now + Duration::from_secs(59);
    let update = Request::new(Code::POST, "/rd/a");
    let thing = registry.update(later, addr(2), "a", &update).unwrap();
    assert_eq!(thing.peer, addr(2));
    assert_eq!(registry.at(addr(1)), None);
    assert_eq!(registry.at(addr(2)).unwrap().endpoint, "lamp-1");
    assert_eq!(registry.expire(later + Duration::from_secs(59)), []);
    assert_eq!(registry.expire(later + Duration::from_secs(60)).len(), 1);
    assert_eq!(
        registry.update(later, addr(2), "a", &update),
        Err(RegistrationError::Unknown)
    );
    assert_eq!(registry.next_expiry(), None);
}

#[test]
fn a_second_registration_replaces_the_first() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let request = registration(&["ep=lamp-1", "lwm2m=1.2"], "</33000/0>,</5>");
    registry
        .register(now, addr(1), &request, "a".to_owned())
        .unwrap();
    let thing = registry
        .register(now, addr(2), &request, "b".to_owned())
        .unwrap();
    assert!(thing.agent && thing.updatable);
    assert_eq!(registry.deregister("a"), Err(RegistrationError::Unknown));
    assert_eq!(registry.named("lamp-1").unwrap().peer, addr(2));
    assert_eq!(registry.deregister("b").unwrap().endpoint, "lamp-1");
    assert_eq!(registry.named("lamp-1"), None);
    assert_eq!(registry.at(addr(2)), None);
}

#[test]
fn bad_registrations_are_refused() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let mut refused = |queries: &[&str], links: &str| {
        let request = registration(queries, links);
        registry
            .register(now, addr(1), &request, "a".to_owned())
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
    assert_eq!(refused(&["ep=a"], ""), Code::PRECONDITION_FAILED);
    assert_eq!(
        refused(&["ep=a", "lwm2m=1.1", "b=S"], ""),
        Code::BAD_REQUEST
    );
    assert_eq!(refused(&["ep=a", "lwm2m=1.1"], "</5"), Code::BAD_REQUEST);
}

#[test]
fn the_table_is_bounded() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    for n in 0..REGISTRATIONS_MAX {
        let request = registration(&[&format!("ep=lamp-{n}"), "lwm2m=1.1"], "</5/0>");
        registry
            .register(now, addr(n as u16), &request, n.to_string())
            .unwrap();
    }
    let request = registration(&["ep=one-more", "lwm2m=1.1"], "</5/0>");
    let error = registry
        .register(now, addr(9999), &request, "x".to_owned())
        .unwrap_err();
    assert_eq!(error, RegistrationError::Full);
    let again = registration(&["ep=lamp-7", "lwm2m=1.1"], "</5/0>");
    registry
        .register(now, addr(9999), &again, "x".to_owned())
        .unwrap();
}
