//! The nodes that have a transaction or may have it, by their own reports. They decide whether it
//! may still happen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::{Hash, SignedTransaction};

use crate::error::{ClientError, Pending};
use crate::{Client, submit};

/// Refusals that end a submission.
pub(crate) const REFUSALS_MIN: usize = 2;

/// The nodes that have one transaction or may have it. The last report of a node counts.
#[derive(Debug, Default)]
pub(crate) struct Receivers {
    /// Nodes that reported that they accepted it.
    accepted_by: BTreeSet<usize>,
    /// Nodes that may have received it.
    sent_to: BTreeSet<usize>,
}

impl Receivers {
    /// Takes up that a node accepted it.
    pub fn accepted(&mut self, index: usize) {
        self.sent_to.remove(&index);
        self.accepted_by.insert(index);
    }

    /// Takes up that a node refused it.
    pub fn refused(&mut self, index: usize) {
        self.accepted_by.remove(&index);
        self.sent_to.remove(&index);
    }

    /// Takes up that a node was sent it and was not waited for.
    pub fn unheard(&mut self, index: usize) {
        if !self.accepted_by.contains(&index) {
            self.sent_to.insert(index);
        }
    }

    /// Takes up the error of a node that reported no outcome.
    pub fn failed(&mut self, index: usize, error: &ClientError) {
        if may_have_received(error) {
            self.unheard(index);
        }
    }

    /// True if a node accepted the transaction or may have received it.
    pub fn may_be_pending(&self) -> bool {
        !self.accepted_by.is_empty() || !self.sent_to.is_empty()
    }

    /// The error that the outcome is open. Where nothing is known of the receivers, each node may
    /// be one.
    pub fn pending(
        &self,
        client: &Client,
        (hash, signed): (Hash, &SignedTransaction),
        waited: Duration,
        last: Option<Arc<ClientError>>,
    ) -> ClientError {
        let nodes = &client.inner.nodes;
        let urls = |indices: &BTreeSet<usize>| {
            let urls = indices.iter().map(|index| nodes.list[*index].url.clone());
            urls.collect::<Vec<_>>()
        };
        let sent_to = if self.may_be_pending() {
            urls(&self.sent_to)
        } else {
            nodes.urls().map(str::to_owned).collect()
        };
        ClientError::Pending(Box::new(Pending {
            transaction: hash,
            signed: signed.clone(),
            // No node accepts bytes that do not decode.
            expires_ms: signed.decode_payload().map_or(0, |t| t.expires_ms),
            taken_by: urls(&self.accepted_by),
            sent_to,
            waited,
            last,
        }))
    }

    /// The error when all nodes that answered refused the transaction, this many of them. A node
    /// that hides a transaction that it accepted also reports that the sequence number is used, so
    /// a second node must confirm that.
    pub fn refusal(
        &self,
        client: &Client,
        transaction: (Hash, &SignedTransaction),
        waited: Duration,
        refusal: ClientError,
        refusals: usize,
    ) -> ClientError {
        let are_several = client.inner.nodes.list.len() > 1;
        if are_several && submit::is_about_sequence(&refusal) && refusals < REFUSALS_MIN {
            self.pending(client, transaction, waited, Some(Arc::new(refusal)))
        } else {
            refusal
        }
    }

    /// The error of a transaction without an outcome at the deadline.
    pub fn at_deadline(
        &self,
        client: &Client,
        transaction: (Hash, &SignedTransaction),
        waited: Duration,
        last: Option<Arc<ClientError>>,
    ) -> ClientError {
        if self.may_be_pending() {
            return self.pending(client, transaction, waited, last);
        }
        let last = last.unwrap_or_else(|| Arc::new(ClientError::NoAddress));
        ClientError::Deadline { waited, last }
    }
}

/// True if a node that failed so may have received the transaction.
fn may_have_received(error: &ClientError) -> bool {
    match error {
        ClientError::Transport { source, .. } => !source.is_connect(),
        // Nothing is sent before the handshake is complete.
        ClientError::NodeKey { .. } | ClientError::NotTls { .. } => false,
        // The node reported that it did nothing.
        ClientError::Problem { problem, .. } => !matches!(problem.status, 429 | 503),
        _ => true,
    }
}
