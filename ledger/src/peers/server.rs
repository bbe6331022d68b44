//! Answers the requests of other nodes.

use std::sync::{Arc, OnceLock};

use lamplighter_consensus::Consensus;
use lamplighter_contracts::admission;
use lamplighter_state::{Overlay, StateError, prove as build, tables};
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::{SignedTransaction, Transaction, TransactionError, Verified};

use crate::artifacts::Artifacts;
use crate::blocking::Blocking;
use crate::chain::Chain;
use crate::clock::Clock;
use crate::message::{Acceptance, FORWARDED_MAX, PeerAnswer, PeerRequest};
use crate::read::prove::{self, ProveError};
use crate::submit::mempool::Mempool;

pub(crate) struct PeerServer {
    pub chain: Arc<Chain>,
    pub mempool: Arc<Mempool>,
    pub artifacts: Artifacts,
    pub blocking: Blocking,
    pub clock: Arc<dyn Clock>,
    /// Set when the node has started; the node serves others before.
    pub consensus: Arc<OnceLock<Consensus>>,
}

impl PeerServer {
    pub async fn answer(&self, from: u64, request: PeerRequest) -> Result<PeerAnswer, StateError> {
        match request {
            PeerRequest::Submit(transactions) => self.accept(from, transactions).await,
            PeerRequest::Certificate { height } => {
                let certificate = tables::certificate(&*self.chain.store(), height)?;
                let answer = certificate.map(|c| PeerAnswer::Certificate(Box::new(c)));
                Ok(answer.unwrap_or(PeerAnswer::Unavailable))
            }
            PeerRequest::Artifact(request) => {
                let bytes = self.artifacts.serve(request).await;
                bytes.map(PeerAnswer::Artifact).or_else(|error| {
                    tracing::debug!(%error, from, "an artifact could not be served");
                    Ok(PeerAnswer::Unavailable)
                })
            }
            PeerRequest::Validators { trusted } => self.validators(trusted).await,
            PeerRequest::Time => Ok(PeerAnswer::Time {
                now_ms: self.clock.now_ms(),
            }),
        }
    }

    /// The changes of the validators up to the newest certificate, whether or not the newest header
    /// has one: the signature of the node that asks may be the missing one.
    async fn validators(&self, trusted: u64) -> Result<PeerAnswer, StateError> {
        let path = match prove::set_path(&self.chain, self.blocking, trusted).await {
            Ok(path) => Box::new(path),
            Err(ProveError::State(error)) => return Err(error),
            Err(_) => return Ok(PeerAnswer::Unavailable),
        };
        let certified = self.chain.certified_height();
        let head = build::certified_header(&*self.chain.store(), certified);
        // A header that another change lies below does not belong to the path.
        let names_last = |head: &CertifiedHeader| {
            let last = path.set_changes.last();
            last.is_none_or(|last| {
                let is_above = last.certified.header.height < head.header.height;
                is_above && head.header.validators_hash == last.next.hash()
            })
        };
        let head = head.ok().filter(|head| !path.more && names_last(head));
        let head = head.map(Box::new);
        Ok(PeerAnswer::Validators { path, head })
    }

    /// Adds transactions that another node forwarded to the mempool, if this node leads.
    async fn accept(
        &self,
        from: u64,
        mut transactions: Vec<SignedTransaction>,
    ) -> Result<PeerAnswer, StateError> {
        if !self.consensus.get().is_some_and(Consensus::is_leader) {
            return Ok(PeerAnswer::NotLeader);
        }
        if transactions.len() > FORWARDED_MAX {
            let count = transactions.len();
            tracing::warn!(from, count, "too many transactions in one message");
            transactions.truncate(FORWARDED_MAX);
        }
        let (chain, mempool) = (self.chain.clone(), self.mempool.clone());
        let accept = move || {
            let verified = SignedTransaction::verify_all(transactions, &chain.chain_id());
            let time_ms = chain.head().timestamp_ms;
            let overlay = Overlay::new(chain.live_view());
            let accept = |verified| accept_one(&mempool, from, verified, &overlay, time_ms);
            verified.into_iter().map(accept).collect()
        };
        let accepted: Result<_, StateError> = self.blocking.run(accept).await;
        Ok(PeerAnswer::Submitted(accepted?))
    }
}

fn accept_one(
    mempool: &Mempool,
    from: u64,
    verified: Result<Verified<Transaction>, TransactionError>,
    overlay: &Overlay,
    time_ms: u64,
) -> Result<Acceptance, StateError> {
    let transaction = match verified {
        Ok(transaction) => transaction,
        Err(error) => {
            tracing::warn!(from, %error, "a node passed on a bad transaction");
            return Ok(Acceptance::Refused);
        }
    };
    // A pending one is not refused because of a block that was applied meanwhile.
    if mempool.get(&transaction.hash()).is_some() {
        return Ok(Acceptance::Accepted);
    }
    if admission::admit(overlay, &transaction, time_ms)?.is_err() {
        return Ok(Acceptance::Refused);
    }
    Ok(match mempool.add(Arc::new(transaction)) {
        Ok(()) => Acceptance::Accepted,
        Err(_) => Acceptance::Busy,
    })
}
