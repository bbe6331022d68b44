//! A proof of a node is accepted only if the record beside it is the proven one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lamplighter_client::{Client, ClientConfig, ClientError, Subject};
use lamplighter_types::merkle::{StateProof, list, sparse};
use lamplighter_types::proof::*;
use lamplighter_types::*;
use serde_json::{Value, json};

fn id(name: &str) -> Id {
    Id::new(name).unwrap()
}

fn secret() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn genesis() -> Genesis {
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".to_owned(),
        created_ms: 1_790_000_000_000,
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key: secret().public(),
                address: "127.0.0.1:7400".to_owned(),
            }],
        },
        organization: id("city"),
        accounts: Vec::new(),
        policies: Policies::default(),
    }
}

fn organization(name: &str) -> Organization {
    Organization {
        organization: id(name),
        name: "Harbour City".to_owned(),
        registered_height: 3,
    }
}

/// A proof of one organization, in a block whose state has nothing else.
fn bundle(name: &str) -> ProofBundle {
    let key = [&[0x01], name.as_bytes(), &[0]].concat();
    let value = codec::encode(&organization(name));
    let empty = list::block_root(std::iter::empty::<&[u8]>());
    let header = Header {
        version: HEADER_VERSION,
        chain_id: genesis().chain_id(),
        height: 3,
        parent: Hash::ZERO,
        timestamp_ms: 1_790_000_003_000,
        tx_root: empty,
        receipt_root: empty,
        event_root: empty,
        state_root: sparse::leaf(&Hash::of(&key), &Hash::of(&value)),
        history_root: Hash::ZERO,
        validators_hash: genesis().validators.hash(),
        batch: Hash::of(b"batch"),
        position: Hash::of(b"position"),
    };
    let attestation = Attestation::sign(3, header.hash(), &secret());
    let certificate = Certificate::from_attestations(3, header.hash(), &[attestation]);
    ProofBundle {
        version: PROOF_VERSION,
        record: RecordProof::State {
            key: key.into(),
            value: Some(value.into()),
            path: StateProof {
                siblings: Vec::new(),
                other: None,
            },
        },
        ancestor: None,
        head: CertifiedHeader {
            header,
            certificate,
        },
        set_changes: Vec::new(),
    }
}

/// Requests the proof of the organization `city` from a node with this answer.
async fn ask(answer: Value) -> Result<(ProofBundle, Proven), ClientError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let path = "/v1/organizations/{organization}";
    let router = Router::new().route(path, get(async move || answer.to_string()));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut config = ClientConfig::new(vec![url]).with_genesis(genesis());
    config.deadline = Duration::from_secs(10);
    let client = Client::new(config).unwrap();
    client.proof(&Subject::Organization(id("city"))).await
}

#[tokio::test]
async fn the_record_beside_a_proof_is_compared_with_it() {
    let proof = bundle("city");
    let record = json!(organization("city"));
    let honest = json!({ "record": record, "proof": proof });
    let (bundle_got, proven) = ask(honest.clone()).await.unwrap();
    assert_eq!((bundle_got, proven.height), (bundle("city"), 3));

    let refused = async |answer: Value| match ask(answer).await {
        Err(ClientError::Proof { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    let mut forged = honest.clone();
    forged["record"]["name"] = json!("Another City");
    let error = refused(forged).await;
    assert!(
        error.contains("record.name is \"Another City\" in the file"),
        "{error}"
    );
    let mut more = honest.clone();
    more["height"] = json!(3);
    assert!(refused(more).await.contains("the member \"height\""));
    let mut less = honest.clone();
    less["record"].as_object_mut().unwrap().remove("name");
    refused(less).await;
    let mut unproven = honest.clone();
    unproven["proof"]["head"]["header"]["timestamp_ms"] = json!(1);
    refused(unproven).await;
    refused(json!({ "record": record })).await;
    refused(json!({ "proof": proof })).await;
}

#[tokio::test]
async fn a_good_proof_of_something_else_is_refused() {
    let other = json!({ "record": organization("harbour"), "proof": bundle("harbour") });
    let refused = ask(other).await;
    assert!(
        matches!(refused, Err(ClientError::WrongRecord { .. })),
        "{refused:?}"
    );
}
