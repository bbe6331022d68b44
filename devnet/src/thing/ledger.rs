//! Orders that a Thing checks itself: it keeps the newest validators of the ledger that were proven
//! to it, and takes from its gateway only what they certified for it.

use lamplighter_gateway::coap::Code;
use lamplighter_gateway::lwm2m::agent::Offer;
use lamplighter_gateway::lwm2m::order::{self, OrderAction, OrderMessage};
use lamplighter_gateway::verify::{OrderClock, OrderRefusal, ProvenOrder};
use lamplighter_system::{error_chain, unix_ms};
use lamplighter_types::{AlarmChange, Id, Severity, SignedRelease};
use serde_json::json;

use super::ThingError;
use super::lifecycle::NewEvent;
use super::machine::Machine;
use super::update::Reply;

/// The kind of the event that reports a refused order.
pub const ORDER_REFUSED: &str = "x-order-refused";
/// Time between two events about refusals with the same code: a gateway that repeats an order
/// shall not fill the outbox.
const REPORT_EVERY_MS: u64 = 3_600_000;

impl Machine {
    /// True if it takes orders with a proof alone.
    pub(super) fn checks_orders(&self) -> bool {
        self.state.ledger.is_some()
    }

    /// Handles an order with its proof.
    pub(super) fn accept_order(&mut self, bytes: &[u8]) -> Result<Reply, ThingError> {
        let Some(pin) = &self.state.ledger else {
            return Ok((Code::NOT_FOUND, String::new()));
        };
        let order = match OrderMessage::from_bytes(bytes) {
            Ok(order) => order,
            Err(source) => return self.refuse_order(&OrderRefusal::Malformed(source)),
        };
        let clock = self.config.order_age_max.map(|age_max| OrderClock {
            now_ms: unix_ms(),
            age_max,
        });
        let (proven, pin) = match pin.check(&order, &self.config.device, clock) {
            Ok(proven) => proven,
            Err(refusal) => return self.refuse_order(&refusal),
        };
        // On the disk before anything is done: after a power cut no older order is taken.
        self.state.ledger = Some(pin);
        self.save()?;
        match (proven, order.action) {
            (ProvenOrder::Configuration { document, hash: _ }, _) => {
                self.configure(document.as_bytes())
            }
            (
                ProvenOrder::Deployment {
                    rollout,
                    release,
                    head_height: seen_height,
                },
                OrderAction::Offer { state, rollout: _ },
            ) => self.take_offer(&Offer {
                rollout,
                device: self.config.device.clone(),
                release,
                state,
                seen_height,
            }),
            (
                ProvenOrder::Deployment {
                    rollout, release, ..
                },
                _,
            ) => self.install_proven(&rollout, &release),
        }
    }

    fn install_proven(
        &mut self,
        rollout: &Id,
        release: &SignedRelease,
    ) -> Result<Reply, ThingError> {
        let held = self.offer();
        let is_other =
            held.is_some_and(|held| held.rollout != *rollout || held.release != *release);
        match is_other {
            true => self.refuse_order(&OrderRefusal::OtherPackage),
            false => self.accept_install(),
        }
    }

    /// Handles changes of the validators: each follows from those that it trusts.
    pub(super) fn follow_validators(&mut self, bytes: &[u8]) -> Result<Reply, ThingError> {
        let Some(pin) = &self.state.ledger else {
            return Ok((Code::NOT_FOUND, String::new()));
        };
        let Ok(path) = order::decode_changes(bytes) else {
            return Ok((Code::BAD_REQUEST, "no changes of validators".to_owned()));
        };
        match pin.follow(&path) {
            Ok(pin) => {
                self.state.ledger = Some(pin);
                self.save()?;
                Ok((Code::CHANGED, String::new()))
            }
            Err(error) => Ok((Code::FORBIDDEN, error_chain(&error))),
        }
    }

    /// Refuses what comes without a proof, if it takes nothing without.
    pub(super) fn refuse_unproven(&mut self) -> Result<Option<Reply>, ThingError> {
        if !self.checks_orders() {
            return Ok(None);
        }
        self.refuse_order(&OrderRefusal::Unproven).map(Some)
    }

    /// Answers a refusal, and reports it by a signed event, which its gateway can withhold but not
    /// change: another gateway gets it if the device is assigned elsewhere.
    fn refuse_order(&mut self, refusal: &OrderRefusal) -> Result<Reply, ThingError> {
        let (code, name) = (refusal.code(), refusal.name());
        let reason = error_chain(refusal);
        tracing::warn!(device = %self.config.device, name, reason, "order refused");
        let now_ms = unix_ms();
        let last_ms = self.state.refusals.get(name).copied().unwrap_or_default();
        if now_ms.saturating_sub(last_ms) >= REPORT_EVERY_MS {
            self.state.refusals.insert(name.to_owned(), now_ms);
            let event = NewEvent {
                kind: ORDER_REFUSED.to_owned(),
                severity: Severity::Warning,
                alarm: AlarmChange::None,
                data: json!({ "code": name, "answer": code.to_string() }).to_string(),
            };
            match self.raise(&event) {
                Ok(_) => {}
                Err(ThingError::OutboxFull) => {
                    tracing::warn!(device = %self.config.device, "no place to report it");
                }
                Err(error) => return Err(error),
            }
        }
        Ok((code, format!("{name}: {reason}")))
    }
}
