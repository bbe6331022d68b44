//! Things that fetch their packages by themselves.

use std::net::SocketAddr;
use std::time::Duration;

use lamplighter_types::Hash;
use tokio::time::Instant;

use super::super::{
    PullAddresses, SessionInput, SessionStep, SouthCommand, StepResult, ThingSession, Transfer,
    WorkNotice,
};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::{Stage, UpdateResult, path};

const COAP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5683);

struct Testbed {
    session: ThingSession,
    now: Instant,
}

/// A session with the transfer of an image of 5,000 bytes to a Thing that only fetches.
fn testbed(http: Option<SocketAddr>) -> Testbed {
    let mut session = ThingSession::unpaced();
    let now = Instant::now();
    session.set_pull_addresses(PullAddresses::of(COAP, COAP, http));
    let registered = SessionInput::Registered {
        agent: false,
        queue_mode: false,
    };
    session.input(now, registered);
    let transfer = SouthCommand::Transfer(Transfer {
        endpoint: "lamp".to_owned(),
        deployment: "d".to_owned(),
        artifact: Hash::ZERO,
        size_bytes: 5_000,
        offer: vec![],
    });
    session.input(now, SessionInput::Command(transfer));
    Testbed { session, now }
}

impl Testbed {
    fn request(&mut self) -> Request {
        loop {
            match self.session.step(self.now) {
                SessionStep::Wait(at) => self.now = at,
                SessionStep::Request(request) => return *request,
                other => panic!("{other:?}"),
            }
        }
    }

    fn answers(&mut self, path: &str, response: Response) -> Vec<WorkNotice> {
        assert_eq!(self.request().path_text(), path);
        let result = StepResult::Response(Box::new(response));
        self.session.answer(self.now, result)
    }

    /// Runs until the address of the package is written.
    fn until_the_address(&mut self, protocols: Response) -> Vec<WorkNotice> {
        self.answers(path::DELIVERY, number(0));
        self.answers(path::STATE, number(0));
        self.answers(path::PROTOCOLS, protocols)
    }
}

fn number(value: u8) -> Response {
    Response::content(format::TEXT, value.to_string().into_bytes())
}

/// Resource 8 in TLV, with an instance for each protocol.
fn protocols(values: &[u8]) -> Response {
    let instances = values.iter().zip(0..).map(|(value, id)| [0x41, id, *value]);
    let instances: Vec<u8> = instances.flatten().collect();
    let head = [0x88, 8, instances.len() as u8];
    Response::content(format::LWM2M_TLV, [&head[..], &instances].concat())
}

const NAME: &str = "0000000000000000";

#[test]
fn a_thing_that_only_fetches_gets_the_address() {
    let mut bed = testbed(None);
    bed.until_the_address(Response::new(Code::NOT_FOUND));
    let written = bed.request();
    assert_eq!(written.path_text(), path::PACKAGE_URI);
    let uri = format!("coap://127.0.0.1:5683/fw/{NAME}");
    assert_eq!(String::from_utf8(written.payload).unwrap(), uri);
    bed.answers(path::PACKAGE_URI, Response::new(Code::CHANGED));
    // It begins when it likes, and needs its time.
    for (state, result) in [(0, 0), (0, 1), (1, 0), (1, 0)] {
        bed.answers(path::STATE, number(state));
        assert_eq!(bed.answers(path::RESULT, number(result)), []);
    }
    bed.answers(path::STATE, number(2));
    let notices = bed.answers(path::RESULT, number(0));
    let [WorkNotice::Stage { stage, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Downloaded);
}

#[test]
fn the_protocol_is_one_that_both_have() {
    let http: SocketAddr = "127.0.0.1:8000".parse().unwrap();
    for (named, http, scheme) in [
        (&[1, 0, 2][..], Some(http), Some("coap:")),
        (&[2, 3], Some(http), Some("http:")),
        (&[2, 3], None, None),
        (&[1, 3, 4, 5], Some(http), None),
    ] {
        let mut bed = testbed(http);
        let notices = bed.until_the_address(protocols(named));
        let Some(scheme) = scheme else {
            let [WorkNotice::Stage { stage, .. }] = &notices[..] else {
                panic!("{notices:?}")
            };
            let failed = Stage::Failed(UpdateResult::UnsupportedProtocol);
            assert_eq!(*stage, failed, "{named:?}");
            continue;
        };
        let uri = String::from_utf8(bed.request().payload).unwrap();
        assert!(uri.starts_with(scheme), "{uri} for {named:?}");
    }
}

#[test]
fn a_thing_without_text_gets_the_address_in_tlv() {
    let mut bed = testbed(None);
    bed.until_the_address(protocols(&[0]));
    let refused = Response::new(Code::UNSUPPORTED_FORMAT);
    assert_eq!(bed.answers(path::PACKAGE_URI, refused), []);
    let request = bed.request();
    assert_eq!(request.content_format, Some(format::LWM2M_TLV));
    let uri = format!("coap://127.0.0.1:5683/fw/{NAME}");
    assert_eq!(
        request.payload,
        [&[0xC8, 1, 41][..], uri.as_bytes()].concat()
    );
    let notices = bed.answers(path::PACKAGE_URI, Response::new(Code::BAD_REQUEST));
    let [WorkNotice::Stage { stage, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Failed(UpdateResult::InvalidUri));
}

#[test]
fn a_fetch_that_continues_after_a_registration_is_not_repeated() {
    let mut bed = testbed(None);
    bed.until_the_address(protocols(&[0]));
    bed.answers(path::PACKAGE_URI, Response::new(Code::CHANGED));
    bed.answers(path::STATE, number(1));
    let registered = SessionInput::Registered {
        agent: false,
        queue_mode: false,
    };
    bed.session.input(bed.now, registered);
    bed.answers(path::STATE, number(1));
    bed.answers(path::RESULT, number(0));
    // It is given up by an empty address, since it takes no package.
    let cancel = SouthCommand::Cancel {
        endpoint: "lamp".to_owned(),
        deployment: "d".to_owned(),
    };
    bed.session.input(bed.now, SessionInput::Command(cancel));
    bed.answers(path::PACKAGE, Response::new(Code::METHOD_NOT_ALLOWED));
    let request = bed.request();
    assert_eq!(request.path_text(), path::PACKAGE_URI);
    assert!(request.payload.is_empty());
}

#[test]
fn a_fetch_that_never_begins_ends() {
    let mut bed = testbed(None);
    bed.until_the_address(protocols(&[0]));
    bed.answers(path::PACKAGE_URI, Response::new(Code::CHANGED));
    let begun = bed.now;
    let notices = loop {
        bed.answers(path::STATE, number(0));
        let notices = bed.answers(path::RESULT, number(0));
        if !notices.is_empty() {
            break notices;
        }
    };
    let [WorkNotice::Stage { stage, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Failed(UpdateResult::UpdateFailed));
    let waited = bed.now - begun;
    assert!(waited >= Duration::from_secs(3_700), "{waited:?}");
}
