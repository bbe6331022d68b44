//! The HTTP listener speaks TLS 1.3: with the node's ledger key, and with a certificate brought
//! along, which is exchanged while the node runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lamplighter_api::HttpTls;
use lamplighter_types::SecretKey;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::node::{Node, STEP_TIMEOUT, pinned};

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_takes_the_certificate_of_the_node_and_no_other() {
    let node = Node::start().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("nodes.pem");
    // As in a devnet, that of another node stands first.
    let stranger = lamplighter_tls::Identity::of_node(&SecretKey::from_seed([2; 32]), 2, &[], &[]);
    let stranger = stranger.unwrap().to_pem();
    std::fs::write(&file, format!("{stranger}{}", node.certificate)).unwrap();
    let path = file.to_str().unwrap();
    let port = node.edges.http.port();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{port}/v1/status");
        let answer = curl(&["--tlsv1.3", "--cacert", path, &url]);
        assert!(answer.status.success(), "{host}: {answer:?}");
        let text = String::from_utf8(answer.stdout).unwrap();
        assert!(text.contains("chain_id"), "{text}");
    }
    let url = format!("https://127.0.0.1:{port}/v1/status");
    assert!(
        !curl(&["--cacert", path, "--tls-max", "1.2", &url])
            .status
            .success()
    );
    std::fs::write(&file, stranger).unwrap();
    assert!(!curl(&["--cacert", path, &url]).status.success());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_than_the_pinned_one_is_refused_by_the_client() {
    let node = Node::start().await;
    let other = pinned(SecretKey::from_seed([9; 32]).public());
    let url = format!("{}/v1/status", node.base());
    assert!(other.get(&url).send().await.is_err());
    assert!(node.http.get(&url).send().await.is_ok());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_to_the_tls_port_is_answered_with_the_mistake() {
    let node = Node::start().await;
    let url = node.base().replace("https://", "http://");
    let answer = node
        .http
        .get(format!("{url}/v1/status"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "needs_tls", "{problem}");
    // Neither junk nor silence holds up others.
    let mut junk = TcpStream::connect(node.edges.http).await.unwrap();
    junk.write_all(&[0x16, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .await
        .unwrap();
    let _silent = TcpStream::connect(node.edges.http).await.unwrap();
    let mut answer = Vec::new();
    junk.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(node.get("/v1/status").await.status, 200);
    node.stop().await;
}

/// A certificate for `localhost` with a P-256 key, as an authority of the web would issue it.
struct Brought {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Brought {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, key }
    }

    fn write(&self, folder: &Path) -> HttpTls {
        let path = |name: &str| -> PathBuf { folder.join(name) };
        std::fs::write(path("web.pem"), self.certificate.pem()).unwrap();
        std::fs::write(path("web.key"), self.key.serialize_pem()).unwrap();
        HttpTls::Files {
            certificate: path("web.pem"),
            key: path("web.key"),
        }
    }

    /// True if a program that trusts this certificate reaches the node.
    async fn reaches(&self, node: &Node) -> bool {
        let authorities = self.certificate.pem();
        let tls = lamplighter_tls::pinned_client(None, |_| false, Some(authorities.as_bytes()));
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.unwrap())
            .build()
            .unwrap();
        let port = node.edges.http.port();
        let url = format!("https://localhost:{port}/v1/status");
        http.get(url).send().await.is_ok()
    }

    async fn wait_until_it_reaches(&self, node: &Node) {
        let until = Instant::now() + STEP_TIMEOUT;
        while !self.reaches(node).await {
            assert!(Instant::now() < until, "the new certificate does not serve");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_files_are_exchanged_while_the_node_runs() {
    let folder = TempDir::new().unwrap();
    let first = Brought::new();
    let node = Node::start_with_tls(first.write(folder.path())).await;
    assert!(first.reaches(&node).await);
    // A client that pins the ledger's key gets that one.
    assert_eq!(node.get("/v1/status").await.status, 200);

    let second = Brought::new();
    assert!(!second.reaches(&node).await);
    second.write(folder.path());
    second.wait_until_it_reaches(&node).await;
    assert!(!first.reaches(&node).await);

    // A certificate without its key, and then none: the last good one goes on serving, and a
    // third pair that comes after them is noticed.
    let third = Brought::new();
    std::fs::write(folder.path().join("web.pem"), third.certificate.pem()).unwrap();
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert!(second.reaches(&node).await && !third.reaches(&node).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    std::fs::remove_file(folder.path().join("web.pem")).unwrap();
    assert!(second.reaches(&node).await);
    third.write(folder.path());
    third.wait_until_it_reaches(&node).await;
    assert_eq!(node.get("/v1/status").await.status, 200);
    node.stop().await;
}
