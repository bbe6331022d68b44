use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_client::ClientError;
use lamplighter_devnet::DevnetError;

/// Why a run did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    #[error(
        "network namespaces are not permitted here, and without them nothing is partitioned: \
         run as root, on Linux with iproute2 and nftables"
    )]
    Namespaces(#[source] Box<ChaosError>),
    #[error("`{command}` failed: {said}")]
    Command { command: String, said: String },
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("entering the network namespace {0}")]
    Enter(String, #[source] io::Error),
    #[error("a node's process")]
    Process(#[from] DevnetError),
    #[error("{doing}")]
    Client {
        doing: String,
        #[source]
        source: Box<ClientError>,
    },
    #[error("{what} did not happen within {within:?}")]
    Deadline { what: String, within: Duration },
    #[error("sending the signal {signal} to the process {pid}")]
    Signal {
        signal: &'static str,
        pid: u32,
        #[source]
        source: nix::Error,
    },
    #[error("the block {height} of a node is not what its header says: {what}")]
    Block { height: u64, what: &'static str },
    #[error("{0}")]
    Setup(String),
    #[error("interrupted")]
    Interrupted,
}

impl ChaosError {
    pub fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> ChaosError {
        let path = path.into();
        move |source| ChaosError::File {
            doing,
            path,
            source,
        }
    }

    pub fn client(doing: impl Into<String>) -> impl FnOnce(ClientError) -> ChaosError {
        let doing = doing.into();
        move |source| ChaosError::Client {
            doing,
            source: Box::new(source),
        }
    }
}
