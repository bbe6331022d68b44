//! The configuration file of a gateway, and a genesis file.
#![no_main]

use lamplighter_gateway::GatewayConfig;
use lamplighter_types::{Genesis, codec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(config) = toml::from_str::<GatewayConfig>(text)
    {
        config.check().ok();
        for node in &config.nodes {
            drop(format!("{node:?}"));
        }
    }
    if let Ok(genesis) = codec::decode_json::<Genesis>(bytes) {
        genesis.check().ok();
        drop(genesis.warnings());
        genesis.chain_id();
    }
});
