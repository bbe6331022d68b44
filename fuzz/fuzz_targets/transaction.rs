//! A signed transaction from a client, a gateway or a node: the envelope in both encodings, and its
//! payload as it would be read after the signature was verified.
#![no_main]

use lamplighter_types::{Hash, SignedTransaction, codec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let binary = codec::decode::<SignedTransaction>(bytes);
    if let Ok(signed) = &binary {
        assert_eq!(codec::encode(signed), bytes, "one value has one encoding");
    }
    let json = codec::decode_json::<SignedTransaction>(bytes);
    for signed in binary.into_iter().chain(json) {
        if let Ok(transaction) = signed.decode_payload() {
            let encoded = codec::encode(&transaction);
            assert_eq!(codec::decode(&encoded).ok(), Some(transaction));
        }
        signed.verify(&Hash::ZERO).ok();
    }
});
