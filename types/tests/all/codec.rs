//! One value has one encoding, and whatever comes from outside is refused or decoded, never a
//! panic.

use lamplighter_types::codec::{CodecError, decode, decode_stored, encode};
use lamplighter_types::{ProofBundle, SignedTransaction, TransactionError};
use lamplighter_types::{Transaction, limits};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::samples::{self, FILES, Visit};

struct OneEncoding;

impl Visit for OneEncoding {
    fn visit<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &str,
        value: &T,
        _json: &str,
    ) {
        let bytes = encode(value);
        assert_eq!(&decode::<T>(&bytes).unwrap(), value, "{kind}");
        let longer = [&bytes[..], &[0]].concat();
        let refused = decode::<T>(&longer);
        assert!(
            matches!(refused, Err(CodecError::Trailing { extra: 1, .. })),
            "{kind}"
        );
        for length in 0..bytes.len() {
            assert!(
                decode::<T>(&bytes[..length]).is_err(),
                "{kind} cut at {length}"
            );
        }
        for at in 0..bytes.len() {
            for flip in [1, 2, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= flip;
                // Without the comparison in `decode`: the format itself leaves no choice.
                if let Ok(decoded) = decode_stored::<T>(&other) {
                    assert_eq!(encode(&decoded), other, "{kind} byte {at}");
                    assert_ne!(&decoded, value, "{kind} byte {at}");
                }
            }
        }
    }
}

#[test]
fn no_other_bytes_decode_to_the_same_value() {
    for file in FILES {
        samples::each(file, &mut OneEncoding);
    }
}

#[test]
fn lengths_beyond_the_input_are_refused_without_memory_for_them() {
    for length in [17, u64::from(u32::MAX), u64::MAX, u64::MAX / 8] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([0; 16]);
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<lamplighter_types::HexBytes>(&bytes).is_err());
    }
}

#[test]
fn inputs_over_their_limit_are_refused_by_their_length() {
    let bytes = vec![0; limits::PROOF_BYTES_MAX + 1];
    let refused = ProofBundle::from_bytes(&bytes).unwrap_err();
    assert!(matches!(refused, CodecError::TooLong { .. }));
    let json = vec![b' '; 3 * limits::PROOF_BYTES_MAX + 1];
    assert!(matches!(
        ProofBundle::from_json(&json),
        Err(CodecError::TooLong { .. })
    ));
    let line = &samples::of("chain")[1].json;
    let mut signed: SignedTransaction = serde_json::from_str(line).unwrap();
    signed.payload.0 = vec![b' '; limits::TRANSACTION_BYTES_MAX + 1];
    assert!(matches!(
        signed.decode_payload(),
        Err(TransactionError::TooLong { .. })
    ));
}

#[test]
fn deep_json_is_refused() {
    let deep = "[".repeat(100_000);
    assert!(lamplighter_types::codec::decode_json::<Transaction>(deep.as_bytes()).is_err());
    let text = format!("{{\"sender\":{deep}");
    assert!(lamplighter_types::codec::decode_json::<Transaction>(text.as_bytes()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        samples::decode_as_each(&bytes);
    }

    /// Small numbers look like tags and lengths, so that more of the decoders is reached.
    #[test]
    fn small_bytes_never_panic(bytes in prop::collection::vec(0u8..4, 0..400)) {
        samples::decode_as_each(&bytes);
    }
}

#[test]
fn a_list_that_is_not_read_is_named_by_its_items() {
    let error = lamplighter_types::codec::decode_json::<Vec<Transaction>>(b"[3]").unwrap_err();
    assert_eq!(error.to_string(), "reading Transaction from JSON");
}
