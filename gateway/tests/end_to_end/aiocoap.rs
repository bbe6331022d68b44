//! `tests/lwm2m/device.py`, a device on aiocoap that uses the freedoms of the standards in other
//! ways than our own Things, from its registration to `confirmed`.

use std::process::Stdio;
use std::time::Duration;

use lamplighter_gateway::{OscoreConfig, PlainCoap};
use lamplighter_types::{DeploymentState, DeviceEvent};
use serde_json::json;
use tokio::process::Command;

use crate::city::{City, id, is_empty, until};
use crate::configuration;
use crate::keys::write_keys;

/// Longest run of the program; only a failing test gets there.
const TIME: Duration = Duration::from_secs(90);

/// Updates a device that runs with these options, with these entries in the gateway's file of keys.
async fn update(endpoint: &str, options: &[&str], keys: &[OscoreEntry]) {
    let city = City::build(&["foreign-1"]).await;
    let document = json!({
        "on_s": 7, "colour": "amber", "second": 80,
        "lwm2m": {"resources": {
            "/3311/0/5852": {"key": "/on_s", "type": "integer"},
            "/3311/0/5706": {"key": "/colour", "type": "string"},
            "/3311/1/5851": {"key": "/second", "type": "integer"}
        }}
    });
    configuration::set_model(&city, &document, 0).await;
    let mut config = city.gateway_config(false);
    let folder = city.dir.path().join("keys");
    if !keys.is_empty() {
        let entries: Vec<String> = keys.iter().map(OscoreEntry::toml).collect();
        let credentials = write_keys(&city, &entries);
        let known = keys.iter().filter(|key| key.is_known);
        known.for_each(|key| key.write_settings(&folder));
        let uri = None;
        config.oscore = Some(OscoreConfig { credentials, uri });
        config.plain_coap = PlainCoap::Never;
    }
    let gateway = city.gateway_at(config).await;
    let received = city.dir.path().join("received");
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    drop(socket);
    let mut program = Command::new(repository.join(".venv/bin/python"));
    program
        .arg(repository.join("tests/lwm2m/device.py"))
        .arg("--gateway")
        .arg(gateway.gateway.south_address().to_string())
        .args(["--endpoint", endpoint, "--port", &port, "--image"])
        .arg(&received)
        .arg("--configured")
        .args(keys.first().map(|_| "--oscore"))
        .args(keys.first().map(|_| &folder))
        .args(options)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let program = program
        .spawn()
        .expect("scripts/setup --test installs Python");
    let report = configuration::reported(&city, "foreign-1").await;
    assert!(report.applied && !report.attested, "{report:?}");
    assert_eq!(report.detail, "3 of 3 resources written");
    city.release().await;
    city.roll_out().await;
    until("the confirmation", async || {
        let deployment = city.deployment("foreign-1").await?;
        assert!(
            !deployment.state.is_end() || deployment.state == DeploymentState::Confirmed,
            "{deployment:?}"
        );
        (deployment.state == DeploymentState::Confirmed).then_some(())
    })
    .await;
    let ended = tokio::time::timeout(TIME, program.wait_with_output()).await;
    let ended = ended.expect("it does not end").unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout);
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{printed}{errors}");
    assert!(!printed.contains("fault:"), "{printed}");
    let image = std::fs::read(&received).unwrap();
    assert!(image == city.image, "other bytes: {printed}");
    let client = city.client("operator");
    // What it is, what it sent by itself, and what it notified of.
    let expected = [
        r#"{"/3/0/0":"Acme","/3/0/1":"Pole","/3/0/17":"lamp"}"#,
        r#"{"/3311/0/5851":80}"#,
        r#"{"/3311/0/5850":true,"/3311/0/5851":30}"#,
        r#"{"/3311/0/5850":true,"/3311/0/5851":45}"#,
    ];
    let events = client
        .device_events(&id("foreign-1"), None)
        .await
        .unwrap()
        .value
        .items;
    let events: Vec<_> = events.iter().map(|e| &e.record.event).collect();
    for values in expected {
        let is_it = |event: &&&DeviceEvent| event.kind == "x-lwm2m-values" && event.data == values;
        assert!(
            events.iter().any(|event| is_it(&event)),
            "{values} of {events:?}"
        );
    }
    assert!(is_empty(&city.dir.path().join("gw/refused.jsonl")));
    gateway.stop().await;
    let inventory = std::fs::read(city.dir.path().join("gw/inventory.json")).unwrap();
    let inventory: serde_json::Value = serde_json::from_slice(&inventory).unwrap();
    let values = json!({
        "/3/0/0": "Acme", "/3/0/1": "Pole", "/3/0/17": "lamp", "/3/0/9": 80,
        "/3/0/7/0": 5, "/3/0/7/1": 12,
    });
    assert_eq!(inventory["foreign-1"]["values"], values);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_another_kind_gets_its_update_in_small_blocks() {
    update("FOREIGN:1", &["--szx", "2"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_only_fetches_gets_its_update() {
    update("Foreign/1", &["--pull", "--szx", "4"], &[]).await;
}

/// An entry for OSCORE of the device.
struct OscoreEntry {
    name: &'static str,
    purpose: &'static str,
    secret: &'static str,
    more: &'static str,
    thing_id: &'static str,
    gateway_id: &'static str,
    /// The device has it from the beginning.
    is_known: bool,
}

impl OscoreEntry {
    fn toml(&self) -> String {
        let OscoreEntry {
            purpose,
            secret,
            more,
            thing_id,
            gateway_id,
            ..
        } = self;
        format!(
            "[[oscore]]\nsecret = \"{secret}\"\nthing_id = \"{thing_id}\"\n\
             gateway_id = \"{gateway_id}\"\npurpose = \"{purpose}\"\n{more}\n\
             device = \"foreign-1\"\n"
        )
    }

    /// The same context as aiocoap keeps it.
    fn write_settings(&self, folder: &std::path::Path) {
        let settings = json!({
            "secret_hex": self.secret, "sender-id_hex": self.thing_id,
            "recipient-id_hex": self.gateway_id,
        });
        let folder = folder.join(self.name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("settings.json"), settings.to_string()).unwrap();
    }
}

const LASTING: OscoreEntry = OscoreEntry {
    name: "lasting",
    purpose: "registration",
    secret: "0102030405060708090a0b0c0d0e0f10",
    more: "",
    thing_id: "0a01",
    gateway_id: "ff",
    is_known: true,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_another_kind_gets_its_update_over_oscore() {
    update("foreign-1", &["--szx", "6"], &[LASTING]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_another_kind_fetches_its_update_over_oscore() {
    update("foreign-1", &["--pull", "--szx", "6"], &[LASTING]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_another_kind_gets_its_key_by_a_bootstrap_over_oscore() {
    let bootstrap = OscoreEntry {
        name: "bootstrap",
        purpose: "bootstrap",
        secret: "1112131415161718191a1b1c1d1e1f20",
        thing_id: "",
        gateway_id: "fe",
        ..LASTING
    };
    let lasting = OscoreEntry {
        more: "salt = \"9e7ca92223786340\"\ncontext = \"37cbf3210017a2d3\"",
        is_known: false,
        ..LASTING
    };
    update("foreign-1", &["--bootstrap"], &[bootstrap, lasting]).await;
}
