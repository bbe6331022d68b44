//! One round over all nodes: what their errors mean together.

use std::time::Duration;

use crate::error::ClientError;
use crate::standing::{Fault, Standings};

/// The errors of a round.
pub(crate) struct Round {
    /// A refusal of a single node is not believed.
    confirms_refusals: bool,
    refusal: Option<ClientError>,
    /// Nodes that have no such record.
    without_record: Vec<usize>,
    /// The last error that may pass, or that another node may not have.
    last: Option<ClientError>,
    may_pass: bool,
    retry_after: Duration,
}

impl Round {
    pub fn new(confirms_refusals: bool) -> Self {
        Self {
            confirms_refusals,
            refusal: None,
            without_record: Vec::new(),
            last: None,
            may_pass: false,
            retry_after: Duration::ZERO,
        }
    }

    /// The longest pause that a node asked for.
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Takes up the answer of a node. Nodes that do not have what it has are behind.
    pub fn succeeded(&self, standings: &Standings, index: usize, height: Option<u64>) {
        for behind in &self.without_record {
            standings.failed(*behind, Fault::Unserved);
        }
        standings.served(index);
        if let Some(height) = height {
            standings.at_height(index, height);
        }
    }

    /// Takes up the error of a node; returns it if no other node needs to be called.
    pub fn failed(
        &mut self,
        index: usize,
        error: ClientError,
        pause: Duration,
    ) -> Option<ClientError> {
        self.retry_after = self.retry_after.max(pause);
        if error.is_transient() || error.fault().is_some() {
            self.may_pass |= error.is_transient();
            self.last = Some(error);
            return None;
        }
        if !self.confirms_refusals || error.problem().is_none() {
            return Some(error);
        }
        if error.is_not_found() {
            self.without_record.push(index);
        }
        // That the validators have changed is what helps the caller on.
        if self.refusal.is_none() || error.lacks_changes() {
            self.refusal = Some(error);
        }
        None
    }

    /// The error of the call after all nodes were called; otherwise the last error, and another
    /// round may help.
    pub fn verdict(self) -> Result<ClientError, ClientError> {
        if let Some(refusal) = self.refusal {
            return Ok(refusal);
        }
        let last = self.last.unwrap_or(ClientError::NoAddress);
        if self.may_pass { Err(last) } else { Ok(last) }
    }
}
