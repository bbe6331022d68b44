//! The queue of a worker's inputs, which knows whether the worker has anything to do: a worker
//! without work is ended, and started again by the next input.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

use super::worker::WorkerInput;

/// The inputs submitted and the inputs after which the worker had nothing to do.
#[derive(Debug, Default)]
struct Counts {
    submitted: AtomicU64,
    idle_after: AtomicU64,
}

/// The manager's end, with boxed inputs: a queue has memory for 32 of them. The manager alone has
/// it, so that nothing is submitted while it looks.
#[derive(Debug, Clone)]
pub(super) struct InputSender {
    sender: mpsc::Sender<Box<WorkerInput>>,
    counts: Arc<Counts>,
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct InputReceiver {
    receiver: mpsc::Receiver<Box<WorkerInput>>,
    received: u64,
    counts: Arc<Counts>,
}

/// A queue for `max` inputs.
pub(super) fn queue(max: usize) -> (InputSender, InputReceiver) {
    let (sender, receiver) = mpsc::channel(max);
    let counts = Arc::new(Counts::default());
    let sender = InputSender {
        sender,
        counts: counts.clone(),
    };
    let receiver = InputReceiver {
        receiver,
        received: 0,
        counts,
    };
    (sender, receiver)
}

impl InputSender {
    /// Gives an input; waits while the queue is full.
    pub(super) async fn send(&self, input: WorkerInput) -> Result<(), SendError<Box<WorkerInput>>> {
        self.sender.send(Box::new(input)).await?;
        self.counts.submitted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives an input unless the queue is full.
    pub(super) fn try_send(
        &self,
        input: WorkerInput,
    ) -> Result<(), TrySendError<Box<WorkerInput>>> {
        let result = self.sender.try_send(Box::new(input));
        if result.is_ok() {
            self.counts.submitted.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// True if the worker has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// True if the worker has processed all inputs and has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        let submitted = self.counts.submitted.load(Ordering::Relaxed);
        self.counts.idle_after.load(Ordering::Acquire) == submitted
    }
}

impl InputReceiver {
    /// The next input; `None` when the manager has dropped its end.
    pub(super) async fn recv(&mut self) -> Option<WorkerInput> {
        let input = self.receiver.recv().await?;
        self.received += 1;
        Some(*input)
    }

    /// Notes that there is nothing to do after the inputs so far. A worker that got no input at all
    /// is about to get its first.
    pub(super) fn note_idle(&self) {
        if self.received > 0 {
            self.counts
                .idle_after
                .store(self.received, Ordering::Release);
        }
    }
}
