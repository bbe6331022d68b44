use std::sync::Arc;

use tokio::sync::watch;

/// Reports errors after which this node must not continue: of its store, a sync or its data. The
/// first one stays.
///
/// Nothing is retried. After a failed fsync the content of the disk is unknown, and a second one
/// that succeeds says nothing about the writes that the first one lost.
#[derive(Clone, Debug)]
pub(crate) struct FatalErrors(watch::Sender<Option<Arc<str>>>);

impl FatalErrors {
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Reports an error, from any thread.
    pub fn report(&self, what: &str) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(what, "this node ends its service");
                *first = Some(what.into());
            }
            is_first
        });
    }

    pub fn first(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Waits for an error.
    pub async fn wait(&self) -> Arc<str> {
        let mut first = self.0.subscribe();
        let reported = first.wait_for(Option::is_some).await;
        let reported = reported.expect("the sender lives as long as self").clone();
        reported.expect("it was waited for")
    }
}
