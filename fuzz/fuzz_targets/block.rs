//! What nodes keep of a block and send to each other: blocks, headers, receipts, certificates.
#![no_main]

use lamplighter_types::{Block, Certificate, EventRecord, Header, Receipt, ValidatorSet, codec};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes) {
        assert_eq!(codec::encode(&value), bytes, "one value has one encoding");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 6 {
        0 => decode::<Block>(bytes),
        1 => decode::<Header>(bytes),
        2 => decode::<Receipt>(bytes),
        3 => decode::<Certificate>(bytes),
        4 => decode::<EventRecord>(bytes),
        _ => decode::<ValidatorSet>(bytes),
    }
});
