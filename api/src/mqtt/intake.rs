//! From a publication to the ledger and back to its acknowledgement.

use std::sync::Arc;

use bytes::Bytes;
use lamplighter_types::codec;
use lamplighter_types::work::{DEVICES_HELD_MAX, SyncRequest};
use rumqttd::protocol::PubAckReason;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::backend::{Admitted, Submission, SubmitError, SyncReason};
use super::limits::{BUSY_PAUSE, BUSY_PAUSE_MAX, BUSY_TIME};
use super::seat::{Reply, Seat};
use super::topics;
use super::wire::{Message, Version};

/// What became of a publication.
#[derive(Debug)]
pub struct Answer {
    /// QoS it came with.
    pub qos: u8,
    /// Its packet id.
    pub id: u16,
    /// The outcome.
    pub verdict: Verdict,
}

/// Outcome of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Acknowledge it.
    Taken,
    /// Full; to be sent again.
    Busy,
    /// It will never be taken.
    Refused(PubAckReason, String),
}

/// How long a full ledger is asked again before the client hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: MQTT 5 can say "busy" and the client knows best when to come back.
    None,
    /// For [`BUSY_TIME`]: nobody can be told.
    Some,
}

impl Patience {
    /// What a client of this version needs at this QoS.
    pub fn of(version: Version, qos: u8) -> Self {
        if version == Version::V5 && qos > 0 {
            Self::None
        } else {
            Self::Some
        }
    }
}

/// Hands a transaction to the ledger and its receipt, if there is one already, to the seat.
pub async fn transaction(
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    submission: Submission,
    reply: Option<Reply>,
    patience: Patience,
) -> Verdict {
    if let Some(reply) = reply {
        // The receipt may come before the admission is known, so its hash is needed first.
        match shared.backend.identify(&submission) {
            Ok(hash) => seat.expect_reply(hash, reply),
            Err(error) => return refused(&shared, error),
        }
    }
    match offer(&shared, &seat, submission, patience).await {
        Ok(Admitted {
            transaction,
            receipt,
        }) => {
            shared.counters.admitted.add(1);
            if let Some(payload) = receipt {
                let topic = topics::receipt(&seat.id);
                let message = Message {
                    topic,
                    payload,
                    ..Message::default()
                };
                // A full mailbox is counted there; the receipt can be asked for again.
                seat.deliver_receipt(message, Some(transaction)).ok();
            }
            Verdict::Taken
        }
        Err(error) => refused(&shared, error),
    }
}

async fn offer(
    shared: &Shared,
    seat: &Seat,
    submission: Submission,
    patience: Patience,
) -> Result<Admitted, SubmitError> {
    let end = Instant::now() + BUSY_TIME;
    let mut pause = BUSY_PAUSE;
    loop {
        // Who does not fetch its receipts gets no further ones made.
        let result = match seat.is_behind() {
            true => Err(SubmitError::Busy),
            false => shared.backend.submit(submission.clone()).await,
        };
        let busy = matches!(result, Err(SubmitError::Busy));
        if !busy || patience == Patience::None || Instant::now() + pause > end {
            return result;
        }
        sleep(pause).await;
        pause = (pause * 2).min(BUSY_PAUSE_MAX);
    }
}

fn refused(shared: &Shared, error: SubmitError) -> Verdict {
    match error {
        SubmitError::Busy => {
            shared.counters.busy.add(1);
            Verdict::Busy
        }
        SubmitError::Invalid(detail) => {
            shared.counters.invalid.add(1);
            Verdict::Refused(PubAckReason::PayloadFormatInvalid, detail)
        }
        SubmitError::Unauthorized(detail) => {
            shared.counters.invalid.add(1);
            Verdict::Refused(PubAckReason::NotAuthorized, detail)
        }
    }
}

/// Asks the ledger for the work of a gateway, with the body of its `sync` publication.
pub async fn sync(
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    payload: Bytes,
    patience: Patience,
) -> Verdict {
    match read(&payload) {
        Ok(asks) => work(shared, seat, asks, patience).await,
        Err(error) => refused(&shared, error),
    }
}

fn read(payload: &[u8]) -> Result<SyncReason, SubmitError> {
    let invalid = |text: String| SubmitError::Invalid(text);
    let SyncRequest { since, devices } = codec::decode_json(payload).map_err(|error| {
        invalid(format!(
            "not {{\"since\": cursor}}: {}",
            crate::http::chain(&error)
        ))
    })?;
    if let Some(held) = devices.as_ref().map(|held| held.devices.len())
        && held > DEVICES_HELD_MAX
    {
        let text = format!("{held} devices are more than the {DEVICES_HELD_MAX} of one sync");
        return Err(invalid(text));
    }
    Ok(SyncReason::Asks {
        since,
        held: devices,
    })
}

/// Asks the ledger for the work of a gateway.
pub async fn work(
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    why: SyncReason,
    patience: Patience,
) -> Verdict {
    let end = Instant::now() + BUSY_TIME;
    let mut pause = BUSY_PAUSE;
    loop {
        let asked = match seat.may_sync() {
            true => shared.backend.sync(&seat.id, why.clone()).await,
            false => Err(SubmitError::Busy),
        };
        match asked {
            Ok(()) => return Verdict::Taken,
            Err(SubmitError::Busy)
                if patience == Patience::Some && Instant::now() + pause <= end => {}
            Err(error) => return refused(&shared, error),
        }
        sleep(pause).await;
        pause = (pause * 2).min(BUSY_PAUSE_MAX);
    }
}

/// What an MQTT 3.1.1 client finds on its receipt topic instead of a receipt, as PUBACK cannot
/// carry a reason there.
pub fn refusal(shared: &Shared, seat: &Seat, submission: &Submission, detail: &str) {
    let transaction = shared.backend.identify(submission).ok();
    let body = serde_json::json!({
        "transaction": transaction.map(hex::encode),
        "status": "refused",
        "detail": detail,
    });
    let topic = topics::receipt(&seat.id);
    let payload = Bytes::from(body.to_string());
    let message = Message {
        topic,
        payload,
        ..Message::default()
    };
    // A full mailbox is counted there.
    seat.deliver_receipt(message, transaction).ok();
}
