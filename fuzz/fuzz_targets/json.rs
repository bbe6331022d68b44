//! JSON of clients and gateways: the strict reader, a transaction, an action, the body of a login.
#![no_main]

use lamplighter_types::login::TokenRequest;
use lamplighter_types::wire::work::SyncRequest;
use lamplighter_types::{Action, Transaction, codec, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(value) = json::parse(text, &json::DOCUMENT)
    {
        let canonical = value.canonical();
        let again = json::parse(&canonical, &json::DOCUMENT).expect("it is JSON");
        assert_eq!(again.canonical(), canonical);
    }
    if let Ok(transaction) = codec::decode_json::<Transaction>(bytes) {
        let encoded = codec::encode(&transaction);
        assert_eq!(codec::decode(&encoded).ok(), Some(transaction));
    }
    codec::decode_json::<Action>(bytes).ok();
    codec::decode_json::<TokenRequest>(bytes).ok();
    codec::decode_json::<SyncRequest>(bytes).ok();
});
