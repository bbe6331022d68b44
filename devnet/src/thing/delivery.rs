//! Registration at the gateway, and the delivery of reports and events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_gateway::coap::{CoapHandle, Code, Request, Response, TransferError, format};
use lamplighter_gateway::lwm2m::{agent, path, proof};
use lamplighter_system::Backoff;
use tokio::sync::watch;

use super::ThingError;
use super::machine::Machine;
use super::service::{SharedMachine, Signals, with_machine};

/// Shortest and longest pause after the gateway did not answer.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The connection of a Thing to its gateway, during one boot.
#[derive(Clone)]
pub(super) struct Uplink {
    pub(super) handle: CoapHandle,
    pub(super) gateway: SocketAddr,
    pub(super) endpoint: String,
    /// Its objects in link format.
    pub(super) objects: String,
    pub(super) lifetime: Duration,
    pub(super) machine: SharedMachine,
    pub(super) signals: Arc<Signals>,
    /// The number of registrations and updates that reached the gateway.
    pub(super) reached: Arc<watch::Sender<u64>>,
}

impl Uplink {
    /// Registers, and keeps the registration alive; registers again if the gateway does not know
    /// it.
    pub(super) async fn keep_registered(&self) {
        let mut retry = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut location = None;
        loop {
            match self.register_or_update(&mut location).await {
                Ok(true) => {
                    retry.reset();
                    self.reached.send_modify(|count| *count += 1);
                    tokio::select! {
                        () = tokio::time::sleep(self.lifetime / 2) => {}
                        () = self.signals.configured.notified() => {}
                        () = self.signals.update.notified() => {}
                        () = self.signals.unregistered.notified() => location = None,
                    }
                }
                Ok(false) => {
                    location = None;
                    tokio::time::sleep(retry.next_pause()).await;
                }
                Err(error) => {
                    tracing::debug!(thing = self.endpoint, %error, "the gateway does not answer");
                    tokio::time::sleep(retry.next_pause()).await;
                }
            }
        }
    }

    /// Updates the registration, or registers; true if the gateway knows the Thing now.
    async fn register_or_update(
        &self,
        location: &mut Option<String>,
    ) -> Result<bool, TransferError> {
        if let Some(path) = location.as_deref() {
            let update = Request::new(Code::POST, path);
            let response = self.request_signed(update).await?;
            if response.code == Code::CHANGED {
                return Ok(true);
            }
        }
        let register = Request::new(Code::POST, path::REGISTRATION)
            .with_query(format!("ep={}", self.endpoint))
            .with_query(format!("lt={}", self.lifetime.as_secs()))
            .with_query("lwm2m=1.1".to_owned())
            .with_query("b=U".to_owned())
            .with_payload(format::LINK_FORMAT, self.objects.clone().into_bytes());
        let response = self.request_signed(register).await?;
        if response.code != Code::CREATED {
            tracing::info!(thing = self.endpoint, code = %response.code, "registration refused");
            return Ok(false);
        }
        *location = Some(format!("/{}", response.location.join("/")));
        Ok(true)
    }

    /// Sends a request, and signs it over the gateway's nonce if the gateway asks for that.
    async fn request_signed(&self, request: Request) -> Result<Response, TransferError> {
        let first = self.handle.request_to_sign(self.gateway, request.clone());
        let mut answer = first.await?;
        let known = |machine: &mut Machine| Ok((machine.config.chain_id, machine.known_keys()));
        // Without an answer the Thing was switched off meanwhile.
        let Ok((chain_id, keys)) = with_machine(&self.machine, known).await else {
            return Ok(answer);
        };
        // Once more than there are keys: the first challenge may have been about the address.
        for key in keys.iter().chain(keys.first()) {
            let asked = answer.code == Code::UNAUTHORIZED;
            let (Some(nonce), true) = (answer.echo.clone(), asked) else {
                break;
            };
            let signed = proof::sign(request.clone(), nonce, &chain_id, &self.endpoint, key);
            answer = self.handle.request_to_sign(self.gateway, signed).await?;
        }
        Ok(answer)
    }

    /// Sends the reports and events to the gateway, oldest first, each until it is stored.
    pub(super) async fn deliver(&self) -> Result<(), ThingError> {
        // The gateway accepts nothing from a Thing that has not registered.
        let mut reached = self.reached.subscribe();
        if reached.wait_for(|count| *count > 0).await.is_err() {
            return Ok(());
        }
        let mut retry = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            let next = with_machine(&self.machine, |machine| Ok(machine.next_message())).await?;
            let Some((number, event, bytes)) = next else {
                self.signals.outbox.notified().await;
                continue;
            };
            if self.send_message(event, bytes).await {
                retry.reset();
                with_machine(&self.machine, move |machine| machine.delivered(number)).await?;
            } else {
                tokio::time::sleep(retry.next_pause()).await;
            }
        }
    }

    /// Sends a message; true if it must not be sent again.
    async fn send_message(&self, event: bool, bytes: Vec<u8>) -> bool {
        let target = if event { agent::EVENTS } else { agent::REPORTS };
        let post = Request::new(Code::POST, target).with_payload(format::OCTETS, bytes);
        match self.handle.request(self.gateway, post).await {
            Ok(response) if response.code == Code::CHANGED => true,
            Ok(response) if response.code == Code::BAD_REQUEST => {
                let reason = response.text();
                tracing::warn!(
                    thing = self.endpoint,
                    reason,
                    "the gateway refused a message"
                );
                true
            }
            Ok(response) => {
                tracing::debug!(thing = self.endpoint, code = %response.code, "message deferred");
                if response.code == Code::UNAUTHORIZED {
                    self.signals.unregistered.notify_one();
                }
                false
            }
            Err(error) => {
                tracing::debug!(thing = self.endpoint, %error, "message not delivered");
                false
            }
        }
    }
}
