use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_client::ClientError;
use lamplighter_node::KeyError;

/// The devnet did not come up, or a step failed.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds files that no devnet made; give an empty directory", .0.display())]
    NotADevnet(PathBuf),
    #[error(
        "a devnet has 1 to 7 validators, 1 to 5 gateways and 1 to 200 Things, not {validators}, \
         {gateways} and {things}"
    )]
    Size {
        validators: usize,
        gateways: usize,
        things: usize,
    },
    #[error("the firmware image {} has {bytes} bytes, 1 to {most} fit a Thing", path.display())]
    Firmware {
        path: PathBuf,
        bytes: u64,
        most: u64,
    },
    #[error("no free port was found")]
    Port,
    #[error("a key")]
    Key(#[from] KeyError),
    #[error("starting {name}")]
    Start {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("{name} ended: {status}; see {}, whose last line is: {last_line}", log.display())]
    Ended {
        name: String,
        status: String,
        log: PathBuf,
        last_line: String,
    },
    #[error("{what} did not happen within {within:?}; so far: {seen}")]
    Deadline {
        what: String,
        within: Duration,
        seen: String,
    },
    #[error("{operation}")]
    Client {
        operation: String,
        #[source]
        source: Box<ClientError>,
    },
    #[error("{action} failed: {code}: {message}")]
    Failed {
        action: String,
        code: String,
        message: String,
    },
    #[error("the mesh {mesh} refused: {reason}")]
    Mesh { mesh: String, reason: String },
    #[error("{0}")]
    Unexpected(String),
    #[error("the attack {0} was not refused as it must be")]
    NotRefused(String),
}

impl DevnetError {
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }

    pub(crate) fn client(operation: impl Into<String>) -> impl FnOnce(ClientError) -> Self {
        let operation = operation.into();
        move |source| Self::Client {
            operation,
            source: Box::new(source),
        }
    }
}
