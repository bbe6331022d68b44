//! The nodes that have a transaction or may have it, by their own reports. They decide whether it
//! may still happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::{Hash, SignedTransaction};

use crate::Client;
use crate::error::{ClientError, Pending};

/// Nodes whose refusals end a submission, where the client knows so many: one that has the
/// transaction may claim that it refuses it, and one that is behind may know no better.
const REFUSALS_MIN: usize = 2;

/// The nodes that have one transaction or may have it. The last report of a node counts.
#[derive(Debug, Default)]
pub(crate) struct Receivers {
    /// Nodes that reported that they accepted it.
    accepted_by: BTreeSet<usize>,
    /// Nodes that may have received it.
    sent_to: BTreeSet<usize>,
    /// Nodes that refused it.
    refused_by: BTreeMap<usize, ClientError>,
}

impl Receivers {
    /// Takes up that a node accepted it.
    pub fn accepted(&mut self, index: usize) {
        self.sent_to.remove(&index);
        self.refused_by.remove(&index);
        self.accepted_by.insert(index);
    }

    /// Takes up that a node refused it.
    pub fn refused(&mut self, index: usize, error: ClientError) {
        self.accepted_by.remove(&index);
        self.sent_to.remove(&index);
        self.refused_by.insert(index, error);
    }

    /// The nodes that refused it.
    pub fn refused_by(&self) -> impl Iterator<Item = usize> {
        self.refused_by.keys().copied()
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

    /// The refusal of enough nodes, if no node may have the transaction.
    pub fn refusal(&mut self, client: &Client) -> Option<ClientError> {
        let enough = REFUSALS_MIN.min(client.inner.nodes.list.len());
        if self.refused_by.len() < enough || self.may_be_pending() {
            return None;
        }
        self.refused_by.pop_first().map(|(_, refusal)| refusal)
    }

    /// The error that the outcome is open. Where nothing is known of the receivers, each node may
    /// be one.
    pub fn pending(
        self,
        client: &Client,
        (hash, signed): (Hash, &SignedTransaction),
        waited: Duration,
        last: Option<Arc<ClientError>>,
    ) -> ClientError {
        let nodes = &client.inner.nodes;
        let url = |index: usize| nodes.list[index].url.clone();
        let is_known = self.may_be_pending() || !self.refused_by.is_empty();
        let sent_to = if is_known {
            self.sent_to.into_iter().map(url).collect()
        } else {
            nodes.urls().map(str::to_owned).collect()
        };
        let refused_by = self.refused_by.keys().copied().map(url).collect();
        let mut refusals = self.refused_by.into_values();
        ClientError::Pending(Box::new(Pending {
            transaction: hash,
            signed: signed.clone(),
            // No node accepts bytes that do not decode.
            expires_ms: signed.decode_payload().map_or(0, |t| t.expires_ms),
            taken_by: self.accepted_by.into_iter().map(url).collect(),
            sent_to,
            refused_by,
            waited,
            last: refusals.next().map(Arc::new).or(last),
        }))
    }

    /// The error of a transaction without an outcome at the deadline. A refusal that no other node
    /// confirmed leaves it open.
    pub fn at_deadline(
        self,
        client: &Client,
        transaction: (Hash, &SignedTransaction),
        waited: Duration,
        last: Option<Arc<ClientError>>,
    ) -> ClientError {
        if self.may_be_pending() || !self.refused_by.is_empty() {
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
