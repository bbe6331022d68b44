//! Answers to other nodes.

use std::sync::Arc;

use lamplighter_contracts::admission;
use lamplighter_state::{Overlay, StateError, tables};
use lamplighter_types::SignedTransaction;

use crate::inner::Inner;
use crate::later;
use crate::message::{Acceptance, FORWARDED_MAX, PeerAnswer, PeerRequest};

pub(crate) async fn answer(
    inner: &Arc<Inner>,
    from: u64,
    request: PeerRequest,
) -> Result<PeerAnswer, StateError> {
    match request {
        PeerRequest::Submit(transactions) => accept(inner, from, transactions).await,
        PeerRequest::Certificate { height } => {
            let found = tables::certificate(&*inner.chain.store(), height)?;
            let answer = found.map(|certificate| PeerAnswer::Certificate(Box::new(certificate)));
            Ok(answer.unwrap_or(PeerAnswer::Unavailable))
        }
        PeerRequest::Artifact(request) => {
            let bytes = inner.artifacts.serve(request).await;
            bytes.map(PeerAnswer::Artifact).or_else(|error| {
                tracing::debug!(%error, from, "an artifact could not be served");
                Ok(PeerAnswer::Unavailable)
            })
        }
        PeerRequest::Validators => later::answer(inner).await,
    }
}

/// Takes transactions that came in at another node, if this one leads.
async fn accept(
    inner: &Arc<Inner>,
    from: u64,
    mut transactions: Vec<SignedTransaction>,
) -> Result<PeerAnswer, StateError> {
    if !inner.consensus().is_leader() {
        return Ok(PeerAnswer::NotLeader);
    }
    if transactions.len() > FORWARDED_MAX {
        tracing::warn!(
            from,
            count = transactions.len(),
            "too many transactions in one message"
        );
        transactions.truncate(FORWARDED_MAX);
    }
    let chain_id = inner.chain.chain_id();
    let verify = move || SignedTransaction::verify_all(transactions, &chain_id);
    let verified = inner.blocking.run(verify).await;
    let time_ms = inner.chain.head().timestamp_ms;
    let overlay = Overlay::new(inner.chain.newest_view());
    let mut accepted = Vec::with_capacity(verified.len());
    for transaction in verified {
        let acceptance = match transaction {
            Err(error) => {
                tracing::warn!(from, %error, "a node passed on a bad transaction");
                Acceptance::Refused
            }
            // One that is on its way is not refused for what a block between does.
            Ok(transaction) if inner.pool.verified(&transaction.hash()).is_some() => {
                Acceptance::Accepted
            }
            Ok(transaction) => match admission::admit(&overlay, &transaction, time_ms)? {
                Err(_) => Acceptance::Refused,
                Ok(_) => match inner.pool.add(Arc::new(transaction)) {
                    Ok(()) => Acceptance::Accepted,
                    Err(_) => Acceptance::Busy,
                },
            },
        };
        accepted.push(acceptance);
    }
    Ok(PeerAnswer::Submitted(accepted))
}
