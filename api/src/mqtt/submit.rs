//! A publication on its way to the ledger, and its outcome.

use std::sync::Arc;

use bytes::Bytes;
use lamplighter_contracts::ContractError;
use lamplighter_ledger::SubmitError;
use lamplighter_system::{Backoff, error_chain};
use lamplighter_types::wire::content_type;
use lamplighter_types::wire::problem::code;
use lamplighter_types::wire::work::{
    DEVICES_HELD_MAX, DevicesHeld, RangeDigest, SYNC_RANGES_MAX, SyncRequest,
};
use lamplighter_types::wire::{ReceiptMessage, RefusalReason};
use lamplighter_types::{Encoding, Hash, SignedTransaction, codec};
use rumqttd::protocol::PubAckReason;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::codec::Version;
use super::limits::{BUSY_PAUSE, BUSY_PAUSE_MAX, BUSY_TIME};
use super::push::receipts;
use super::session::{AccountSession, ReplyTarget};

/// A signed transaction as a client sent it.
#[derive(Debug, Clone)]
pub struct SubmittedBytes {
    pub encoding: Encoding,
    pub payload: Bytes,
}

/// The encoding that an MQTT 5 content type names: JSON when there is none; `None` for others.
pub fn encoding(content_type: Option<&str>) -> Option<Encoding> {
    match content_type {
        None | Some("") => Some(Encoding::Json),
        Some(name) => content_type::transaction_encoding(name),
    }
}

/// Outcome of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The publication is acknowledged.
    Accepted,
    /// The ledger is full; the client may send it again.
    Busy,
    /// The publication will never be accepted.
    Refused(PublishRefusal),
}

/// Why a publication will never be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRefusal {
    pub reason: PubAckReason,
    /// Stable code, as in the problems of HTTP.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl PublishOutcome {
    /// A refusal because of the form of a publication.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::Refused(PublishRefusal {
            reason: PubAckReason::PayloadFormatInvalid,
            code: code::TRANSACTION_MALFORMED,
            detail: detail.into(),
        })
    }

    /// A refusal because the account may not publish this.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::Refused(PublishRefusal {
            reason: PubAckReason::NotAuthorized,
            code: code::TRANSACTION_UNAUTHORIZED,
            detail: detail.into(),
        })
    }
}

/// Policy while the ledger is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyPolicy {
    /// The client learns it at once: MQTT 5 has a reason for it, and the client knows best when to
    /// come back.
    FailFast,
    /// The submission is repeated for [`BUSY_TIME`]: the client cannot learn that the ledger is
    /// full.
    Retry,
}

impl BusyPolicy {
    /// The policy for a publication of a client.
    pub fn of(version: Version, qos: u8) -> Self {
        if version == Version::V5 && qos > 0 {
            Self::FailFast
        } else {
            Self::Retry
        }
    }
}

/// Submits a transaction to the ledger. Its receipt follows on the receipt topic. With
/// `refusal_as_receipt` a refusal is sent there too, for clients whose PUBACK has no reason.
pub async fn transaction(
    shared: Arc<Shared>,
    session: Arc<AccountSession>,
    submitted: SubmittedBytes,
    reply: Option<ReplyTarget>,
    policy: BusyPolicy,
    refusal_as_receipt: bool,
) -> PublishOutcome {
    let decoded: Result<SignedTransaction, _> = match submitted.encoding {
        Encoding::Json => codec::decode_json(&submitted.payload),
        Encoding::Bincode => codec::decode(&submitted.payload),
    };
    let (hash, outcome) = match decoded {
        Ok(signed) => {
            let hash = signed.hash(&shared.handle.chain_id());
            if let Some(target) = reply {
                // The receipt may come before the submission returns.
                session.expect_reply(hash, target);
            }
            let outcome = submit_with_retry(&shared, &session, signed, policy).await;
            (Some(hash), outcome)
        }
        Err(error) => (None, PublishOutcome::malformed(error_chain(&error))),
    };
    count(&shared, &outcome);
    if let (PublishOutcome::Refused(refusal), true) = (&outcome, refusal_as_receipt) {
        send_refusal(&session, hash, refusal);
    }
    outcome
}

fn count(shared: &Shared, outcome: &PublishOutcome) {
    match outcome {
        PublishOutcome::Accepted => shared.counters.admitted.add(1),
        PublishOutcome::Busy => shared.counters.busy.add(1),
        PublishOutcome::Refused(_) => shared.counters.invalid.add(1),
    }
}

fn send_refusal(session: &AccountSession, transaction: Option<Hash>, refusal: &PublishRefusal) {
    let refused = RefusalReason {
        code: refusal.code.to_owned(),
        message: refusal.detail.clone(),
    };
    receipts::send(
        session,
        &ReceiptMessage::Refused {
            transaction,
            refused,
        },
    );
}

async fn submit_with_retry(
    shared: &Arc<Shared>,
    session: &Arc<AccountSession>,
    signed: SignedTransaction,
    policy: BusyPolicy,
) -> PublishOutcome {
    let owner = shared.accounts.owner(&signed.key);
    if owner.is_none_or(|owner| owner.account != session.id) {
        let detail = "the transaction is signed by a key of another account";
        return PublishOutcome::unauthorized(detail);
    }
    if policy == BusyPolicy::FailFast {
        return submit_once(shared, session, signed).await;
    }
    let mut retry = Retry::new();
    loop {
        let outcome = submit_once(shared, session, signed.clone()).await;
        // Another node can do more than this one by trying again.
        let is_cut_off = shared.handle.cut_off().is_some();
        if outcome != PublishOutcome::Busy || is_cut_off || !retry.pause().await {
            return outcome;
        }
    }
}

async fn submit_once(
    shared: &Arc<Shared>,
    session: &Arc<AccountSession>,
    signed: SignedTransaction,
) -> PublishOutcome {
    // A client that does not fetch its receipts gets no further ones made.
    if session.is_behind() {
        return PublishOutcome::Busy;
    }
    let Ok(permit) = Arc::clone(&shared.receipts).try_acquire_owned() else {
        return PublishOutcome::Busy;
    };
    match shared.handle.submit(signed).await {
        Ok(ticket) => {
            let (for_task, session) = (Arc::clone(shared), Arc::clone(session));
            let delivery = receipts::deliver(for_task, session, ticket, permit);
            shared.tasks.spawn(delivery);
            PublishOutcome::Accepted
        }
        Err(SubmitError::Busy(_) | SubmitError::State(_)) => PublishOutcome::Busy,
        Err(error) => PublishOutcome::Refused(PublishRefusal {
            reason: PubAckReason::PayloadFormatInvalid,
            code: match &error {
                SubmitError::Refused(refused) => refused.code(),
                _ => code::TRANSACTION_INVALID,
            },
            detail: error_chain(&error),
        }),
    }
}

/// Pauses between attempts, until [`BUSY_TIME`] is over.
struct Retry {
    end: Instant,
    backoff: Backoff,
}

impl Retry {
    fn new() -> Self {
        Self {
            end: Instant::now() + BUSY_TIME,
            backoff: Backoff::new(BUSY_PAUSE, BUSY_PAUSE_MAX),
        }
    }

    /// Waits before the next attempt; false if there is none.
    async fn pause(&mut self) -> bool {
        let pause = self.backoff.next_pause();
        if Instant::now() + pause > self.end {
            return false;
        }
        sleep(pause).await;
        true
    }
}

/// The reason why a gateway gets its work.
#[derive(Debug, Clone)]
pub enum WorkRequest {
    /// The gateway subscribed, and may ask at once as well.
    Subscribed,
    /// The gateway asked for it, with what it holds.
    Asked(HeldDevices),
}

/// The devices that a gateway says it holds.
#[derive(Debug, Clone)]
pub enum HeldDevices {
    /// It does not say, and gets everything.
    Unknown,
    /// The names in one range.
    Named(DevicesHeld),
    /// Digests of ranges that do not overlap.
    Digests(Vec<RangeDigest>),
}

/// Requests the work of a gateway, as its `sync` publication asks for.
pub async fn sync(
    shared: Arc<Shared>,
    session: Arc<AccountSession>,
    payload: Bytes,
    policy: BusyPolicy,
) -> PublishOutcome {
    match decode_sync(&payload) {
        Ok(held) => work(shared, session, WorkRequest::Asked(held), policy).await,
        Err(detail) => {
            let outcome = PublishOutcome::malformed(detail);
            count(&shared, &outcome);
            outcome
        }
    }
}

fn decode_sync(payload: &[u8]) -> Result<HeldDevices, String> {
    let request: SyncRequest = codec::decode_json(payload)
        .map_err(|error| format!("not a request for work: {}", error_chain(&error)))?;
    // `since` is accepted and not used: the ledger is the queue, so all open work is sent.
    let SyncRequest {
        since: _,
        devices,
        ranges,
    } = request;
    match devices {
        Some(_) if !ranges.is_empty() => {
            Err("a request has either devices or digests of ranges".to_owned())
        }
        Some(held) if held.devices.len() > DEVICES_HELD_MAX => Err(format!(
            "{} devices are more than the {DEVICES_HELD_MAX} of one sync",
            held.devices.len()
        )),
        Some(held) => Ok(HeldDevices::Named(held)),
        None if ranges.is_empty() => Ok(HeldDevices::Unknown),
        None if ranges.len() > SYNC_RANGES_MAX => Err(format!(
            "{} ranges are more than the {SYNC_RANGES_MAX} of one sync",
            ranges.len()
        )),
        // Otherwise a gateway could have all its devices read many times over.
        None if !ranges.is_sorted_by(|one, next| {
            one.until.is_some() && next.after.as_ref() >= one.until.as_ref()
        }) =>
        {
            Err("the ranges overlap, or are not in the order of their names".to_owned())
        }
        None => Ok(HeldDevices::Digests(ranges)),
    }
}

/// Requests the work of a gateway; it follows on the work topic.
pub async fn work(
    shared: Arc<Shared>,
    session: Arc<AccountSession>,
    request: WorkRequest,
    policy: BusyPolicy,
) -> PublishOutcome {
    let mut retry = Retry::new();
    loop {
        if session.may_sync() && request_work(&shared, &session, request.clone()).await {
            return PublishOutcome::Accepted;
        }
        if policy == BusyPolicy::FailFast || !retry.pause().await {
            shared.counters.busy.add(1);
            return PublishOutcome::Busy;
        }
    }
}

/// False when the ledger can't be read.
async fn request_work(shared: &Shared, session: &AccountSession, request: WorkRequest) -> bool {
    let (work, gateway) = (&shared.work, &session.id);
    let compared = match request {
        WorkRequest::Subscribed => {
            work.subscribed(gateway);
            Ok(())
        }
        WorkRequest::Asked(HeldDevices::Unknown) => {
            work.send_all(gateway);
            Ok(())
        }
        WorkRequest::Asked(HeldDevices::Named(held)) => work.send_difference(gateway, held).await,
        WorkRequest::Asked(HeldDevices::Digests(ranges)) => work.compare(gateway, ranges).await,
    };
    if let Err(error) = &compared {
        let error = error_chain(error);
        tracing::error!(error, %gateway, "the work of a gateway can't be read");
    }
    compared.is_ok()
}
