//! The watch over the node that the gateway is connected to: it is left when it makes no progress,
//! however well its socket works. No IO.
//!
//! Progress is what is proven: receipts of the gateway's transactions, and certified heads. A node
//! that is cut off, halted or lying acknowledges publications and keeps the connection alive, but
//! has neither.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time with transactions in flight and without a proven receipt. It doubles with each
/// round over all nodes that brought none: then the trouble is the ledger's, or the link's.
pub(super) const RECEIPT_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest such time.
const RECEIPT_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Shortest such time after which a transaction is also sent to other nodes. It is longer where
/// receipts usually take long, so that a slow field link does not carry everything twice.
pub(super) const ELSEWHERE_AFTER: Duration = Duration::from_secs(2);
/// The time is this many times as long as receipts usually take.
const USUAL_TIMES: u32 = 2;
/// Transactions that were refused are signed again within this time; the waiting goes on meanwhile.
const SIGNED_AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// Shortest time without a newer certified head after which other nodes are asked for theirs.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Heads may be this many times as far apart as they were last.
const HEAD_GAPS_MAX: u32 = 2;
/// A node whose newest head is this much older than another's is behind.
pub(super) const HEAD_LAG_MAX: Duration = Duration::from_secs(10);

/// The step that follows from the time that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgressStep {
    Stay,
    /// Send a transaction that is in flight to other nodes too.
    SendElsewhere,
    /// Ask the other nodes for a head that was made after this Unix time in ms.
    AskOthers {
        newer_than_ms: u64,
    },
    /// Connect to the next node.
    Leave(&'static str),
}

/// A certified head, as the node announced it.
#[derive(Clone, Copy, Debug)]
struct Head {
    time_ms: u64,
    received_at: Instant,
}

/// The progress of the connection to one node after another.
#[derive(Debug)]
pub(super) struct NodeProgress {
    /// Number of nodes in the configuration.
    nodes: u32,
    /// Connections so far; also the number of the present one.
    connections: u64,
    connected_at: Option<Instant>,
    /// Since when transactions are in flight without a proven receipt.
    waiting_since: Option<Instant>,
    in_flight_at: Option<Instant>,
    /// A transaction was sent to other nodes since then.
    is_elsewhere: bool,
    /// The usual time until a receipt is proven, a moving average.
    usual: Duration,
    /// Nodes that were left since the last proven receipt.
    left: u32,
    head: Option<Head>,
    /// Time between the last two heads.
    gap: Duration,
    asked_at: Option<Instant>,
}

impl NodeProgress {
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes: u32::try_from(nodes.max(1)).unwrap_or(u32::MAX),
            connections: 0,
            connected_at: None,
            waiting_since: None,
            in_flight_at: None,
            is_elsewhere: false,
            usual: Duration::ZERO,
            left: 0,
            head: None,
            gap: Duration::ZERO,
            asked_at: None,
        }
    }

    /// The number of the present connection, from 1 on.
    pub fn connection(&self) -> u64 {
        self.connections
    }

    pub fn connected(&mut self, now: Instant) {
        self.disconnected();
        self.connections += 1;
        self.connected_at = Some(now);
    }

    pub fn disconnected(&mut self) {
        self.connected_at = None;
        self.waiting_since = None;
        self.in_flight_at = None;
        self.is_elsewhere = false;
        self.head = None;
        self.asked_at = None;
    }

    pub fn receipt_proven(&mut self, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.usual = (self.usual * 3 + now.duration_since(since)) / 4;
        }
        self.is_elsewhere = false;
        self.left = 0;
    }

    /// Other nodes have proven the receipt of a transaction that was sent to them because the node
    /// of the connection with this number did not.
    pub fn proven_elsewhere(&mut self, connection: u64) -> ProgressStep {
        let is_present = self.connected_at.is_some() && connection == self.connections;
        if is_present && self.is_elsewhere {
            return self.leave("another node proves receipts that it does not");
        }
        ProgressStep::Stay
    }

    /// Takes up a certified head of the node that was made at `time_ms`.
    pub fn head(&mut self, time_ms: u64, now: Instant) {
        let newer = match self.head {
            Some(head) if time_ms <= head.time_ms => return,
            Some(head) => Duration::from_millis(time_ms - head.time_ms),
            None => self.gap,
        };
        self.gap = newer;
        self.head = Some(Head {
            time_ms,
            received_at: now,
        });
    }

    /// Another node has proven a head that is newer than `newer_than_ms`, which was this node's.
    pub fn other_is_ahead(&mut self, newer_than_ms: u64) -> ProgressStep {
        let local = self.head.map_or(0, |head| head.time_ms);
        let lag_max = HEAD_LAG_MAX.as_millis() as u64;
        if self.connected_at.is_none() || local.saturating_add(lag_max) > newer_than_ms {
            return ProgressStep::Stay;
        }
        self.leave("another node has newer certified heads")
    }

    pub fn tick(&mut self, has_in_flight: bool, now: Instant) -> ProgressStep {
        let Some(connected_at) = self.connected_at else {
            return ProgressStep::Stay;
        };
        if self.nodes == 1 {
            return ProgressStep::Stay;
        }
        if has_in_flight {
            self.in_flight_at = Some(now);
            self.waiting_since.get_or_insert(now);
        } else if self
            .in_flight_at
            .is_none_or(|at| now.duration_since(at) > SIGNED_AGAIN_WITHIN)
        {
            self.waiting_since = None;
        }
        let timeout = RECEIPT_TIMEOUT.saturating_mul(1 << (self.left / self.nodes).min(8));
        let timeout = timeout.min(RECEIPT_TIMEOUT_MAX);
        if self
            .waiting_since
            .is_some_and(|since| now.duration_since(since) >= timeout)
        {
            return self.leave("it proves no receipts");
        }
        let elsewhere_after = (self.usual * USUAL_TIMES).max(ELSEWHERE_AFTER);
        let waits_long = |since| now.duration_since(since) >= elsewhere_after;
        if has_in_flight && !self.is_elsewhere && self.waiting_since.is_some_and(waits_long) {
            self.is_elsewhere = true;
            return ProgressStep::SendElsewhere;
        }
        self.check_head(connected_at, now)
    }

    fn check_head(&mut self, connected_at: Instant, now: Instant) -> ProgressStep {
        let timeout = HEAD_TIMEOUT.max(self.gap.saturating_mul(HEAD_GAPS_MAX));
        let progress_at = self.head.map_or(connected_at, |head| head.received_at);
        let last = self.asked_at.unwrap_or(progress_at).max(progress_at);
        if now.duration_since(last) < timeout {
            return ProgressStep::Stay;
        }
        self.asked_at = Some(now);
        let time_ms = self.head.map_or(0, |head| head.time_ms);
        ProgressStep::AskOthers {
            newer_than_ms: time_ms.saturating_add(HEAD_LAG_MAX.as_millis() as u64),
        }
    }

    fn leave(&mut self, reason: &'static str) -> ProgressStep {
        self.left = self.left.saturating_add(1);
        self.disconnected();
        ProgressStep::Leave(reason)
    }
}
