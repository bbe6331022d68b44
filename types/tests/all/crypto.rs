//! Single and batch verification agree, on the points on which implementations are known to differ
//! too.

use lamplighter_types::crypto::{SignedMessage, VERIFY_BATCH, verify_all};
use lamplighter_types::{PublicKey, SecretKey, Signature};
use proptest::prelude::*;

/// All encodings of the eight points of small order, first the canonical ones. ZIP-215 takes them
/// all.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// The order of the base point, little-endian (RFC 8032 section 5.1).
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

fn bytes(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn signature(r: [u8; 32], s: [u8; 32]) -> Signature {
    Signature([r, s].concat().try_into().unwrap())
}

fn singly(items: &[SignedMessage<'_>]) -> Vec<bool> {
    items
        .iter()
        .map(|i| i.key.verify(i.message, &i.signature).is_ok())
        .collect()
}

#[test]
fn crafted_signatures_verify_equally_alone_and_in_batches() {
    let secret = SecretKey::from_seed([7; 32]);
    let good = secret.sign(b"message");
    let mut items = Vec::new();
    for key in SMALL_ORDER.map(bytes).map(PublicKey) {
        for r in SMALL_ORDER.map(bytes) {
            items.push(SignedMessage {
                key,
                message: b"message",
                signature: signature(r, [0; 32]),
            });
        }
    }
    assert_eq!(singly(&items), vec![true; 196], "ZIP-215 accepts these");
    let edge = items.len();
    for r in SMALL_ORDER.map(bytes) {
        let s: [u8; 32] = *good.0.last_chunk().unwrap();
        items.push(SignedMessage {
            key: secret.public(),
            message: b"message",
            signature: signature(r, s),
        });
        items.push(SignedMessage {
            key: PublicKey(r),
            message: b"message",
            signature: good,
        });
        items.push(SignedMessage {
            key: PublicKey(r),
            message: b"message",
            signature: signature(r, bytes(ORDER)),
        });
    }
    items.insert(
        3,
        SignedMessage {
            key: secret.public(),
            message: b"message",
            signature: good,
        },
    );
    let verdicts = singly(&items);
    assert_eq!(verdicts.iter().filter(|v| **v).count(), edge + 1);
    assert_eq!(verify_all(&items), verdicts);
    // Each alone among good ones, so that no other bad one brings the batch down.
    let signed = SignedMessage {
        key: secret.public(),
        message: b"message",
        signature: good,
    };
    for (item, verdict) in items.iter().zip(verdicts) {
        assert_eq!(verify_all(&[signed, *item, signed]), [true, verdict, true]);
    }
}

#[test]
fn s_plus_the_order_is_refused() {
    let secret = SecretKey::from_seed([1; 32]);
    let good = secret.sign(b"m");
    let mut malleable = good;
    let mut carry = 0;
    for (s, order) in malleable.0[32..].iter_mut().zip(bytes(ORDER)) {
        let sum = u16::from(*s) + u16::from(order) + carry;
        (*s, carry) = (sum as u8, sum >> 8);
    }
    assert!(secret.public().verify(b"m", &good).is_ok());
    assert!(secret.public().verify(b"m", &malleable).is_err());
}

#[test]
fn keys_of_small_order_are_not_for_accounts() {
    for key in SMALL_ORDER.map(bytes).map(PublicKey) {
        assert!(!key.is_acceptable(), "{key}");
    }
    assert!(!PublicKey([2; 32]).is_acceptable(), "no point of the curve");
    assert!(SecretKey::from_seed([3; 32]).public().is_acceptable());
}

#[test]
fn one_bad_signature_in_a_large_batch_is_found() {
    let messages: Vec<_> = (0..2 * VERIFY_BATCH as u32 + 3)
        .map(u32::to_le_bytes)
        .collect();
    let signed = |(n, message): (usize, &[u8; 4])| {
        let secret = SecretKey::from_seed([n as u8; 32]);
        (secret.public(), secret.sign(message))
    };
    let keys: Vec<_> = messages.iter().enumerate().map(signed).collect();
    let mut items: Vec<_> = keys
        .iter()
        .zip(&messages)
        .map(|((key, signature), message)| SignedMessage {
            key: *key,
            message,
            signature: *signature,
        })
        .collect();
    items[300].message = b"else";
    let mut wanted = vec![true; items.len()];
    wanted[300] = false;
    assert_eq!(verify_all(&items), wanted);
    assert!(verify_all(&[]).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batch_verification_is_single_verification(
        seeds in prop::collection::vec(
            (0u8..4, any::<[u8; 8]>(), 0usize..200, any::<bool>()),
            0..24,
        ),
    ) {
        let made: Vec<_> = seeds.iter().map(|(seed, message, at, spoil)| {
            let secret = SecretKey::from_seed([*seed; 32]);
            let (mut key, mut signature) = (secret.public(), secret.sign(message));
            if *spoil {
                match at % 96 {
                    at @ 0..64 => signature.0[at] ^= 1 << (at % 8),
                    at => key.0[at - 64] ^= 1 << (at % 8),
                }
            }
            (key, signature)
        }).collect();
        let items: Vec<_> = made.iter().zip(&seeds).map(|((key, signature), (_, message, _, _))| {
            SignedMessage { key: *key, message, signature: *signature }
        }).collect();
        prop_assert_eq!(verify_all(&items), singly(&items));
    }
}
