//! Bundles of a real chain verify, and every change of them is refused.

use std::sync::LazyLock;

use lamplighter_types::proof::*;
use lamplighter_types::wire::work::{ProofSet, WorkError};
use lamplighter_types::*;
use proptest::prelude::*;

use crate::fixture::{TestChain, certify, secret, validators};

/// Eleven blocks; the one at height 5 changes the validators.
fn chain() -> TestChain {
    TestChain::new(11, Some(5))
}

fn refusal(bundle: &ProofBundle, genesis: &Genesis) -> ProofError {
    bundle
        .verify(genesis)
        .expect_err("this bundle proves nothing")
}

#[test]
fn every_record_is_proven_under_every_head_above() {
    let chain = chain();
    for height in 0..11 {
        for head in height..11 {
            for record in chain.records(height) {
                let bundle = chain.bundle(record, height, head);
                let proven = bundle.verify(&chain.genesis).unwrap();
                let header = &chain.blocks[height as usize].certified.header;
                assert_eq!(
                    (proven.height, proven.time_ms),
                    (height, header.timestamp_ms)
                );
                assert_eq!(
                    (proven.head_height, proven.head),
                    (head, bundle.head.header.hash())
                );
                assert_eq!(ProofBundle::from_bytes(&bundle.to_bytes()).unwrap(), bundle);
                assert_eq!(ProofBundle::from_json(&bundle.to_json()).unwrap(), bundle);
            }
        }
    }
}

#[test]
fn a_proof_returns_the_proven_record() {
    let chain = chain();
    let block = &chain.blocks[7];
    let mut seen = 0;
    for record in chain.records(7) {
        let proven = chain
            .bundle(record.clone(), 7, 10)
            .verify(&chain.genesis)
            .unwrap();
        match (record, proven.record) {
            (
                RecordProof::Transaction { transaction, place },
                ProvenRecord::Transaction {
                    transaction: found,
                    index,
                },
            ) => {
                assert_eq!((&**found.envelope(), index), (&transaction, place.index));
                assert_eq!(found.get().sequence, 3);
                seen |= 1;
            }
            (RecordProof::Receipt { .. }, ProvenRecord::Receipt { receipt, index }) => {
                assert_eq!(codec::encode(&receipt), block.receipts[index as usize]);
                seen |= 2;
            }
            (RecordProof::Event { .. }, ProvenRecord::Event { event, index }) => {
                assert_eq!(event, crate::fixture::event(index));
                seen |= 4;
            }
            (RecordProof::State { .. }, ProvenRecord::State { key, value }) => {
                let stored = block.state.iter().find(|(k, _)| *k == key);
                assert_eq!(value.as_ref(), stored.map(|(_, v)| v));
                seen |= if value.is_some() { 8 } else { 16 };
            }
            (asked, got) => panic!("asked for {asked:?}, got {got:?}"),
        }
    }
    assert_eq!(seen, 31, "one of each kind");
}

/// Refused, or true of another key: where nothing is, many keys are absent.
fn proves_nothing_false(bytes: &[u8], chain: &TestChain) -> bool {
    let Ok(bundle) = ProofBundle::from_bytes(bytes) else {
        return true;
    };
    match bundle
        .verify(&chain.genesis)
        .map(|proven| (proven.height, proven.record))
    {
        Err(_) => true,
        Ok((height, ProvenRecord::State { key, value: None })) => {
            let state = &chain.blocks[height as usize].state;
            state.iter().all(|(stored, _)| *stored != key)
        }
        Ok(_) => false,
    }
}

#[test]
fn a_flip_of_any_byte_is_refused() {
    let chain = chain();
    for record in chain.records(7) {
        let bundle = chain.bundle(record, 7, 10);
        assert!(bundle.verify(&chain.genesis).is_ok());
        let bytes = bundle.to_bytes();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            assert!(
                proves_nothing_false(&other, &chain),
                "byte {at} of {}",
                bytes.len()
            );
        }
    }
}

static SHORT: LazyLock<TestChain> = LazyLock::new(|| TestChain::new(8, Some(3)));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_change_of_bytes_is_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        which in any::<prop::sample::Index>(),
    ) {
        let chain = &*SHORT;
        let record = which.get(&chain.records(7)).clone();
        let bundle = chain.bundle(record, 7, 7);
        prop_assert!(bundle.verify(&chain.genesis).is_ok());
        let bytes = bundle.to_bytes();
        let mut other = bytes.clone();
        for (at, byte) in changes {
            *at.get_mut(&mut other) = byte;
        }
        prop_assert!(other == bytes || proves_nothing_false(&other, chain));
    }
}

#[test]
fn the_genesis_file_decides() {
    let chain = chain();
    let bundle = chain.bundle(chain.records(4).remove(0), 4, 4);
    let mut other = chain.genesis.clone();
    other.name.push('!');
    assert!(matches!(
        refusal(&bundle, &other),
        ProofError::Chain { height: 4, .. }
    ));
    // The same chain id can't come with other validators: they are part of it.
    other.name.pop();
    assert!(bundle.verify(&other).is_ok());
    other.validators = validators(&[1, 2, 3]);
    assert!(matches!(refusal(&bundle, &other), ProofError::Chain { .. }));
}

#[test]
fn too_few_or_foreign_signatures_do_not_certify() {
    let chain = chain();
    let mut bundle = chain.bundle(chain.records(4).remove(0), 4, 4);
    let header = bundle.head.header.clone();
    let set = |bundle: &mut ProofBundle, nodes: &[u8]| {
        bundle.head.certificate = certify(&header, nodes);
    };
    set(&mut bundle, &[2, 3, 4]);
    assert!(
        bundle.verify(&chain.genesis).is_ok(),
        "three of four are a quorum"
    );
    set(&mut bundle, &[3, 4]);
    let refused = refusal(&bundle, &chain.genesis);
    let ProofError::Certificate { source, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(source, CertificateError::TooFew { got: 2, quorum: 3 });
    set(&mut bundle, &[1, 2, 9]);
    let refused = refusal(&bundle, &chain.genesis);
    let ProofError::Certificate { source, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(
        source,
        CertificateError::Foreign {
            key: secret(9).public()
        }
    );
    set(&mut bundle, &[1, 2, 3]);
    let repeated = bundle.head.certificate.signatures[0].clone();
    bundle.head.certificate.signatures[1] = repeated;
    let refused = refusal(&bundle, &chain.genesis);
    let ProofError::Certificate { source, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(source, CertificateError::Unordered);
}

#[test]
fn a_certificate_on_another_header_is_refused() {
    let chain = chain();
    let mut bundle = chain.bundle(chain.records(4).remove(0), 4, 4);
    bundle.head.certificate = chain.blocks[3].certified.certificate.clone();
    assert!(matches!(
        refusal(&bundle, &chain.genesis),
        ProofError::OtherHeader { height: 4 }
    ));
    bundle.head.certificate.height = 4;
    assert!(matches!(
        refusal(&bundle, &chain.genesis),
        ProofError::OtherHeader { height: 4 }
    ));
}

#[test]
fn validators_change_by_the_old_ones_only() {
    let chain = chain();
    let good = chain.bundle(chain.records(9).remove(0), 9, 10);
    assert_eq!(good.set_changes.len(), 1);
    assert_eq!(good.set_changes[0].certified.header.height, 5);

    let mut missing = good.clone();
    missing.set_changes.clear();
    let refused = refusal(&missing, &chain.genesis);
    assert!(matches!(refused, ProofError::Validators { height: 10 }));

    let mut forged = good.clone();
    forged.set_changes[0].next = validators(&[11]);
    let refused = refusal(&forged, &chain.genesis);
    assert!(matches!(refused, ProofError::NextSet { height: 5, .. }));

    let mut empty = good.clone();
    empty.set_changes[0].next = validators(&[]);
    let refused = refusal(&empty, &chain.genesis);
    assert!(matches!(refused, ProofError::SetSize { height: 5, got: 0 }));

    let mut by_the_new = good.clone();
    let header = &by_the_new.set_changes[0].certified.header;
    by_the_new.set_changes[0].certified.certificate = certify(header, &[3, 4, 5, 6, 7]);
    let refused = refusal(&by_the_new, &chain.genesis);
    assert!(matches!(
        refused,
        ProofError::Untrusted {
            height: 5,
            got: 2,
            ..
        }
    ));

    let mut twice = good.clone();
    twice.set_changes.push(twice.set_changes[0].clone());
    assert!(matches!(refusal(&twice, &chain.genesis), ProofError::Order));

    let mut many = good;
    let change = many.set_changes[0].clone();
    many.set_changes = vec![change; limits::SET_CHANGES_MAX + 1];
    assert!(matches!(
        refusal(&many, &chain.genesis),
        ProofError::SetChanges { got: 1_025 }
    ));
}

#[test]
fn the_record_must_be_in_the_named_block() {
    let chain = chain();
    let records = chain.records(7);
    for record in records {
        let mut bundle = chain.bundle(record.clone(), 7, 10);
        assert!(bundle.verify(&chain.genesis).is_ok());
        bundle.ancestor = chain.bundle(record, 6, 10).ancestor;
        assert!(matches!(
            refusal(&bundle, &chain.genesis),
            ProofError::Record { height: 6, .. }
        ));
    }
    let mut bundle = chain.bundle(chain.records(7).remove(0), 7, 10);
    let ancestor = bundle.ancestor.as_mut().unwrap();
    ancestor.header.timestamp_ms += 1;
    assert!(matches!(
        refusal(&bundle, &chain.genesis),
        ProofError::History { height: 7, .. }
    ));
    let mut bundle = chain.bundle(chain.records(7).remove(0), 7, 10);
    bundle.version = 1;
    assert!(matches!(
        refusal(&bundle, &chain.genesis),
        ProofError::Version { got: 1 }
    ));
}

#[test]
fn a_mutated_certificate_or_header_does_not_verify() {
    let chain = chain();
    let CertifiedHeader {
        header,
        certificate,
    } = &chain.blocks[4].certified;
    let set = validators(&[1, 2, 3, 4]);
    assert_eq!(certificate.verify(&set), Ok(()));
    let bytes = codec::encode(certificate);
    // The height is bound by the header, which a verifier compares.
    for at in 8..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x10;
        if let Ok(other) = codec::decode::<Certificate>(&other) {
            assert!(other.verify(&set).is_err(), "byte {at}");
        }
    }
    let bytes = codec::encode(header);
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x10;
        let other: Header = codec::decode(&other).unwrap();
        assert_ne!(other.hash(), certificate.header, "byte {at}");
    }
}

/// A signature on a header is worth nothing under another height, alone or in a certificate.
/// Version, hash and signature of version 2 are frozen.
#[test]
fn header_and_attestation_are_those_of_version_2() {
    let line = include_str!("../golden/chain.txt")
        .lines()
        .find_map(|line| line.strip_prefix("Header "));
    let (hash, bytes) = line.unwrap().split_once(' ').unwrap();
    let header: Header = codec::decode(&hex::decode(bytes).unwrap()).unwrap();
    assert_eq!(header.hash().to_string(), hash);
    assert_eq!((HEADER_VERSION, header.version), (2, 2));
    let key = SecretKey::from_seed([3; 32]);
    let signed = Attestation::sign(42, header.hash(), &key);
    assert_eq!(
        signed.signature.to_string(),
        "8ea72766a1a75e3b851d8009ce0db476b815a42c81bc762e3a42b5f8c6243a64\
         94a2bc4eceb8d5310efaae2067d69f63c64b21459da758f324ad41eb50cc7209"
    );
}

#[test]
fn a_signature_under_another_height_does_not_verify() {
    let header = chain().blocks[7].certified.header.clone();
    let hash = header.hash();
    let signed = Attestation::sign(7, hash, &secret(1));
    assert_eq!(signed.verify(), Ok(()));
    let mut expected = b"lamplighter/attestation/2\0".to_vec();
    expected.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&hash.0);
    assert_eq!(signed.message(), expected);
    for height in [0, 6, 8, 7 << 8, u64::MAX] {
        let replayed = Attestation {
            height,
            ..signed.clone()
        };
        assert!(replayed.verify().is_err(), "at height {height}");
        let mut certificate = certify(&header, &[1, 2, 3]);
        assert_eq!(certificate.verify(&validators(&[1, 2, 3])), Ok(()));
        certificate.height = height;
        let refused = certificate.verify(&validators(&[1, 2, 3]));
        assert!(matches!(refused, Err(CertificateError::Signature { .. })));
    }
}

#[test]
fn quorums_are_those_of_the_design() {
    for (n, quorum) in [
        (1u8, 1),
        (2, 2),
        (3, 2),
        (4, 3),
        (5, 4),
        (6, 4),
        (7, 5),
        (31, 21),
    ] {
        let nodes: Vec<_> = (1..=n).collect();
        assert_eq!(validators(&nodes).quorum(), quorum, "{n} validators");
    }
    let empty = ValidatorSet {
        validators: Vec::new(),
    };
    let certificate = Certificate {
        height: 0,
        header: Hash::ZERO,
        signatures: Vec::new(),
    };
    assert!(certificate.verify(&empty).is_err());
}

#[test]
fn a_set_proves_what_its_bundles_prove() {
    let chain = chain();
    let bundles: Vec<_> = [(7, 10), (7, 9), (10, 10), (4, 4)]
        .into_iter()
        .flat_map(|(height, head)| {
            let records = chain.records(height).into_iter();
            records
                .map(move |record| (record, height, head))
                .collect::<Vec<_>>()
        })
        .map(|(record, height, head)| chain.bundle(record, height, head))
        .collect();
    let set = ProofSet::from_bundles(bundles.clone());
    assert_eq!((set.heads.len(), set.ancestors.len()), (3, 2));
    let wanted: Vec<_> = bundles
        .iter()
        .map(|b| b.verify(&chain.genesis).unwrap())
        .collect();
    assert_eq!(set.verify(&chain.genesis).unwrap(), wanted);
    for (at, bundle) in bundles.iter().enumerate() {
        assert_eq!(set.bundle(at).as_ref(), Some(bundle));
    }
    let at = set
        .records
        .iter()
        .position(|record| record.head == 2)
        .unwrap();
    let mut other = set.clone();
    other.records[at].head = 9;
    let refused = other.verify(&chain.genesis).err().unwrap();
    assert!(matches!(refused, WorkError::Dangling { record } if record == at));
    other.records[at].head = 0;
    let refused = other.verify(&chain.genesis).err().unwrap();
    assert!(matches!(refused, WorkError::Proof { record, .. } if record == at));
    let mut other = set.clone();
    other.heads[2].certified.certificate.signatures.truncate(2);
    let refused = other.verify(&chain.genesis).err().unwrap();
    assert!(matches!(refused, WorkError::Proof { record: first, .. } if first > 0));
    let mut many = set;
    many.heads = vec![many.heads[0].clone(); 65];
    assert!(matches!(
        many.verify(&chain.genesis),
        Err(WorkError::TooMany { got: 65, .. })
    ));
}
