use std::pin::Pin;
use std::task::{Context, Poll};

use futures::executor::block_on;
use futures::io::Cursor;
use proptest::prelude::*;

use super::*;

/// Hands out its bytes in pieces of the given sizes, over and over.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    turn: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        let count = size.min(out.len()).min(self.bytes.len() - self.at);
        out[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(count))
    }
}

fn frame(kind: FrameKind, id: u64, aux: u32, body: Vec<u8>) -> Frame {
    Frame {
        kind,
        id,
        aux,
        body: body.into(),
    }
}

fn written(frames: &[Frame]) -> Vec<u8> {
    block_on(async {
        let mut writer = FrameWriter::new(Cursor::new(Vec::new()));
        for frame in frames {
            writer.push(frame).await.unwrap();
        }
        writer.flush().await.unwrap();
        writer.io.into_inner()
    })
}

fn read_all(bytes: Vec<u8>, sizes: Vec<usize>, max: usize) -> Result<Vec<Frame>, FrameError> {
    block_on(async {
        let mut reader = FrameReader::new(
            Pieces {
                bytes,
                at: 0,
                sizes,
                turn: 0,
            },
            max,
        );
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    })
}

#[test]
fn layout_is_as_documented() {
    let bytes = written(&[frame(FrameKind::Request, 0x0102, 0x0a0b, vec![0xee, 0xff])]);
    assert_eq!(
        hex::encode(bytes),
        concat!("0f000000", "10", "0201000000000000", "0b0a0000", "eeff")
    );
}

#[test]
fn a_long_frame_is_refused_before_its_body_is_read() {
    let head = frame(FrameKind::Notify, 0, 0, vec![0; 101]).head().to_vec();
    let error = read_all(head[..4].to_vec(), vec![4], 100).unwrap_err();
    assert!(
        matches!(
            error,
            FrameError::TooLong {
                bytes: 114,
                bytes_max: 113
            }
        ),
        "{error}"
    );
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let max = 1 << 30;
    let mut bytes = frame(FrameKind::Notify, 0, 0, Vec::new()).head().to_vec();
    bytes[..4].copy_from_slice(&(max as u32).to_le_bytes());
    bytes.extend_from_slice(&[7; 1000]);
    // The reader asks for at most one step before it learns that nothing follows.
    assert!(matches!(
        read_all(bytes, vec![4096], max),
        Err(FrameError::Truncated)
    ));
}

#[test]
fn broken_frames() {
    let good = written(&[frame(FrameKind::Ping, 1, 0, Vec::new())]);
    let mut short = good.clone();
    short[0] = 12;
    assert!(matches!(
        read_all(short, vec![64], 100),
        Err(FrameError::TooShort(12))
    ));
    let mut unknown = good.clone();
    unknown[4] = 99;
    assert!(matches!(
        read_all(unknown, vec![64], 100),
        Err(FrameError::UnknownKind(99))
    ));
    for cut in 1..good.len() {
        let part = good[..cut].to_vec();
        assert!(matches!(
            read_all(part, vec![64], 100),
            Err(FrameError::Truncated)
        ));
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let kind = prop::sample::select(vec![
        FrameKind::Handshake,
        FrameKind::Request,
        FrameKind::Answer,
        FrameKind::Notify,
    ]);
    let body_bytes = prop_oneof![
        0usize..64,
        READ_BUFFER_BYTES - 20..READ_BUFFER_BYTES + 20,
        WRITE_BATCH_BYTES - 40..WRITE_BATCH_BYTES + 40,
        0usize..300_000,
    ];
    (kind, any::<u64>(), any::<u32>(), body_bytes, any::<u8>()).prop_map(
        |(kind, id, aux, bytes, salt)| {
            let body = (0..bytes)
                .map(|i| (i as u8).wrapping_mul(31) ^ salt)
                .collect();
            frame(kind, id, aux, body)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_survive_any_division_into_pieces(
        frames in prop::collection::vec(any_frame(), 1..8),
        sizes in prop::collection::vec(1usize..70_000, 1..6),
    ) {
        let read = read_all(written(&frames), sizes, 300_000).unwrap();
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn arbitrary_bytes_are_frames_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..4096),
        small in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if small && bytes.len() > 4 {
            // A length that can be met, so that the parser gets further.
            bytes[..4].copy_from_slice(&20u32.to_le_bytes());
        }
        let _ = read_all(bytes, vec![1000], 10_000);
    }
}
