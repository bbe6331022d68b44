//! Configuration of devices that have none of our objects, up to what the ledger then knows.

use lamplighter_gateway::coap::{Code, Request, format};
use lamplighter_gateway::lwm2m::{path, proof};
use lamplighter_types::{Action, ConfigAction, ConfigTarget, ReportedConfig};
use serde_json::{Value, json};

use crate::city::{City, Running, id, is_empty, secret, until};
use crate::foreign::{self, Foreign};

/// Sets the document of the model, in which the mapping is.
pub async fn set_model(city: &City, document: &Value, replaces_version: u64) {
    let set = ConfigAction::SetDesired {
        target: ConfigTarget::Model {
            model: "lamp".to_owned(),
        },
        document: document.to_string(),
        replaces_version,
    };
    city.act("operator", Action::Config(set)).await;
}

/// The report about the configuration that the device should have now.
pub async fn reported(city: &City, device: &str) -> ReportedConfig {
    let client = city.client("operator");
    until("a report of the configuration", async || {
        let config = client.device_config(&id(device)).await.unwrap().value;
        let reported = config.reported?;
        (reported.document == config.hash).then_some(reported)
    })
    .await
}

async fn register(gateway: &Running, device: &Foreign) -> lamplighter_gateway::coap::CoapEndpoint {
    let endpoint = device.start().await;
    let address = gateway.gateway.south_address();
    until("a registration", async || {
        let answer = foreign::register(&endpoint, address, "foreign-1").await;
        (answer == Some(Code::CREATED)).then_some(())
    })
    .await;
    endpoint
}

fn document(dim: Value) -> Value {
    json!({
        "dim": dim,
        "lwm2m": {"resources": {
            "/3311/0/5851": {"key": "/dim", "type": "integer", "min": 0, "max": 100}
        }}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_object_33000_is_configured_through_its_resources() {
    let city = City::build(&["foreign-1"]).await;
    let gateway = city.gateway(false).await;
    let device = Foreign::default();
    device.with(|device| device.level = 30);
    set_model(&city, &document(json!(80)), 0).await;
    let _endpoint = register(&gateway, &device).await;
    let report = reported(&city, "foreign-1").await;
    assert_eq!(report.detail, "1 of 1 resources written");
    assert!(report.applied && !report.attested);
    assert_eq!(device.with(|device| device.level), 80);
    // A value out of the resource's range is not written, whatever the device would do.
    set_model(&city, &document(json!(101)), 1).await;
    let report = reported(&city, "foreign-1").await;
    assert!(!report.applied && report.detail.starts_with("lwm2m.range: /dim is 101"));
    assert_eq!(device.with(|device| device.level), 80);
    // Nor one that the device itself refuses, which the report says.
    set_model(&city, &document(json!(99)), 2).await;
    let report = reported(&city, "foreign-1").await;
    assert!(!report.applied, "{report:?}");
    assert!(
        report
            .detail
            .starts_with("lwm2m.refused: /3311/0/5851: 4.00")
    );
    assert_eq!(device.with(|device| device.level), 80);
    set_model(&city, &document(json!(55)), 3).await;
    assert!(reported(&city, "foreign-1").await.applied);
    assert_eq!(device.with(|device| device.level), 55);
    assert!(is_empty(&city.dir.path().join("gw/refused.jsonl")));
    gateway.stop().await;
}

/// A device with a key and without our agent: what it does not sign is no event, and is no report
/// about its configuration.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_with_a_key_does_not_sign_counts_for_nothing() {
    let city = City::build(&["lamp-1"]).await;
    let gateway = city.gateway(false).await;
    let device = Foreign::default();
    device.with(|device| device.level = 30);
    set_model(&city, &document(json!(80)), 0).await;
    let (endpoint, address) = (device.start().await, gateway.gateway.south_address());
    let register = Request::new(Code::POST, path::REGISTRATION)
        .with_query("ep=lamp-1".to_owned())
        .with_query("lwm2m=1.1".to_owned())
        .with_payload(format::LINK_FORMAT, b"</3/0>,</3311/0>".to_vec());
    until("a signed registration", async || {
        let handle = endpoint.handle();
        let answer = handle
            .request_to_sign(address, register.clone())
            .await
            .ok()?;
        let chain = city.genesis.chain_id();
        let signed = proof::sign(
            register.clone(),
            answer.echo?,
            &chain,
            "lamp-1",
            &secret("lamp-1"),
        );
        let answer = handle.request_to_sign(address, signed).await.ok()?;
        (answer.code == Code::CREATED).then_some(())
    })
    .await;
    let values = br#"[{"n":"/3311/0/5851","v":80}]"#.to_vec();
    let send = Request::new(Code::POST, "/dp").with_payload(format::SENML_JSON, values);
    let answer = endpoint.handle().request(address, send).await.unwrap();
    assert_eq!(answer.code, Code::UNAVAILABLE);
    // Its inventory has been asked for: what was planned for it at the registration is done.
    until("the inventory", async || {
        device
            .with(|device| device.inventory_reads > 0)
            .then_some(())
    })
    .await;
    assert_eq!(device.with(|device| device.level), 30);
    let client = city.client("operator");
    let config = client.device_config(&id("lamp-1")).await.unwrap().value;
    assert_eq!(config.reported, None);
    let events = client.device_events(&id("lamp-1"), None).await.unwrap();
    assert!(events.value.items.is_empty());
    gateway.stop().await;
}
