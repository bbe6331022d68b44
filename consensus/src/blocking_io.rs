use std::future;
use std::panic;
use std::time::Duration;

use crate::config::ConsensusConfig;

/// Runs work that blocks on the disk: on a thread of its own, or inline (see
/// [`ConsensusConfig::inline_io`]).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BlockingIo {
    pub inline: bool,
    pub sync_time: Option<fn() -> Duration>,
}

impl BlockingIo {
    pub(crate) fn new(config: &ConsensusConfig) -> Self {
        Self {
            inline: config.inline_io,
            sync_time: config.sync_time,
        }
    }

    /// Runs work that syncs.
    pub(crate) async fn sync<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if let Some(sync_time) = self.sync_time {
            tokio::time::sleep(sync_time()).await;
        }
        self.run(work).await
    }

    /// Runs work that does not sync.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if self.inline {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            // The runtime shuts down, and this task with it.
            Err(_) => future::pending().await,
        }
    }
}
