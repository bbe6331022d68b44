//! Lines of an answer that comes in pieces.

use bytes::{Bytes, BytesMut};

#[cfg(test)]
mod tests;

/// The bytes of an answer that are no whole line yet. Each byte is looked at once: a node that
/// sends a long line in small pieces costs its reader no more than one that sends it whole.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: BytesMut,
    /// Bytes at the begin that have no end of a line.
    searched: usize,
}

impl LineBuffer {
    /// Adds bytes of the answer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The number of bytes that are not taken yet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the next line, without its end; none before it is there.
    pub fn take_line(&mut self) -> Option<Bytes> {
        let new = &self.bytes[self.searched..];
        let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return None;
        };
        let mut line = self.bytes.split_to(self.searched + end + 1);
        self.searched = 0;
        line.truncate(line.len() - 1);
        Some(line.freeze())
    }
}
