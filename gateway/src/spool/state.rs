//! What the spool holds, as its records make it; no IO.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::{
    ConfigReport, DeploymentReport, DeploymentState, DeviceEvent, Hash, Id, InventoryReport,
    SignedTransaction, codec,
};
use serde::{Deserialize, Serialize};

/// Items of one transaction.
pub const BATCH_ITEMS_MAX: u32 = 100;

/// Something that must reach the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outgoing {
    Inventory(InventoryReport),
    Deployment(DeploymentReport),
    Config(ConfigReport),
    Event(DeviceEvent),
}

/// What is to come in the order in which it was given: the reports of a device, whose counters go
/// up, and its events.
pub type Lane = (Id, bool);

/// By which two copies of one report are known.
pub type Name = (Id, bool, u64, Option<DeploymentState>);

impl Outgoing {
    pub fn device(&self) -> &Id {
        match self {
            Self::Inventory(report) => &report.device,
            Self::Deployment(report) => &report.device,
            Self::Config(report) => &report.device,
            Self::Event(event) => &event.device,
        }
    }

    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event(_))
    }

    pub fn lane(&self) -> Lane {
        (self.device().clone(), self.is_event())
    }

    /// Counters of reports are used once per device, sequence numbers of events as well.
    pub fn name(&self) -> Name {
        let (number, to) = match self {
            Self::Inventory(report) => (report.counter, None),
            Self::Deployment(report) => (report.counter, Some(report.to)),
            Self::Config(report) => (report.counter, None),
            Self::Event(event) => (event.sequence, None),
        };
        (self.device().clone(), self.is_event(), number, to)
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A report was taken; `number` counts up.
    Add {
        number: u64,
        batch_max: u32,
        outgoing: Box<Outgoing>,
    },
    /// Reports were signed as one transaction, which from now on is these very bytes.
    Sign {
        sequence: u64,
        items: Vec<u64>,
        transaction: Hash,
        envelope: Box<SignedTransaction>,
    },
    /// The ledger has dealt with a transaction and all in it.
    Settle { transaction: Hash },
    /// The reports of a transaction wait again, at most `batch_max` of them together.
    Requeue { transaction: Hash, batch_max: u32 },
    /// Numbers up to these are used.
    Counters { sequence: u64, number: u64 },
}

/// A report that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub outgoing: Outgoing,
    /// At most so many in a transaction with it: smaller after a refusal, to find the bad one.
    pub batch_max: u32,
    bytes: u64,
}

/// A signed transaction whose receipt is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    pub transaction: Hash,
    pub envelope: SignedTransaction,
    pub items: BTreeMap<u64, Waiting>,
    bytes: u64,
}

/// A record does not fit what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    #[error("the report {0} is there twice")]
    Twice(u64),
    #[error("the report {0} does not wait")]
    NotWaiting(u64),
    #[error("the transaction {0} is not under way")]
    NoFlight(Hash),
    #[error("the sequence number {0} was used before")]
    Sequence(u64),
}

/// Reports that wait and transactions under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    waiting: BTreeMap<u64, Waiting>,
    /// By sequence number.
    flights: BTreeMap<u64, Flight>,
    names: BTreeSet<Name>,
    sequence: u64,
    number: u64,
    bytes: u64,
}

impl State {
    /// Reports that are in no transaction, oldest first.
    pub fn waiting(&self) -> &BTreeMap<u64, Waiting> {
        &self.waiting
    }

    /// Transactions under way, oldest first.
    pub fn flights(&self) -> &BTreeMap<u64, Flight> {
        &self.flights
    }

    pub fn flight(&self, transaction: &Hash) -> Option<&Flight> {
        self.flights
            .values()
            .find(|flight| flight.transaction == *transaction)
    }

    /// Whether this very report is here already.
    pub fn has(&self, outgoing: &Outgoing) -> bool {
        self.names.contains(&outgoing.name())
    }

    /// Everything about a device that is not settled.
    pub fn of_device<'a>(&'a self, device: &'a Id) -> impl Iterator<Item = &'a Outgoing> {
        let flying = self
            .flights
            .values()
            .flat_map(|flight| flight.items.values());
        let all = flying
            .chain(self.waiting.values())
            .map(|waiting| &waiting.outgoing);
        all.filter(move |outgoing| outgoing.device() == device)
    }

    /// The highest sequence number used.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The highest number given to a report.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of everything that is not settled, about as much as it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Does what a record says.
    ///
    /// # Errors
    /// It does not fit; nothing has changed.
    pub fn apply(&mut self, record: Record) -> Result<(), Contradiction> {
        match record {
            Record::Add {
                number,
                batch_max,
                outgoing,
            } => self.add(number, batch_max, *outgoing),
            Record::Sign {
                sequence,
                items,
                transaction,
                envelope,
            } => self.sign(sequence, items, transaction, *envelope),
            Record::Settle { transaction } => {
                let flight = self.land(&transaction)?;
                for waiting in flight.items.values() {
                    self.names.remove(&waiting.outgoing.name());
                    self.bytes -= waiting.bytes;
                }
                Ok(())
            }
            Record::Requeue {
                transaction,
                batch_max,
            } => {
                let flight = self.land(&transaction)?;
                for (number, mut waiting) in flight.items {
                    waiting.batch_max = waiting.batch_max.min(batch_max).max(1);
                    self.waiting.insert(number, waiting);
                }
                Ok(())
            }
            Record::Counters { sequence, number } => {
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
        outgoing: Outgoing,
    ) -> Result<(), Contradiction> {
        let flying = |flight: &Flight| flight.items.contains_key(&number);
        if self.waiting.contains_key(&number) || self.flights.values().any(flying) {
            return Err(Contradiction::Twice(number));
        }
        let bytes = codec::encode(&outgoing).len() as u64;
        self.names.insert(outgoing.name());
        self.waiting.insert(
            number,
            Waiting {
                outgoing,
                batch_max,
                bytes,
            },
        );
        self.number = self.number.max(number);
        self.bytes += bytes;
        Ok(())
    }

    fn sign(
        &mut self,
        sequence: u64,
        numbers: Vec<u64>,
        transaction: Hash,
        envelope: SignedTransaction,
    ) -> Result<(), Contradiction> {
        if self.flights.contains_key(&sequence) {
            return Err(Contradiction::Sequence(sequence));
        }
        if let Some(number) = numbers
            .iter()
            .find(|number| !self.waiting.contains_key(number))
        {
            return Err(Contradiction::NotWaiting(*number));
        }
        let taken = numbers
            .into_iter()
            .filter_map(|number| self.waiting.remove_entry(&number));
        let items = taken.collect();
        let bytes = codec::encode(&envelope).len() as u64;
        self.bytes += bytes;
        self.sequence = self.sequence.max(sequence);
        self.flights.insert(
            sequence,
            Flight {
                transaction,
                envelope,
                items,
                bytes,
            },
        );
        Ok(())
    }

    fn land(&mut self, transaction: &Hash) -> Result<Flight, Contradiction> {
        let mut flights = self.flights.iter();
        let found = flights.find(|(_, flight)| flight.transaction == *transaction);
        let sequence = found.map(|(sequence, _)| *sequence);
        let flight = sequence.and_then(|sequence| self.flights.remove(&sequence));
        let flight = flight.ok_or(Contradiction::NoFlight(*transaction))?;
        self.bytes -= flight.bytes;
        Ok(flight)
    }

    /// The records from which this state comes again.
    pub fn records(&self) -> Vec<Record> {
        let mut records = vec![Record::Counters {
            sequence: self.sequence,
            number: self.number,
        }];
        let add = |(number, waiting): (&u64, &Waiting)| Record::Add {
            number: *number,
            batch_max: waiting.batch_max,
            outgoing: Box::new(waiting.outgoing.clone()),
        };
        for (sequence, flight) in &self.flights {
            records.extend(flight.items.iter().map(add));
            records.push(Record::Sign {
                sequence: *sequence,
                items: flight.items.keys().copied().collect(),
                transaction: flight.transaction,
                envelope: Box::new(flight.envelope.clone()),
            });
        }
        records.extend(self.waiting.iter().map(add));
        records
    }
}
