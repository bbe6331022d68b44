//! The gateway's CoAP resources for Things: registration, reports and events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::registry::SharedRegistry;
use super::{ServedDevices, SouthEvent, StorageReply};
use crate::coap::{BodyPolicy, CoapService, Code, Request, Response, format};
use crate::lwm2m::agent;

/// The list of resources, in link format (RFC 6690).
const RESOURCES: &str = "</rd>;rt=\"core.rd\",</ev>;ct=42,</rp>;ct=42";

/// POST or DELETE below `/rd`, for the manager, which owns the table of registrations.
#[derive(Debug)]
pub(super) struct RegistrationRequest {
    pub(super) peer: SocketAddr,
    pub(super) request: Box<Request>,
    pub(super) response: oneshot::Sender<Response>,
}

/// Answers the requests of Things.
pub(super) struct SouthService {
    pub(super) registrations: mpsc::Sender<RegistrationRequest>,
    pub(super) events: mpsc::Sender<SouthEvent>,
    pub(super) stored_timeout: Duration,
    pub(super) served: Arc<dyn ServedDevices>,
    pub(super) registry: SharedRegistry,
}

impl SouthService {
    async fn registration(&self, peer: SocketAddr, request: Request) -> Response {
        let (sender, receiver) = oneshot::channel();
        let request = RegistrationRequest {
            peer,
            request: Box::new(request),
            response: sender,
        };
        if self.registrations.try_send(request).is_err() {
            return Response::new(Code::UNAVAILABLE);
        }
        receiver
            .await
            .unwrap_or_else(|_| Response::new(Code::UNAVAILABLE))
    }

    /// The Thing at an address, if this gateway still serves it. A registration of another one ends
    /// with its next update, or by the north side's command.
    fn sender(&self, peer: SocketAddr) -> Option<String> {
        let endpoint = self.registry.read().find_by_peer(peer)?.endpoint.clone();
        self.served.serves(&endpoint).then_some(endpoint)
    }

    fn is_registered(&self, peer: SocketAddr) -> bool {
        self.registry.read().find_by_peer(peer).is_some()
    }

    async fn store(&self, peer: SocketAddr, request: Request, report: bool) -> Response {
        if request.method != Code::POST {
            return Response::new(Code::METHOD_NOT_ALLOWED);
        }
        let Some(endpoint) = self.sender(peer) else {
            return unregistered();
        };
        let bytes = request.payload;
        // Not 4.00: such a message is stored nowhere, so the Thing must not delete it.
        if bytes.len() > agent::MESSAGE_BYTES_MAX {
            return Response::error(Code::TOO_LARGE, "too long");
        }
        let (stored, answer) = oneshot::channel();
        let event = if report {
            SouthEvent::Report {
                endpoint,
                bytes,
                stored,
            }
        } else {
            SouthEvent::Event {
                endpoint,
                bytes,
                stored,
            }
        };
        if self.events.try_send(event).is_err() {
            return Response::error(Code::UNAVAILABLE, "busy");
        }
        match tokio::time::timeout(self.stored_timeout, answer).await {
            Ok(Ok(StorageReply::Stored)) => Response::new(Code::CHANGED),
            Ok(Ok(StorageReply::Refused(reason))) => Response::error(Code::BAD_REQUEST, &reason),
            Ok(Ok(StorageReply::Unregistered(reason))) => {
                Response::error(Code::UNAUTHORIZED, &reason)
            }
            Ok(Ok(StorageReply::Unavailable(reason))) => {
                Response::error(Code::UNAVAILABLE, &reason)
            }
            Ok(Err(_)) | Err(_) => Response::error(Code::UNAVAILABLE, "not stored"),
        }
    }
}

fn unregistered() -> Response {
    Response::error(Code::UNAUTHORIZED, "register first")
}

#[async_trait]
impl CoapService for SouthService {
    /// Assembles bodies only for resources that read them: strangers may register, and nothing
    /// else.
    fn body_policy(&self, peer: SocketAddr, request: &Request) -> BodyPolicy {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path[..] {
            ["rd"] | ["rd", _] if self.is_registered(peer) => BodyPolicy::Registered,
            ["rd"] | ["rd", _] => BodyPolicy::Stranger,
            ["rp"] | ["ev"] if self.is_registered(peer) => BodyPolicy::Registered,
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
            ["rp"] => self.store(peer, request, true).await,
            ["ev"] => self.store(peer, request, false).await,
            [".well-known", "core"] => Response::new(Code::METHOD_NOT_ALLOWED),
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}
