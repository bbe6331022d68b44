//! The client side of a lane: requests with their numbers and limits, and notifications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::error::{LinkError, NetError, ServiceError};
use crate::frame::{Frame, FrameKind};
use crate::{Lane, NodeKey};

/// The longest timeout of a request; a longer one is reduced to it.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// The time after its timeout at which a request counts as lost by the peer, which ends the link.
/// Otherwise such a peer could use up the lane's limit one by one.
const OVERDUE_MAX: Duration = Duration::from_secs(30);

/// A frame in the writer's queue, with its permit of a limit until it is written.
pub(crate) struct OutgoingFrame {
    pub frame: Frame,
    pub permit: Option<OwnedSemaphorePermit>,
}

/// The client of one lane of one link.
pub(crate) struct LaneClient {
    to: NodeKey,
    lane: Lane,
    queue: mpsc::Sender<OutgoingFrame>,
    pending: Mutex<PendingRequests>,
    requests: Arc<Semaphore>,
    request_bytes: Arc<Semaphore>,
    notify_bytes: Arc<Semaphore>,
}

/// The requests without an answer. A request stays after its caller's timeout until the peer has
/// answered, so that both sides count the same number of requests in flight.
struct PendingRequests {
    open: bool,
    next_id: u64,
    by_id: HashMap<u64, PendingRequest>,
}

struct PendingRequest {
    answer: oneshot::Sender<Result<Bytes, ServiceError>>,
    deadline: Instant,
    _permits: [OwnedSemaphorePermit; 2],
}

impl LaneClient {
    /// A client, and the queue for its lane's writer.
    pub fn new(to: NodeKey, lane: Lane) -> (LaneClient, mpsc::Receiver<OutgoingFrame>) {
        let limits = lane.limits();
        let (queue, outgoing) = mpsc::channel(limits.queue_max);
        let pending = PendingRequests {
            open: true,
            next_id: 0,
            by_id: HashMap::new(),
        };
        let client = LaneClient {
            to,
            lane,
            queue,
            pending: Mutex::new(pending),
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            request_bytes: Arc::new(Semaphore::new(limits.bytes_max)),
            notify_bytes: Arc::new(Semaphore::new(limits.bytes_max)),
        };
        (client, outgoing)
    }

    pub fn queue(&self) -> mpsc::Sender<OutgoingFrame> {
        self.queue.clone()
    }

    /// Sends a request and waits for its answer.
    pub async fn request(&self, body: Bytes, after: Duration) -> Result<Bytes, NetError> {
        self.check_size(&body)?;
        let after = after.min(REQUEST_TIMEOUT_MAX);
        let deadline = Instant::now() + after;
        let permits = [
            self.acquire(&self.requests, 1)?,
            self.acquire(&self.request_bytes, body.len() as u32)?,
        ];
        let call = async {
            let slot = self
                .queue
                .reserve()
                .await
                .map_err(|_| self.disconnected())?;
            // Nothing waits from here to `send`: a request is registered exactly if it is sent.
            let (id, answer) = self.register(deadline, permits)?;
            let remaining_ms = deadline
                .saturating_duration_since(Instant::now())
                .as_millis()
                .max(1);
            let frame = Frame {
                kind: FrameKind::Request,
                id,
                aux: remaining_ms as u32,
                body,
            };
            slot.send(OutgoingFrame {
                frame,
                permit: None,
            });
            answer.await.map_err(|_| self.disconnected())
        };
        match timeout(after, call).await {
            Ok(Ok(Ok(body))) => Ok(body),
            Ok(Ok(Err(source))) => Err(NetError::Service {
                to: self.to,
                lane: self.lane,
                source,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(NetError::Timeout {
                to: self.to,
                lane: self.lane,
                after,
            }),
        }
    }

    /// Queues a notification; an error if the queue is full.
    pub fn notify(&self, body: Bytes) -> Result<(), NetError> {
        self.check_size(&body)?;
        let permit = Some(self.acquire(&self.notify_bytes, body.len() as u32)?);
        let frame = Frame {
            kind: FrameKind::Notify,
            id: 0,
            aux: 0,
            body,
        };
        self.queue
            .try_send(OutgoingFrame { frame, permit })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => self.busy(),
                mpsc::error::TrySendError::Closed(_) => self.disconnected(),
            })
    }

    /// Passes an answer or a failure to the caller that waits for it.
    pub fn complete(&self, frame: Frame) -> Result<(), LinkError> {
        let request = self.pending().by_id.remove(&frame.id);
        let request = request.ok_or(LinkError::UnknownAnswer(self.lane))?;
        let result = match frame.kind {
            FrameKind::Answer => Ok(frame.body),
            _ => Err(ServiceError::decode(frame.aux, &frame.body)),
        };
        // An error means that the caller has stopped waiting.
        let _ = request.answer.send(result);
        Ok(())
    }

    /// True if a request has no answer long after its timeout.
    pub fn has_overdue(&self) -> bool {
        let now = Instant::now();
        self.pending()
            .by_id
            .values()
            .any(|request| request.deadline + OVERDUE_MAX < now)
    }

    /// Ends every pending and future request with `Disconnected`.
    pub fn close(&self) {
        let mut pending = self.pending();
        pending.open = false;
        pending.by_id.clear();
    }

    fn register(
        &self,
        deadline: Instant,
        permits: [OwnedSemaphorePermit; 2],
    ) -> Result<(u64, oneshot::Receiver<Result<Bytes, ServiceError>>), NetError> {
        let (answer, receiver) = oneshot::channel();
        let mut pending = self.pending();
        if !pending.open {
            return Err(self.disconnected());
        }
        let id = pending.next_id;
        pending.next_id += 1;
        pending.by_id.insert(
            id,
            PendingRequest {
                answer,
                deadline,
                _permits: permits,
            },
        );
        Ok((id, receiver))
    }

    fn check_size(&self, body: &Bytes) -> Result<(), NetError> {
        let (bytes, bytes_max) = (body.len(), self.lane.limits().frame_bytes_max);
        if bytes > bytes_max {
            return Err(NetError::TooLarge {
                lane: self.lane,
                bytes,
                bytes_max,
            });
        }
        Ok(())
    }

    fn acquire(
        &self,
        limit: &Arc<Semaphore>,
        count: u32,
    ) -> Result<OwnedSemaphorePermit, NetError> {
        limit
            .clone()
            .try_acquire_many_owned(count)
            .map_err(|_| self.busy())
    }

    fn busy(&self) -> NetError {
        NetError::Busy {
            to: self.to,
            lane: self.lane,
        }
    }

    fn disconnected(&self) -> NetError {
        NetError::Disconnected {
            to: self.to,
            lane: self.lane,
        }
    }

    fn pending(&self) -> MutexGuard<'_, PendingRequests> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
