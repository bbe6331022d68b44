//! A chain of one validator that is replaced three times.

use lamplighter_types::merkle::{StateProof, list, sparse};
use lamplighter_types::proof::*;
use lamplighter_types::*;

pub fn id(name: &str) -> Id {
    Id::new(name).unwrap()
}

pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

/// The set of one validator.
pub fn set(n: u8) -> ValidatorSet {
    ValidatorSet {
        validators: vec![Validator {
            node: n.into(),
            account: id(&format!("node-{n}")),
            key: secret(n).public(),
            address: format!("127.0.0.1:74{n:02}"),
        }],
    }
}

pub fn genesis() -> Genesis {
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".to_owned(),
        created_ms: 1_790_000_000_000,
        validators: set(1),
        organization: id("city"),
        accounts: Vec::new(),
        policies: Policies::default(),
    }
}

/// A header that validator `n` certified, whose state has one record.
pub fn certified(height: u64, n: u8, key: &[u8], value: &[u8]) -> CertifiedHeader {
    let empty = list::block_root(std::iter::empty::<&[u8]>());
    let header = Header {
        version: HEADER_VERSION,
        chain_id: genesis().chain_id(),
        height,
        parent: Hash::ZERO,
        timestamp_ms: 1_790_000_000_000 + height,
        tx_root: empty,
        receipt_root: empty,
        event_root: empty,
        state_root: sparse::leaf(&Hash::of(key), &Hash::of(value)),
        history_root: Hash::ZERO,
        validators_hash: set(n).hash(),
        batch: Hash::of(b"batch"),
        position: Hash::of(b"position"),
    };
    let attestation = Attestation::sign(height, header.hash(), &secret(n));
    let certificate = Certificate::from_attestations(height, header.hash(), &[attestation]);
    CertifiedHeader {
        header,
        certificate,
    }
}

pub fn alone() -> StateProof {
    StateProof {
        siblings: Vec::new(),
        other: None,
    }
}

/// Validator `n` is replaced by the next one at height `2 n`.
pub fn change(n: u8) -> SetChange {
    let value = codec::encode(&set(n + 1));
    SetChange {
        certified: certified(2 * u64::from(n), n, VALIDATOR_SET_KEY, &value),
        in_force: set(n),
        next: set(n + 1),
        path: alone(),
    }
}
