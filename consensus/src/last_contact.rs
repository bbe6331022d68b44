use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::types::NodeId;

/// The time at which each other node last answered this one as its leader.
#[derive(Default)]
pub(crate) struct LastContact(Mutex<BTreeMap<NodeId, Instant>>);

impl LastContact {
    pub(crate) fn record(&self, node: NodeId) {
        self.lock().insert(node, Instant::now());
    }

    /// True if the node answered within the last `time`.
    pub(crate) fn is_within(&self, node: NodeId, time: Duration) -> bool {
        self.lock()
            .get(&node)
            .is_some_and(|at| at.elapsed() <= time)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
    }
}
