//! Tests with clients of others: OpenSSL's `s_client`, and Debian's `coap-client` (package
//! libcoap3-bin) with GnuTLS and with OpenSSL, if they are installed.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::UdpSocket;

use super::super::{DtlsSocket, SouthSocket};
use super::client::{KEY, OTHER_KEY, keys_file};
use crate::coap::{
    CoapConfig, CoapEndpoint, CoapService, Code, DatagramSocket, Peer, Request, Response, format,
};
use crate::credentials::CredentialStore;

/// Answers with the device of the session, and the length of what was sent.
struct Mirror(Arc<dyn DatagramSocket>);

#[async_trait]
impl CoapService for Mirror {
    async fn handle(&self, peer: Peer, request: Request) -> Response {
        let device = self.0.identity(peer).unwrap_or("nobody".to_owned());
        let text = format!("{device} {}", request.payload.len());
        let code = match request.method {
            Code::GET => Code::CONTENT,
            _ => Code::CHANGED,
        };
        Response {
            code,
            ..Response::content(format::TEXT, text.into_bytes())
        }
    }
}

struct Server {
    endpoint: CoapEndpoint,
    port: u16,
    _directory: tempfile::TempDir,
}

async fn server() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let path = keys_file(directory.path(), &[("lamp-1", KEY)]);
    let credentials = CredentialStore::open(path).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = udp.local_addr().unwrap().port();
    let secure = DtlsSocket::start(udp, credentials).unwrap();
    let plain = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let socket: Arc<dyn DatagramSocket> = Arc::new(SouthSocket::new(Some(plain), Some(secure)));
    let service = Arc::new(Mirror(socket.clone()));
    let endpoint = CoapEndpoint::start(socket, CoapConfig::default(), service).unwrap();
    Server {
        endpoint,
        port,
        _directory: directory,
    }
}

#[tokio::test]
async fn a_closed_endpoint_has_freed_both_addresses() {
    let server = server().await;
    let addresses = [
        server.endpoint.handle().local_addr(),
        (std::net::Ipv4Addr::LOCALHOST, server.port).into(),
    ];
    server.endpoint.close().await;
    for address in addresses {
        std::net::UdpSocket::bind(address).unwrap();
    }
}

/// Here nothing runs between the end of `close` and the next line: the task has freed the address
/// before, or not at all.
#[tokio::test]
async fn a_closed_socket_has_waited_for_its_task() {
    let directory = tempfile::tempdir().unwrap();
    let path = keys_file(directory.path(), &[("lamp-1", KEY)]);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let secure = DtlsSocket::start(udp, CredentialStore::open(path).unwrap()).unwrap();
    let socket = SouthSocket::new(None, Some(secure));
    socket.close().await;
    std::net::UdpSocket::bind(address).unwrap();
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

async fn run(program: &str, args: Vec<String>, input: Stdio) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(input);
    tokio::task::spawn_blocking(move || command.output().expect("it starts"))
        .await
        .unwrap()
}

/// Asks with a key in text, as `coap-client` takes it.
async fn ask(program: &str, port: u16, identity: &str, key: &str, more: &[&str]) -> Output {
    let url = format!("coaps://127.0.0.1:{port}/x");
    let args = ["-B", "8", "-u", identity, "-k", key];
    let args = args.iter().chain(more).map(|arg| (*arg).to_owned());
    run(program, args.chain([url]).collect(), Stdio::null()).await
}

const TEXT_KEY: &str = "0123456789abcdef";

async fn libcoap(program: &str) {
    if !installed(program) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let hex_key = hex::encode(TEXT_KEY);
    let path = keys_file(directory.path(), &[("lamp-7", &hex_key)]);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = udp.local_addr().unwrap().port();
    let secure = DtlsSocket::start(udp, CredentialStore::open(path).unwrap()).unwrap();
    let socket: Arc<dyn DatagramSocket> = Arc::new(SouthSocket::new(None, Some(secure)));
    let service = Arc::new(Mirror(socket.clone()));
    let endpoint = CoapEndpoint::start(socket, CoapConfig::default(), service).unwrap();
    let answer = ask(program, port, "lamp-7", TEXT_KEY, &[]).await;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert_eq!(text.trim(), "lamp-7 0", "{answer:?}");
    // A body of several blocks.
    let input = directory.path().join("body");
    std::fs::write(&input, vec![b'x'; 5_000]).unwrap();
    let more = ["-m", "post", "-t", "42", "-f", input.to_str().unwrap()];
    let answer = ask(program, port, "lamp-7", TEXT_KEY, &more).await;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert_eq!(text.trim(), "lamp-7 5000", "{answer:?}");
    for (identity, key) in [("lamp-7", "another key 0123"), ("lamp-8", TEXT_KEY)] {
        let refused = ask(program, port, identity, key, &[]).await;
        let text = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert!(
            text.contains("cannot send CoAP pdu"),
            "{identity}: {refused:?}"
        );
    }
    endpoint.close().await;
}

#[tokio::test]
async fn libcoap_with_gnutls_speaks_with_its_key() {
    libcoap("coap-client-gnutls").await;
}

#[tokio::test]
async fn libcoap_with_openssl_speaks_with_its_key() {
    libcoap("coap-client-openssl").await;
}

async fn s_client(port: u16, key: &str) -> String {
    let address = format!("127.0.0.1:{port}");
    let args = ["5", "openssl", "s_client", "-dtls1_2", "-connect", &address]
        .into_iter()
        .chain(["-psk_identity", "lamp-1", "-psk", key])
        .chain(["-cipher", "PSK-AES128-CCM8@SECLEVEL=0"])
        .map(str::to_owned);
    let output = run("timeout", args.collect(), Stdio::null()).await;
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn openssl_agrees_on_the_suite_of_lwm2m() {
    if !installed("openssl") {
        return;
    }
    let server = server().await;
    let text = s_client(server.port, KEY).await;
    assert!(text.contains("Cipher is PSK-AES128-CCM8"), "{text}");
    assert!(text.contains("Extended master secret: yes"), "{text}");
    let refused = s_client(server.port, OTHER_KEY).await;
    assert!(
        !refused.contains("Extended master secret: yes"),
        "{refused}"
    );
    server.endpoint.close().await;
}
