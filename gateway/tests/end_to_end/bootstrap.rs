//! Things that get their account by a bootstrap, and register with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lamplighter_gateway::coap::{
    CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format,
};
use lamplighter_gateway::lwm2m::value::parse_tlv;

use crate::city::{City, until};
use crate::foreign::{Foreign, register};
use crate::keys::{SecureGateway, psk};
use crate::secure::SecureSocket;

const BOOTSTRAP_KEY: [u8; 16] = [0xB5; 16];
const LASTING_KEY: [u8; 16] = [0x1A; 16];

/// A Thing that has the account of its bootstrap server at `/0/0`, and no other.
#[derive(Clone, Default)]
struct NewThing(Arc<Mutex<Account>>);

#[derive(Default)]
struct Account {
    /// What was written, by the path of its instance.
    written: BTreeMap<String, BTreeMap<u16, Vec<u8>>>,
    deleted: Vec<String>,
    is_finished: bool,
    /// Refuses the end.
    is_inconsistent: bool,
}

#[async_trait]
impl CoapService for NewThing {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let mut account = self.0.lock().unwrap();
        let path = request.path_text();
        match (request.method, path.as_str()) {
            (Code::GET, "/") => {
                let list = b"</>;lwm2m=1.1,</0/0>,</3/0>".to_vec();
                Response::content(format::LINK_FORMAT, list)
            }
            (Code::DELETE, "/0" | "/1") => {
                account.deleted.push(path);
                Response::new(Code::DELETED)
            }
            (Code::PUT, _) if request.content_format == Some(format::LWM2M_TLV) => {
                let entries = parse_tlv(&request.payload).unwrap();
                let values = entries.iter().map(|e| (e.id, e.value.to_vec())).collect();
                account.written.insert(path, values);
                Response::new(Code::CHANGED)
            }
            (Code::POST, "/bs") if account.is_inconsistent => Response::new(Code::NOT_ACCEPTABLE),
            (Code::POST, "/bs") => {
                account.is_finished = true;
                Response::new(Code::CHANGED)
            }
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}

impl NewThing {
    fn with<T>(&self, call: impl FnOnce(&mut Account) -> T) -> T {
        call(&mut self.0.lock().unwrap())
    }
}

/// Asks for a bootstrap; returns code and reason of the response.
async fn ask(endpoint: &CoapEndpoint, gateway: std::net::SocketAddr, name: &str) -> (Code, String) {
    let request = Request::new(Code::POST, "/bs").with_query(format!("ep={name}"));
    let response = endpoint.handle().request(gateway, request).await.unwrap();
    (response.code, response.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_thing_gets_its_account_by_a_bootstrap_and_registers_with_it() {
    let city = City::build(&["foreign-1", "foreign-2"]).await;
    let bootstrap = "purpose = \"bootstrap\"";
    let entries = [
        psk("bs-1", &BOOTSTRAP_KEY, "foreign-1", bootstrap),
        psk("old-1", &[3; 16], "foreign-1", ""),
        psk("lasting-1", &LASTING_KEY, "foreign-1", ""),
        psk("bs-2", &BOOTSTRAP_KEY, "foreign-2", bootstrap),
    ];
    let gateway = SecureGateway::start(&city, &entries).await;
    let (plain, secure) = (gateway.plain, gateway.secure);
    let thing = NewThing::default();
    let serve = async |identity: &str, key: [u8; 16]| {
        let socket = Arc::new(SecureSocket::connect(secure, identity, key).await);
        CoapEndpoint::start(socket, CoapConfig::default(), Arc::new(thing.clone())).unwrap()
    };
    let endpoint = serve("bs-1", BOOTSTRAP_KEY).await;
    until("the gateway to know its devices", async || {
        let (code, _) = ask(&endpoint, secure, "foreign-2").await;
        assert_eq!(code, Code::FORBIDDEN);
        let (code, _) = ask(&endpoint, secure, "foreign-1").await;
        (code == Code::CHANGED).then_some(())
    })
    .await;
    until("the end of the bootstrap", async || {
        thing.with(|account| account.is_finished).then_some(())
    })
    .await;
    let written = thing.with(|account| {
        assert_eq!(account.deleted, ["/0", "/1"]);
        account.written.clone()
    });
    let paths: Vec<&str> = written.keys().map(String::as_str).collect();
    assert_eq!(paths, ["/0/1", "/1/0"], "not that of its bootstrap server");
    let security = &written["/0/1"];
    let uri = String::from_utf8(security[&0].clone()).unwrap();
    assert_eq!(uri, format!("coaps://{secure}"));
    assert_eq!((&security[&1][..], &security[&2][..]), (&[0][..], &[0][..]));
    assert_eq!(security[&3], b"lasting-1", "the newest entry");
    assert_eq!(security[&5], LASTING_KEY);
    assert_eq!(security[&10], written["/1/0"][&0], "the short server id");
    assert_eq!(written["/1/0"][&1], 86_400u32.to_be_bytes());
    // The key for bootstraps is for nothing else, and the lasting one not for bootstraps.
    let refused = register(&endpoint, secure, "foreign-1").await;
    assert_eq!(refused, Some(Code::UNAUTHORIZED));
    let device = Foreign::default();
    let socket = SecureSocket::connect(secure, "lasting-1", LASTING_KEY).await;
    let registered = device.serve(Arc::new(socket));
    let code = register(&registered, secure, "foreign-1").await;
    assert_eq!(code, Some(Code::CREATED));
    let (code, reason) = ask(&registered, secure, "foreign-1").await;
    assert_eq!(code, Code::FORBIDDEN, "{reason}");
    // In clear, and of a device that has no other key.
    let stranger = Foreign::default().start().await;
    let (code, reason) = ask(&stranger, plain, "foreign-1").await;
    assert_eq!(code, Code::UNAUTHORIZED);
    assert!(reason.contains("DTLS or OSCORE"), "{reason}");
    let other = serve("bs-2", BOOTSTRAP_KEY).await;
    let (code, reason) = ask(&other, secure, "foreign-2").await;
    assert_eq!(code, Code::FORBIDDEN);
    assert!(reason.contains("no key"), "{reason}");
    // Another bootstrap, which fails, leaves the registration as it is.
    thing.with(|account| {
        account.is_inconsistent = true;
        account.written.clear();
    });
    assert_eq!(ask(&endpoint, secure, "foreign-1").await.0, Code::CHANGED);
    until("the writes of the second bootstrap", async || {
        thing
            .with(|account| account.written.len() == 2)
            .then_some(())
    })
    .await;
    let event = Request::new(Code::POST, "/ev").with_payload(format::OCTETS, vec![1, 2, 255]);
    let answer = registered.handle().request(secure, event).await.unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST, "it is registered still");
    gateway.running.stop().await;
}
