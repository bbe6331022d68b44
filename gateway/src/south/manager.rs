//! The manager of the south side: it owns the table of registrations and the workers, one per
//! Thing.

use std::collections::HashMap;
use std::io;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::OsRng;
use rand::{RngCore, TryRngCore};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::announcements::Announcements;
use super::inputs::{self, InputSender};
use super::registry::SharedRegistry;
use super::service::RegistrationRequest;
use super::session::ThingSession;
use super::worker::{self, WorkerContext, WorkerInput};
use super::{ServedDevices, SouthCommand, SouthConfig};
use crate::coap::{Code, Request, Response, sleep_until};
use crate::lwm2m::proof::{self, Nonces, ProofError};
use crate::lwm2m::registration::{
    Proof, REGISTRATIONS_MAX, Registration, RegistrationError, Sender, endpoint_name,
};

/// Things with a worker: those registered, and as many again that have work and are away.
const WORKERS_MAX: usize = 2 * REGISTRATIONS_MAX;
/// Time between two looks for workers that have nothing to do. Each takes some kilobytes, and most
/// Things have work on few days of the year.
const FREE_EVERY: Duration = Duration::from_secs(10);
/// Inputs that wait for one worker.
const INPUTS_MAX: usize = 32;

/// A worker, which ends when this is dropped.
struct Worker {
    inputs: InputSender,
    _stop: DropGuard,
}

pub(super) struct Manager {
    config: SouthConfig,
    served: Arc<dyn ServedDevices>,
    context: WorkerContext,
    registry: SharedRegistry,
    nonces: Nonces,
    start: Instant,
    workers: HashMap<String, Worker>,
    announcements: Announcements,
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
    ) -> io::Result<Manager> {
        let mut secret = [0; 32];
        OsRng
            .try_fill_bytes(&mut secret)
            .map_err(io::Error::other)?;
        Ok(Manager {
            config,
            served,
            context,
            registry,
            nonces: Nonces::new(secret),
            start: Instant::now(),
            workers: HashMap::new(),
            announcements: Announcements::default(),
            limit_logged: false,
            tasks: JoinSet::new(),
            stop,
        })
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<SouthCommand>,
        mut requests: mpsc::Receiver<RegistrationRequest>,
        mut sender_names: mpsc::Receiver<String>,
    ) {
        let stop = self.stop.clone();
        let mut free = tokio::time::interval(FREE_EVERY);
        free.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let expiry = self.registry.read().next_expiry();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(command) = commands.recv() => self.command(command).await,
                Some(request) = requests.recv() => self.answer(request),
                Some(endpoint) = sender_names.recv() => self.announce_message(&endpoint),
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the worker of a Thing panicked");
                    }
                }
                () = sleep_until(expiry) => self.expire(),
                _ = free.tick() => self.workers.retain(|_, worker| !worker.inputs.is_idle()),
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
        let is_running = self
            .workers
            .get(&endpoint)
            .is_some_and(|worker| !worker.inputs.is_closed());
        let worker = self.worker(&endpoint);
        // A worker that was ended because it had nothing to do knew where its Thing is.
        let registration = self.registry.read().find_by_endpoint(&endpoint).cloned();
        if let Some(registration) = registration.filter(|_| !is_running) {
            let _ = worker.try_send(WorkerInput::Recalled(registration));
        }
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
        self.announcements.remove(endpoint);
    }

    fn answer(&mut self, request: RegistrationRequest) {
        let peer = request.peer;
        let answer = self.registration(&request).unwrap_or_else(|error| {
            tracing::debug!(%peer, %error, "registration refused");
            if error == RegistrationError::Full {
                self.log_limit_once();
            }
            let answer = Response::error(error.code(), &error.to_string());
            let needs_nonce = matches!(error, RegistrationError::Proof(_));
            Response {
                echo: needs_nonce.then(|| self.nonces.issue(self.start.elapsed(), peer)),
                ..answer
            }
        });
        // The Thing may have stopped waiting.
        let _ = request.response.send(answer);
    }

    fn registration(
        &mut self,
        request: &RegistrationRequest,
    ) -> Result<Response, RegistrationError> {
        match (request.request.method, request.request.path.get(1)) {
            (Code::POST, None) => self.register(request),
            (Code::POST, Some(location)) => self.update(location, request),
            (Code::DELETE, Some(location)) => self.deregister(location, request),
            _ => Ok(Response::new(Code::METHOD_NOT_ALLOWED)),
        }
    }

    /// Finds out what a request proves about the device that it names. `before` is the device's
    /// registration, which a request that proves less does not change.
    fn sender(
        &self,
        endpoint: &str,
        request: &RegistrationRequest,
        before: Option<&Registration>,
    ) -> Result<Sender, RegistrationError> {
        let peer = request.peer;
        let proven = |proof| Ok(Sender { peer, proof });
        let before_proof = before.map_or(Proof::Unattested, |before| before.proof);
        match &request.identity {
            Some(device) if device == endpoint => return proven(Proof::Session),
            Some(_) => return Err(RegistrationError::OtherDevice),
            None if peer.session.is_some() => return Err(RegistrationError::NoSession),
            None => {}
        }
        if !self.served.admits_plain(endpoint) {
            return Err(RegistrationError::NoSession);
        }
        let Some(thing) = self.served.key(endpoint) else {
            return match before_proof.attests() {
                true => Err(RegistrationError::NoSession),
                false => proven(Proof::Unattested),
            };
        };
        let same_peer = before.is_some_and(|before| before.peer == Some(peer));
        if same_peer && before_proof.attests() && changes_nothing(&request.request) {
            return proven(before_proof);
        }
        let nonce = request.request.echo.as_deref().unwrap_or_default();
        let number = self.nonces.verify(self.start.elapsed(), peer, nonce);
        let number = number.ok_or(ProofError::Missing)?;
        proof::verify(&request.request, &thing.chain_id, endpoint, &thing.key)?;
        // A request that was overtaken, or is replayed, undoes nothing.
        match before_proof {
            Proof::Signed(newest) if number < newest => Err(ProofError::Missing.into()),
            _ => proven(Proof::Signed(number)),
        }
    }

    fn register(&mut self, request: &RegistrationRequest) -> Result<Response, RegistrationError> {
        let name = endpoint_name(&request.request)?;
        let endpoint = self
            .served
            .resolve(name)
            .ok_or(RegistrationError::Foreign)?;
        let before = self.registry.read().find_by_endpoint(&endpoint).cloned();
        let sender = self.sender(&endpoint, request, before.as_ref())?;
        let known = self.registry.read().location(&endpoint);
        if let (Some(location), true) = (known, is_repeated(before.as_ref(), sender)) {
            return Ok(created(location));
        }
        let location = format!("{:016x}", rand::rng().next_u64());
        let displaced = self.registry.read().displaced_by(sender, &endpoint);
        let now = Instant::now();
        let registration = self.registry.write().register(
            now,
            sender,
            endpoint,
            &request.request,
            location.clone(),
        )?;
        self.end_displaced(displaced);
        let created = created(location);
        let is_same = |before: Registration| {
            (before.peer, before.objects) == (registration.peer, registration.objects.clone())
        };
        let endpoint = &registration.endpoint;
        if before.is_some_and(is_same) && !self.announcements.try_acquire(endpoint, now.into_std())
        {
            return Ok(created);
        }
        Ok(self.announce(registration, created))
    }

    fn update(
        &mut self,
        location: &str,
        request: &RegistrationRequest,
    ) -> Result<Response, RegistrationError> {
        let before = self.registry.read().find_by_location(location).cloned();
        let before = before.ok_or(RegistrationError::Unknown)?;
        if !self.served.serves(&before.endpoint) {
            self.release(&before.endpoint);
            return Err(RegistrationError::Unknown);
        }
        let sender = self.sender(&before.endpoint, request, Some(&before))?;
        let displaced = self.registry.read().displaced_by(sender, &before.endpoint);
        let now = Instant::now();
        let registration = self
            .registry
            .write()
            .update(now, sender, location, &request.request)?;
        self.end_displaced(displaced);
        let changed = Response::new(Code::CHANGED);
        let known = |registration: &Registration| {
            let Registration {
                peer,
                objects,
                queue_mode,
                ..
            } = registration;
            (*peer, objects.clone(), *queue_mode)
        };
        if known(&before) == known(&registration) {
            self.announce_message(&before.endpoint);
            return Ok(changed);
        }
        Ok(self.announce(registration, changed))
    }

    fn deregister(
        &mut self,
        location: &str,
        request: &RegistrationRequest,
    ) -> Result<Response, RegistrationError> {
        let before = self.registry.read().find_by_location(location).cloned();
        let before = before.ok_or(RegistrationError::Unknown)?;
        self.sender(&before.endpoint, request, Some(&before))?;
        let registration = self.registry.write().deregister(location)?;
        self.notify_lost(&registration.endpoint);
        Ok(Response::new(Code::DELETED))
    }

    /// Messages for a Thing must not go to an address where another Thing is now.
    fn end_displaced(&mut self, others: Vec<String>) {
        for endpoint in others {
            tracing::info!(endpoint, "another Thing registered from its address");
            self.notify_lost(&endpoint);
        }
    }

    /// Notifies the worker that its Thing sent a message, and so listens. If its queue is full, it
    /// has enough to do.
    fn announce_message(&self, endpoint: &str) {
        if let Some(worker) = self.workers.get(endpoint) {
            let _ = worker.inputs.try_send(WorkerInput::Received);
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
        if self.worker(endpoint).try_send(WorkerInput::Lost).is_err() {
            self.workers.remove(endpoint);
        }
    }

    fn worker(&mut self, endpoint: &str) -> InputSender {
        let known = self.workers.get(endpoint).map(|worker| &worker.inputs);
        if let Some(inputs) = known.filter(|inputs| !inputs.is_closed()) {
            return inputs.clone();
        }
        if self.workers.len() >= WORKERS_MAX {
            self.make_room();
        }
        let (inputs, receiver) = inputs::queue(INPUTS_MAX);
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

fn created(location: String) -> Response {
    Response {
        location: vec!["rd".to_owned(), location],
        ..Response::new(Code::CREATED)
    }
}

/// True for an update that only prolongs a registration: forged, it does no harm.
fn changes_nothing(request: &Request) -> bool {
    request.method == Code::POST
        && request.path.len() == 2
        && request.query.is_empty()
        && request.payload.is_empty()
}

/// True if this signed request has made the registration already: its repetition makes no other.
fn is_repeated(before: Option<&Registration>, sender: Sender) -> bool {
    let signed = matches!(sender.proof, Proof::Signed(_));
    signed && before.is_some_and(|b| (b.peer, b.proof) == (Some(sender.peer), sender.proof))
}
