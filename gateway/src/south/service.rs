//! The gateway's CoAP resources for Things: registration, reports and events.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::bootstrap::{self, BootstrapServer};
use super::packages;
use super::pull::PackageServer;
use super::registry::SharedRegistry;
use super::{ServedDevices, SouthEvent, StorageReply};
use crate::coap::{BodyPolicy, CoapService, Code, DatagramSocket, Peer, Request, Response, format};
use crate::lwm2m::registration::Registration;
use crate::lwm2m::{agent, records, senml};

/// The list of resources, in link format (RFC 6690).
const RESOURCES: &str = "</rd>;rt=\"core.rd\",</ev>;ct=42,</rp>;ct=42,</dp>;ct=\"110 112\"";

/// POST or DELETE below `/rd`, for the manager, which owns the table of registrations.
#[derive(Debug)]
pub(super) struct RegistrationRequest {
    pub(super) peer: Peer,
    /// The device of its session.
    pub(super) identity: Option<String>,
    pub(super) request: Box<Request>,
    pub(super) response: oneshot::Sender<Response>,
}

/// Answers the requests of Things.
pub(super) struct SouthService {
    pub(super) registrations: mpsc::Sender<RegistrationRequest>,
    /// Takes the name of each Thing that sends something.
    pub(super) sender_names: mpsc::Sender<String>,
    pub(super) events: mpsc::Sender<SouthEvent>,
    pub(super) stored_timeout: Duration,
    pub(super) served: Arc<dyn ServedDevices>,
    pub(super) registry: SharedRegistry,
    pub(super) packages: PackageServer,
    pub(super) bootstraps: BootstrapServer,
    /// Names the devices of sessions.
    pub(super) link: Arc<dyn DatagramSocket>,
}

impl SouthService {
    async fn registration(&self, peer: Peer, request: Request) -> Response {
        let (sender, receiver) = oneshot::channel();
        let request = RegistrationRequest {
            peer,
            identity: self.link.identity(peer),
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

    /// The Thing that sent a request, if this gateway still serves it: the one of the session, else
    /// the one at the address. A registration of another one ends with its next update, or by the
    /// north side's command.
    async fn sender(&self, peer: Peer) -> Option<String> {
        let found = self.registered(peer)?;
        if found.peer != Some(peer) && peer.session.is_some() {
            self.follow(peer, &found).await;
        }
        let endpoint = found.endpoint;
        self.served.serves(&endpoint).then_some(endpoint)
    }

    /// The registration of a session's device, or of the Thing at an address.
    fn registered(&self, peer: Peer) -> Option<Registration> {
        let registry = self.registry.read();
        let found = match (peer.session, self.link.identity(peer)) {
            (_, Some(device)) => registry.find_by_endpoint(&device),
            (None, None) => registry.find_by_peer(peer),
            // The session has ended meanwhile.
            (Some(_), None) => None,
        };
        found.cloned()
    }

    /// Takes values that a Thing sends by itself (LwM2M 1.1 core, section 6.4.6).
    async fn send(&self, peer: Peer, request: Request) -> Response {
        if request.method != Code::POST {
            return Response::new(Code::METHOD_NOT_ALLOWED);
        }
        let Some(endpoint) = self.sender(peer).await else {
            return unregistered();
        };
        let _ = self.sender_names.try_send(endpoint.clone());
        let values = match request.content_format {
            Some(format::SENML_CBOR) => senml::from_cbor(&request.payload),
            Some(format::SENML_JSON) => senml::from_json(&request.payload),
            _ => return Response::new(Code::UNSUPPORTED_FORMAT),
        };
        let Some(values) = values else {
            return Response::error(Code::BAD_REQUEST, "no list of values");
        };
        let (stored, answer) = oneshot::channel();
        let event = SouthEvent::Values {
            endpoint,
            values,
            stored,
        };
        self.deliver(event, answer).await
    }

    /// Follows a Thing whose newest session is another one than that of its registration: requests
    /// go to the newest one.
    async fn follow(&self, peer: Peer, found: &Registration) {
        let location = self.registry.read().location(&found.endpoint);
        if let Some(location) = location {
            let update = Request::new(Code::POST, &format!("/rd/{location}"));
            let answer = self.registration(peer, update).await;
            tracing::debug!(%peer, code = %answer.code, "a Thing has another session");
        }
    }

    fn is_registered(&self, peer: Peer) -> bool {
        self.registered(peer).is_some()
    }

    async fn store(&self, peer: Peer, request: Request, report: bool) -> Response {
        if request.method != Code::POST {
            return Response::new(Code::METHOD_NOT_ALLOWED);
        }
        let Some(endpoint) = self.sender(peer).await else {
            return unregistered();
        };
        // If the queue is full, the next message will do.
        let _ = self.sender_names.try_send(endpoint.clone());
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
        self.deliver(event, answer).await
    }

    /// Hands an event to the north side and waits for its answer.
    async fn deliver(
        &self,
        event: SouthEvent,
        answer: oneshot::Receiver<StorageReply>,
    ) -> Response {
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
    fn body_policy(&self, peer: Peer, request: &Request) -> BodyPolicy {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path[..] {
            ["rd"] | ["rd", _] if self.is_registered(peer) => BodyPolicy::Registered,
            ["rd"] | ["rd", _] => BodyPolicy::Stranger,
            ["rp"] | ["ev"] | ["dp"] if self.is_registered(peer) => BodyPolicy::Registered,
            ["rp"] | ["ev"] | ["dp"] => BodyPolicy::Refused(unregistered()),
            [packages::PATH, _] => BodyPolicy::SingleBlocks,
            _ => BodyPolicy::Refused(Response::new(Code::NOT_FOUND)),
        }
    }

    fn notified(&self, peer: Peer, path: &[String], response: Response) {
        let found = self.registered(peer);
        let Some(found) = found.filter(|found| self.served.serves(&found.endpoint)) else {
            return;
        };
        let Registration {
            endpoint, objects, ..
        } = found;
        let _ = self.sender_names.try_send(endpoint.clone());
        let root = objects.root.len();
        let path: Vec<&str> = path.iter().skip(root).map(String::as_str).collect();
        let Some(values) = records::records(&response, &path) else {
            tracing::debug!(endpoint, ?path, "a notification can't be read");
            return;
        };
        // Nobody waits for the answer: the Thing does not repeat a notification.
        let (stored, _) = oneshot::channel();
        let event = SouthEvent::Values {
            endpoint,
            values,
            stored,
        };
        if self.events.try_send(event).is_err() {
            tracing::warn!(%peer, "too busy for a notification");
        }
    }

    fn responded(&self, peer: Peer, request: &Request, code: Code) {
        if request.path == [bootstrap::PATH] {
            self.bootstraps.responded(peer, code);
        }
    }

    async fn handle(&self, peer: Peer, request: Request) -> Response {
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
            [bootstrap::PATH] => self.bootstraps.respond(peer, &request),
            ["rp"] => self.store(peer, request, true).await,
            ["ev"] => self.store(peer, request, false).await,
            ["dp"] => self.send(peer, request).await,
            // A Thing may fetch from another port than that from which it registered.
            [packages::PATH, name] if self.registry.read().has_address(peer.address.ip()) => {
                self.packages.respond(&request, name).await
            }
            [packages::PATH, _] => unregistered(),
            [".well-known", "core"] => Response::new(Code::METHOD_NOT_ALLOWED),
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}
