//! The CoAP resources of a Thing for its gateway.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lamplighter_gateway::cast;
use lamplighter_gateway::coap::{BodyPolicy, CoapService, Code, Peer, Request, Response, format};
use lamplighter_gateway::lwm2m::{agent, order, path};
use lamplighter_types::Hash;
use tokio::sync::Notify;

use super::ThingError;
use super::machine::Machine;

/// The objects in link format, as listed at registration. With version 1.1 of object 33000 a Thing
/// takes orders with a proof alone.
pub(super) fn objects(checks_orders: bool, takes_casts: bool) -> String {
    let version = if checks_orders { ";ver=1.1" } else { "" };
    let (name, value) = cast::ATTRIBUTE;
    let casts = match takes_casts {
        true => format!(";{name}={value}"),
        false => String::new(),
    };
    format!("</3/0>,</5/0>;ver=1.1,</33000/0>{version}{casts}")
}

/// The machine, shared between the task of the Thing, its resources and its owner. It is removed
/// when the Thing is killed, so that no call under way touches the directory afterwards.
pub(super) type SharedMachine = Arc<Mutex<Option<Machine>>>;

/// Calls the machine on a thread that may wait for the disk.
pub(super) async fn with_machine<T: Send + 'static>(
    machine: &SharedMachine,
    call: impl FnOnce(&mut Machine) -> Result<T, ThingError> + Send + 'static,
) -> Result<T, ThingError> {
    let machine = machine.clone();
    let call = move || {
        let mut machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
        call(machine.as_mut().ok_or(ThingError::Ended)?)
    };
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|_| ThingError::Ended)?
}

/// Signals of the resources to the task of the Thing.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// An installation was ordered.
    pub(super) install: Notify,
    /// Reports wait to be sent.
    pub(super) outbox: Notify,
    /// A configuration was applied: the gateway must be reached with it now.
    pub(super) configured: Notify,
    /// A configuration was applied: its timeout starts.
    pub(super) on_trial: Notify,
    /// The cast that the Thing is in may be another one.
    pub(super) cast: Notify,
    /// The gateway asks for an update of the registration.
    pub(super) update: Notify,
    /// The gateway does not know the Thing: it must register again.
    pub(super) unregistered: Notify,
}

pub(super) struct ThingService {
    pub(super) machine: SharedMachine,
    pub(super) gateway: SocketAddr,
    pub(super) signals: Arc<Signals>,
}

impl ThingService {
    async fn write(&self, request: Request) -> Result<Response, ThingError> {
        let target = request.path_text();
        if (request.method, target.as_str()) == (Code::POST, path::UPDATE_TRIGGER) {
            self.signals.update.notify_one();
            return Ok(Response::new(Code::CHANGED));
        }
        let what = target.clone();
        let change = move |machine: &mut Machine| {
            let target = (request.method, target.as_str());
            let needs_proof = matches!(
                target,
                (Code::PUT, agent::OFFER | agent::CONFIGURATION) | (Code::POST, path::UPDATE)
            );
            if needs_proof && let Some((code, reason)) = machine.refuse_unproven()? {
                return Ok(Response::error(code, &reason));
            }
            let verdict = match target {
                (Code::PUT, order::ORDER) => machine.accept_order(&request.payload)?,
                (Code::PUT, order::VALIDATORS) => machine.follow_validators(&request.payload)?,
                (Code::PUT, path::PACKAGE) => return machine.accept_package(&request),
                (Code::PUT, cast::INVITATION) => {
                    return machine.accept_invitation(&request.payload);
                }
                (Code::PUT, agent::OFFER) => machine.accept_offer(&request.payload)?,
                (Code::PUT, agent::CONFIGURATION) => machine.configure(&request.payload)?,
                (Code::POST, path::UPDATE) => machine.accept_install()?,
                (Code::POST, agent::CANCEL) => machine.cancel()?,
                _ => (Code::METHOD_NOT_ALLOWED, String::new()),
            };
            Ok(Response::error(verdict.0, &verdict.1))
        };
        let response = with_machine(&self.machine, change).await?;
        if what != path::PACKAGE {
            self.signals.cast.notify_one();
        }
        match (response.code, what.as_str()) {
            (Code::CHANGED, path::UPDATE) => self.signals.install.notify_one(),
            (Code::CHANGED, order::ORDER) => {
                self.signals.install.notify_one();
                let on_trial = |machine: &mut Machine| Ok(machine.configuration_on_trial());
                if with_machine(&self.machine, on_trial).await? {
                    self.signals.configured.notify_one();
                    self.signals.on_trial.notify_one();
                }
            }
            (Code::CHANGED, agent::CONFIGURATION) => {
                self.signals.configured.notify_one();
                self.signals.on_trial.notify_one();
            }
            _ => {}
        }
        self.signals.outbox.notify_one();
        Ok(response)
    }

    async fn read(&self, target: String) -> Result<Response, ThingError> {
        if target == "/.well-known/core" {
            let objects = |machine: &mut Machine| {
                let takes_casts = machine.config.takes_casts;
                Ok(objects(machine.checks_orders(), takes_casts))
            };
            let objects = with_machine(&self.machine, objects).await?;
            return Ok(Response::content(format::LINK_FORMAT, objects.into_bytes()));
        }
        if target == cast::HELD_BLOCKS {
            let held = with_machine(&self.machine, |machine| Ok(machine.held_blocks())).await?;
            return Ok(match held {
                Some(held) => Response::content(format::OCTETS, held),
                None => Response::new(Code::NOT_FOUND),
            });
        }
        let value = with_machine(&self.machine, move |machine| value_of(machine, &target)).await?;
        Ok(match value {
            Some(text) => Response::content(format::TEXT, text.into_bytes()),
            None => Response::new(Code::NOT_FOUND),
        })
    }
}

#[async_trait]
impl CoapService for ThingService {
    fn body_policy(&self, peer: Peer, request: &Request) -> BodyPolicy {
        match request.path_text() == path::PACKAGE {
            true => BodyPolicy::SingleBlocks,
            false if peer.address == self.gateway => BodyPolicy::Registered,
            false => BodyPolicy::Stranger,
        }
    }

    async fn handle(&self, peer: Peer, request: Request) -> Response {
        if request.method != Code::GET && peer.address != self.gateway {
            return Response::error(Code::UNAUTHORIZED, "only the gateway may");
        }
        let answer = match request.method {
            Code::GET => self.read(request.path_text()).await,
            _ => self.write(request).await,
        };
        answer.unwrap_or_else(|error| {
            tracing::error!(%error, "a Thing's disk");
            Response::new(Code::INTERNAL_ERROR)
        })
    }
}

/// The text of a resource; `None` if there is no such one.
fn value_of(machine: &Machine, target: &str) -> Result<Option<String>, ThingError> {
    let hex = |hash: Option<Hash>| hash.map(|h| h.to_string()).unwrap_or_default();
    // The slot is read only for its digest.
    if target == agent::RUNNING_DIGEST {
        return Ok(Some(machine.status()?.digest.to_string()));
    }
    let state = &machine.state;
    Ok(Some(match target {
        path::FIRMWARE_VERSION => state.running().version.to_string(),
        path::BATTERY_LEVEL => "100".to_owned(),
        path::STATE => machine.firmware_state().value().to_string(),
        path::RESULT => state.result.to_string(),
        path::PACKAGE_NAME => machine.offered_release().map_or_else(String::new, |m| m.0),
        path::PACKAGE_VERSION => machine.offered_release().map_or_else(String::new, |m| m.1),
        agent::CONFIGURATION_DIGEST => hex(state.applied.as_ref().map(|a| a.digest)),
        agent::BOOT_COUNTER => state.boots.to_string(),
        agent::SLOT => state.active.name().to_owned(),
        agent::RECEIVED_BYTES => machine.received_bytes().to_string(),
        agent::SECURITY_COUNTER => state.floor.to_string(),
        agent::PUBLIC_KEY => machine.key().public().to_string(),
        order::TRUSTED_HEIGHT => match &state.ledger {
            Some(pin) => pin.trusted.height.to_string(),
            None => return Ok(None),
        },
        agent::UPDATE_LOCK => machine.busy_s.to_string(),
        agent::HARDWARE_CLASS => machine.config.hardware_class.clone(),
        _ => return Ok(None),
    }))
}
