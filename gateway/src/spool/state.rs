//! The content of the spool, computed from its records. No IO.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::{
    ConfigReport, DeploymentReport, DeploymentState, DeviceEvent, Hash, Id, InventoryReport,
    KeyRotation, SignedTransaction, codec,
};
use serde::{Deserialize, Serialize};

/// Most reports in one transaction.
pub const BATCH_ITEMS_MAX: u32 = 100;

/// A report or an event that must reach the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutgoingReport {
    Inventory(InventoryReport),
    Deployment(DeploymentReport),
    Config(ConfigReport),
    Event(DeviceEvent),
    KeyRotation(KeyRotation),
}

/// Reports with equal keys reach the ledger in the order in which they came. The reports of a
/// device have one key, because their counters go up; its events have another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderingKey {
    pub device: Id,
    pub is_event: bool,
}

/// Two copies of one report have the same identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportIdentity {
    ordering_key: OrderingKey,
    /// Counter of a report or sequence number of an event.
    counter: u64,
    to: Option<DeploymentState>,
}

impl OutgoingReport {
    /// The device that the report is about.
    pub fn device(&self) -> &Id {
        match self {
            Self::Inventory(report) => &report.device,
            Self::Deployment(report) => &report.device,
            Self::Config(report) => &report.device,
            Self::Event(event) => &event.device,
            Self::KeyRotation(rotation) => &rotation.device,
        }
    }

    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event(_))
    }

    /// Its place among the reports that must keep their order.
    pub fn ordering_key(&self) -> OrderingKey {
        OrderingKey {
            device: self.device().clone(),
            is_event: self.is_event(),
        }
    }

    /// Its identity. A device uses each counter and each sequence number once.
    pub fn identity(&self) -> ReportIdentity {
        let (counter, to) = match self {
            Self::Inventory(report) => (report.counter, None),
            Self::Deployment(report) => (report.counter, Some(report.to)),
            Self::Config(report) => (report.counter, None),
            Self::Event(event) => (event.sequence, None),
            Self::KeyRotation(rotation) => (rotation.counter, None),
        };
        ReportIdentity {
            ordering_key: self.ordering_key(),
            counter,
            to,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpoolRecord {
    /// A report was stored; `number` counts up.
    Add {
        number: u64,
        batch_max: u32,
        outgoing: Box<OutgoingReport>,
    },
    /// Reports were signed as one transaction. From now on the transaction is exactly these bytes.
    Sign {
        sequence: u64,
        items: Vec<u64>,
        transaction: Hash,
        envelope: Box<SignedTransaction>,
    },
    /// The ledger has executed a transaction: its reports leave the spool.
    Resolve { transaction: Hash },
    /// The reports of a transaction wait again, at most `batch_max` of them together.
    Requeue { transaction: Hash, batch_max: u32 },
    /// Numbers up to these are used.
    Counters { sequence: u64, number: u64 },
    /// The ledger has executed a transaction: its reports leave the spool, except those that were
    /// refused for now. They wait again.
    ResolvePart { transaction: Hash, kept: Vec<u64> },
    /// Reports that wait were refused at this time (Unix ms) for a reason that may pass, each for
    /// the first time.
    Deferred { since_ms: u64, numbers: Vec<u64> },
}

/// A report that is in no transaction yet, or in one whose receipt is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingReport {
    pub outgoing: OutgoingReport,
    /// Most reports of a transaction with this one in it: it shrinks after each failure, until the
    /// report that made the transaction fail stands alone.
    pub batch_max: u32,
    /// Length of the encoded report.
    pub bytes: u64,
    /// When it was first refused for a reason that may pass, in Unix ms.
    pub deferred_since_ms: Option<u64>,
}

/// A signed transaction whose receipt is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightTransaction {
    pub transaction: Hash,
    pub envelope: SignedTransaction,
    /// Its reports by their numbers.
    pub items: BTreeMap<u64, WaitingReport>,
    bytes: u64,
}

/// Why a record does not fit the records before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordConflict {
    #[error("the report {0} is there twice")]
    Duplicate(u64),
    #[error("the report {0} does not wait")]
    NotWaiting(u64),
    #[error("the transaction {0} is not under way")]
    NotInFlight(Hash),
    #[error("the sequence number {0} was used before")]
    SequenceUsed(u64),
}

/// The part of the spool that the reports about one device take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceShare {
    pub reports: usize,
    pub bytes: u64,
}

/// The reports that wait and the transactions in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    waiting: BTreeMap<u64, WaitingReport>,
    /// Sequence numbers are the keys.
    in_flight: BTreeMap<u64, InFlightTransaction>,
    identities: BTreeSet<ReportIdentity>,
    /// The devices of the key rotations, by their numbers.
    rotating: BTreeMap<u64, Id>,
    /// The shares of the devices; none of a device without reports.
    shares: BTreeMap<Id, DeviceShare>,
    sequence: u64,
    number: u64,
    bytes: u64,
}

impl SpoolState {
    /// The reports that are in no transaction, oldest first.
    pub fn waiting(&self) -> &BTreeMap<u64, WaitingReport> {
        &self.waiting
    }

    /// The transactions whose receipts are not known, oldest first.
    pub fn in_flight(&self) -> &BTreeMap<u64, InFlightTransaction> {
        &self.in_flight
    }

    /// The transaction of this hash, if its receipt is not known.
    pub fn transaction(&self, transaction: &Hash) -> Option<&InFlightTransaction> {
        let mut all = self.in_flight.values();
        all.find(|in_flight| in_flight.transaction == *transaction)
    }

    /// True if the spool has a copy of the report.
    pub fn contains(&self, outgoing: &OutgoingReport) -> bool {
        self.identities.contains(&outgoing.identity())
    }

    /// All reports in the spool with their numbers: those in flight first.
    pub fn reports(&self) -> impl Iterator<Item = (&u64, &WaitingReport)> {
        let in_flight = self.in_flight.values().flat_map(|one| &one.items);
        in_flight.chain(&self.waiting)
    }

    /// All reports about a device.
    pub fn of_device<'a>(&'a self, device: &'a Id) -> impl Iterator<Item = &'a OutgoingReport> {
        let all = self.reports().map(|(_, waiting)| &waiting.outgoing);
        all.filter(move |outgoing| outgoing.device() == device)
    }

    /// The highest number of a report with this key; `None` if there is no such report.
    pub fn newest_number(&self, key: &OrderingKey) -> Option<u64> {
        let same_key = self.reports().filter(|(_, waiting)| {
            let outgoing = &waiting.outgoing;
            *outgoing.device() == key.device && outgoing.is_event() == key.is_event
        });
        same_key.map(|(number, _)| *number).max()
    }

    /// True if the spool has events of a device that came before the report `number`.
    pub fn has_events_before(&self, device: &Id, number: u64) -> bool {
        self.reports().any(|(of, waiting)| {
            *of < number && waiting.outgoing.is_event() && waiting.outgoing.device() == device
        })
    }

    /// True if a device waits for the ledger to have its new key.
    pub fn is_rotating(&self, device: &Id) -> bool {
        self.rotating.values().any(|rotating| rotating == device)
    }

    /// The highest sequence number used.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The highest number given to a report.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The part that the reports about a device take.
    pub fn share_of(&self, device: &Id) -> DeviceShare {
        self.shares.get(device).copied().unwrap_or_default()
    }

    /// The size of all that must be kept, about as much as it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Applies a record.
    ///
    /// # Errors
    /// It does not fit; nothing has changed.
    pub fn apply(&mut self, record: SpoolRecord) -> Result<(), RecordConflict> {
        match record {
            SpoolRecord::Add {
                number,
                batch_max,
                outgoing,
            } => self.add(number, batch_max, *outgoing),
            SpoolRecord::Sign {
                sequence,
                items,
                transaction,
                envelope,
            } => self.sign(sequence, items, transaction, *envelope),
            SpoolRecord::Resolve { transaction } => {
                for (number, waiting) in &self.remove_in_flight(&transaction)?.items {
                    self.forget(*number, waiting);
                }
                Ok(())
            }
            SpoolRecord::ResolvePart { transaction, kept } => {
                for (number, waiting) in self.remove_in_flight(&transaction)?.items {
                    if kept.contains(&number) {
                        self.waiting.insert(number, waiting);
                    } else {
                        self.forget(number, &waiting);
                    }
                }
                Ok(())
            }
            SpoolRecord::Requeue {
                transaction,
                batch_max,
            } => {
                for (number, mut waiting) in self.remove_in_flight(&transaction)?.items {
                    waiting.batch_max = waiting.batch_max.min(batch_max).max(1);
                    self.waiting.insert(number, waiting);
                }
                Ok(())
            }
            SpoolRecord::Deferred { since_ms, numbers } => {
                for number in numbers {
                    if let Some(waiting) = self.waiting.get_mut(&number) {
                        waiting.deferred_since_ms.get_or_insert(since_ms);
                    }
                }
                Ok(())
            }
            SpoolRecord::Counters { sequence, number } => {
                self.sequence = self.sequence.max(sequence);
                self.number = self.number.max(number);
                Ok(())
            }
        }
    }

    fn add(
        &mut self,
        number: u64,
        batch_max: u32,
        outgoing: OutgoingReport,
    ) -> Result<(), RecordConflict> {
        let mut in_flight = self.in_flight.values();
        if self.waiting.contains_key(&number)
            || in_flight.any(|one| one.items.contains_key(&number))
        {
            return Err(RecordConflict::Duplicate(number));
        }
        let bytes = codec::encode(&outgoing).len() as u64;
        self.identities.insert(outgoing.identity());
        if let OutgoingReport::KeyRotation(rotation) = &outgoing {
            self.rotating.insert(number, rotation.device.clone());
        }
        let waiting = WaitingReport {
            outgoing,
            batch_max,
            bytes,
            deferred_since_ms: None,
        };
        let share = self.shares.entry(waiting.outgoing.device().clone());
        let share = share.or_default();
        share.reports += 1;
        share.bytes += bytes;
        self.waiting.insert(number, waiting);
        self.number = self.number.max(number);
        self.bytes += bytes;
        Ok(())
    }

    /// Forgets a report that has left the spool.
    fn forget(&mut self, number: u64, waiting: &WaitingReport) {
        self.rotating.remove(&number);
        self.identities.remove(&waiting.outgoing.identity());
        self.bytes -= waiting.bytes;
        let device = waiting.outgoing.device();
        if let Some(share) = self.shares.get_mut(device) {
            share.reports -= 1;
            share.bytes -= waiting.bytes;
            if share.reports == 0 {
                self.shares.remove(device);
            }
        }
    }

    fn sign(
        &mut self,
        sequence: u64,
        numbers: Vec<u64>,
        transaction: Hash,
        envelope: SignedTransaction,
    ) -> Result<(), RecordConflict> {
        if self.in_flight.contains_key(&sequence) {
            return Err(RecordConflict::SequenceUsed(sequence));
        }
        let mut missing = numbers.iter().filter(|n| !self.waiting.contains_key(n));
        if let Some(number) = missing.next() {
            return Err(RecordConflict::NotWaiting(*number));
        }
        let items = numbers
            .into_iter()
            .filter_map(|number| self.waiting.remove_entry(&number))
            .collect();
        let bytes = codec::encode(&envelope).len() as u64;
        self.bytes += bytes;
        self.sequence = self.sequence.max(sequence);
        let in_flight = InFlightTransaction {
            transaction,
            envelope,
            items,
            bytes,
        };
        self.in_flight.insert(sequence, in_flight);
        Ok(())
    }

    fn remove_in_flight(
        &mut self,
        transaction: &Hash,
    ) -> Result<InFlightTransaction, RecordConflict> {
        let mut in_flight = self.in_flight.iter();
        let found = in_flight.find(|(_, one)| one.transaction == *transaction);
        let sequence = found.map(|(sequence, _)| *sequence);
        let removed = sequence.and_then(|sequence| self.in_flight.remove(&sequence));
        let removed = removed.ok_or(RecordConflict::NotInFlight(*transaction))?;
        self.bytes -= removed.bytes;
        Ok(removed)
    }

    /// Records that make this state again from nothing.
    pub fn records(&self) -> Vec<SpoolRecord> {
        let mut records = vec![SpoolRecord::Counters {
            sequence: self.sequence,
            number: self.number,
        }];
        let add = |(number, waiting): (&u64, &WaitingReport)| SpoolRecord::Add {
            number: *number,
            batch_max: waiting.batch_max,
            outgoing: Box::new(waiting.outgoing.clone()),
        };
        let deferred = |(number, waiting): (&u64, &WaitingReport)| {
            waiting
                .deferred_since_ms
                .map(|since_ms| SpoolRecord::Deferred {
                    since_ms,
                    numbers: vec![*number],
                })
        };
        for (sequence, in_flight) in &self.in_flight {
            records.extend(in_flight.items.iter().map(add));
            records.extend(in_flight.items.iter().filter_map(deferred));
            records.push(SpoolRecord::Sign {
                sequence: *sequence,
                items: in_flight.items.keys().copied().collect(),
                transaction: in_flight.transaction,
                envelope: Box::new(in_flight.envelope.clone()),
            });
        }
        records.extend(self.waiting.iter().map(add));
        records.extend(self.waiting.iter().filter_map(deferred));
        records
    }
}
