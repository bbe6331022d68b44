//! A client recognizes nodes by the keys of the validators that it has proven.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chain;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Router, serve::Listener};
use chain::{change, genesis, secret};
use lamplighter_client::{Client, ClientConfig, ClientError, TrustAnchor};
use lamplighter_tls::{Identity, WebCertificates, web_server};
use lamplighter_types::proof::{PROOF_VERSION, SetPath, TrustedSet};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

struct TlsListener(TcpListener, TlsAcceptor);

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A node with the key of validator `n`, which knows all changes of the validators.
async fn node(n: u8) -> String {
    let path = SetPath {
        version: PROOF_VERSION,
        set_changes: (1..=3).map(change).collect(),
        more: false,
    };
    let path = json!(path).to_string();
    let router = Router::new()
        .route("/v1/proofs/validators", get(async move || path))
        .route(
            "/v1/anything",
            get(async || json!({ "served": true }).to_string()),
        );
    let identity = Identity::of_node(&secret(n), n.into(), &[], &[]).unwrap();
    let server = web_server(Arc::new(WebCertificates::new(&identity).unwrap())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let listener = TlsListener(listener, TlsAcceptor::from(Arc::new(server)));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn get_from(url: String, anchor: &Arc<TrustAnchor>) -> Result<Value, ClientError> {
    let config = ClientConfig::new(vec![url]).with_genesis(genesis());
    let mut config = config.with_trust(anchor.clone());
    config.deadline = Duration::from_secs(5);
    let answer = Client::new(config).unwrap().get("/v1/anything").await;
    answer.map(|read| read.value)
}

fn refused_key(result: Result<Value, ClientError>) {
    let Err(ClientError::Deadline { last, .. }) = result else {
        panic!("{result:?}");
    };
    assert!(matches!(*last, ClientError::NodeKey { .. }), "{last:?}");
}

#[tokio::test]
async fn new_validators_are_learned_from_a_node_with_an_unknown_key_and_old_ones_refused() {
    let anchor = Arc::new(TrustAnchor::in_memory(TrustedSet::from(&genesis())));
    // The key of the genesis file, before anything newer is known.
    get_from(node(1).await, &anchor).await.unwrap();
    assert_eq!(anchor.current().height, 0);
    // The newest validator proves itself.
    get_from(node(4).await, &anchor).await.unwrap();
    assert_eq!(anchor.current().height, 6);
    // Those before it, and whoever was no validator, are refused from then on.
    for retired in [1, 2, 3, 9] {
        refused_key(get_from(node(retired).await, &anchor).await);
    }
    // A node that is no validator is named with its key, and then only with this one.
    let observer = node(9).await;
    let key = secret(9).public();
    get_from(format!("{observer}#{key}"), &anchor)
        .await
        .unwrap();
    let validator = node(4).await;
    refused_key(get_from(format!("{validator}#{key}"), &anchor).await);
}

#[tokio::test]
async fn a_port_without_tls_is_reported_as_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let router = Router::new();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let anchor = Arc::new(TrustAnchor::in_memory(TrustedSet::from(&genesis())));
    let Err(ClientError::Deadline { last, .. }) = get_from(url, &anchor).await else {
        panic!("it was served");
    };
    assert!(matches!(*last, ClientError::NotTls { .. }), "{last:?}");
    assert!(last.to_string().contains("does not speak TLS"), "{last}");
}

#[test]
fn plain_http_leads_to_other_machines_only_when_that_is_allowed() {
    let of = |url: &str| ClientConfig::new(vec![url.to_owned()]);
    for loopback in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
        Client::new(of(loopback)).unwrap();
    }
    let outside = Client::new(of("http://10.0.0.1:1"));
    assert!(matches!(outside, Err(ClientError::PlainAddress(_))));
    let mut allowed = of("http://10.0.0.1:1");
    allowed.plain_http_beyond_loopback = true;
    Client::new(allowed).unwrap();
    let unknown = Client::new(of("https://10.0.0.1:1"));
    assert!(matches!(unknown, Err(ClientError::NoNodeKeys(_))));
    let key = secret(1).public();
    Client::new(of(&format!("https://10.0.0.1:1#{key}"))).unwrap();
    let malformed = Client::new(of("https://10.0.0.1:1#key"));
    assert!(matches!(malformed, Err(ClientError::Address(_))));
}
