//! Orders to a Thing that checks them itself: in place of the bare order it gets one with the
//! ledger's proof, and if it trusts older validators, their changes before that.

use std::time::Duration;

use tokio::time::Instant;

use super::SouthCommand;
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::order::{self, CONFLICT, OrderAction, OrderMessage};
use crate::lwm2m::{agent, path, value};
use crate::verify::OrderProof;

/// Changes of the validators are asked for so often for one order; a Thing that still wants more is
/// wrong.
const LEADS_MAX: u32 = 64;
/// Time for the north side to fetch them, longer than all of its calls of nodes; then the Thing is
/// asked again.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);

/// An encoded `lwm2m::order::OrderMessage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedOrder {
    /// Height of the block of its records.
    pub height: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl SouthCommand {
    /// The command as an order with its proof; without one that fits it stays as it is.
    pub fn with_proof(self, action: &OrderAction, proof: &OrderProof) -> SouthCommand {
        if proof.proofs.is_empty() {
            return self;
        }
        let proof = EncodedOrder {
            height: proof.height,
            bytes: OrderMessage::encode_with(action, &proof.proofs),
        };
        SouthCommand::Proven {
            order: Box::new(self),
            proof,
        }
    }
}

/// The state of leading a Thing on to newer validators.
#[derive(Debug)]
enum Lead {
    /// Ask for the height of those that it trusts.
    Ask,
    /// The north side fetches the changes, or has given up at this time.
    Fetched(Instant),
    /// Send them.
    Write(Vec<u8>),
}

/// The request in place of a step of the order under way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProvenStep {
    Request(Request),
    /// Wait for an input until then.
    Wait(Instant),
    /// A newer proof is needed.
    Outdated,
    /// There is no proof that fits.
    Missing,
}

/// The meaning of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProvenAnswer {
    /// It is for the task.
    Pass,
    /// The next step follows.
    Continue,
    /// A newer proof is needed.
    Outdated,
    /// The changes of the validators since this height are needed.
    ChangesNeeded(u64),
    /// The order can't be given.
    Refused(String),
}

/// The proof of the order under way, for one Thing.
#[derive(Debug, Default)]
pub(super) struct OrderProofs {
    /// The Thing checks orders itself.
    is_checking: bool,
    proof: Option<EncodedOrder>,
    /// The step under way is the order itself.
    ordering: bool,
    lead: Option<Lead>,
    leads: u32,
    /// Height of the last order that the Thing took.
    taken_height: u64,
}

impl OrderProofs {
    pub(super) fn set_checking(&mut self, is_checking: bool) {
        self.is_checking = is_checking;
    }

    /// Sets the proof of the order under way.
    pub(super) fn begin(&mut self, proof: Option<EncodedOrder>) {
        self.proof = proof;
        (self.lead, self.leads) = (None, 0);
    }

    /// Replaces the proof of the order under way by a newer one.
    pub(super) fn renew(&mut self, proof: Option<EncodedOrder>) {
        self.proof = proof.or(self.proof.take());
    }

    /// Takes note that the Thing registered: what it was asked is asked again.
    pub(super) fn restart(&mut self) {
        self.lead = None;
    }

    /// The step that goes before those of the task.
    pub(super) fn lead_step(&mut self, now: Instant) -> Option<ProvenStep> {
        if matches!(self.lead, Some(Lead::Fetched(until)) if until <= now) {
            // What was fetched was lost on the way. After the last time the order itself is next.
            self.ask_again();
        }
        Some(match self.lead.as_ref()? {
            Lead::Ask => ProvenStep::Request(Request::get(order::TRUSTED_HEIGHT)),
            Lead::Fetched(until) => ProvenStep::Wait(*until),
            Lead::Write(changes) => ProvenStep::Request(put(order::VALIDATORS, changes.clone())),
        })
    }

    /// Asks the Thing for its validators, unless that was done too often.
    fn ask_again(&mut self) {
        self.lead = (self.leads < LEADS_MAX).then_some(Lead::Ask);
        self.leads = self.leads.saturating_add(1);
    }

    /// The request in place of the task's one.
    pub(super) fn replace(&mut self, request: Request) -> ProvenStep {
        self.ordering = self.is_checking && is_order(&request);
        if !self.ordering {
            return ProvenStep::Request(request);
        }
        match &self.proof {
            None => ProvenStep::Missing,
            // It would be refused.
            Some(proof) if proof.height < self.taken_height => ProvenStep::Outdated,
            Some(proof) => ProvenStep::Request(put(order::ORDER, proof.bytes.clone())),
        }
    }

    /// Takes up the changes of the validators that the north side has fetched; false if there are
    /// none and the order can't be given.
    pub(super) fn changes_fetched(&mut self, changes: Option<Vec<u8>>) -> bool {
        if !matches!(self.lead, Some(Lead::Fetched(_))) {
            return true;
        }
        self.lead = changes.map(Lead::Write);
        self.lead.is_some()
    }

    pub(super) fn answer(&mut self, now: Instant, response: &Response) -> ProvenAnswer {
        let refused = |what: &str| {
            let text = response.text();
            ProvenAnswer::Refused(format!("{what}: {} {text}", response.code))
        };
        match self.lead.take() {
            Some(Lead::Ask) => {
                let trusted = value::integer(response, 11).and_then(|n| u64::try_from(n).ok());
                let Some(trusted) = trusted else {
                    return refused("the height of its validators can't be read");
                };
                self.lead = Some(Lead::Fetched(now + FETCH_TIMEOUT));
                return ProvenAnswer::ChangesNeeded(trusted);
            }
            Some(_) if response.code.is_success() => return ProvenAnswer::Continue,
            Some(_) => return refused("it did not take the changes of the validators"),
            None => {}
        }
        if !std::mem::take(&mut self.ordering) {
            return ProvenAnswer::Pass;
        }
        match response.code {
            Code::PRECONDITION_FAILED => ProvenAnswer::Outdated,
            CONFLICT if self.leads < LEADS_MAX => {
                self.ask_again();
                ProvenAnswer::Continue
            }
            code => {
                let height = self.proof.as_ref().map_or(0, |proof| proof.height);
                if code.is_success() {
                    self.taken_height = self.taken_height.max(height);
                }
                ProvenAnswer::Pass
            }
        }
    }
}

/// True for the requests that change what a Thing with our agent runs or does.
fn is_order(request: &Request) -> bool {
    let target = request.path_text();
    match request.method {
        Code::PUT => matches!(target.as_str(), agent::OFFER | agent::CONFIGURATION),
        Code::POST => target == path::UPDATE,
        _ => false,
    }
}

fn put(target: &str, bytes: Vec<u8>) -> Request {
    Request::new(Code::PUT, target).with_payload(format::OCTETS, bytes)
}
