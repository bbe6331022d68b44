//! A test with Debian's `coap-server` (package libcoap3-bin), if it is installed. The server stands
//! for a device: the test writes state, result and version in place of the device's firmware.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_types::Hash;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::super::{
    InstallLimits, South, SouthCommand, SouthConfig, SouthEvent, Transfer, WorkNotice,
};
use crate::coap::{CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format};
use crate::lwm2m::{Stage, path};

fn program() -> Option<&'static str> {
    let found = ["coap-server-notls", "coap-server"]
        .into_iter()
        .find(|name| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).exists())
        });
    if found.is_none() {
        eprintln!("skipped: coap-server (libcoap3-bin) is not installed");
    }
    found
}

/// The server, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("ending coap-server: {error}");
        }
    }
}

struct Silent;

#[async_trait]
impl CoapService for Silent {
    async fn handle(&self, _peer: Peer, _request: Request) -> Response {
        Response::new(Code::NOT_FOUND)
    }
}

/// Registers a device and returns its address, whose socket is closed by then.
async fn register(gateway: SocketAddr) -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = CoapEndpoint::bind(any, CoapConfig::default(), Arc::new(Silent)).await;
    let endpoint = endpoint.unwrap();
    let address = endpoint.handle().local_addr();
    let registration = Request::new(Code::POST, path::REGISTRATION)
        .with_query("ep=libcoap".to_owned())
        .with_query("lwm2m=1.1".to_owned())
        .with_payload(format::LINK_FORMAT, b"</3/0>,</5/0>".to_vec());
    let answer = endpoint.handle().request(gateway, registration).await;
    assert_eq!(answer.unwrap().code, Code::CREATED);
    endpoint.close().await;
    address
}

struct Testbed {
    south: South,
    events: mpsc::Receiver<SouthEvent>,
    device: SocketAddr,
    artifacts: tempfile::TempDir,
    _server: Server,
}

impl Testbed {
    async fn start(program: &str) -> Testbed {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (sender, events) = mpsc::channel(64);
        let mut config = SouthConfig::default();
        config.session.poll = Duration::from_millis(200);
        let artifacts = tempfile::tempdir().unwrap();
        config.artifacts = artifacts.path().to_owned();
        let served = Arc::new(|_: &str| true);
        let south = South::start(Arc::new(socket), config, served, sender).unwrap();
        let device = register(south.local_addr()).await;
        let (host, port) = (device.ip().to_string(), device.port().to_string());
        let server = Command::new(program)
            .args(["-A", &host, "-p", &port, "-d", "10"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Testbed {
            south,
            events,
            device,
            artifacts,
            _server: Server(server.unwrap()),
        }
    }

    async fn write(&self, path: &str, value: &str) {
        let put = Request::new(Code::PUT, path);
        let put = put.with_payload(format::TEXT, value.as_bytes().to_vec());
        let answer = self.south.handle().request(self.device, put).await;
        assert!(answer.unwrap().code.is_success(), "{path}");
    }

    async fn notice(&mut self, wanted: impl Fn(&WorkNotice) -> bool) {
        let limit = Duration::from_secs(30);
        let found = async {
            while let Some(event) = self.events.recv().await {
                match event {
                    SouthEvent::Work { notice, .. } if wanted(&notice) => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(limit, found).await.expect("a notice");
    }

    async fn stage(&mut self, wanted: Stage) {
        let is = |notice: &WorkNotice| match notice {
            WorkNotice::Stage { stage, .. } => *stage == wanted,
            _ => false,
        };
        self.notice(is).await;
    }
}

#[tokio::test]
async fn a_device_made_of_libcoap_is_updated() {
    let Some(program) = program() else { return };
    let mut bed = Testbed::start(program).await;
    let image = vec![0xA5; 5_000];
    let artifact = Hash::of(&image);
    std::fs::write(bed.artifacts.path().join(artifact.to_string()), &image).unwrap();
    let (endpoint, deployment) = ("libcoap".to_owned(), "d".to_owned());
    for (path, value) in [
        (path::STATE, "1"),
        (path::RESULT, "0"),
        (path::FIRMWARE_VERSION, "1.0.0"),
        (path::UPDATE, ""),
    ] {
        bed.write(path, value).await;
    }
    let transfer = Transfer {
        endpoint: endpoint.clone(),
        deployment: deployment.clone(),
        artifact,
        size_bytes: image.len() as u64,
        offer: vec![],
    };
    bed.south
        .command(SouthCommand::Transfer(transfer))
        .await
        .unwrap();
    let whole = |notice: &WorkNotice| {
        matches!(notice, WorkNotice::Progress { sent_bytes, total_bytes, .. }
            if sent_bytes == total_bytes)
    };
    bed.notice(whole).await;
    let package = Request::get(path::PACKAGE);
    let package = bed.south.handle().request(bed.device, package).await;
    assert!(package.unwrap().payload == image);
    bed.write(path::STATE, "2").await;
    bed.stage(Stage::Downloaded).await;
    let install = SouthCommand::Install {
        endpoint,
        deployment,
        version: "2.0.0".parse().unwrap(),
        limits: InstallLimits::default(),
    };
    bed.south.command(install).await.unwrap();
    bed.stage(Stage::Installing).await;
    bed.write(path::STATE, "3").await;
    bed.write(path::FIRMWARE_VERSION, "2.0.0").await;
    bed.write(path::RESULT, "1").await;
    bed.write(path::STATE, "0").await;
    bed.stage(Stage::Trial).await;
    bed.stage(Stage::Confirmed).await;
    bed.south.close().await;
}
