//! The threads of the edges. They are separate from those of consensus: under any load of clients,
//! a leader sends its heartbeats, and transactions are committed.

use std::io;

use lamplighter_api as api;
use lamplighter_ledger::Handle;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A runtime with as many threads as there are processors.
pub(crate) struct EdgeThreads(Option<Runtime>);

impl EdgeThreads {
    pub fn start() -> io::Result<Self> {
        let threads = Builder::new_multi_thread()
            .thread_name("edge")
            .enable_all()
            .build()?;
        Ok(Self(Some(threads)))
    }

    /// Starts the edges; the tasks that they spawn run here as well.
    pub async fn serve(
        &self,
        config: api::EdgeConfig,
        handle: Handle,
        figures: Vec<Box<dyn api::Collector>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<api::EdgeAddresses, api::ServeError> {
        let (tasks, stop) = (tasks.clone(), stop.clone());
        let threads = self.0.as_ref().expect("taken when dropped");
        let served =
            threads.spawn(async move { api::serve(config, handle, figures, &tasks, &stop).await });
        served.await.expect("starting to listen does not panic")
    }
}

impl Drop for EdgeThreads {
    /// Their tasks have ended with the node's. An async thread must not wait, so this does not.
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}
