//! Operations and queries of IOTRegistry: messages of protobuf in hexadecimal.
#![no_main]

use std::collections::BTreeMap;
use std::convert::Infallible;

use lamplighter_contracts::devices::iotregistry::{Records, invoke, query};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for Memory {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Infallible> {
        self.0.insert(key, value);
        Ok(())
    }
}

const FUNCTIONS: [&str; 4] = ["createRegistrant", "registerThing", "registerSpec", "other"];
const QUERIES: [&str; 4] = ["owner", "thing", "spec", "other"];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let mut records = Memory::default();
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let place = usize::from(kind % 4);
    let done = invoke(FUNCTIONS[place], &hexadecimal, &mut records);
    assert_eq!(
        done.is_ok(),
        !records.0.is_empty(),
        "a refusal writes nothing"
    );
    if let Ok(text) = std::str::from_utf8(bytes) {
        invoke(FUNCTIONS[place], text, &mut records).ok();
        query(QUERIES[place], text, &records).ok();
    }
});
