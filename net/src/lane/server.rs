//! The task of one lane of one link: it reads and writes frames, and passes requests and
//! notifications to the service.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, FutureExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::client::{OutgoingFrame, REQUEST_TIMEOUT_MAX};
use crate::error::{LinkError, ServiceError};
use crate::frame::{Frame, FrameKind, FrameReader, FrameWriter};
use crate::link::PeerLink;
use crate::network_state::NetworkState;
use crate::upgrade::Stream;
use crate::{Lane, NodeKey, Service};

/// Frames of the queue in one write.
const FRAMES_PER_WRITE: usize = 64;

/// Notifications that wait for the service. With more the lane is not read, so that the sender's
/// queue fills and the sender notices.
const NOTIFICATIONS_WAITING_MAX: usize = 64;

struct LaneServer {
    state: Arc<NetworkState>,
    link: Arc<PeerLink>,
    lane: Lane,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    notify_bytes: Arc<Semaphore>,
    notifications: mpsc::Sender<(Bytes, OwnedSemaphorePermit)>,
}

/// Serves the lane until its stream ends or the peer violates the protocol; returns the reason.
pub(crate) async fn run(
    state: Arc<NetworkState>,
    link: Arc<PeerLink>,
    lane: Lane,
    stream: Stream,
    outgoing: mpsc::Receiver<OutgoingFrame>,
) -> LinkError {
    let limits = lane.limits();
    let (notifications, waiting) = mpsc::channel(NOTIFICATIONS_WAITING_MAX);
    let worker = deliver(state.service.clone(), link.key, lane, waiting);
    let stop = link.stop.clone();
    state
        .tasks
        .spawn(async move { stop.run_until_cancelled(worker).await });
    let server = LaneServer {
        state,
        link,
        lane,
        slots: Arc::new(Semaphore::new(limits.requests_max)),
        bytes: Arc::new(Semaphore::new(limits.bytes_max)),
        notify_bytes: Arc::new(Semaphore::new(limits.bytes_max)),
        notifications,
    };
    let (read_half, write_half) = stream.split();
    let reader = FrameReader::new(read_half, limits.frame_bytes_max);
    let writer = FrameWriter::new(write_half);
    tokio::select! {
        ended = server.read(reader) => ended.err().unwrap_or(LinkError::Closed),
        ended = write(lane, writer, outgoing) => ended.err().unwrap_or(LinkError::Closed),
    }
}

impl LaneServer {
    async fn read<R: AsyncRead + Unpin>(
        &self,
        mut reader: FrameReader<R>,
    ) -> Result<(), LinkError> {
        let stream = self.lane.protocol();
        let broken = |source| LinkError::Stream { stream, source };
        while let Some(frame) = reader.next().await.map_err(broken)? {
            match frame.kind {
                FrameKind::Request => self.serve(frame)?,
                FrameKind::Answer | FrameKind::Failure => {
                    self.link.lane(self.lane).complete(frame)?
                }
                FrameKind::Notify => self.enqueue_notification(frame.body).await?,
                kind => return Err(LinkError::UnexpectedFrame { stream, kind }),
            }
        }
        Ok(())
    }

    /// Starts a request. The reader does not wait for it, as answers behind it would be stuck.
    fn serve(&self, frame: Frame) -> Result<(), LinkError> {
        let slot = self.slots.clone().try_acquire_owned();
        let room = self
            .bytes
            .clone()
            .try_acquire_many_owned(frame.body.len() as u32);
        let (Ok(slot), Ok(room)) = (slot, room) else {
            return Err(LinkError::TooManyRequests(self.lane));
        };
        let (service, from, lane) = (self.state.service.clone(), self.link.key, self.lane);
        let queue = self.link.lane(lane).queue();
        let work = async move {
            let id = frame.id;
            let frame = answer_frame(id, lane, answer(&*service, from, lane, frame).await);
            let Ok(place) = queue.reserve().await else {
                return;
            };
            // Released before the answer is sent: the caller may send again as soon as it has it.
            drop((slot, room));
            place.send(OutgoingFrame {
                frame,
                permit: None,
            });
        };
        let stop = self.link.stop.clone();
        self.state
            .tasks
            .spawn(async move { stop.run_until_cancelled(work).await });
        Ok(())
    }

    async fn enqueue_notification(&self, body: Bytes) -> Result<(), LinkError> {
        let room = self
            .notify_bytes
            .clone()
            .acquire_many_owned(body.len() as u32)
            .await;
        let room = room.expect("this semaphore is never closed");
        self.notifications
            .send((body, room))
            .await
            .map_err(|_| LinkError::Closed)
    }
}

async fn write<W: AsyncWrite + Unpin>(
    lane: Lane,
    mut writer: FrameWriter<W>,
    mut outgoing: mpsc::Receiver<OutgoingFrame>,
) -> Result<(), LinkError> {
    let broken = |source| LinkError::Stream {
        stream: lane.protocol(),
        source,
    };
    let mut batch = Vec::with_capacity(FRAMES_PER_WRITE);
    while outgoing.recv_many(&mut batch, FRAMES_PER_WRITE).await > 0 {
        for OutgoingFrame { frame, permit } in batch.drain(..) {
            writer.push(&frame).await.map_err(broken)?;
            drop(permit);
        }
        writer.flush().await.map_err(broken)?;
    }
    Ok(())
}

/// The service's answer, within the caller's timeout. A panic of the service is an error of this
/// one request: a node that goes down because of one message would be worse.
async fn answer(
    service: &dyn Service,
    from: NodeKey,
    lane: Lane,
    frame: Frame,
) -> Result<Bytes, ServiceError> {
    let limit = Duration::from_millis(frame.aux.into()).min(REQUEST_TIMEOUT_MAX);
    let call = AssertUnwindSafe(service.request(from, lane, frame.body)).catch_unwind();
    match timeout(limit, call).await {
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => {
            tracing::error!(?from, %lane, "the service panicked on a request");
            Err(ServiceError::Failed("internal error".into()))
        }
        Err(_) => Err(ServiceError::DeadlinePassed),
    }
}

fn answer_frame(id: u64, lane: Lane, result: Result<Bytes, ServiceError>) -> Frame {
    let bytes_max = lane.limits().frame_bytes_max;
    let result = result.and_then(|body| match body.len() {
        bytes if bytes > bytes_max => {
            tracing::error!(%lane, bytes, bytes_max, "an answer is too long for its lane");
            let text = format!("an answer of {bytes} bytes is too long for the {lane} lane");
            Err(ServiceError::Failed(text))
        }
        _ => Ok(body),
    });
    match result {
        Ok(body) => Frame {
            kind: FrameKind::Answer,
            id,
            aux: 0,
            body,
        },
        Err(error) => {
            let (aux, body) = error.encode();
            Frame {
                kind: FrameKind::Failure,
                id,
                aux,
                body,
            }
        }
    }
}

/// Passes notifications to the service, one by one in their order.
async fn deliver(
    service: Arc<dyn Service>,
    from: NodeKey,
    lane: Lane,
    mut waiting: mpsc::Receiver<(Bytes, OwnedSemaphorePermit)>,
) {
    while let Some((body, room)) = waiting.recv().await {
        let call = AssertUnwindSafe(service.notify(from, lane, body)).catch_unwind();
        if call.await.is_err() {
            tracing::error!(?from, %lane, "the service panicked on a notification");
        }
        drop(room);
    }
}
