//! The state of the gateway's transactions: signed, sent, announced, proven.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lamplighter_system::Backoff;
use lamplighter_types::{Encoding, Hash, Id, Receipt, SecretKey, SignedTransaction, Transaction};
use tokio::time::Instant;

use super::batching::{ReportBatch, next_batch};
use super::deferral::DeferredReports;
use super::receipt::{ReceiptOutcome, apply_receipt};
use crate::spool::{BATCH_ITEMS_MAX, OutgoingReport, SpoolRecord, SpoolState};

/// Validity of a transaction: a gateway may lose its connection right after it signed.
const VALIDITY_MS: u64 = 12 * 3600 * 1000;
/// A transaction without receipt is sent again after this time.
pub(super) const RESEND_AFTER: Duration = Duration::from_secs(15);
/// After a failure the gateway signs nothing for this time.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// The same after nodes have refused transactions again and again, for instance because the account
/// is disabled: each try is written to the disk and sent.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Receipts whose proofs are fetched at once.
pub(super) const PROOFS_MAX: usize = 8;
/// The ledger itself allows no larger step of sequence numbers.
const SEQUENCE_STEP_MAX: u64 = 1 << 32;

/// IO that the submission needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitCommand {
    /// Ask a node for the highest sequence number of the key that the ledger has seen. Answered by
    /// [`Submitter::sequence_fetched`].
    QuerySequence,
    /// Fetch the proven receipt of a transaction. Answered by
    /// [`Submitter::receipt_fetched`].
    FetchReceipt(Hash),
    /// Make a record durable. Answered by [`Submitter::stored`].
    Store(SpoolRecord),
    /// Make the outcome of a receipt durable, proven by the block at `height`: first the rejected
    /// reports in the dead-letter file, then the record. Those that can't be written stay in the
    /// spool. Answered by [`Submitter::outcome_stored`].
    Resolve {
        outcome: ReceiptOutcome,
        height: u64,
    },
}

/// The knowledge of the sequence numbers of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SequenceStatus {
    Unknown,
    Queried,
    /// The spool's number is not below the ledger's.
    Known,
}

/// The key that transactions are signed with.
#[derive(Clone, Debug)]
pub struct Signer {
    pub account: Id,
    pub secret: SecretKey,
    pub chain_id: Hash,
}

/// The submission of reports. It owns no IO and not the spool: it reads the spool, and changes it
/// by commands.
#[derive(Debug)]
pub struct Submitter {
    signer: Signer,
    connected: bool,
    /// The gateway signs nothing before the numbers are known.
    sequence: SequenceStatus,
    /// The gateway signs nothing before this time.
    paused_until: Instant,
    /// Pauses after refused transactions, until a receipt is proven.
    refusals: Backoff,
    /// Transactions that wait for a place in the link's queue.
    send_queue: VecDeque<Hash>,
    /// When each transaction was last sent.
    sent_at: BTreeMap<Hash, Instant>,
    /// Transactions whose receipts are being fetched.
    fetching: BTreeSet<Hash>,
    /// Transactions of which a node says that they have a receipt.
    announced: BTreeSet<Hash>,
    deferred: DeferredReports,
}

impl Submitter {
    /// Begins with the reports of a spool, some of which may have been deferred before a restart.
    pub fn new(signer: Signer, spool: &SpoolState, now: Instant, now_ms: u64) -> Self {
        Self {
            signer,
            connected: false,
            sequence: SequenceStatus::Unknown,
            paused_until: now,
            refusals: Backoff::new(PAUSE, PAUSE_MAX),
            send_queue: VecDeque::new(),
            sent_at: BTreeMap::new(),
            fetching: BTreeSet::new(),
            announced: BTreeSet::new(),
            deferred: DeferredReports::restore(spool, now, now_ms),
        }
    }

    /// Takes up the connection to a node: all transactions in flight are sent to it.
    pub fn connected(&mut self, spool: &SpoolState) -> Vec<SubmitCommand> {
        self.connected = true;
        let in_flight = spool.in_flight().values();
        self.send_queue = in_flight.map(|one| one.transaction).collect();
        self.query_sequence()
    }

    /// Stops sending until the next connection.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.send_queue.clear();
    }

    /// True if reports with the ordering key of this one wait for a reason that may pass.
    pub fn is_deferred(&self, outgoing: &OutgoingReport) -> bool {
        self.deferred.is_deferred(outgoing)
    }

    /// Lets the deferred reports of a device be tried at once: its record on the ledger has
    /// changed.
    pub fn retry_deferred(&mut self, device: &Id, now: Instant) {
        self.deferred.retry_now(device, now);
    }

    /// True if a transaction waits to be sent.
    pub fn has_transaction(&self) -> bool {
        self.connected && !self.send_queue.is_empty()
    }

    /// The next transaction to send.
    pub fn next_transaction<'a>(
        &mut self,
        spool: &'a SpoolState,
        now: Instant,
    ) -> Option<&'a SignedTransaction> {
        while let Some(transaction) = self.send_queue.pop_front() {
            if let Some(in_flight) = spool.transaction(&transaction) {
                self.sent_at.insert(transaction, now);
                return Some(&in_flight.envelope);
            }
        }
        None
    }

    /// Sends transactions again whose receipts are overdue, and asks for the sequence number.
    pub fn tick(&mut self, spool: &SpoolState, now: Instant) -> Vec<SubmitCommand> {
        if !self.connected {
            return Vec::new();
        }
        let mut commands = self.resend_overdue(spool, now);
        // Also after a query that failed.
        if now >= self.paused_until {
            commands.extend(self.query_sequence());
        }
        commands
    }

    fn resend_overdue(&mut self, spool: &SpoolState, now: Instant) -> Vec<SubmitCommand> {
        let mut commands = Vec::new();
        for in_flight in spool.in_flight().values() {
            let transaction = in_flight.transaction;
            let sent_at = self.sent_at.get(&transaction);
            if sent_at.is_some_and(|sent_at| now - *sent_at > RESEND_AFTER) {
                self.sent_at.insert(transaction, now);
                self.send_queue.push_back(transaction);
                // Perhaps only the announcement of its receipt was lost.
                commands.extend(self.fetch_receipt(transaction));
            }
        }
        commands
    }

    /// Signs the next batch of reports. The record must be durable before the transaction is sent:
    /// [`stored`](Self::stored) puts it into the queue.
    pub fn sign_next(&self, spool: &SpoolState, now: Instant, now_ms: u64) -> Option<SpoolRecord> {
        let may_sign = self.connected && self.sequence == SequenceStatus::Known;
        if !may_sign || now < self.paused_until {
            return None;
        }
        let ReportBatch { items, action } = next_batch(spool, &self.deferred, now)?;
        let sequence = spool.sequence() + 1;
        let Signer {
            account,
            secret,
            chain_id,
        } = &self.signer;
        let content = Transaction {
            sender: account.clone(),
            sequence,
            expires_ms: now_ms + VALIDITY_MS,
            action,
        };
        let envelope = SignedTransaction::sign(&content, Encoding::Bincode, chain_id, secret);
        Some(SpoolRecord::Sign {
            sequence,
            items,
            transaction: envelope.hash(chain_id),
            envelope: Box::new(envelope),
        })
    }

    /// Takes up the hint of a node that a transaction has a receipt. Without a proof a node could
    /// make the gateway forget reports that never reached the ledger.
    pub fn receipt_announced(
        &mut self,
        transaction: Hash,
        spool: &SpoolState,
    ) -> Option<SubmitCommand> {
        spool.transaction(&transaction)?;
        self.announced.insert(transaction);
        self.fetch_receipt(transaction)
    }

    /// Signs the reports of a transaction again that a node did not admit, with a sequence number
    /// that the ledger has not seen. Should the ledger have executed it all the same, it recognizes
    /// the reports by their counters.
    pub fn transaction_refused(
        &mut self,
        transaction: Hash,
        spool: &SpoolState,
        now: Instant,
    ) -> Vec<SubmitCommand> {
        if spool.transaction(&transaction).is_none() {
            return Vec::new();
        }
        // All transactions in flight are refused together.
        if now >= self.paused_until {
            self.paused_until = now + self.refusals.next_pause();
        }
        if self.sequence == SequenceStatus::Known {
            self.sequence = SequenceStatus::Unknown;
        }
        let mut commands = vec![SubmitCommand::Store(SpoolRecord::Requeue {
            transaction,
            batch_max: BATCH_ITEMS_MAX,
        })];
        commands.extend(self.query_sequence());
        commands
    }

    /// Reads a proven receipt with the height of its block. If no node proved it, the transaction
    /// stays in flight: it is sent and its receipt looked for again.
    pub fn receipt_fetched(
        &mut self,
        transaction: Hash,
        proven: Option<(Receipt, u64)>,
        spool: &SpoolState,
        now: Instant,
    ) -> Option<SubmitCommand> {
        self.fetching.remove(&transaction);
        let (receipt, height) = proven?;
        self.refusals.reset();
        let in_flight = spool.transaction(&transaction)?;
        let outcome = apply_receipt(in_flight, &receipt, spool, &mut self.deferred, now);
        Some(SubmitCommand::Resolve { outcome, height })
    }

    /// Continues with the highest sequence number that the ledger has seen; `None`: no node
    /// answered, and the number is asked for again after a pause.
    pub fn sequence_fetched(
        &mut self,
        highest: Option<u64>,
        spool: &SpoolState,
        now: Instant,
    ) -> Option<SubmitCommand> {
        let Some(highest) = highest else {
            self.sequence = SequenceStatus::Unknown;
            self.paused_until = self.paused_until.max(now + PAUSE);
            return None;
        };
        let stored = spool.sequence();
        // A node that lies must not use the numbers up: they only have to be above ours.
        let sequence = stored.max(highest.min(stored.saturating_add(SEQUENCE_STEP_MAX)));
        Some(SubmitCommand::Store(SpoolRecord::Counters {
            sequence,
            number: spool.number(),
        }))
    }

    /// Continues after a record was made durable, or was not because the disk failed.
    pub fn stored(
        &mut self,
        record: &SpoolRecord,
        stored: bool,
        spool: &SpoolState,
        now: Instant,
    ) -> Vec<SubmitCommand> {
        match record {
            SpoolRecord::Sign { transaction, .. } if stored => {
                self.send_queue.push_back(*transaction);
            }
            SpoolRecord::Sign { .. } => {
                self.paused_until = self.paused_until.max(now + PAUSE);
            }
            SpoolRecord::Counters { .. } => {
                self.sequence = if stored {
                    SequenceStatus::Known
                } else {
                    SequenceStatus::Unknown
                };
            }
            SpoolRecord::Requeue { transaction, .. }
            | SpoolRecord::Resolve { transaction }
            | SpoolRecord::ResolvePart { transaction, .. }
                if stored =>
            {
                self.sent_at.remove(transaction);
                return self.fetch_announced(spool);
            }
            SpoolRecord::Requeue { .. }
            | SpoolRecord::Resolve { .. }
            | SpoolRecord::ResolvePart { .. }
            | SpoolRecord::Deferred { .. }
            | SpoolRecord::Add { .. } => {}
        }
        Vec::new()
    }

    /// Continues after the outcome of a receipt was made durable. If it was not, because the disk
    /// failed, the transaction stays in flight: it is sent and proven again.
    pub fn outcome_stored(
        &mut self,
        outcome: &ReceiptOutcome,
        stored: bool,
        spool: &SpoolState,
        now: Instant,
    ) -> Vec<SubmitCommand> {
        if stored {
            for report in &outcome.unwritten {
                let unwritten = (report.number, &report.outgoing);
                self.deferred.defer_unwritten(unwritten, spool, now);
            }
            self.deferred.resolved(&outcome.resolved, spool, now);
        }
        self.stored(&outcome.record, stored, spool, now)
    }

    /// Fetches receipts that were announced while too many others were being fetched.
    fn fetch_announced(&mut self, spool: &SpoolState) -> Vec<SubmitCommand> {
        self.announced
            .retain(|transaction| spool.transaction(transaction).is_some());
        let announced: Vec<_> = self.announced.iter().copied().collect();
        let fetches = announced.into_iter().map(|one| self.fetch_receipt(one));
        fetches.flatten().collect()
    }

    fn fetch_receipt(&mut self, transaction: Hash) -> Option<SubmitCommand> {
        let starts = self.fetching.len() < PROOFS_MAX && self.fetching.insert(transaction);
        starts.then_some(SubmitCommand::FetchReceipt(transaction))
    }

    fn query_sequence(&mut self) -> Vec<SubmitCommand> {
        if self.sequence != SequenceStatus::Unknown {
            return Vec::new();
        }
        self.sequence = SequenceStatus::Queried;
        vec![SubmitCommand::QuerySequence]
    }
}
