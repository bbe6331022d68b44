//! Owns the table of registrations and the workers, one per Thing.

use std::collections::HashMap;
use std::net::SocketAddr;

use rand::RngCore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::service::Front;
use super::session::Session;
use super::worker::{self, Order, Tools};
use super::{Admits, SouthCommand, SouthConfig, SouthEvent};
use crate::coap::{Code, Request, Response};
use crate::lwm2m::Registry;
use crate::lwm2m::registration::{REGISTRATIONS_MAX, Registration, RegistrationError};
use crate::south::Notice;

/// Things with a worker: those registered, and as many again that have work and are away.
const WORKERS_MAX: usize = 2 * REGISTRATIONS_MAX;
/// Inputs that wait for one worker.
const ORDERS_MAX: usize = 32;

pub(super) struct Manager {
    config: SouthConfig,
    admits: Admits,
    tools: Tools,
    registry: Registry,
    workers: HashMap<String, mpsc::Sender<Order>>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Manager {
    pub(super) fn new(
        config: SouthConfig,
        admits: Admits,
        tools: Tools,
        stop: CancellationToken,
    ) -> Manager {
        Manager {
            config,
            admits,
            tools,
            registry: Registry::default(),
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            stop,
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<SouthCommand>,
        mut front: mpsc::Receiver<Front>,
    ) {
        let stop = self.stop.clone();
        loop {
            let expiry = self.registry.next_expiry();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(command) = commands.recv() => self.command(command).await,
                Some(question) = front.recv() => self.question(question),
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the worker of a Thing panicked");
                    }
                }
                () = sleep_until(expiry) => self.expire(),
            }
        }
        self.tasks.shutdown().await;
    }

    /// A worker that does not keep up stops the stream of commands, not the Things.
    async fn command(&mut self, command: SouthCommand) {
        let endpoint = command.endpoint().to_owned();
        let Some(worker) = self.worker(&endpoint) else {
            let reason = "this gateway has too many Things".to_owned();
            let notice = Notice::Refused {
                deployment: String::new(),
                reason,
            };
            return self
                .tools
                .tell(SouthEvent::Notice { endpoint, notice })
                .await;
        };
        if worker.send(Order::Command(command)).await.is_err() {
            self.workers.remove(&endpoint);
        }
    }

    fn question(&mut self, question: Front) {
        match question {
            Front::Who(peer, answer) => {
                // The Thing may have stopped waiting.
                let _ = answer.send(self.registry.at(peer).map(|r| r.endpoint.clone()));
            }
            Front::Registration(peer, request, answer) => {
                let response = self.registration(peer, &request).unwrap_or_else(|error| {
                    tracing::debug!(%peer, %error, "registration refused");
                    Response::error(error.code(), &error.to_string())
                });
                let _ = answer.send(response);
            }
        }
    }

    fn registration(
        &mut self,
        peer: SocketAddr,
        request: &Request,
    ) -> Result<Response, RegistrationError> {
        let now = Instant::now();
        match (request.method, request.path.get(1)) {
            (Code::POST, None) => {
                let name = request.argument("ep").unwrap_or_default();
                if !(self.admits)(name) {
                    return Err(RegistrationError::Foreign);
                }
                let location = format!("{:016x}", rand::rng().next_u64());
                let registration = self
                    .registry
                    .register(now, peer, request, location.clone())?;
                let location = vec!["rd".to_owned(), location];
                let created = Response {
                    location,
                    ..Response::new(Code::CREATED)
                };
                Ok(self.announce(registration, created))
            }
            (Code::POST, Some(location)) => {
                let before = self.registry.location(location).map(|r| (r.peer, r.agent));
                let registration = self.registry.update(now, peer, location, request)?;
                let changed = Response::new(Code::CHANGED);
                if before == Some((registration.peer, registration.agent)) {
                    return Ok(changed);
                }
                Ok(self.announce(registration, changed))
            }
            (Code::DELETE, Some(location)) => {
                let registration = self.registry.deregister(location)?;
                self.lost(registration);
                Ok(Response::new(Code::DELETED))
            }
            _ => Ok(Response::new(Code::METHOD_NOT_ALLOWED)),
        }
    }

    /// Tells the worker; a Thing whose worker is too busy to hear it is asked to come again.
    fn announce(&mut self, registration: Registration, response: Response) -> Response {
        let endpoint = registration.endpoint.clone();
        let told = self
            .worker(&endpoint)
            .is_some_and(|worker| worker.try_send(Order::Registered(registration)).is_ok());
        if told {
            response
        } else {
            Response::error(Code::UNAVAILABLE, "busy")
        }
    }

    fn expire(&mut self) {
        for registration in self.registry.expire(Instant::now()) {
            tracing::info!(endpoint = registration.endpoint, "registration expired");
            self.lost(registration);
        }
    }

    fn lost(&mut self, registration: Registration) {
        if let Some(worker) = self.workers.get(&registration.endpoint) {
            // A worker too busy for this notices by itself that the Thing does not answer.
            let _ = worker.try_send(Order::Lost);
        }
    }

    fn worker(&mut self, endpoint: &str) -> Option<mpsc::Sender<Order>> {
        if let Some(worker) = self.workers.get(endpoint).filter(|w| !w.is_closed()) {
            return Some(worker.clone());
        }
        if self.workers.len() >= WORKERS_MAX {
            return None;
        }
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let session = Session::new(self.config.session.clone());
        let work = worker::run(endpoint.to_owned(), session, self.tools.clone(), receiver);
        self.tasks.spawn(work);
        self.workers.insert(endpoint.to_owned(), orders.clone());
        Some(orders)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
