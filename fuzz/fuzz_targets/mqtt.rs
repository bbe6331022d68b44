//! The stream of an MQTT client after its CONNECT, and a CONNECT itself, in both versions.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

#[path = "edge/mqtt.rs"]
mod mqtt;

use mqtt::codec::{self, Version};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let version = if kind & 1 == 0 {
        Version::V4
    } else {
        Version::V5
    };
    let mut buffer = BytesMut::from(bytes);
    if kind & 2 == 0 {
        while let Ok(Some(_)) = codec::next(version, &mut buffer) {}
        return;
    }
    // As `handshake` does: nothing but a whole CONNECT is decoded.
    let Ok(Some(header)) = codec::header(&buffer) else {
        return;
    };
    let length = header.start + header.body;
    if header.first != 0x10 || buffer.len() < length {
        return;
    }
    let mut frame = buffer.split_to(length);
    if version == Version::V4 || codec::check_connect(header, &frame).is_ok() {
        codec::read(version, &mut frame).ok();
    }
});
