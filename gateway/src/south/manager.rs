//! The manager of the south side: it owns the table of registrations and the workers, one per
//! Thing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngCore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::registry::SharedRegistry;
use super::service::RegistrationRequest;
use super::session::ThingSession;
use super::worker::{self, WorkerContext, WorkerInput};
use super::{ServedDevices, SouthCommand, SouthConfig};
use crate::coap::{Code, Request, Response, sleep_until};
use crate::lwm2m::registration::{
    REGISTRATIONS_MAX, Registration, RegistrationError, endpoint_name,
};

/// Things with a worker: those registered, and as many again that have work and are away.
const WORKERS_MAX: usize = 2 * REGISTRATIONS_MAX;
/// Inputs that wait for one worker.
const INPUTS_MAX: usize = 32;

/// A worker, which ends when this is dropped.
struct Worker {
    inputs: mpsc::Sender<WorkerInput>,
    _stop: DropGuard,
}

pub(super) struct Manager {
    config: SouthConfig,
    served: Arc<dyn ServedDevices>,
    context: WorkerContext,
    registry: SharedRegistry,
    workers: HashMap<String, Worker>,
    /// The log says already that there are too many Things.
    limit_logged: bool,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Manager {
    pub(super) fn new(
        config: SouthConfig,
        served: Arc<dyn ServedDevices>,
        context: WorkerContext,
        registry: SharedRegistry,
        stop: CancellationToken,
    ) -> Manager {
        Manager {
            config,
            served,
            context,
            registry,
            workers: HashMap::new(),
            limit_logged: false,
            tasks: JoinSet::new(),
            stop,
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<SouthCommand>,
        mut requests: mpsc::Receiver<RegistrationRequest>,
    ) {
        let stop = self.stop.clone();
        loop {
            let expiry = self.registry.read().next_expiry();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(command) = commands.recv() => self.command(command).await,
                Some(request) = requests.recv() => self.answer(request),
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

    /// Passes a command to the worker. A worker that does not keep up stops the stream of commands,
    /// not the Things.
    async fn command(&mut self, command: SouthCommand) {
        let endpoint = command.endpoint().to_owned();
        if matches!(command, SouthCommand::Release { .. }) {
            return self.release(&endpoint);
        }
        let worker = self.worker(&endpoint);
        if worker.send(WorkerInput::Command(command)).await.is_err() {
            self.workers.remove(&endpoint);
        }
    }

    /// Ends registration and work of a Thing that this gateway no longer serves: the Thing
    /// registers elsewhere, and no more requests are sent to it.
    fn release(&mut self, endpoint: &str) {
        if self.registry.write().remove(endpoint).is_some() {
            tracing::info!(endpoint, "the registration ends, the device was taken away");
        }
        self.workers.remove(endpoint);
    }

    fn answer(&mut self, request: RegistrationRequest) {
        let RegistrationRequest {
            peer,
            request,
            response,
        } = request;
        let answer = self.registration(peer, &request).unwrap_or_else(|error| {
            tracing::debug!(%peer, %error, "registration refused");
            if error == RegistrationError::Full {
                self.log_limit_once();
            }
            Response::error(error.code(), &error.to_string())
        });
        // The Thing may have stopped waiting.
        let _ = response.send(answer);
    }

    fn registration(
        &mut self,
        peer: SocketAddr,
        request: &Request,
    ) -> Result<Response, RegistrationError> {
        match (request.method, request.path.get(1)) {
            (Code::POST, None) => self.register(peer, request),
            (Code::POST, Some(location)) => self.update(peer, location, request),
            (Code::DELETE, Some(location)) => {
                let registration = self.registry.write().deregister(location)?;
                self.notify_lost(&registration.endpoint);
                Ok(Response::new(Code::DELETED))
            }
            _ => Ok(Response::new(Code::METHOD_NOT_ALLOWED)),
        }
    }

    fn register(
        &mut self,
        peer: SocketAddr,
        request: &Request,
    ) -> Result<Response, RegistrationError> {
        let name = endpoint_name(request)?;
        let endpoint = self
            .served
            .resolve(name)
            .ok_or(RegistrationError::Foreign)?;
        let location = format!("{:016x}", rand::rng().next_u64());
        let displaced = self.displaced_by(peer, &endpoint);
        let now = Instant::now();
        let registration =
            self.registry
                .write()
                .register(now, peer, endpoint, request, location.clone())?;
        self.end_displaced(displaced);
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
        let before = self.registry.read().find_by_location(location).cloned();
        let before = before.ok_or(RegistrationError::Unknown)?;
        if !self.served.serves(&before.endpoint) {
            self.release(&before.endpoint);
            return Err(RegistrationError::Unknown);
        }
        let displaced = self.displaced_by(peer, &before.endpoint);
        let now = Instant::now();
        let registration = self.registry.write().update(now, peer, location, request)?;
        self.end_displaced(displaced);
        let changed = Response::new(Code::CHANGED);
        if (before.peer, &before.objects) == (registration.peer, &registration.objects) {
            return Ok(changed);
        }
        Ok(self.announce(registration, changed))
    }

    /// The other Thing that is registered at this address.
    fn displaced_by(&self, peer: SocketAddr, endpoint: &str) -> Option<String> {
        let registry = self.registry.read();
        let other = registry.find_by_peer(peer)?;
        (other.endpoint != endpoint).then(|| other.endpoint.clone())
    }

    /// Messages for a Thing must not go to an address where another Thing is now.
    fn end_displaced(&mut self, other: Option<String>) {
        if let Some(endpoint) = other {
            tracing::info!(endpoint, "another Thing registered from its address");
            self.notify_lost(&endpoint);
        }
    }

    /// Notifies the worker. If its queue is full, the Thing is asked to register again.
    fn announce(&mut self, registration: Registration, response: Response) -> Response {
        let endpoint = registration.endpoint.clone();
        let input = WorkerInput::Registered(registration);
        match self.worker(&endpoint).try_send(input) {
            Ok(()) => response,
            Err(_) => Response::error(Code::UNAVAILABLE, "busy"),
        }
    }

    fn expire(&mut self) {
        let expired = self.registry.write().expire(Instant::now());
        for registration in expired {
            tracing::info!(endpoint = registration.endpoint, "registration expired");
            self.notify_lost(&registration.endpoint);
        }
    }

    /// Notifies the worker that its Thing is lost. A worker whose queue is full is ended: another
    /// Thing may be at that address now, and the north side repeats its commands when this one
    /// registers.
    fn notify_lost(&mut self, endpoint: &str) {
        let overloaded = |worker: &Worker| worker.inputs.try_send(WorkerInput::Lost).is_err();
        if self.workers.get(endpoint).is_some_and(overloaded) {
            self.workers.remove(endpoint);
        }
    }

    fn worker(&mut self, endpoint: &str) -> mpsc::Sender<WorkerInput> {
        let known = self.workers.get(endpoint).map(|worker| &worker.inputs);
        if let Some(inputs) = known.filter(|inputs| !inputs.is_closed()) {
            return inputs.clone();
        }
        if self.workers.len() >= WORKERS_MAX {
            self.make_room();
        }
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        let session = ThingSession::new(self.config.session.clone());
        let stop = self.stop.child_token();
        let work = worker::run(endpoint.to_owned(), session, self.context.clone(), receiver);
        let until = stop.clone();
        self.tasks.spawn(async move {
            until.run_until_cancelled(work).await;
        });
        let worker = Worker {
            inputs: inputs.clone(),
            _stop: stop.drop_guard(),
        };
        self.workers.insert(endpoint.to_owned(), worker);
        inputs
    }

    /// Ends the worker of a Thing that is not registered. There is one, since only half as many
    /// can be registered. The north side repeats its commands when the Thing registers.
    fn make_room(&mut self) {
        let registry = self.registry.read();
        let away = |endpoint: &&String| registry.find_by_endpoint(endpoint).is_none();
        if let Some(endpoint) = self.workers.keys().find(away).cloned() {
            self.workers.remove(&endpoint);
        }
    }

    /// Logs the limit once, not for each of thousands of devices.
    fn log_limit_once(&mut self) {
        if !std::mem::replace(&mut self.limit_logged, true) {
            tracing::error!(
                "the limit is reached: a gateway serves {REGISTRATIONS_MAX} Things at a time, \
                 others wait; assign some of its devices to another one"
            );
        }
    }
}
