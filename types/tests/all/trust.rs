//! What a verifier with a trusted set accepts: the newest sets over any path, and nothing else.

use std::sync::LazyLock;

use lamplighter_types::limits::VALIDATORS_MAX;
use lamplighter_types::proof::*;
use lamplighter_types::*;
use proptest::prelude::*;

use crate::fixture::{TestChain, certify, secret, validators};

/// The sets after each change. Three of the first four stay until the change at 8, which they sign.
static CHANGES: LazyLock<Vec<(u64, Vec<u8>)>> = LazyLock::new(|| {
    vec![
        (2, vec![1, 2, 3, 4, 5]),
        (4, vec![1, 2, 3, 5]),
        (6, vec![1, 2, 3, 5, 6]),
        (8, vec![5, 6, 7, 8]),
        (10, vec![6, 7, 8, 9]),
    ]
});

static CHAIN: LazyLock<TestChain> = LazyLock::new(|| TestChain::with_changes(13, &CHANGES));

/// A bundle under the last header, with every change.
fn bundle() -> ProofBundle {
    CHAIN.bundle(CHAIN.records(12).remove(0), 12, 12)
}

fn genesis() -> TrustedSet {
    TrustedSet::from(&CHAIN.genesis)
}

/// The set that is in force after the block at `height`.
fn trusted_at(height: u64) -> TrustedSet {
    TrustedSet {
        height,
        set: CHAIN.blocks[height as usize + 1].in_force.clone(),
        ..genesis()
    }
}

/// The members of a set, as numbers of their keys.
fn members(set: &ValidatorSet) -> Vec<u64> {
    set.validators.iter().map(|v| v.node).collect()
}

/// The rule, said again without any code of the verifier: all in force have signed.
fn is_path(pin: u64, changes: &[u64]) -> bool {
    let mut trusted = members(&trusted_at(pin).set);
    for change in changes.iter().filter(|change| **change > pin) {
        let signers = members(&CHAIN.blocks[*change as usize].in_force);
        let known = trusted.iter().filter(|node| signers.contains(node)).count();
        let quorum = match trusted.len() {
            4 => 3,
            5 => 4,
            n => panic!("a set of {n}"),
        };
        if known < quorum {
            return false;
        }
        trusted = members(&CHAIN.blocks[*change as usize + 1].in_force);
    }
    trusted == members(&CHAIN.blocks[12].in_force)
}

#[test]
fn any_part_of_the_changes_over_which_quorums_lead_is_a_proof() {
    let all = bundle();
    assert_eq!(all.set_changes.len(), 5);
    let mut accepted = 0;
    for pin in [0, 1, 2, 5, 6, 8, 9, 10] {
        for kept in 0..1u32 << 5 {
            let mut bundle = all.clone();
            let mut place = 0..;
            bundle
                .set_changes
                .retain(|_| place.next().is_some_and(|n| kept & 1 << n != 0));
            let heights: Vec<_> = bundle
                .set_changes
                .iter()
                .map(|c| c.certified.header.height)
                .collect();
            let verified = bundle.verify(trusted_at(pin));
            let wanted = is_path(pin, &heights);
            assert_eq!(verified.is_ok(), wanted, "from {pin} over {heights:?}");
            match verified {
                Ok(proven) => {
                    accepted += 1;
                    let reached = heights.last().map_or(pin, |last| pin.max(*last));
                    assert_eq!(proven.trusted, trusted_at(reached));
                }
                Err(error) => assert!(error.lacks_changes(), "{error}"),
            }
        }
    }
    assert!(accepted > 60, "{accepted}");
}

#[test]
fn a_step_that_a_quorum_did_not_sign_names_the_height_to_begin_at() {
    let mut bundle = bundle();
    bundle.set_changes.remove(3);
    let refused = bundle.verify(trusted_at(6)).unwrap_err();
    let ProofError::Untrusted {
        height: 10,
        trusted: 6,
        got: 2,
        quorum: 4,
    } = refused
    else {
        panic!("{refused}")
    };
    assert!(
        refused
            .to_string()
            .contains("a proof from height 6 on is needed")
    );
}

#[test]
fn what_is_older_than_the_trusted_set_is_refused() {
    for head in 5..=9 {
        let bundle = CHAIN.bundle(CHAIN.records(3).remove(0), 3, head);
        assert!(bundle.verify(genesis()).is_ok());
        let verified = bundle.verify(trusted_at(8));
        match head {
            9 => assert!(verified.is_ok(), "the first header of that set"),
            _ => assert!(
                matches!(verified, Err(ProofError::Older { trusted: 8, .. })),
                "{verified:?}"
            ),
        }
    }
    // A trusted set is not moved by changes that are older.
    let changes = bundle().set_changes;
    assert_eq!(trusted_at(8).advance(&changes[..4]).unwrap(), trusted_at(8));
}

/// The first four were replaced, and sign whatever they like: with their certificate and the set
/// that they claim, at any height, over the true changes or their own.
#[test]
fn retired_keys_certify_nothing_for_a_newer_trusted_set() {
    let honest = bundle();
    let mut forged = honest.clone();
    let header = &mut forged.head.header;
    header.timestamp_ms += 1;
    header.validators_hash = validators(&[1, 2, 3, 4]).hash();
    forged.ancestor = None;
    forged.head.certificate = certify(&forged.head.header, &[1, 2, 3, 4]);
    forged.set_changes.clear();
    forged
        .verify(genesis())
        .expect("the genesis file alone warns of nothing");
    for pin in [2, 4, 6, 8, 10] {
        for kept in 0..=honest.set_changes.len() {
            forged.set_changes = honest.set_changes[..kept].to_vec();
            let refused = forged.verify(trusted_at(pin)).unwrap_err();
            assert!(
                matches!(refused, ProofError::Validators { height: 12 }),
                "{refused}"
            );
        }
    }
    // A change of theirs to their own set, above everything.
    let mut change = honest.set_changes[0].clone();
    change.in_force = validators(&[1, 2, 3, 4]);
    let header = &mut change.certified.header;
    header.height = 11;
    header.validators_hash = change.in_force.hash();
    change.certified.certificate = certify(&change.certified.header, &[1, 2, 3, 4]);
    forged.set_changes = vec![change];
    for pin in [8, 10] {
        let refused = forged.verify(trusted_at(pin)).unwrap_err();
        assert!(
            matches!(refused, ProofError::Untrusted { got: 0, .. }),
            "{refused}"
        );
    }
}

/// A quorum of the trusted set signs, but the set in force did not certify: an honest one of them
/// would only sign what the set in force certifies as well.
#[test]
fn the_set_in_force_must_certify_a_change_too() {
    let good = bundle();
    let change = |change: SetChange| {
        let mut bundle = good.clone();
        bundle.set_changes = vec![change, good.set_changes[4].clone()];
        bundle.verify(genesis()).map(|proven| proven.trusted)
    };
    let at_8 = &good.set_changes[3];
    assert_eq!(change(at_8.clone()).unwrap(), trusted_at(10));
    // Three of the five in force at 8, and a quorum of the four that are trusted.
    let mut few = at_8.clone();
    few.certified.certificate = certify(&few.certified.header, &[1, 2, 3]);
    let refused = change(few).unwrap_err();
    assert!(matches!(
        refused,
        ProofError::Certificate {
            height: 8,
            source: CertificateError::TooFew { got: 3, quorum: 4 }
        }
    ));
    let mut foreign = at_8.clone();
    foreign.certified.certificate = certify(&foreign.certified.header, &[1, 2, 3, 4]);
    let refused = change(foreign).unwrap_err();
    assert!(matches!(
        refused,
        ProofError::Certificate {
            height: 8,
            source: CertificateError::Foreign { .. }
        }
    ));
    let mut claimed = at_8.clone();
    claimed.in_force = validators(&[1, 2, 3, 5]);
    let refused = change(claimed).unwrap_err();
    assert!(matches!(refused, ProofError::Validators { height: 8 }));
    let mut large = at_8.clone();
    large.in_force = validators(&(1..=VALIDATORS_MAX as u8 + 1).collect::<Vec<_>>());
    let refused = change(large).unwrap_err();
    assert!(matches!(
        refused,
        ProofError::SetSize { height: 8, got: 32 }
    ));
    let mut doubled = at_8.clone();
    let first = doubled.certified.certificate.signatures[0].clone();
    doubled.certified.certificate.signatures.insert(0, first);
    let refused = change(doubled).unwrap_err();
    assert!(matches!(
        refused,
        ProofError::Certificate {
            height: 8,
            source: CertificateError::Unordered
        }
    ));
}

#[test]
fn a_flip_of_any_byte_of_a_path_is_refused() {
    let changes = bundle().set_changes;
    let path = SetPath {
        version: PROOF_VERSION,
        set_changes: vec![changes[3].clone(), changes[4].clone()],
        more: false,
    };
    assert_eq!(path.verify(&genesis()).unwrap(), trusted_at(10));
    let bytes = codec::encode(&path);
    // The last byte is `more`, which is no statement about the ledger.
    for at in 0..bytes.len() - 1 {
        let mut other = bytes.clone();
        other[at] ^= 1 << (at % 8);
        let verified = codec::decode::<SetPath>(&other).map(|path| path.verify(&genesis()));
        assert!(
            !matches!(verified, Ok(Ok(_))),
            "byte {at} of {}",
            bytes.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Steps that are dropped, repeated, put in another order, or signed or filled otherwise lead
    /// to a set of the chain, or nowhere.
    #[test]
    fn a_mutated_path_leads_to_a_true_set_or_nowhere(
        pin in prop::sample::select(vec![0u64, 2, 4, 6, 8, 10]),
        order in prop::collection::vec((0usize..5, 0u8..6, 0usize..5), 0..6),
    ) {
        let honest = bundle().set_changes;
        let mut steps = Vec::new();
        for (which, mutation, other) in order {
            let mut step = honest[which].clone();
            let from = &honest[other];
            match mutation {
                0 => step.next = from.next.clone(),
                1 => step.in_force = from.in_force.clone(),
                2 => step.path = from.path.clone(),
                3 => step.certified = from.certified.clone(),
                4 => step.certified.certificate = certify(
                    &step.certified.header,
                    &members(&from.next).iter().map(|n| *n as u8).collect::<Vec<_>>(),
                ),
                _ => {}
            }
            steps.push(step);
        }
        if let Ok(reached) = trusted_at(pin).advance(&steps) {
            prop_assert_eq!(&reached, &trusted_at(reached.height));
            prop_assert!(reached.height >= pin);
        }
    }
}

#[test]
fn a_trusted_set_is_read_from_its_file_only() {
    let genesis = &CHAIN.genesis;
    let trusted = trusted_at(8);
    let file = trusted.to_json();
    assert_eq!(TrustedSet::from_json(&file, genesis).unwrap(), trusted);
    let read = |trusted: &TrustedSet| TrustedSet::from_json(&trusted.to_json(), genesis);
    let mut other = trusted.clone();
    other.chain_id = Hash::ZERO;
    assert!(matches!(read(&other), Err(TrustedSetError::Chain { .. })));
    let mut none = trusted.clone();
    none.set.validators.clear();
    assert!(matches!(read(&none), Err(TrustedSetError::Size(0))));
    let mut first = trusted.clone();
    first.height = 0;
    assert!(matches!(read(&first), Err(TrustedSetError::Genesis)));
    for bytes in [&b""[..], b"{}", &file[..file.len() / 2]] {
        let refused = TrustedSet::from_json(bytes, genesis);
        assert!(matches!(refused, Err(TrustedSetError::Malformed(_))));
    }
    assert!(trusted.set.by_key(&secret(5).public()).is_some());
}
