//! From outside bytes to a verified transaction, in one place.

use lamplighter_types::*;
use proptest::prelude::*;

use crate::fixture::{secret, transaction};

fn chain_id() -> Hash {
    Hash([9; 32])
}

#[test]
fn a_signed_transaction_verifies_on_its_chain_only() {
    for sequence in [1, 2] {
        let signed = transaction(sequence, &chain_id());
        let verified = signed.clone().verify(&chain_id()).unwrap();
        assert_eq!(verified.get().sequence, sequence);
        assert_eq!(verified.hash(), signed.hash(&chain_id()));
        assert_eq!(**verified.envelope(), signed);
        let elsewhere = signed.verify(&Hash([8; 32]));
        assert!(matches!(elsewhere, Err(TransactionError::Signature(_))));
    }
}

#[test]
fn a_flip_of_any_bit_is_refused() {
    for sequence in [1, 2] {
        let signed = transaction(sequence, &chain_id());
        let bytes = codec::encode(&signed);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = codec::decode::<SignedTransaction>(&other) {
                assert!(other.verify(&chain_id()).is_err(), "bit {bit}");
            }
        }
    }
}

/// A large payload costs milliseconds to decode, so it must be signed first.
#[test]
fn an_unsigned_payload_is_not_decoded() {
    let mut signed = transaction(1, &chain_id());
    signed.payload.0.truncate(1);
    let alone = signed.clone().verify(&chain_id());
    assert!(matches!(alone, Err(TransactionError::Signature(_))));
    let batch = vec![transaction(2, &chain_id()), signed];
    let verified = SignedTransaction::verify_all(batch, &chain_id());
    assert!(verified[0].is_ok());
    assert!(matches!(verified[1], Err(TransactionError::Signature(_))));
}

#[test]
fn the_name_does_not_depend_on_the_signature() {
    let signed = transaction(1, &chain_id());
    let mut other = signed.clone();
    other.signature = Signature([1; 64]);
    assert_eq!(other.hash(&chain_id()), signed.hash(&chain_id()));
    other.encoding = Encoding::Json;
    assert_ne!(other.hash(&chain_id()), signed.hash(&chain_id()));
}

#[test]
fn the_payload_is_read_strictly() {
    let mut signed = transaction(2, &chain_id());
    assert_eq!(signed.encoding, Encoding::Json);
    let text = String::from_utf8(signed.payload.0.clone()).unwrap();
    let sign = |signed: &mut SignedTransaction| {
        signed.signature = secret(100).sign(&signed.signing_bytes(&chain_id()));
    };
    for bad in [
        text.replace("\"sender\"", "\"sender\":\"eve\",\"sender\""),
        text.replace("{\"sender\"", "{\"fee\":1,\"sender\""),
        text.replace("\"disable\":{", "\"disable\":{\"force\":true,"),
        text.replace("\"alice\"", "\"Alice\""),
        text.replace(":2,", ":2.0,"),
        text.replace(":2,", ":2e0,"),
        text.replace(":2,", ":-2,"),
        text.replace(":2,", ":-0,"),
        text.replace("\"bob\"", "\"\\ud800\""),
        text.replace("\"bob\"", "\"bo\\u0000b\""),
        text.replace("\"bob\"", &"[".repeat(200)),
        format!("\u{feff}{text}"),
        text.replace(":2,", ":18446744073709551616,"),
        format!("{text} {{}}"),
        String::new(),
    ] {
        signed.payload = HexBytes(bad.clone().into_bytes());
        sign(&mut signed);
        let refused = signed.clone().verify(&chain_id());
        assert!(
            matches!(refused, Err(TransactionError::Payload(_))),
            "{bad}"
        );
    }
    // Spaces change the signed bytes and so the name, not the meaning.
    signed.payload = HexBytes(format!(" {text}").into_bytes());
    sign(&mut signed);
    assert!(signed.verify(&chain_id()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn many_are_verified_as_one_by_one(
        spoiled in prop::collection::vec((0u64..6, 0usize..100, any::<bool>()), 0..20),
    ) {
        let transactions: Vec<_> = spoiled.iter().map(|(sequence, at, spoil)| {
            let mut signed = transaction(*sequence, &chain_id());
            if *spoil && *at < 64 {
                signed.signature.0[*at] ^= 1;
            } else if *spoil {
                let at = at % signed.payload.0.len();
                signed.payload.0[at] ^= 1;
            }
            signed
        }).collect();
        let together = SignedTransaction::verify_all(transactions.clone(), &chain_id());
        prop_assert_eq!(together.len(), transactions.len());
        for (one, other) in transactions.into_iter().zip(together) {
            match (one.verify(&chain_id()), other) {
                (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
                (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
                (one, other) => prop_assert!(false, "{:?} against {:?}", one, other),
            }
        }
    }
}

#[test]
fn what_a_thing_signs_is_bound_to_chain_kind_and_content() {
    let thing = secret(50);
    let mut event = crate::fixture::event(7).event;
    assert_eq!(
        event.verify_device(&chain_id(), Some(&thing.public())),
        Ok(false)
    );
    event.sign(&chain_id(), &thing);
    assert_eq!(
        event.verify_device(&chain_id(), Some(&thing.public())),
        Ok(true)
    );
    assert!(
        event
            .verify_device(&Hash::ZERO, Some(&thing.public()))
            .is_err()
    );
    assert!(
        event
            .verify_device(&chain_id(), Some(&secret(51).public()))
            .is_err()
    );
    assert!(event.verify_device(&chain_id(), None).is_err());
    event.sequence += 1;
    assert!(
        event
            .verify_device(&chain_id(), Some(&thing.public()))
            .is_err()
    );
    // Device firmware makes these bytes: they can't change with the compiler or a rename.
    let start = b"lamplighter/device-event/1\0";
    let message = event.message(&chain_id());
    assert_eq!(&message[..start.len()], start);
    assert_eq!(&message[start.len()..][..32], &chain_id().0);
    assert_eq!(&message[start.len() + 32..][..12], b"DeviceEvent\0");
}

#[test]
fn a_login_is_for_one_node_account_audience_and_challenge() {
    use lamplighter_types::login::{Audience, Challenge, TokenRequest};
    let (alice, user) = ("alice".parse().unwrap(), secret(100));
    let encoded = Challenge {
        challenge: Hash([4; 32]),
        node: 2,
        expires_ms: 0,
    };
    let request = TokenRequest::sign(&chain_id(), &alice, Audience::HttpRead, &encoded, &user);
    assert_eq!(request.verify(&chain_id(), 2), Ok(()));
    assert!(request.verify(&chain_id(), 3).is_err());
    assert!(request.verify(&Hash::ZERO, 2).is_err());
    let other = TokenRequest {
        account: "bob".parse().unwrap(),
        ..request.clone()
    };
    assert!(other.verify(&chain_id(), 2).is_err());
    let other = TokenRequest {
        audience: Audience::Mqtt,
        ..request.clone()
    };
    assert!(other.verify(&chain_id(), 2).is_err());
    let other = TokenRequest {
        challenge: Hash([5; 32]),
        ..request
    };
    assert!(other.verify(&chain_id(), 2).is_err());
}
