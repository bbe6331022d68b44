//! The stream of an MQTT client after its CONNECT, and a CONNECT itself, in both versions; and
//! topics.
#![no_main]

use bytes::BytesMut;
use lamplighter_types::Id;
use lamplighter_types::wire::topics::{
    GatewayTopic, NotificationTopic, district_level, parse_district_level,
};
use libfuzzer_sys::fuzz_target;

#[path = "edge/mqtt.rs"]
mod mqtt;

use mqtt::codec::{self, Version};

fn topics(text: &str) {
    if let Some(topic) = NotificationTopic::parse(text) {
        assert_eq!(topic.to_string(), text, "one topic has one form");
    }
    let level = text.split('/').nth(4).unwrap_or(text);
    if let Some(district) = parse_district_level(level) {
        assert_eq!(district_level(&district), level);
    }
    let gateway = Id::new("gw-1").expect("a name");
    if let Some(topic) = GatewayTopic::parse(text, &gateway) {
        assert_eq!(topic.of(&gateway), text);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    if kind & 4 != 0 {
        return std::str::from_utf8(bytes).map_or((), topics);
    }
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
