//! The side of callers: requests to a running endpoint, and their ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::config::CoapConfig;
use super::exchange::{RequestError, RequestId};
use super::peer::Peer;
use super::request::{Request, Response};

/// Takes the end of a request.
pub(super) type Caller = oneshot::Sender<Result<Box<Response>, RequestError>>;

/// A request of a caller, or a part or the end of one.
#[derive(Debug)]
pub(super) enum EndpointCommand {
    Request(Peer, RequestId, Box<Request>, Caller),
    BeginSet(Peer, RequestId, u32, Caller),
    Part(Peer, RequestId, Box<Request>, bool),
    Cancel(Peer, RequestId),
}

/// Sends requests through a running endpoint; clones share it.
#[derive(Debug, Clone)]
pub struct CoapHandle {
    pub(super) commands: mpsc::Sender<EndpointCommand>,
    pub(super) next_request_id: Arc<AtomicU64>,
    pub(super) config: Arc<CoapConfig>,
    pub(super) local_addr: SocketAddr,
}

/// Cancels a request whose caller stopped waiting, so that it does not hold up the next one.
#[derive(Debug)]
struct CancelOnDrop<'a> {
    handle: &'a CoapHandle,
    peer: Peer,
    request_id: Option<RequestId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(request_id) = self.request_id {
            // If the queue is full the request merely runs into its own time limit.
            let _ = self
                .handle
                .commands
                .try_send(EndpointCommand::Cancel(self.peer, request_id));
        }
    }
}

/// A set of requests that are answered together; dropping it ends it.
#[derive(Debug)]
pub struct RequestSet<'a> {
    cancel_on_drop: CancelOnDrop<'a>,
    request_id: RequestId,
    answer: oneshot::Receiver<Result<Box<Response>, RequestError>>,
}

impl RequestSet<'_> {
    /// Sends one of its requests, unless it was answered meanwhile. The time for an answer begins
    /// with the last one.
    pub async fn send(&self, request: Request, is_last: bool) -> Result<(), RequestError> {
        let CancelOnDrop { handle, peer, .. } = self.cancel_on_drop;
        let part = EndpointCommand::Part(peer, self.request_id, Box::new(request), is_last);
        let sent = handle.commands.send(part).await;
        sent.map_err(|_| RequestError::Closed)
    }

    /// Waits for the answer to the requests so far. It may be dropped and called again.
    pub async fn answer(&mut self) -> Result<Response, RequestError> {
        let result = (&mut self.answer).await.map_err(|_| RequestError::Closed);
        self.cancel_on_drop.request_id = None;
        Ok(*result??)
    }
}

impl CoapHandle {
    /// Sends one request as one message and waits for its response.
    pub async fn exchange(
        &self,
        peer: impl Into<Peer>,
        request: Request,
    ) -> Result<Response, RequestError> {
        let peer = peer.into();
        let request_id = self.next_request_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let command = EndpointCommand::Request(peer, request_id, Box::new(request), sender);
        self.commands
            .send(command)
            .await
            .map_err(|_| RequestError::Closed)?;
        let mut cancel_on_drop = CancelOnDrop {
            handle: self,
            peer,
            request_id: Some(request_id),
        };
        let result = receiver.await.map_err(|_| RequestError::Closed);
        cancel_on_drop.request_id = None;
        Ok(*result??)
    }

    /// Begins a set of requests that are answered together, after `silent` sets in a row that were
    /// not answered.
    pub async fn begin_set(
        &self,
        peer: impl Into<Peer>,
        silent: u32,
    ) -> Result<RequestSet<'_>, RequestError> {
        let peer = peer.into();
        let request_id = self.next_request_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let command = EndpointCommand::BeginSet(peer, request_id, silent, sender);
        let sent = self.commands.send(command).await;
        sent.map_err(|_| RequestError::Closed)?;
        let cancel_on_drop = CancelOnDrop {
            handle: self,
            peer,
            request_id: Some(request_id),
        };
        Ok(RequestSet {
            cancel_on_drop,
            request_id,
            answer,
        })
    }

    /// Timers and limits of the endpoint.
    pub fn config(&self) -> &CoapConfig {
        &self.config
    }

    /// The address that the endpoint is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}
