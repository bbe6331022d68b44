use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_node::{ConfigError, KeyError, NodeError};
use lamplighter_store::StoreError;

use crate::http::HttpError;
use crate::peers::{GrpcError, MqttError};

/// A measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{0}")]
    Options(String),
    #[error("interrupted")]
    Interrupted,
    #[error("{operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not as Linux writes it", .0.display())]
    Proc(PathBuf),
    #[error("the configuration of the node")]
    Config(#[from] ConfigError),
    #[error("the key of a node")]
    Key(#[from] KeyError),
    #[error("the node")]
    Node(#[from] NodeError),
    #[error("node {node} ended: {status}; the end of its log:\n{log}")]
    Ended {
        node: u64,
        status: String,
        log: String,
    },
    #[error("the nodes were not ready within {within:?}")]
    NotReady { within: Duration },
    #[error("asking {node}")]
    Http {
        node: SocketAddr,
        #[source]
        source: HttpError,
    },
    #[error("writing to etcd at {node}")]
    Grpc {
        node: SocketAddr,
        #[source]
        source: GrpcError,
    },
    #[error("MQTT with {node}")]
    Mqtt {
        node: SocketAddr,
        #[source]
        source: MqttError,
    },
    #[error(
        "`{name}` is not on this machine: `scripts/setup --bench` unpacks it beside the build \
         output, or install it, `apt-get install {package}`, and stop the service that it starts"
    )]
    Missing {
        name: &'static str,
        package: &'static str,
    },
    #[error("a peer's program: {status}; its log:\n{log}")]
    Foreign { status: String, log: String },
    #[error("the limit of open files is {limit}, and {needed} are needed: `ulimit -Hn`")]
    Files { limit: u64, needed: u64 },
    #[error("the report {}", path.display())]
    Report {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} has other figures than the stored reports: `make bench-page`", .0.display())]
    Page(PathBuf),
    #[error("{what}: {detail}")]
    Unexpected { what: &'static str, detail: String },
    #[error("{node} answered {status}: {body}")]
    Answer {
        node: SocketAddr,
        status: u16,
        body: String,
    },
    #[error("{0} transactions of {1} were refused or failed, the first with: {2}")]
    Failures(u64, &'static str, String),
    #[error("the store of the prediction")]
    Store(#[from] StoreError),
    #[error("something grew that should not have, or not as predicted; the table says what")]
    NotFlat,
    #[error("nothing was committed while {0} clients sent {1}")]
    Nothing(usize, &'static str),
}

impl BenchError {
    pub fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
