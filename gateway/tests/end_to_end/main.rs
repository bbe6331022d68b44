//! A ledger, a gateway and Things together.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod aiocoap;
mod bootstrap;
mod city;
mod configuration;
mod foreign;
mod keys;
mod liar;
mod many;
mod orders;
mod python;
mod secure;

use city::{City, Running, id, is_empty, secret, until};
use foreign::Foreign;
use liar::{Liar, lie};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_devnet::thing::{NewEvent, Thing};
use lamplighter_gateway::coap::{
    self, CoapEndpoint, CoapService, Code, Peer, Request, Response, format,
};
use lamplighter_gateway::lwm2m::proof;
use lamplighter_gateway::spool::Spool;
use lamplighter_types::{
    Action, AlarmChange, ConfigAction, ConfigTarget, DeploymentState, DeviceEvent, DeviceSigned,
    DevicesAction, Hash, Severity, Transaction, codec,
};
use serde_json::{Value, json};

fn event(alarm: AlarmChange) -> NewEvent {
    NewEvent {
        kind: "x-door".to_owned(),
        severity: Severity::Major,
        alarm,
        data: "open".to_owned(),
    }
}

async fn confirmed(city: &City, thing: &Thing, name: &str) {
    until("the confirmation", async || {
        let deployment = city.deployment(name).await?;
        (deployment.state == DeploymentState::Confirmed).then_some(())
    })
    .await;
    assert!(
        thing.active_image().await.unwrap() == city.image,
        "{name} runs other bytes"
    );
    let steps = city.deployment(name).await.unwrap().steps;
    let trial = steps
        .iter()
        .find(|step| step.to == DeploymentState::Trial)
        .unwrap();
    assert!(trial.attested, "the Thing signed it");
}

/// Waits until the ledger has a report of a Thing: by then the gateway knows the device.
async fn wait_for_report(city: &City) {
    let client = city.client("operator");
    until("the Thing to be known", async || {
        let state = client.device_state(&id("lamp-1")).await.ok()?;
        state.value.digest.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_a_configuration_and_events() {
    let city = City::build(&["lamp-1", "lamp-2"]).await;
    let gateway = city.gateway(false).await;
    let things = [city.thing("lamp-1").await, city.thing("lamp-2").await];
    city.release().await;
    city.roll_out().await;
    for (thing, name) in things.iter().zip(["lamp-1", "lamp-2"]) {
        confirmed(&city, thing, name).await;
    }

    let document = r#"{"dim":40}"#;
    let set = ConfigAction::SetDesired {
        target: ConfigTarget::Fleet,
        document: document.to_owned(),
        replaces_version: 0,
    };
    city.act("operator", Action::Config(set)).await;
    let client = city.client("operator");
    until("the configuration", async || {
        let config = client.device_config(&id("lamp-1")).await.unwrap().value;
        config.in_sync.then_some(())
    })
    .await;
    let applied = things[0].status().await.unwrap().configuration;
    assert_eq!(applied, Some(Hash::of(document.as_bytes())));

    for alarm in [AlarmChange::Raise, AlarmChange::None] {
        things[1].raise(event(alarm)).await.unwrap();
    }
    let events = until("the events", async || {
        let page = client
            .device_events(&id("lamp-2"), None)
            .await
            .unwrap()
            .value;
        (page.items.len() == 2).then_some(page.items)
    })
    .await;
    assert!(events.iter().all(|event| event.record.attested));
    assert_eq!(client.alarms(None).await.unwrap().value.items.len(), 1);
    assert!(
        is_empty(&city.dir.path().join("gw/refused.jsonl")),
        "nothing was refused"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_stopped_in_a_transfer_resumes_it() {
    let city = City::build(&["lamp-1"]).await;
    let mut slow = city.gateway_config(true);
    slow.rate_bytes_per_s = 20_000;
    let gateway = city.gateway_at(slow).await;
    let thing = city.thing("lamp-1").await;
    city.release().await;
    city.roll_out().await;
    let received = until("a part of the package", async || {
        let received = thing.status().await.unwrap().held_bytes;
        (received > 20_000).then_some(received)
    })
    .await;
    gateway.stop().await;
    // Without a gateway the Thing keeps its events, and sends them when the gateway is back.
    thing.raise(event(AlarmChange::None)).await.unwrap();
    let gateway = city.gateway(true).await;
    let more = until("more of the package", async || {
        let now = thing.status().await.unwrap().held_bytes;
        (now > received || city.deployment("lamp-1").await?.state > DeploymentState::Downloading)
            .then_some(now)
    })
    .await;
    assert!(
        more == 0 || more > received,
        "it started again: {more} after {received}"
    );
    confirmed(&city, &thing, "lamp-1").await;
    let client = city.client("operator");
    until("the event", async || {
        let page = client
            .device_events(&id("lamp-1"), None)
            .await
            .unwrap()
            .value;
        (page.items.len() == 1).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_on_the_gateways_disk_while_no_node_is_reachable() {
    let city = City::build(&["lamp-1"]).await;
    let gateway = city.gateway(false).await;
    let thing = city.thing("lamp-1").await;
    thing.raise(event(AlarmChange::None)).await.unwrap();
    let client = city.client("operator");
    let recorded = async |count: usize| {
        until("events", async || {
            let page = client
                .device_events(&id("lamp-1"), None)
                .await
                .unwrap()
                .value;
            (page.items.len() == count).then_some(())
        })
        .await;
    };
    recorded(1).await;
    gateway.stop().await;
    // A gateway without any node knows its devices from its disk.
    let mut alone = city.gateway_config(false);
    alone.nodes.truncate(1);
    let gateway = city.gateway_at(alone).await;
    thing.raise(event(AlarmChange::None)).await.unwrap();
    until("the gateway to keep it", async || {
        (thing.status().await.unwrap().outbox == 0).then_some(())
    })
    .await;
    gateway.stop().await;
    let gateway = city.gateway(false).await;
    recorded(2).await;
    gateway.stop().await;
}

/// Assigns `lamp-1`, and waits until the gateway knows it.
async fn assign(city: &City, gateway: Option<&str>) {
    let action = DevicesAction::AssignGateway {
        device: id("lamp-1"),
        gateway: gateway.map(id),
    };
    city.act("operator", Action::Devices(action)).await;
    until("the gateway to know", async || {
        let known = std::fs::read_to_string(city.dir.path().join("gw/devices.json")).ok()?;
        let known: serde_json::Value = serde_json::from_str(&known).ok()?;
        (known["lamp-1"]["device"].is_object() == gateway.is_some()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_unassigned_and_assigned_again_loses_no_alarm() {
    let city = City::build(&["lamp-1", "lamp-2"]).await;
    let gateway = city.gateway(false).await;
    let lamp = city.thing("lamp-1").await;
    let other = city.thing("lamp-2").await;
    let client = city.client("operator");
    let recorded = async |device: &str, count: usize| {
        until("events", async || {
            let page = client.device_events(&id(device), None).await.ok()?.value;
            (page.items.len() == count).then_some(())
        })
        .await;
    };
    lamp.raise(event(AlarmChange::Raise)).await.unwrap();
    recorded("lamp-1", 1).await;
    assign(&city, None).await;
    for _ in 0..3 {
        lamp.raise(event(AlarmChange::Raise)).await.unwrap();
    }
    // The event of another Thing arrives meanwhile: the others were answered as well.
    other.raise(event(AlarmChange::None)).await.unwrap();
    recorded("lamp-2", 1).await;
    assert_eq!(lamp.status().await.unwrap().outbox, 3, "it keeps them");
    assign(&city, Some("gw")).await;
    recorded("lamp-1", 4).await;
    assert!(is_empty(&city.dir.path().join("gw/refused.jsonl")));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_events_of_a_suspended_device_are_recorded_afterwards() {
    let city = City::build(&["lamp-1", "lamp-2"]).await;
    let gateway = city.gateway(false).await;
    let things = [city.thing("lamp-1").await, city.thing("lamp-2").await];
    wait_for_report(&city).await;
    let client = city.client("operator");
    let recorded = async |device: &str, count: usize| {
        until("events", async || {
            let page = client.device_events(&id(device), None).await.ok()?.value;
            (page.items.len() == count).then_some(())
        })
        .await;
    };
    let device = id("lamp-1");
    let suspend = DevicesAction::Suspend {
        device: device.clone(),
        reason: "stolen".to_owned(),
    };
    city.act("operator", Action::Devices(suspend)).await;
    things[0].raise(event(AlarmChange::Raise)).await.unwrap();
    until("the gateway to have it", async || {
        (things[0].status().await.ok()?.outbox == 0).then_some(())
    })
    .await;
    for count in 1..4 {
        things[1].raise(event(AlarmChange::None)).await.unwrap();
        recorded("lamp-2", count).await;
    }
    things[0].raise(event(AlarmChange::Raise)).await.unwrap();
    things[1].raise(event(AlarmChange::None)).await.unwrap();
    recorded("lamp-2", 4).await;
    assert_eq!(things[0].status().await.unwrap().outbox, 1, "it keeps more");
    let resume = DevicesAction::Resume { device };
    city.act("operator", Action::Devices(resume)).await;
    recorded("lamp-1", 2).await;
    assert!(is_empty(&city.dir.path().join("gw/refused.jsonl")));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_device_that_succeeds_over_a_restart_of_its_gateway_is_confirmed() {
    let city = City::build(&["foreign-1"]).await;
    let gateway = city.gateway(false).await;
    let device = Foreign::default();
    device.with(|device| device.version = "v1.0.0".to_owned());
    let endpoint = device.start().await;
    let registered = async |gateway: &Running| {
        let address = gateway.gateway.south_address();
        until("a registration", async || {
            let answer = foreign::register(&endpoint, address, "FOREIGN:1").await;
            (answer == Some(Code::CREATED)).then_some(())
        })
        .await;
    };
    let reached = async |state: DeploymentState| {
        until(&format!("{state:?}"), async || {
            (city.deployment("foreign-1").await?.state == state).then_some(())
        })
        .await;
    };
    registered(&gateway).await;
    city.release().await;
    city.roll_out().await;
    reached(DeploymentState::Installing).await;
    assert!(device.with(|device| device.package == city.image));
    gateway.stop().await;
    // Its boot loader is at work: it still names the old version.
    let reads = device.with(|device| device.state_reads);
    let gateway = city.gateway(false).await;
    registered(&gateway).await;
    until("a read of its state", async || {
        (device.with(|device| device.state_reads) > reads).then_some(())
    })
    .await;
    let version = "v2.0.0+build7".to_owned();
    device.with(|device| (device.state, device.result, device.version) = (0, 1, version));
    reached(DeploymentState::Confirmed).await;
    assert_eq!(device.with(|device| device.updates), 1);
    assert!(is_empty(&city.dir.path().join("gw/refused.jsonl")));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_long_after_its_order_was_proven_gets_it_once_it_is_proven_again() {
    let city = City::build(&["foreign-1"]).await;
    let mut config = city.gateway_config(false);
    config.record_age_max_s = 5;
    let gateway = city.gateway_at(config).await;
    city.release().await;
    city.roll_out().await;
    let reached = async |state: DeploymentState| {
        until(&format!("{state:?}"), async || {
            (city.deployment("foreign-1").await?.state == state).then_some(())
        })
        .await;
    };
    reached(DeploymentState::Downloading).await;
    // The proof of the order grows too old for it.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let device = Foreign::default();
    device.with(|device| device.version = "1.0.0".to_owned());
    let endpoint = device.start().await;
    let address = gateway.gateway.south_address();
    let answer = foreign::register(&endpoint, address, "foreign-1").await;
    assert_eq!(answer, Some(Code::CREATED));
    reached(DeploymentState::Installing).await;
    device.with(|device| (device.state, device.result) = (0, 1));
    device.with(|device| device.version = "2.0.0".to_owned());
    reached(DeploymentState::Confirmed).await;
    let head = std::fs::read(city.dir.path().join("gw/newest-head.json")).unwrap();
    let head: Value = serde_json::from_slice(&head).unwrap();
    assert!(head["height"].as_u64().unwrap() > 0, "{head}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_clock_that_is_behind_waits_until_it_is_set() {
    let city = City::build(&["foreign-1"]).await;
    let data = city.dir.path().join("gw");
    std::fs::create_dir_all(&data).unwrap();
    // Its clock is 66 s behind a block that it has seen; a minute is allowed.
    let head = json!({"height": 1, "time_ms": lamplighter_system::unix_ms() + 66_000});
    std::fs::write(data.join("newest-head.json"), head.to_string()).unwrap();
    let mut config = city.gateway_config(false);
    config.record_age_max_s = 300;
    let started = std::time::Instant::now();
    let gateway = city.gateway_at(config).await;
    let device = Foreign::default();
    let endpoint = device.start().await;
    let address = gateway.gateway.south_address();
    until("the gateway to know its device", async || {
        let answer = foreign::register(&endpoint, address, "foreign-1").await;
        (answer == Some(Code::CREATED)).then_some(())
    })
    .await;
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(5_900), "{waited:?}");
    gateway.stop().await;
}

/// A Thing without resources.
struct Silent;

#[async_trait::async_trait]
impl CoapService for Silent {
    async fn handle(&self, _peer: Peer, _request: Request) -> Response {
        Response::new(Code::NOT_FOUND)
    }
}

/// Registers such a Thing as `lamp-1`, with that device's signature.
async fn silent(city: &City, gateway: &Running) -> CoapEndpoint {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let thing = CoapEndpoint::bind(any, coap::CoapConfig::default(), Arc::new(Silent));
    let thing = thing.await.unwrap();
    let register = Request::new(Code::POST, "/rd")
        .with_query("ep=LAMP-1".to_owned())
        .with_query("lwm2m=1.1".to_owned());
    until("the gateway to know its device", async || {
        let address = gateway.gateway.south_address();
        let answer = thing.handle().request(address, register.clone()).await;
        let nonce = answer.unwrap().echo?;
        let (chain_id, key) = (city.genesis.chain_id(), secret("lamp-1"));
        let signed = proof::sign(register.clone(), nonce, &chain_id, "lamp-1", &key);
        let answer = thing.handle().request(address, signed).await;
        (answer.unwrap().code == Code::CREATED).then_some(())
    })
    .await;
    thing
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_is_not_registered_in_the_name_of_a_thing_with_a_key() {
    let city = City::build(&["lamp-1"]).await;
    let gateway = city.gateway(false).await;
    let spoofer = foreign::Foreign::default();
    let endpoint = spoofer.start().await;
    let address = gateway.gateway.south_address();
    // The gateway knows its device: the answer is not 4.03 any more.
    until("the gateway to know its device", async || {
        let code = foreign::register(&endpoint, address, "lamp-1").await;
        (code == Some(Code::UNAUTHORIZED)).then_some(())
    })
    .await;
    city.release().await;
    city.roll_out().await;
    let thing = city.thing("lamp-1").await;
    for _ in 0..20 {
        let code = foreign::register(&endpoint, address, "lamp-1").await;
        assert_eq!(code, Some(Code::UNAUTHORIZED));
    }
    confirmed(&city, &thing, "lamp-1").await;
    assert!(spoofer.with(|spoofer| spoofer.package.is_empty()));
    gateway.stop().await;
}

fn post(bytes: Vec<u8>) -> Request {
    Request::new(Code::POST, "/ev").with_payload(format::OCTETS, bytes)
}

/// A signed event of this kind.
fn event_of_kind(kind: &str, device: &str, city: &City) -> Vec<u8> {
    let mut event = DeviceEvent {
        device: id(device),
        sequence: 1,
        time_ms: 1,
        kind: kind.to_owned(),
        severity: Severity::Major,
        alarm: AlarmChange::None,
        data: String::new(),
        signature: None,
    };
    event.sign(&city.genesis.chain_id(), &secret(device));
    codec::encode(&event)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_report_is_kept_until_its_dead_letter_is_written() {
    let city = City::build(&["lamp-1", "lamp-2"]).await;
    let dead_letters = city.dir.path().join("gw/refused.jsonl");
    // Nothing can be written to it.
    std::fs::create_dir_all(&dead_letters).unwrap();
    let gateway = city.gateway(false).await;
    let thing = silent(&city, &gateway).await;
    let address = gateway.gateway.south_address();
    let send = async |event: Vec<u8>| {
        let answer = thing.handle().request(address, post(event)).await;
        assert_eq!(answer.unwrap().code, Code::CHANGED);
    };
    send(event_of_kind("no-such-kind", "lamp-1", &city)).await;
    let client = city.client("operator");
    until("the ledger to have refused it", async || {
        let known = client.key(&secret("gw").public()).await.ok()?.value;
        (known.highest_sequence > 0).then_some(())
    })
    .await;
    send(event_of_kind("x-door", "lamp-2", &city)).await;
    until("what came later", async || {
        let page = client.device_events(&id("lamp-2"), None).await.ok()?.value;
        (page.items.len() == 1).then_some(())
    })
    .await;
    gateway.stop().await;
    let spool = Spool::open(&city.dir.path().join("gw/spool"), 1 << 24).unwrap();
    let device = id("lamp-1");
    assert_eq!(spool.state().of_device(&device).count(), 1, "it is kept");
    drop(spool);
    std::fs::remove_dir(&dead_letters).unwrap();
    let gateway = city.gateway(false).await;
    until("the letter", async || {
        let text = std::fs::read_to_string(&dead_letters).ok()?;
        text.contains("events.unknown_kind").then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_written_before_a_thing_discards_its_report() {
    let city = City::build(&["lamp-1"]).await;
    let gateway = city.gateway(false).await;
    let thing = silent(&city, &gateway).await;
    let send = async |request: Request| {
        let address = gateway.gateway.south_address();
        thing.handle().request(address, request).await.unwrap().code
    };
    assert_eq!(send(post(vec![1, 2, 255])).await, Code::BAD_REQUEST);
    let text = std::fs::read_to_string(city.dir.path().join("gw/refused.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["code"], "gateway.malformed");
    assert_eq!(line["bytes"], "0102ff");
    assert_eq!(send(post(Vec::new())).await, Code::BAD_REQUEST);
    let text = std::fs::read_to_string(city.dir.path().join("gw/refused.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2, "the empty one too: {text}");
    assert_eq!(send(post(vec![1; 20_000])).await, Code::TOO_LARGE);
    // It is signed with a key that the ledger does not have (yet): the Thing must keep it.
    let mut event = DeviceEvent {
        device: id("lamp-1"),
        sequence: 1,
        time_ms: 1,
        kind: "x-door".to_owned(),
        severity: Severity::Major,
        alarm: AlarmChange::Raise,
        data: String::new(),
        signature: None,
    };
    event.sign(&city.genesis.chain_id(), &secret("another key"));
    assert_eq!(send(post(codec::encode(&event))).await, Code::UNAVAILABLE);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lies_can_not_make_the_gateway_delete_reports() {
    let city = City::build(&["lamp-1"]).await;
    let (gateway, _thing, liar) = gateway_of(&city, lie).await;
    until("a lie whose proof was fetched", async || {
        let is_done = !liar.transactions().is_empty() && liar.proofs().len() > 1;
        is_done.then_some(())
    })
    .await;
    assert_eq!(liar.submissions(), 0, "there is no other node to send to");
    gateway.stop().await;
    let spool = Spool::open(&city.dir.path().join("gw/spool"), 1 << 24).unwrap();
    assert!(
        !spool.state().in_flight().is_empty(),
        "it is still on its way"
    );
    drop(spool);
    let gateway = city.gateway(false).await;
    let client = city.client("operator");
    until("the event, after all", async || {
        let page = client
            .device_events(&id("lamp-1"), None)
            .await
            .unwrap()
            .value;
        (page.items.len() == 1).then_some(())
    })
    .await;
    gateway.stop().await;
}

/// Starts a gateway with a report for a node that answers with this message.
async fn gateway_of(city: &City, message: fn(Hash) -> Value) -> (Running, Thing, Liar) {
    let gateway = city.gateway(false).await;
    let thing = city.thing("lamp-1").await;
    wait_for_report(city).await;
    gateway.stop().await;
    let liar = Liar::start(city.genesis.chain_id(), message).await;
    let mut config = city.gateway_config(false);
    config.nodes = vec![liar.address.clone()];
    let gateway = city.gateway_at(config).await;
    thing.raise(event(AlarmChange::Raise)).await.unwrap();
    (gateway, thing, liar)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_an_older_node_refuses_is_signed_again() {
    let city = City::build(&["lamp-1"]).await;
    let refusal = |transaction| {
        json!({
            "transaction": transaction, "status": "refused", "detail": "a bad signature",
        })
    };
    let (gateway, _thing, liar) = gateway_of(&city, refusal).await;
    until(
        "the same reports with another sequence number",
        async || {
            let all = liar.transactions();
            let is_again = |(_, next): &(_, Transaction)| {
                all.iter().any(|(_, before)| {
                    before.action == next.action && before.sequence < next.sequence
                })
            };
            all.iter().any(is_again).then_some(())
        },
    )
    .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_of_a_newer_node_is_fetched_at_once() {
    let city = City::build(&["lamp-1"]).await;
    let newer = |transaction| {
        let mut message = lie(transaction);
        message["receipt"]["notifications"] = json!([{"place": null, "fact": "moon_rose"}]);
        message
    };
    let (gateway, _thing, liar) = gateway_of(&city, newer).await;
    let asked = until("a request for the proof", async || {
        liar.proofs().first().copied()
    })
    .await;
    let (answered, _) = liar.transactions()[0];
    // After 15 s without a receipt the gateway would ask by itself.
    let pause = asked.duration_since(answered);
    assert!(pause < Duration::from_secs(10), "{pause:?}");
    gateway.stop().await;
}
