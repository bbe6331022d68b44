//! A test over UDP on loopback, in real time, with Debian's `coap-client` if it is installed.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::south::{South, SouthConfig, SouthEvent, StorageReply};
use tokio::sync::mpsc;

use super::super::{Socket, Thing};
use super::testbed::Testbed;

fn client() -> Option<&'static str> {
    ["coap-client-notls", "coap-client"]
        .into_iter()
        .find(|name| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).exists())
        })
}

#[tokio::test]
async fn libcoap_reads_a_thing_that_registered_over_udp() {
    let Some(client) = client() else {
        eprintln!("skipped: coap-client (libcoap3-bin) is not installed");
        return;
    };
    let (sender, mut events) = mpsc::channel(64);
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let admits = Arc::new(|_: &str| true);
    let south = South::start(Arc::new(socket), SouthConfig::default(), admits, sender).unwrap();
    let testbed = Testbed::new(1, Faults::NONE);
    let mut config = testbed.config("lamp-1", 2);
    config.socket = Socket::Udp(([127, 0, 0, 1], 0).into());
    config.gateway = south.local_addr();
    let lamp = Thing::spawn(config).await.unwrap();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
        match event.unwrap().unwrap() {
            SouthEvent::Registered { endpoint, peer, .. } => {
                assert_eq!((endpoint.as_str(), peer), ("lamp-1", lamp.addr()));
            }
            SouthEvent::Report { stored, .. } => {
                stored.send(StorageReply::Stored).unwrap();
                break;
            }
            _ => {}
        }
    }
    let port = lamp.addr().port();
    let read = move |path: &str| {
        let url = format!("coap://127.0.0.1:{port}{path}");
        let mut command = Command::new(client);
        let output = command
            .args(["-B", "5", &url])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let (version, slot, objects) = tokio::task::spawn_blocking(move || {
        (
            read("/3/0/3"),
            read("/33000/0/4"),
            read("/.well-known/core"),
        )
    })
    .await
    .unwrap();
    assert_eq!((version.as_str(), slot.as_str()), ("1.0.0", "A"));
    assert!(objects.contains("</5/0>"), "{objects}");
    lamp.kill().await;
    south.close().await;
}
