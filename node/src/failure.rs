use std::sync::Arc;

use tokio::sync::watch;

/// Why this node must not go on: its store, a sync or its data failed. The first reason stays.
///
/// There is no trying again. After an fsync that failed nobody knows what is on the disk, and a
/// second one that succeeds says nothing about what the first one lost.
#[derive(Clone, Debug)]
pub(crate) struct Failures(watch::Sender<Option<Arc<str>>>);

impl Failures {
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Tells of a failure, from any thread.
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

    /// Waits for a failure.
    pub async fn wait(&self) -> Arc<str> {
        let mut first = self.0.subscribe();
        let found = first.wait_for(Option::is_some).await;
        let found = found.expect("the sender lives as long as self").clone();
        found.expect("it was waited for")
    }
}
