use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_client::ClientError;
use lamplighter_devnet::DevnetError;

/// A run failed.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    #[error(
        "network namespaces are not permitted here, and without them nothing is partitioned: \
         run as root, on Linux with iproute2 and nftables"
    )]
    Namespaces(#[source] Box<ChaosError>),
    #[error("`{command}` failed: {stderr}")]
    Command { command: String, stderr: String },
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("entering the network namespace {0}")]
    Enter(String, #[source] io::Error),
    #[error("a node's process")]
    Process(#[from] DevnetError),
    #[error("{operation}")]
    Client {
        operation: String,
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
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> ChaosError {
        let path = path.into();
        move |source| ChaosError::File {
            operation,
            path,
            source,
        }
    }

    pub fn client(operation: impl Into<String>) -> impl FnOnce(ClientError) -> ChaosError {
        let operation = operation.into();
        move |source| ChaosError::Client {
            operation,
            source: Box::new(source),
        }
    }
}
