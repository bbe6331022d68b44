//! A client follows the validators, and believes nothing of those that it has seen replaced.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chain;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use chain::{alone, certified, change, genesis, id, set};
use lamplighter_client::{Client, ClientConfig, ClientError, Subject, TrustAnchor};
use lamplighter_types::proof::*;
use lamplighter_types::*;
use serde::Deserialize;
use serde_json::json;

/// A proof of the organization `city` that validator `n` certified.
fn bundle(height: u64, n: u8, set_changes: Vec<SetChange>) -> ProofBundle {
    let key = b"\x01city\0".to_vec();
    let value = codec::encode(&organization());
    ProofBundle {
        version: PROOF_VERSION,
        head: certified(height, n, &key, &value),
        record: RecordProof::State {
            key: key.into(),
            value: Some(value.into()),
            path: alone(),
        },
        ancestor: None,
        set_changes,
    }
}

fn organization() -> Organization {
    Organization {
        organization: id("city"),
        name: "Harbour City".to_owned(),
        registered_height: 3,
    }
}

#[derive(Deserialize)]
struct TrustedQuery {
    #[serde(default)]
    trusted: u64,
}

/// A node with three changes that answers one page at a time, and proves with the last one alone.
async fn node(pages: Arc<AtomicU64>, proof: ProofBundle) -> String {
    let path = async move |Query(TrustedQuery { trusted }): Query<TrustedQuery>| {
        pages.fetch_add(1, Ordering::Relaxed);
        let next = (1..=3).find(|n| 2 * u64::from(*n) > trusted);
        let path = SetPath {
            version: PROOF_VERSION,
            set_changes: next.map(change).into_iter().collect(),
            more: next.is_some_and(|n| n < 3),
        };
        json!(path).to_string()
    };
    let proof = json!({ "record": organization(), "proof": proof }).to_string();
    let router = Router::new()
        .route("/v1/proofs/validators", get(path))
        .route("/v1/organizations/city", get(async move || proof));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn prove(anchor: TrustAnchor, proof: ProofBundle) -> (Result<u64, ClientError>, u64) {
    let pages = Arc::new(AtomicU64::new(0));
    let url = node(pages.clone(), proof).await;
    let config = ClientConfig::new(vec![url]).with_genesis(genesis());
    let mut config = config.with_trust(Arc::new(anchor));
    config.deadline = Duration::from_secs(10);
    let client = Client::new(config).unwrap();
    let proven = client.proof(&Subject::Organization(id("city"))).await;
    let height = proven.map(|(_, proven)| proven.trusted.height);
    (height, pages.load(Ordering::Relaxed))
}

fn open(file: &Path) -> TrustAnchor {
    TrustAnchor::open(file.to_owned(), &genesis()).unwrap()
}

#[tokio::test]
async fn a_client_far_behind_follows_page_by_page_and_keeps_the_newest_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trusted.json");
    let honest = bundle(9, 4, vec![change(3)]);
    let (height, pages) = prove(open(&file), honest.clone()).await;
    assert_eq!((height.unwrap(), pages), (6, 3));
    let kept = TrustAnchor::read(&file, &genesis()).unwrap().unwrap();
    assert_eq!((kept.height, &kept.set), (6, &set(4)));
    // The next start begins there.
    let (height, pages) = prove(open(&file), honest).await;
    assert_eq!((height.unwrap(), pages), (6, 0));
}

/// The key of the first validator was stolen after it was replaced: it signs a head of its own, at
/// any height, with today's time, and changes of its own.
#[tokio::test]
async fn a_retired_key_convinces_no_client_that_has_seen_newer_validators() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trusted.json");
    prove(open(&file), bundle(9, 4, vec![change(3)]))
        .await
        .0
        .unwrap();
    let forged = bundle(1_000, 1, Vec::new());
    let (height, _) = prove(TrustAnchor::in_memory((&genesis()).into()), forged.clone()).await;
    height.expect("nothing can warn who has the genesis file alone");
    let mut forged_change = change(1);
    forged_change.certified = certified(900, 1, VALIDATOR_SET_KEY, &codec::encode(&set(2)));
    let led_astray = bundle(1_000, 2, vec![forged_change]);
    for forged in [forged, led_astray, bundle(5, 3, vec![change(1), change(2)])] {
        let (refused, _) = prove(open(&file), forged).await;
        assert!(
            matches!(refused, Err(ClientError::Proof { .. })),
            "{refused:?}"
        );
    }
    let kept = TrustAnchor::read(&file, &genesis()).unwrap().unwrap();
    assert_eq!((kept.height, kept.set), (6, set(4)));
}

#[tokio::test]
async fn nothing_is_proven_while_the_set_can_not_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere: PathBuf = folder.path().join("missing").join("trusted.json");
    let (refused, _) = prove(open(&nowhere), bundle(3, 2, vec![change(1)])).await;
    assert!(matches!(refused, Err(ClientError::Trust(_))), "{refused:?}");
}

#[test]
fn a_damaged_file_is_no_reason_to_trust_the_genesis_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trusted.json");
    let trusted = TrustedSet::from(&genesis()).advance(&[change(1)]).unwrap();
    let whole = trusted.to_json();
    for bytes in [&b""[..], &whole[..whole.len() - 9], b"{}"] {
        std::fs::write(&file, bytes).unwrap();
        TrustAnchor::open(file.clone(), &genesis()).unwrap_err();
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(open(&file).current(), trusted);
    let mut other = genesis();
    other.name = "Another City".to_owned();
    TrustAnchor::open(file, &other).unwrap_err();
}

/// Another verification moved the anchor while this one used the older set: it is done again,
/// so that keys which retired meanwhile prove nothing.
#[test]
fn a_verification_that_was_overtaken_is_repeated_from_the_newer_set() {
    let anchor = TrustAnchor::in_memory((&genesis()).into());
    type Verified = Result<((), TrustedSet), Box<dyn std::error::Error>>;
    let advance = |trusted: &TrustedSet, change: SetChange| -> Verified {
        Ok(((), trusted.advance(&[change])?))
    };
    let forged_change = SetChange {
        certified: certified(900, 1, VALIDATOR_SET_KEY, &codec::encode(&set(2))),
        ..change(1)
    };
    let mut seen = Vec::new();
    let seen_heights = std::sync::Mutex::new(&mut seen);
    let verified = anchor.verify(|trusted| {
        seen_heights.lock().unwrap().push(trusted.height);
        if trusted.height == 0 {
            anchor
                .verify(|trusted| advance(trusted, change(1)))
                .unwrap();
        }
        advance(trusted, forged_change.clone())
    });
    assert!(verified.is_err());
    assert_eq!(seen, [0, 2]);
    assert_eq!(anchor.current().height, 2);
}
