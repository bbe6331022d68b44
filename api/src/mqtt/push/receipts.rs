//! Receipts of submitted transactions, sent to the gateway that signed them.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_contracts::ContractError;
use lamplighter_ledger::{Ticket, Verdict};
use lamplighter_types::Hash;
use lamplighter_types::wire::topics::GatewayTopic;
use lamplighter_types::wire::{ReceiptMessage, RefusalReason};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::mqtt::Shared;
use crate::mqtt::codec::Message;
use crate::mqtt::limits::PACKET_BYTES;
use crate::mqtt::session::AccountSession;

/// Longest wait for a receipt. A receipt after it is found by the transaction's hash.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(120);

/// Sends the receipt of a transaction once the ledger has it. The permit bounds how many are waited
/// for.
pub async fn deliver(
    shared: Arc<Shared>,
    session: Arc<AccountSession>,
    ticket: Ticket,
    _permit: OwnedSemaphorePermit,
) {
    let transaction = ticket.hash;
    let verdict = tokio::select! {
        verdict = timeout(RECEIPT_TIMEOUT, ticket.verdict()) => verdict,
        () = shared.stop.cancelled() => return,
    };
    let message = match verdict {
        Ok(Verdict::Committed(commitment)) => ReceiptMessage::Committed {
            transaction,
            height: commitment.height,
            index: commitment.index,
            receipt: (*commitment.receipt).clone(),
        },
        Ok(Verdict::Refused(refusal)) => ReceiptMessage::Refused {
            transaction: Some(transaction),
            refused: RefusalReason {
                code: refusal.code().to_owned(),
                message: refusal.to_string(),
            },
        },
        Ok(Verdict::Unknown) | Err(_) => return,
    };
    send(&session, &message);
}

/// Puts a message into the mailbox of the gateway, on its receipt topic or the response topic that
/// came with the transaction.
pub fn send(session: &AccountSession, message: &ReceiptMessage) {
    let transaction: Option<Hash> = message.transaction();
    let payload = message.to_json();
    let (gateway, bytes) = (&session.id, payload.len());
    if bytes + GatewayTopic::Receipt.of(gateway).len() > PACKET_BYTES {
        tracing::debug!(%gateway, bytes, "a receipt is larger than a packet");
        return;
    }
    let message = Message {
        topic: GatewayTopic::Receipt.of(gateway).into(),
        payload: payload.into(),
        ..Message::default()
    };
    if let Err(error) = session.deliver_receipt(message, transaction) {
        tracing::debug!(%error, %gateway, "a receipt was not delivered");
    }
}
