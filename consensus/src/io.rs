use std::future;
use std::panic;

use std::time::Duration;

use crate::config::Config;

/// Where work of the disk is done: beside the async threads, or right here (see
/// [`crate::Config::inline_io`]).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Io {
    pub inline: bool,
    pub sync_time: Option<fn() -> Duration>,
}

impl Io {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            inline: config.inline_io,
            sync_time: config.sync_time,
        }
    }

    /// As [`Io::run`], for work that syncs.
    pub(crate) async fn sync<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if let Some(sync_time) = self.sync_time {
            tokio::time::sleep(sync_time()).await;
        }
        self.run(work).await
    }

    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if self.inline {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            // The runtime is going down, and this task with it.
            Err(_) => future::pending().await,
        }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Guarded(tokio::task::JoinHandle<()>);

impl Guarded {
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.abort();
    }
}
