//! Owns the table of registrations and the workers, one per Thing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngCore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::addresses::Addresses;
use super::service::Front;
use super::session::Session;
use super::worker::{self, Order, Tools};
use super::{Admits, SouthCommand, SouthConfig};
use crate::coap::{Code, Request, Response};
use crate::lwm2m::Registry;
use crate::lwm2m::registration::{
    REGISTRATIONS_MAX, Registration, RegistrationError, endpoint_name,
};

/// Things with a worker: those registered, and as many again that have work and are away.
const WORKERS_MAX: usize = 2 * REGISTRATIONS_MAX;
/// Inputs that wait for one worker.
const ORDERS_MAX: usize = 32;

/// A worker that ends with this.
struct Worker {
    orders: mpsc::Sender<Order>,
    _stop: DropGuard,
}

pub(super) struct Manager {
    config: SouthConfig,
    admits: Arc<dyn Admits>,
    tools: Tools,
    registry: Registry,
    /// Those of the registry.
    addresses: Addresses,
    workers: HashMap<String, Worker>,
    /// That there are too many Things was told.
    told_full: bool,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Manager {
    pub(super) fn new(
        config: SouthConfig,
        admits: Arc<dyn Admits>,
        tools: Tools,
        addresses: Addresses,
        stop: CancellationToken,
    ) -> Manager {
        Manager {
            config,
            admits,
            tools,
            registry: Registry::default(),
            addresses,
            workers: HashMap::new(),
            told_full: false,
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
        if matches!(command, SouthCommand::Release { .. }) {
            return self.release(&endpoint);
        }
        let worker = self.worker(&endpoint);
        if worker.send(Order::Command(command)).await.is_err() {
            self.workers.remove(&endpoint);
        }
    }

    /// The Thing is not ours any more: it shall look elsewhere, and nothing more is said to it.
    fn release(&mut self, endpoint: &str) {
        if self.registry.remove(endpoint).is_some() {
            tracing::info!(endpoint, "the registration ends, the device was taken away");
        }
        self.workers.remove(endpoint);
        self.addresses.set(self.registry.addresses());
    }

    fn question(&mut self, question: Front) {
        match question {
            Front::Who(peer, answer) => {
                // The Thing may have stopped waiting.
                let _ = answer.send(self.who(peer));
            }
            Front::Registration(peer, request, answer) => {
                let response = self.registration(peer, &request).unwrap_or_else(|error| {
                    tracing::debug!(%peer, %error, "registration refused");
                    if error == RegistrationError::Full {
                        self.tell_full();
                    }
                    Response::error(error.code(), &error.to_string())
                });
                let _ = answer.send(response);
            }
        }
    }

    /// The Thing at an address, if it is still ours.
    fn who(&mut self, peer: SocketAddr) -> Option<String> {
        let endpoint = self.registry.at(peer)?.endpoint.clone();
        if self.admits.serves(&endpoint) {
            return Some(endpoint);
        }
        self.release(&endpoint);
        None
    }

    fn registration(
        &mut self,
        peer: SocketAddr,
        request: &Request,
    ) -> Result<Response, RegistrationError> {
        let response = match (request.method, request.path.get(1)) {
            (Code::POST, None) => self.register(peer, request)?,
            (Code::POST, Some(location)) => self.update(peer, location, request)?,
            (Code::DELETE, Some(location)) => {
                let registration = self.registry.deregister(location)?;
                self.lost(&registration.endpoint);
                Response::new(Code::DELETED)
            }
            _ => return Ok(Response::new(Code::METHOD_NOT_ALLOWED)),
        };
        self.addresses.set(self.registry.addresses());
        Ok(response)
    }

    fn register(
        &mut self,
        peer: SocketAddr,
        request: &Request,
    ) -> Result<Response, RegistrationError> {
        let name = endpoint_name(request)?;
        let endpoint = self.admits.named(name).ok_or(RegistrationError::Foreign)?;
        let location = format!("{:016x}", rand::rng().next_u64());
        let displaced = self.other_at(peer, &endpoint);
        let now = Instant::now();
        let registration =
            self.registry
                .register(now, peer, endpoint, request, location.clone())?;
        self.displaced(displaced);
        let location = vec!["rd".to_owned(), location];
        let created = Response {
            location,
            ..Response::new(Code::CREATED)
        };
        Ok(self.announce(registration, created))
    }

    fn update(
        &mut self,
        peer: SocketAddr,
        location: &str,
        request: &Request,
    ) -> Result<Response, RegistrationError> {
        let before = self.registry.location(location).cloned();
        let before = before.ok_or(RegistrationError::Unknown)?;
        if !self.admits.serves(&before.endpoint) {
            self.release(&before.endpoint);
            return Err(RegistrationError::Unknown);
        }
        let displaced = self.other_at(peer, &before.endpoint);
        let now = Instant::now();
        let registration = self.registry.update(now, peer, location, request)?;
        self.displaced(displaced);
        let changed = Response::new(Code::CHANGED);
        if (before.peer, &before.objects) == (registration.peer, &registration.objects) {
            return Ok(changed);
        }
        Ok(self.announce(registration, changed))
    }

    /// Another Thing that was at this address.
    fn other_at(&self, peer: SocketAddr, endpoint: &str) -> Option<String> {
        let other = self.registry.at(peer)?;
        (other.endpoint != endpoint).then(|| other.endpoint.clone())
    }

    /// What is meant for a Thing must not go where another one is now.
    fn displaced(&mut self, other: Option<String>) {
        if let Some(endpoint) = other {
            tracing::info!(endpoint, "another Thing registered from its address");
            self.lost(&endpoint);
        }
    }

    /// Tells the worker; a Thing whose worker is too busy to hear it is asked to come again.
    fn announce(&mut self, registration: Registration, response: Response) -> Response {
        let endpoint = registration.endpoint.clone();
        let order = Order::Registered(registration);
        match self.worker(&endpoint).try_send(order) {
            Ok(()) => response,
            Err(_) => Response::error(Code::UNAVAILABLE, "busy"),
        }
    }

    fn expire(&mut self) {
        for registration in self.registry.expire(Instant::now()) {
            tracing::info!(endpoint = registration.endpoint, "registration expired");
            self.lost(&registration.endpoint);
        }
        self.addresses.set(self.registry.addresses());
    }

    /// A worker that is too busy to hear it is ended: another Thing may be at that address now, and
    /// the north side gives its commands again when this one registers.
    fn lost(&mut self, endpoint: &str) {
        let deaf = |worker: &Worker| worker.orders.try_send(Order::Lost).is_err();
        if self.workers.get(endpoint).is_some_and(deaf) {
            self.workers.remove(endpoint);
        }
    }

    fn worker(&mut self, endpoint: &str) -> mpsc::Sender<Order> {
        let known = self.workers.get(endpoint).map(|worker| &worker.orders);
        if let Some(orders) = known.filter(|orders| !orders.is_closed()) {
            return orders.clone();
        }
        if self.workers.len() >= WORKERS_MAX {
            self.make_room();
        }
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let session = Session::new(self.config.session.clone());
        let stop = self.stop.child_token();
        let work = worker::run(endpoint.to_owned(), session, self.tools.clone(), receiver);
        let until = stop.clone();
        self.tasks.spawn(async move {
            until.run_until_cancelled(work).await;
        });
        let worker = Worker {
            orders: orders.clone(),
            _stop: stop.drop_guard(),
        };
        self.workers.insert(endpoint.to_owned(), worker);
        orders
    }

    /// Ends the worker of a Thing that is away, and there is one, since only half as many can be
    /// registered. The north side gives its commands again when it comes.
    fn make_room(&mut self) {
        let away = |endpoint: &&String| self.registry.named(endpoint).is_none();
        if let Some(endpoint) = self.workers.keys().find(away).cloned() {
            self.workers.remove(&endpoint);
        }
    }

    /// Once, not for each of thousands of devices.
    fn tell_full(&mut self) {
        if !std::mem::replace(&mut self.told_full, true) {
            tracing::error!(
                "the limit is reached: a gateway serves {REGISTRATIONS_MAX} Things at a time, \
                 others wait; give some of its devices to another one"
            );
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
