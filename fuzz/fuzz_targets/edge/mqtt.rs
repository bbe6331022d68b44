//! The parts of the MQTT edge that split and decode packets, from their files.

#[path = "../../../api/src/mqtt/codec/mod.rs"]
pub mod codec;
#[path = "../../../api/src/mqtt/limits.rs"]
pub mod limits;
