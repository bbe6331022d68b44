//! Frames: the messages on a stream.
//!
//! `length u32 | kind u8 | id u64 | aux u32 | body`, numbers little-endian; `length` counts the
//! bytes after it, so it is 13 plus the length of the body.

use std::io;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes before the body, the length included.
pub(crate) const HEAD_BYTES: usize = PREFIX_BYTES + FIXED_BYTES;
const PREFIX_BYTES: usize = 4;
const FIXED_BYTES: usize = 13;

/// Bytes of a reader's buffer: frames up to this size need no allocation except for their body.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// The least growth of a long body's memory; otherwise it grows by the bytes that arrived.
const READ_STEP_BYTES: usize = 64 * 1024;

/// Bytes of frames that are written at once: with yamux's 12-byte header they fit one Noise message
/// (64,511 bytes), so they cost one encryption and one system call.
pub(crate) const WRITE_BATCH_BYTES: usize = 60 * 1024;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Handshake = 1,
    Refuse = 2,
    Ping = 3,
    Pong = 4,
    Close = 5,
    Request = 16,
    Answer = 17,
    Failure = 18,
    Notify = 19,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<FrameKind> {
        Some(match byte {
            1 => FrameKind::Handshake,
            2 => FrameKind::Refuse,
            3 => FrameKind::Ping,
            4 => FrameKind::Pong,
            5 => FrameKind::Close,
            16 => FrameKind::Request,
            17 => FrameKind::Answer,
            18 => FrameKind::Failure,
            19 => FrameKind::Notify,
            _ => return None,
        })
    }
}

/// One message on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: FrameKind,
    /// The number of the request, or of the ping.
    pub id: u64,
    /// The timeout in ms of a request, the code of a failure, the protocol version of a handshake.
    pub aux: u32,
    pub body: Bytes,
}

/// The reason why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("reading or writing failed")]
    Io(#[from] io::Error),
    #[error("the stream ended inside a frame")]
    Truncated,
    #[error("a frame announces {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("a frame announces {0} bytes, fewer than its fixed part has")]
    TooShort(usize),
    #[error("unknown kind of frame: {0}")]
    UnknownKind(u8),
}

impl FrameError {
    pub(crate) fn is_violation(&self) -> bool {
        !matches!(self, FrameError::Io(_) | FrameError::Truncated)
    }
}

impl Frame {
    fn head(&self) -> [u8; HEAD_BYTES] {
        let length = u32::try_from(FIXED_BYTES + self.body.len());
        let length = length.expect("bodies are checked against the limit of their lane before");
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4] = self.kind as u8;
        head[5..13].copy_from_slice(&self.id.to_le_bytes());
        head[13..].copy_from_slice(&self.aux.to_le_bytes());
        head
    }
}

/// Reads frames from a stream; allocates memory only for bytes that have arrived.
pub(crate) struct FrameReader<R> {
    io: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    body_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(io: R, body_bytes_max: usize) -> Self {
        let buffer = vec![0; READ_BUFFER_BYTES].into_boxed_slice();
        FrameReader {
            io,
            buffer,
            start: 0,
            end: 0,
            body_bytes_max,
        }
    }

    /// The next frame, or `None` if the stream ended between two frames.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.start == self.end && !self.fill(1).await? {
            return Ok(None);
        }
        self.need(PREFIX_BYTES).await?;
        let body_bytes = self.body_length()?;
        self.need(HEAD_BYTES).await?;
        let head = &self.buffer[self.start..self.start + HEAD_BYTES];
        let kind = FrameKind::from_byte(head[4]).ok_or(FrameError::UnknownKind(head[4]))?;
        let id = u64::from_le_bytes(head[5..13].try_into().expect("eight bytes"));
        let aux = u32::from_le_bytes(head[13..].try_into().expect("four bytes"));
        let body = self.body(body_bytes).await?;
        Ok(Some(Frame {
            kind,
            id,
            aux,
            body,
        }))
    }

    fn body_length(&self) -> Result<usize, FrameError> {
        let prefix = &self.buffer[self.start..self.start + PREFIX_BYTES];
        let length = u32::from_le_bytes(prefix.try_into().expect("four bytes")) as usize;
        let body = length
            .checked_sub(FIXED_BYTES)
            .ok_or(FrameError::TooShort(length))?;
        if body > self.body_bytes_max {
            let bytes_max = self.body_bytes_max + FIXED_BYTES;
            return Err(FrameError::TooLong {
                bytes: length,
                bytes_max,
            });
        }
        Ok(body)
    }

    async fn body(&mut self, bytes: usize) -> Result<Bytes, FrameError> {
        if HEAD_BYTES + bytes <= self.buffer.len() {
            self.need(HEAD_BYTES + bytes).await?;
            let from = self.start + HEAD_BYTES;
            self.start = from + bytes;
            return Ok(Bytes::copy_from_slice(&self.buffer[from..from + bytes]));
        }
        // The whole buffer cannot hold this body, so all that is buffered belongs to it.
        let mut body = self.buffer[self.start + HEAD_BYTES..self.end].to_vec();
        (self.start, self.end) = (0, 0);
        while body.len() < bytes {
            let have = body.len();
            let step = (bytes - have).min(have.max(READ_STEP_BYTES));
            body.reserve_exact(step);
            body.resize(have + step, 0);
            self.io
                .read_exact(&mut body[have..])
                .await
                .map_err(truncated)?;
        }
        Ok(body.into())
    }

    async fn need(&mut self, bytes: usize) -> Result<(), FrameError> {
        if self.fill(bytes).await? {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }

    /// Reads until `bytes` are buffered; `false` if the stream ends before.
    async fn fill(&mut self, bytes: usize) -> Result<bool, FrameError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + bytes > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < bytes {
            match self.io.read(&mut self.buffer[self.end..]).await? {
                0 => return Ok(false),
                read => self.end += read,
            }
        }
        Ok(true)
    }
}

fn truncated(error: io::Error) -> FrameError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Truncated,
        _ => FrameError::Io(error),
    }
}

/// Writes frames to a stream, several at once.
pub(crate) struct FrameWriter<W> {
    io: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub fn new(io: W) -> Self {
        FrameWriter {
            io,
            buffer: Vec::new(),
        }
    }

    /// Adds a frame; the part that does not fit the buffer is written at once, without a copy.
    pub async fn push(&mut self, frame: &Frame) -> Result<(), FrameError> {
        self.buffer.extend_from_slice(&frame.head());
        let room = WRITE_BATCH_BYTES.saturating_sub(self.buffer.len());
        let (first, rest) = frame.body.split_at(room.min(frame.body.len()));
        self.buffer.extend_from_slice(first);
        if self.buffer.len() >= WRITE_BATCH_BYTES {
            self.write_buffer().await?;
            self.io.write_all(rest).await?;
        }
        Ok(())
    }

    /// Writes the rest of the buffer and flushes the stream.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.write_buffer().await?;
        Ok(self.io.flush().await?)
    }

    async fn write_buffer(&mut self) -> Result<(), FrameError> {
        if !self.buffer.is_empty() {
            self.io.write_all(&self.buffer).await?;
            self.buffer.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
