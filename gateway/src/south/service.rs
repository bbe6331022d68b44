//! What Things ask of the gateway: registration, and taking their reports and events.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::addresses::Addresses;
use super::{SouthEvent, Stored};
use crate::coap::{BodyPolicy, Code, Request, Response, Service, format};
use crate::lwm2m::agent;

/// What the gateway offers, in link format (RFC 6690).
const RESOURCES: &str = "</rd>;rt=\"core.rd\",</ev>;ct=42,</rp>;ct=42";

/// A question for the manager, which owns the table of registrations.
#[derive(Debug)]
pub(super) enum Front {
    /// POST or DELETE below `/rd`.
    Registration(SocketAddr, Box<Request>, oneshot::Sender<Response>),
    /// Who is at this address?
    Who(SocketAddr, oneshot::Sender<Option<String>>),
}

pub(super) struct SouthService {
    front: mpsc::Sender<Front>,
    events: mpsc::Sender<SouthEvent>,
    stored_timeout: Duration,
    /// Of registered Things.
    addresses: Addresses,
}

impl SouthService {
    pub(super) fn new(
        front: mpsc::Sender<Front>,
        events: mpsc::Sender<SouthEvent>,
        stored_timeout: Duration,
        addresses: Addresses,
    ) -> SouthService {
        SouthService {
            front,
            events,
            stored_timeout,
            addresses,
        }
    }

    async fn registration(&self, peer: SocketAddr, request: Request) -> Response {
        let (sender, receiver) = oneshot::channel();
        let question = Front::Registration(peer, Box::new(request), sender);
        if self.front.try_send(question).is_err() {
            return Response::new(Code::UNAVAILABLE);
        }
        receiver
            .await
            .unwrap_or_else(|_| Response::new(Code::UNAVAILABLE))
    }

    async fn who(&self, peer: SocketAddr) -> Option<String> {
        let (sender, receiver) = oneshot::channel();
        self.front.send(Front::Who(peer, sender)).await.ok()?;
        receiver.await.ok()?
    }

    async fn take(&self, peer: SocketAddr, request: Request, report: bool) -> Response {
        if request.method != Code::POST {
            return Response::new(Code::METHOD_NOT_ALLOWED);
        }
        let Some(endpoint) = self.who(peer).await else {
            return unregistered();
        };
        let bytes = request.payload;
        // Not 4.00: what is so long is written down nowhere, so the Thing must not forget it.
        if bytes.len() > agent::MESSAGE_BYTES_MAX {
            return Response::error(Code::TOO_LARGE, "too long");
        }
        let (stored, answer) = oneshot::channel();
        let event = match report {
            true => SouthEvent::Report {
                endpoint,
                bytes,
                stored,
            },
            false => SouthEvent::Event {
                endpoint,
                bytes,
                stored,
            },
        };
        if self.events.try_send(event).is_err() {
            return Response::error(Code::UNAVAILABLE, "busy");
        }
        match tokio::time::timeout(self.stored_timeout, answer).await {
            Ok(Ok(Stored::Kept)) => Response::new(Code::CHANGED),
            Ok(Ok(Stored::Refused(reason))) => Response::error(Code::BAD_REQUEST, &reason),
            Ok(Ok(Stored::Unregistered(reason))) => Response::error(Code::UNAUTHORIZED, &reason),
            Ok(Ok(Stored::Later(reason))) => Response::error(Code::UNAVAILABLE, &reason),
            Ok(Err(_)) | Err(_) => Response::error(Code::UNAVAILABLE, "not stored"),
        }
    }
}

fn unregistered() -> Response {
    Response::error(Code::UNAUTHORIZED, "register first")
}

#[async_trait]
impl Service for SouthService {
    /// A body is kept only where somebody will read it: strangers may register, and nothing else.
    fn body_policy(&self, peer: SocketAddr, request: &Request) -> BodyPolicy {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path[..] {
            ["rd"] | ["rd", _] if self.addresses.contains(peer) => BodyPolicy::Known,
            ["rd"] | ["rd", _] => BodyPolicy::Stranger,
            ["rp"] | ["ev"] if self.addresses.contains(peer) => BodyPolicy::Known,
            ["rp"] | ["ev"] => BodyPolicy::Refused(unregistered()),
            _ => BodyPolicy::Refused(Response::new(Code::NOT_FOUND)),
        }
    }

    async fn handle(&self, peer: SocketAddr, request: Request) -> Response {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path[..] {
            [".well-known", "core"] if request.method == Code::GET => {
                if request
                    .accept
                    .is_some_and(|accept| accept != format::LINK_FORMAT)
                {
                    return Response::new(Code::NOT_ACCEPTABLE);
                }
                Response::content(format::LINK_FORMAT, RESOURCES.as_bytes().to_vec())
            }
            ["rd"] | ["rd", _] => self.registration(peer, request).await,
            ["rp"] => self.take(peer, request, true).await,
            ["ev"] => self.take(peer, request, false).await,
            [".well-known", "core"] => Response::new(Code::METHOD_NOT_ALLOWED),
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}
