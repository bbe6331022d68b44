//! What another node sends: frames of a stream, and the messages of consensus and ledger in them.
#![no_main]

use bytes::Bytes;
use futures::executor::block_on;
use lamplighter_consensus::wire;
use lamplighter_types::codec;
use libfuzzer_sys::fuzz_target;

#[path = "../../net/src/frame/mod.rs"]
mod frame;
#[path = "../../ledger/src/message.rs"]
mod message;

/// Longest body of a frame here; those of the lanes are longer.
const BODY_BYTES_MAX: usize = 1 << 16;

fn frames(bytes: &[u8]) {
    let mut reader = frame::FrameReader::new(bytes, BODY_BYTES_MAX);
    let (mut again, mut count) = (Vec::new(), 0);
    block_on(async {
        let mut writer = frame::FrameWriter::new(&mut again);
        while let Ok(Some(frame)) = reader.next().await {
            writer.push(&frame).await.expect("a vector takes all");
            count += 1;
        }
        writer.flush().await.expect("a vector takes all");
    });
    assert!(
        bytes.starts_with(&again),
        "{count} frames are written as they were read"
    );
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 8 {
        0 => frames(bytes),
        1 => drop(codec::decode::<message::PeerRequest>(bytes)),
        2 => drop(codec::decode::<message::PeerAnswer>(bytes)),
        3 => drop(codec::decode::<message::PeerGossip>(bytes)),
        4 => drop(wire::decode_append(Bytes::copy_from_slice(bytes))),
        5 => drop(wire::get_entry(Bytes::copy_from_slice(bytes))),
        6 => drop(wire::decode::<wire::ControlRequest>("control", bytes)),
        _ => drop(wire::decode::<wire::SnapshotRequest>("snapshot", bytes)),
    }
});
