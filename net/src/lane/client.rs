//! The calling side of a lane: requests with their numbers and limits, and notifications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::error::{LinkError, NetError, ServiceError};
use crate::frame::{Frame, Kind};
use crate::{Lane, NodeKey};

/// No caller waits longer than this; a longer timeout is taken as this one.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// A request whose answer is so late after its timeout shows that the peer lost it: without an
/// end to this, the peer could use up the lane's places one by one.
const OVERDUE_MAX: Duration = Duration::from_secs(30);

/// A frame on its way to the writer, with the room it takes in a limit until it is written.
pub(crate) struct Outgoing {
    pub frame: Frame,
    pub room: Option<OwnedSemaphorePermit>,
}

pub(crate) struct LaneClient {
    to: NodeKey,
    lane: Lane,
    queue: mpsc::Sender<Outgoing>,
    calls: Mutex<Calls>,
    requests: Arc<Semaphore>,
    request_bytes: Arc<Semaphore>,
    notify_bytes: Arc<Semaphore>,
}

/// Requests without an answer. An entry stays after its caller's timeout, until the peer has
/// answered: only so do both sides count the same number of requests in flight.
struct Calls {
    open: bool,
    next_id: u64,
    waiting: HashMap<u64, Call>,
}

struct Call {
    answer: oneshot::Sender<Result<Bytes, ServiceError>>,
    deadline: Instant,
    _room: [OwnedSemaphorePermit; 2],
}

impl LaneClient {
    /// A client and the queue that its lane's writer empties.
    pub fn new(to: NodeKey, lane: Lane) -> (LaneClient, mpsc::Receiver<Outgoing>) {
        let limits = lane.limits();
        let (queue, outgoing) = mpsc::channel(limits.queue_max);
        let calls = Calls {
            open: true,
            next_id: 0,
            waiting: HashMap::new(),
        };
        let client = LaneClient {
            to,
            lane,
            queue,
            calls: Mutex::new(calls),
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            request_bytes: Arc::new(Semaphore::new(limits.bytes_max)),
            notify_bytes: Arc::new(Semaphore::new(limits.bytes_max)),
        };
        (client, outgoing)
    }

    pub fn queue(&self) -> mpsc::Sender<Outgoing> {
        self.queue.clone()
    }

    /// Sends a request and waits for its answer.
    pub async fn request(&self, body: Bytes, after: Duration) -> Result<Bytes, NetError> {
        self.check_size(&body)?;
        let after = after.min(REQUEST_TIMEOUT_MAX);
        let deadline = Instant::now() + after;
        let room = [
            self.take(&self.requests, 1)?,
            self.take(&self.request_bytes, body.len() as u32)?,
        ];
        let call = async {
            let place = self
                .queue
                .reserve()
                .await
                .map_err(|_| self.disconnected())?;
            // From here to `send` nothing waits, so a request is known exactly if it is sent.
            let (id, answer) = self.register(deadline, room)?;
            let left = deadline
                .saturating_duration_since(Instant::now())
                .as_millis()
                .max(1);
            let frame = Frame {
                kind: Kind::Request,
                id,
                aux: left as u32,
                body,
            };
            place.send(Outgoing { frame, room: None });
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

    /// Queues a notification; an error if there is no room for it.
    pub fn notify(&self, body: Bytes) -> Result<(), NetError> {
        self.check_size(&body)?;
        let room = Some(self.take(&self.notify_bytes, body.len() as u32)?);
        let frame = Frame {
            kind: Kind::Notify,
            id: 0,
            aux: 0,
            body,
        };
        self.queue
            .try_send(Outgoing { frame, room })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => self.busy(),
                mpsc::error::TrySendError::Closed(_) => self.disconnected(),
            })
    }

    /// Hands an answer or a failure to the caller that waits for it.
    pub fn complete(&self, frame: Frame) -> Result<(), LinkError> {
        let call = self.calls().waiting.remove(&frame.id);
        let call = call.ok_or(LinkError::UnknownAnswer(self.lane))?;
        let result = match frame.kind {
            Kind::Answer => Ok(frame.body),
            _ => Err(ServiceError::decode(frame.aux, &frame.body)),
        };
        // An error means that the caller has given up meanwhile.
        let _gone = call.answer.send(result);
        Ok(())
    }

    /// Whether a request got no answer long after its time was over.
    pub fn has_overdue(&self) -> bool {
        let now = Instant::now();
        self.calls()
            .waiting
            .values()
            .any(|call| call.deadline + OVERDUE_MAX < now)
    }

    /// Ends every call with `Disconnected`, now and from now on.
    pub fn close(&self) {
        let mut calls = self.calls();
        calls.open = false;
        calls.waiting.clear();
    }

    fn register(
        &self,
        deadline: Instant,
        room: [OwnedSemaphorePermit; 2],
    ) -> Result<(u64, oneshot::Receiver<Result<Bytes, ServiceError>>), NetError> {
        let (answer, receiver) = oneshot::channel();
        let mut calls = self.calls();
        if !calls.open {
            return Err(self.disconnected());
        }
        let id = calls.next_id;
        calls.next_id += 1;
        calls.waiting.insert(
            id,
            Call {
                answer,
                deadline,
                _room: room,
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

    fn take(&self, limit: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit, NetError> {
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

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
