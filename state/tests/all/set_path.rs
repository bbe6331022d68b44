//! Proofs over very many changes of the validators.

use std::sync::Arc;

use lamplighter_state::{StateError, prove, set_path, tables};
use lamplighter_store::{Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::limits::{SET_CHANGES_MAX, SET_PATH_MAX};
use lamplighter_types::merkle::{StateProof, sparse};
use lamplighter_types::proof::{ProofError, TrustedSet, VALIDATOR_SET_KEY, verify_head};
use lamplighter_types::*;

use crate::fixture::{TestChain, id};

/// Headers, certificates and sets of a chain in which each block changes the validators; a bundle
/// needs no other rows.
struct Changes {
    kv: Arc<MemoryKv>,
    genesis: Genesis,
    keys: Vec<SecretKey>,
    validators: Vec<Validator>,
    /// The last header.
    head: Header,
    /// Indices of `keys`, the set that is in force next.
    in_force: Vec<usize>,
    in_force_hash: Hash,
    random: u64,
}

impl Changes {
    fn new(keys: usize, first: usize) -> Self {
        let key = |n: usize| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&n.to_le_bytes());
            SecretKey::from_seed(seed)
        };
        let keys: Vec<_> = (0..keys).map(key).collect();
        let validator = |(n, key): (usize, &SecretKey)| Validator {
            node: n as u64 + 1,
            account: id(&format!("node-{n}")),
            key: key.public(),
            address: format!("10.0.0.{n}:7000"),
        };
        let validators: Vec<_> = keys.iter().enumerate().map(validator).collect();
        let in_force: Vec<_> = (0..first).collect();
        let mut genesis = TestChain::new().genesis;
        genesis.validators.validators = validators[..first].to_vec();
        let head = first_header(&genesis);
        let in_force_hash = genesis.validators.hash();
        let kv = Arc::new(MemoryKv::new());
        let mut batch = WriteBatch::new();
        tables::put_block(&mut batch, &head, &[], &[], &[]);
        tables::put_validators(&mut batch, 0, &genesis.validators, &alone());
        kv.write(batch, Durability::Synced).unwrap();
        Self {
            kv,
            genesis,
            keys,
            validators,
            head,
            in_force,
            in_force_hash,
            random: 1,
        }
    }

    /// The next number of a sequence (SplitMix64), below a bound.
    fn random(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }

    /// One of the keys joins, or one leaves, so that the set has 4 to `most`.
    fn join_or_leave(&mut self, most: usize) {
        let mut next = self.in_force.clone();
        loop {
            let key = self.random(self.keys.len());
            match next.iter().position(|member| *member == key) {
                Some(place) if next.len() > 4 => drop(next.remove(place)),
                None if next.len() < most => next.push(key),
                _ => continue,
            }
            next.sort_unstable();
            return self.push(next);
        }
    }

    /// A block with this next set and a certificate of a quorum of the set in force.
    /// [`sign`](Self::sign) makes its signatures where a proof needs them: all would take long.
    fn push(&mut self, next: Vec<usize>) {
        let sets = (self.set(&self.in_force), self.set(&next));
        let head = self.header(&sets.1);
        let mut signers = self.in_force.clone();
        while signers.len() > sets.0.quorum() {
            let place = self.random(signers.len());
            signers.swap_remove(place);
        }
        let mut signatures: Vec<_> = signers
            .iter()
            .map(|n| CertificateSignature {
                key: self.validators[*n].key,
                signature: Signature([0; 64]),
            })
            .collect();
        signatures.sort_by_key(|signature| signature.key);
        let certificate = Certificate {
            height: head.height,
            header: head.hash(),
            signatures,
        };
        let mut batch = WriteBatch::new();
        tables::put_block(&mut batch, &head, &[], &[], &[]);
        tables::put_validators(&mut batch, head.height, &sets.1, &alone());
        tables::put_certificate(&mut batch, &certificate);
        self.kv.write(batch, Durability::Synced).unwrap();
        (self.head, self.in_force) = (head, next);
        self.in_force_hash = sets.1.hash();
    }

    /// Ends with a block that changes nothing, whose header is the head of proofs.
    fn finish(&mut self) {
        set_path::extend(&*self.kv).unwrap();
        let head = self.header(&self.set(&self.in_force));
        let certificate = certify(&head, self.in_force.iter().map(|n| &self.keys[*n]));
        let mut batch = WriteBatch::new();
        tables::put_block(&mut batch, &head, &[], &[], &[]);
        tables::put_certificate(&mut batch, &certificate);
        self.kv.write(batch, Durability::Synced).unwrap();
        self.head = head;
    }

    /// The next header; its state has `next` alone, and the set in force is the last one's.
    fn header(&self, next: &ValidatorSet) -> Header {
        let value = Hash::of(&codec::encode(next));
        Header {
            height: self.head.height + 1,
            parent: self.head.hash(),
            state_root: sparse::leaf(&Hash::of(VALIDATOR_SET_KEY), &value),
            validators_hash: self.in_force_hash,
            ..self.head.clone()
        }
    }

    /// Signs the certificates of these changes.
    fn sign(&self, heights: &[u64]) {
        let mut batch = WriteBatch::new();
        for height in heights {
            let header = tables::header(&*self.kv, *height).unwrap().unwrap();
            let certificate = tables::certificate(&*self.kv, *height).unwrap().unwrap();
            let signers = certificate.signatures.iter().map(|signature| {
                let place = self.validators.iter().position(|v| v.key == signature.key);
                &self.keys[place.unwrap()]
            });
            tables::put_certificate(&mut batch, &certify(&header, signers));
        }
        self.kv.write(batch, Durability::Synced).unwrap();
    }

    /// Signs the changes of the path from a height.
    fn sign_path(&self, trusted: u64, limit: usize) {
        let path = set_path::find(&*self.kv, trusted, self.head.height, limit).unwrap();
        self.sign(&path.heights);
    }

    /// Proves the head for a verifier with the set of a height; returns the number of changes.
    fn prove_from(&self, trusted: &TrustedSet) -> usize {
        let height = self.head.height;
        self.sign_path(trusted.height, SET_CHANGES_MAX);
        let proof = prove::header_proof(&*self.kv, height, height, trusted.height).unwrap();
        assert_eq!(proof.verify(trusted).unwrap(), &self.head);
        proof.set_changes.len()
    }

    fn set(&self, members: &[usize]) -> ValidatorSet {
        let validators = members.iter().map(|n| self.validators[*n].clone());
        ValidatorSet {
            validators: validators.collect(),
        }
    }

    fn trusted_at(&self, height: u64) -> TrustedSet {
        TrustedSet {
            chain_id: self.genesis.chain_id(),
            height,
            set: tables::validators_at(&*self.kv, height + 1).unwrap(),
        }
    }
}

/// The path of the only record of a state.
fn alone() -> StateProof {
    StateProof {
        siblings: Vec::new(),
        other: None,
    }
}

/// A header whose state has the set of the genesis file alone.
fn first_header(genesis: &Genesis) -> Header {
    let value = Hash::of(&codec::encode(&genesis.validators));
    let empty = merkle::list::block_root(std::iter::empty::<&[u8]>());
    Header {
        version: HEADER_VERSION,
        chain_id: genesis.chain_id(),
        height: 0,
        parent: Hash::ZERO,
        timestamp_ms: genesis.created_ms,
        tx_root: empty,
        receipt_root: empty,
        event_root: empty,
        state_root: sparse::leaf(&Hash::of(VALIDATOR_SET_KEY), &value),
        history_root: Hash::ZERO,
        validators_hash: genesis.validators.hash(),
        batch: Hash::ZERO,
        position: Hash::ZERO,
    }
}

fn certify<'a>(header: &Header, keys: impl Iterator<Item = &'a SecretKey>) -> Certificate {
    let hash = header.hash();
    let attestations: Vec<_> = keys
        .map(|key| Attestation::sign(header.height, hash, key))
        .collect();
    Certificate::from_attestations(header.height, hash, &attestations)
}

#[test]
fn a_proof_over_100_000_changes_is_small() {
    let mut chain = Changes::new(8, 4);
    for _ in 0..100_000 {
        chain.join_or_leave(7);
    }
    chain.finish();
    let count = chain.prove_from(&TrustedSet::from(&chain.genesis));
    assert!(count <= 12, "{count} changes from the genesis set");
    let stored = set_path::newest(&*chain.kv, chain.head.height, SET_CHANGES_MAX).unwrap();
    assert!(stored.len() <= 12, "{stored:?}");
    for height in [
        1, 2, 77, 1_024, 1_025, 33_333, 50_000, 99_000, 99_999, 100_000,
    ] {
        let count = chain.prove_from(&chain.trusted_at(height));
        assert!(count <= 12, "{count} changes from height {height}");
    }
    // A restart that lost the rows makes them again, to the same ones.
    let newest = *stored.last().unwrap();
    let row = tables::set_path(&*chain.kv, newest).unwrap();
    let lost = lamplighter_store::KeyRange::prefix(&b"setpath"[..]);
    let mut batch = WriteBatch::new();
    batch.delete_range(lamplighter_store::Cf::Meta, lost);
    chain.kv.write(batch, Durability::Synced).unwrap();
    assert_eq!(tables::last_set_path(&*chain.kv).unwrap(), None);
    set_path::extend(&*chain.kv).unwrap();
    assert_eq!(tables::set_path(&*chain.kv, newest).unwrap(), row);
}

/// Each change replaces one of four for ever: no set far away shares a quorum with any other.
#[test]
fn a_verifier_far_behind_replaced_validators_reads_pages() {
    const CHANGES: usize = 1_600;
    let mut chain = Changes::new(CHANGES + 5, 4);
    for n in 0..CHANGES {
        let mut next = chain.in_force.clone();
        next.remove(0);
        next.push(n + 4);
        chain.push(next);
    }
    chain.finish();
    let (kv, head) = (&*chain.kv, chain.head.height);
    let many = prove::header_proof(kv, head, head, 0).unwrap_err();
    assert!(matches!(many, StateError::ManyChanges { trusted: 0 }));
    let mut trusted = TrustedSet::from(&chain.genesis);
    let mut pages = 0;
    loop {
        chain.sign_path(trusted.height, SET_PATH_MAX);
        let path = prove::set_path(kv, trusted.height, head).unwrap();
        assert!(path.set_changes.len() <= SET_PATH_MAX);
        assert!(!path.more || path.set_changes.len() == SET_PATH_MAX);
        trusted = path.verify(&trusted).unwrap();
        pages += 1;
        if !path.more {
            break;
        }
    }
    assert_eq!(trusted, chain.trusted_at(head - 1));
    assert!(pages <= CHANGES / SET_PATH_MAX + 1, "{pages} pages");
    assert_eq!(chain.prove_from(&trusted), 0);
    chain.prove_from(&chain.trusted_at(head - 100));
    // One that keeps up needs the last changes alone.
    chain.sign(&set_path::newest(kv, head, 4).unwrap());
    let recent = prove::recent_header_proof(kv, head, head, 4).unwrap();
    assert_eq!(recent.set_changes.len(), 4);
    let before = recent.set_changes[0].certified.header.height - 1;
    assert_eq!(
        recent.verify(&chain.trusted_at(before)).unwrap(),
        &chain.head
    );
}

#[test]
fn a_change_without_a_certificate_ends_the_path() {
    let mut chain = Changes::new(8, 4);
    (0..9).for_each(|_| chain.join_or_leave(7));
    let certificate = tables::certificate(&*chain.kv, 6).unwrap().unwrap();
    let mut batch = WriteBatch::new();
    let key = [&b"c"[..], &6u64.to_be_bytes()].concat();
    batch.delete(lamplighter_store::Cf::Certificates, key);
    chain.kv.write(batch, Durability::Synced).unwrap();
    set_path::extend(&*chain.kv).unwrap();
    assert_eq!(tables::last_set_path(&*chain.kv).unwrap(), Some(5));
    let mut batch = WriteBatch::new();
    tables::put_certificate(&mut batch, &certificate);
    chain.kv.write(batch, Durability::Synced).unwrap();
    chain.finish();
    assert_eq!(tables::last_set_path(&*chain.kv).unwrap(), Some(9));
    chain.prove_from(&TrustedSet::from(&chain.genesis));
}

/// All of the first four were replaced. Their keys, sold with the disks, sign a chain of their own.
#[test]
fn retired_keys_convince_no_verifier_with_newer_validators() {
    let mut chain = Changes::new(9, 4);
    for n in 0..5 {
        let next = chain.in_force[1..].iter().copied().chain([n + 4]);
        chain.push(next.collect());
    }
    chain.finish();
    let genesis = TrustedSet::from(&chain.genesis);
    let forged = Header {
        height: chain.head.height + 1_000,
        validators_hash: chain.genesis.validators.hash(),
        ..chain.head.clone()
    };
    let forged = proof::CertifiedHeader {
        certificate: certify(&forged, chain.keys[..4].iter()),
        header: forged,
    };
    verify_head(&forged, &[], &genesis).expect("nothing can warn who has the genesis file alone");
    for height in 2..=5 {
        let refused = verify_head(&forged, &[], &chain.trusted_at(height)).unwrap_err();
        assert!(
            matches!(refused, ProofError::Validators { .. }),
            "{refused}"
        );
    }
    // With a change of their own to lead to a set that they hold, whatever it claims to be.
    let value = chain.genesis.validators.clone();
    let change = Header {
        height: 900,
        ..first_header(&chain.genesis)
    };
    let change = proof::SetChange {
        certified: proof::CertifiedHeader {
            certificate: certify(&change, chain.keys[..4].iter()),
            header: change,
        },
        in_force: value.clone(),
        next: value,
        path: alone(),
    };
    let changes = [change];
    verify_head(&forged, &changes, &genesis).expect("as above");
    for height in 2..=5 {
        let refused = verify_head(&forged, &changes, &chain.trusted_at(height)).unwrap_err();
        let ProofError::Untrusted { got, .. } = refused else {
            panic!("{refused}")
        };
        assert!(got <= 2, "of the set at {height}");
    }
    // An old header of the true chain is older than what the verifier has.
    chain.sign(&[1, 2]);
    let old = prove::header_proof(&*chain.kv, 2, 2, 0).unwrap();
    old.verify(&genesis).unwrap();
    let refused = old.verify(&chain.trusted_at(3)).unwrap_err();
    assert!(
        matches!(
            refused,
            ProofError::Older {
                height: 2,
                trusted: 3
            }
        ),
        "{refused}"
    );
}
