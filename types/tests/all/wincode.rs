//! The encoding is bincode's, by the word of a second implementation: the way out if bincode has to
//! go.

#![allow(clippy::mem_forget, reason = "what wincode derives")]

use lamplighter_types::*;
use wincode::{SchemaRead, SchemaWrite};

use crate::fixture::{TestChain, validators};

#[derive(SchemaWrite, SchemaRead)]
struct HeaderMirror {
    version: u32,
    chain_id: [u8; 32],
    height: u64,
    parent: [u8; 32],
    timestamp_ms: u64,
    roots: [[u8; 32]; 5],
    validators_hash: [u8; 32],
    batch: [u8; 32],
    position: [u8; 32],
}

#[derive(SchemaWrite, SchemaRead)]
enum EncodingMirror {
    Json,
    Bincode,
}

#[derive(SchemaWrite, SchemaRead)]
struct SignedMirror {
    encoding: EncodingMirror,
    key: [u8; 32],
    payload: Vec<u8>,
    signature: [u8; 64],
}

#[derive(SchemaWrite, SchemaRead)]
struct ValidatorMirror {
    node: u64,
    account: String,
    key: [u8; 32],
    address: String,
}

#[derive(SchemaWrite, SchemaRead)]
struct PlaceMirror {
    device: String,
    district: String,
    gateway: Option<String>,
}

#[derive(SchemaWrite, SchemaRead)]
enum OutcomeMirror {
    Succeeded,
    Failed {
        code: String,
        fields: Vec<(String, String)>,
    },
}

/// A receipt whose notifications have no facts with fields.
#[derive(SchemaWrite, SchemaRead)]
struct ReceiptMirror {
    transaction: [u8; 32],
    outcome: OutcomeMirror,
    notifications: Vec<(Option<PlaceMirror>, u32)>,
}

/// Both encode to the same bytes, and wincode reads what bincode wrote.
fn same<T, M>(value: &T, mirror: &M)
where
    T: serde::Serialize,
    M: wincode::SchemaWrite<wincode::config::DefaultConfig, Src = M>
        + for<'de> wincode::SchemaRead<'de, wincode::config::DefaultConfig, Dst = M>,
{
    let bytes = codec::encode(value);
    assert_eq!(wincode::serialize(mirror).unwrap(), bytes);
    let read: M = wincode::deserialize(&bytes).unwrap();
    assert_eq!(wincode::serialize(&read).unwrap(), bytes);
}

#[test]
fn headers_and_transactions_have_the_same_bytes() {
    for block in TestChain::new(6, None).blocks {
        let h = block.certified.header;
        let roots = [
            h.tx_root,
            h.receipt_root,
            h.event_root,
            h.state_root,
            h.history_root,
        ];
        let mirror = HeaderMirror {
            version: h.version,
            chain_id: h.chain_id.0,
            height: h.height,
            parent: h.parent.0,
            timestamp_ms: h.timestamp_ms,
            roots: roots.map(|root| root.0),
            validators_hash: h.validators_hash.0,
            batch: h.batch.0,
            position: h.position.0,
        };
        same(&h, &mirror);
        for t in block.transactions {
            let encoding = match t.encoding {
                Encoding::Json => EncodingMirror::Json,
                Encoding::Bincode => EncodingMirror::Bincode,
            };
            let (key, payload, signature) = (t.key.0, t.payload.0.clone(), t.signature.0);
            same(
                &t,
                &SignedMirror {
                    encoding,
                    key,
                    payload,
                    signature,
                },
            );
        }
    }
}

#[test]
fn lists_texts_and_options_have_the_same_bytes() {
    let set = validators(&[1, 2, 3]);
    let mirror = |v: &Validator| ValidatorMirror {
        node: v.node,
        account: v.account.to_string(),
        key: v.key.0,
        address: v.address.clone(),
    };
    same(&set, &set.validators.iter().map(mirror).collect::<Vec<_>>());
    let place = |gateway: Option<&str>| Place {
        device: "lamp-1".parse().unwrap(),
        district: "north".parse().unwrap(),
        gateway: gateway.map(|g| g.parse().unwrap()),
    };
    let notifications = [None, Some(place(None)), Some(place(Some("gw-1")))];
    let notifications = notifications.map(|place| Notification {
        place,
        fact: Fact::DeviceRegistered,
    });
    let mirrored = |n: &Notification| {
        let place = n.place.as_ref().map(|p| PlaceMirror {
            device: p.device.to_string(),
            district: p.district.to_string(),
            gateway: p.gateway.as_ref().map(Id::to_string),
        });
        (place, 9)
    };
    let code = "users.unknown".to_owned();
    let fields = [("a", "ü"), ("b", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    for (outcome, other) in [
        (Outcome::Succeeded, OutcomeMirror::Succeeded),
        (
            Outcome::Failed {
                code: code.clone(),
                fields: fields.clone().into(),
            },
            OutcomeMirror::Failed {
                code,
                fields: fields.to_vec(),
            },
        ),
    ] {
        let mirror = ReceiptMirror {
            transaction: [5; 32],
            outcome: other,
            notifications: notifications.iter().map(mirrored).collect(),
        };
        let notifications = notifications.to_vec();
        same(
            &Receipt {
                transaction: Hash([5; 32]),
                outcome,
                notifications,
            },
            &mirror,
        );
    }
}
