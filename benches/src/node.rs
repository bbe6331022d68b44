//! The process of one node, like `lamplighter node run`.

use std::io::Read;
use std::path::Path;

use lamplighter_node::{Node, NodeConfig, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::BenchError;

/// Runs until standard input ends, which happens however the parent process ends, or until SIGTERM.
pub fn run(config: &Path) -> Result<(), BenchError> {
    telemetry::init(false);
    let config = NodeConfig::read(config)?;
    let runtime =
        tokio::runtime::Runtime::new().map_err(BenchError::io("starting the async runtime", ""))?;
    let done = runtime.block_on(serve(config));
    runtime.shutdown_background();
    done
}

async fn serve(config: NodeConfig) -> Result<(), BenchError> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(BenchError::io("listening for SIGTERM", ""))?;
    let mut ended = input_ended();
    let node = Node::start(config).await?;
    tokio::select! {
        _ = ended.changed() => {}
        _ = terminate.recv() => {}
        error = node.failed() => return Err(error.into()),
    }
    Ok(node.shutdown().await?)
}

/// A receiver that changes when standard input has ended. A thread reads, since a read of standard
/// input cannot be cancelled.
fn input_ended() -> watch::Receiver<()> {
    let (sender, receiver) = watch::channel(());
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::stdin()
            .read(&mut buffer)
            .is_ok_and(|read| read > 0)
        {}
        drop(sender);
    });
    receiver
}
