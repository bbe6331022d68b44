//! A Thing that checks orders itself, whose gateway falls into other hands.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_client::Subject;
use lamplighter_gateway::coap::{
    CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format,
};
use lamplighter_gateway::lwm2m::order::{ORDER, OrderAction, OrderMessage, TRUSTED_HEIGHT};
use lamplighter_gateway::lwm2m::path;
use lamplighter_types::wire::work::ProofSet;
use lamplighter_types::{Action, ConfigAction, ConfigTarget, Hash, Scope};
use tokio::net::UdpSocket;

use crate::city::{City, id, until};

/// The targets whose documents `lamp-1` gets.
fn targets() -> [ConfigTarget; 5] {
    let district = |name: &str| ConfigTarget::District {
        district: Scope::new(name).unwrap(),
    };
    [
        ConfigTarget::Fleet,
        ConfigTarget::Model {
            model: "lamp".to_owned(),
        },
        district("north"),
        district("north/harbour"),
        ConfigTarget::Device {
            device: id("lamp-1"),
        },
    ]
}

async fn set(city: &City, target: ConfigTarget, replaces_version: u64, document: &str) {
    let set = ConfigAction::SetDesired {
        target,
        document: document.to_owned(),
        replaces_version,
    };
    city.act("operator", Action::Config(set)).await;
}

/// The order to apply the present documents, as whoever reads a node can make it.
async fn order(city: &City) -> OrderMessage {
    let client = city.client("operator");
    let proofs = until("records of one block", async || {
        let (mut proofs, mut heights) = (ProofSet::default(), BTreeSet::new());
        let subjects = targets().into_iter().map(Subject::Config);
        for subject in subjects.chain([Subject::Device(id("lamp-1"))]) {
            let (bundle, proven) = client.proof(&subject).await.ok()?;
            heights.insert(proven.height);
            proofs.add(bundle);
        }
        (heights.len() == 1).then_some(proofs)
    })
    .await;
    OrderMessage {
        action: OrderAction::Configure,
        proofs,
    }
}

struct NoResources;

#[async_trait::async_trait]
impl CoapService for NoResources {
    async fn handle(&self, _peer: Peer, _request: Request) -> Response {
        Response::new(Code::NOT_FOUND)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_thing_took_stays_after_a_power_cut_and_in_other_hands() {
    let city = City::build(&["lamp-1"]).await;
    for target in targets() {
        set(&city, target, 0, r#"{"dim":10}"#).await;
    }
    let older = order(&city).await;
    let [.., device] = targets();
    set(&city, device, 1, r#"{"dim":90}"#).await;
    let gateway = city.gateway(false).await;
    let thing = city.thing("lamp-1").await;
    let applied = Some(Hash::of(br#"{"dim":90}"#));
    until("the configuration", async || {
        let status = thing.status().await.unwrap();
        (status.configuration == applied).then_some(())
    })
    .await;
    let client = city.client("operator");
    until("its report", async || {
        let config = client.device_config(&id("lamp-1")).await.unwrap().value;
        config.in_sync.then_some(())
    })
    .await;
    thing.kill().await;
    gateway.stop().await;

    // Somebody else has the gateway now.
    let address = city.gateway_config(false).south_listen;
    let socket = Arc::new(UdpSocket::bind(address).await.unwrap());
    let taken = CoapEndpoint::start(socket, CoapConfig::default(), Arc::new(NoResources)).unwrap();
    let thing = city.thing("lamp-1").await;
    let (handle, addr) = (taken.handle(), thing.addr());
    let put = |bytes| Request::new(Code::PUT, ORDER).with_payload(format::OCTETS, bytes);
    let answer = handle.request(addr, put(older.to_bytes())).await.unwrap();
    assert_eq!(answer.code, Code::PRECONDITION_FAILED, "{}", answer.text());
    assert!(
        answer.text().starts_with("order.older"),
        "{}",
        answer.text()
    );
    let answer = handle.request(addr, put(vec![7; 900])).await.unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);
    let install = Request::new(Code::POST, path::UPDATE);
    let answer = handle.request(addr, install).await.unwrap();
    assert_eq!(answer.code, Code::FORBIDDEN, "{}", answer.text());
    let trusted = handle.request(addr, Request::get(TRUSTED_HEIGHT)).await;
    assert_eq!(trusted.unwrap().payload, b"0");
    assert_eq!(thing.status().await.unwrap().configuration, applied);
    thing.kill().await;
    taken.close().await;
}
