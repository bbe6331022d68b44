//! Counters of a radio: the frames that it sent, and those of them that were lost.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Sub;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// The frame check sequence, which the kernel adds behind the counters.
const CHECK_BYTES: u64 = 2;
/// Preamble, start delimiter and length, which the radio sends before each frame.
const PHY_BYTES: u64 = 6;
/// Bits per second of the radio at 2.4 GHz.
const BITS_PER_S: u64 = 250_000;

/// The frames that a radio sent, those lost on the way included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Air {
    pub frames: u64,
    /// Their bytes from the first of the header to the last of the frame check sequence.
    pub bytes: u64,
    /// Frames that the network emulator lost.
    pub lost_frames: u64,
}

/// The counters could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AirError {
    #[error("starting tc for {0}")]
    Start(String, #[source] io::Error),
    #[error("tc fails for {interface}: {reason}")]
    Refused { interface: String, reason: String },
    #[error("tc prints something else than counters for {0}")]
    Malformed(String, #[source] serde_json::Error),
    #[error("{interface} has no queue of the kind {kind}")]
    Missing {
        interface: String,
        kind: &'static str,
    },
}

/// What `tc -s -j qdisc show` prints of one queue.
#[derive(Debug, Deserialize)]
struct Queue {
    kind: String,
    bytes: u64,
    packets: u64,
    drops: u64,
}

impl Air {
    /// Reads the counters of an interface, in a network namespace or in that of this process.
    ///
    /// # Errors
    /// The interface lacks the hook that counts (`clsact`) or the emulator (`netem`).
    pub async fn read(interface: &str, namespace: Option<&str>) -> Result<Self, AirError> {
        let mut words = Vec::new();
        if let Some(namespace) = namespace {
            words.extend(["ip", "netns", "exec", namespace]);
        }
        words.extend(["tc", "-s", "-j", "qdisc", "show", "dev", interface]);
        let output = Command::new(words[0]).args(&words[1..]).output().await;
        let output = output.map_err(|error| AirError::Start(interface.to_owned(), error))?;
        if output.status.success() {
            Self::parse(interface, &output.stdout)
        } else {
            Err(AirError::Refused {
                interface: interface.to_owned(),
                reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            })
        }
    }

    /// `clsact` sees a frame before `netem` may lose it.
    fn parse(interface: &str, json: &[u8]) -> Result<Self, AirError> {
        let queues: Vec<Queue> = serde_json::from_slice(json)
            .map_err(|error| AirError::Malformed(interface.to_owned(), error))?;
        let of = |kind: &'static str| {
            let found = queues.iter().find(|queue| queue.kind == kind);
            found.ok_or_else(|| AirError::Missing {
                interface: interface.to_owned(),
                kind,
            })
        };
        let (sent, emulator) = (of("clsact")?, of("netem")?);
        Ok(Self {
            frames: sent.packets,
            bytes: sent.bytes + CHECK_BYTES * sent.packets,
            lost_frames: emulator.drops,
        })
    }

    /// The time in which the radio sends, without its pauses, in seconds.
    pub fn seconds(self) -> f64 {
        let bits = 8 * (self.bytes + PHY_BYTES * self.frames);
        bits as f64 / BITS_PER_S as f64
    }
}

impl Sub for Air {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
            lost_frames: self.lost_frames - earlier.lost_frames,
        }
    }
}
