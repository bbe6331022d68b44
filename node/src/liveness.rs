//! Whether a node makes progress, for its supervisor, which restarts one that hangs. A node without
//! a quorum is alive: it waits for others, and a restart would not help it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lamplighter_consensus::{Consensus, ConsensusError};
use lamplighter_ledger::Handle;
use lamplighter_state::StateError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

/// The answer of a listener that works begins with this.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// Why a node is not alive.
#[derive(Debug, thiserror::Error)]
pub enum LivenessError {
    #[error("consensus has ended")]
    Consensus(#[source] ConsensusError),
    #[error("the newest block can't be read")]
    State(#[from] StateError),
    #[error("reading the newest block ended badly")]
    Read(#[from] JoinError),
    #[error("there is no block at height {0}, which is the newest")]
    Block(u64),
    #[error("the operator's listener at {address} does not work")]
    Listener {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no answer of {part} within {} s", within.as_secs())]
    Silent {
        part: &'static str,
        within: Duration,
    },
}

/// The parts of a node that are asked.
#[derive(Clone)]
pub struct Liveness {
    pub(crate) handle: Handle,
    pub(crate) consensus: Consensus,
    pub(crate) admin: SocketAddr,
}

impl Liveness {
    /// Asks each part in turn for something that only its work can answer: consensus for a look
    /// at its state, the store for the newest block, the edges for an answer over their network.
    ///
    /// # Errors
    /// A part failed, or took longer than `within`.
    pub async fn check(&self, within: Duration) -> Result<(), LivenessError> {
        let silent = |part| move |_| LivenessError::Silent { part, within };
        let consensus = timeout(within, self.consensus.answers()).await;
        let consensus = consensus.map_err(silent("consensus"))?;
        consensus.map_err(LivenessError::Consensus)?;
        let handle = self.handle.clone();
        let read = spawn_blocking(move || {
            let height = handle.head().height;
            match handle.header(height)? {
                Some(_) => Ok(()),
                None => Err(LivenessError::Block(height)),
            }
        });
        timeout(within, read)
            .await
            .map_err(silent("the store"))???;
        let listener = timeout(within, ask(self.admin)).await;
        let listener = listener.map_err(silent("the edges"))?;
        listener.map_err(|source| LivenessError::Listener {
            address: self.admin,
            source,
        })
    }
}

/// Asks the operator's listener whether it works.
async fn ask(mut address: SocketAddr) -> io::Result<()> {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).await?;
    match answer == *ANSWER {
        true => Ok(()),
        false => Err(io::Error::other("another answer than 200")),
    }
}
