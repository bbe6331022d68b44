//! Spoils one record of a real run, to show that the checker would have seen it.

use lamplighter_types::Hash;

use super::{ChainBlock, Digest, Fault, Model};
use crate::history::{History, Read, Said, Seen, Write};

/// What is spoilt, and must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Corruption {
    /// An acknowledged transaction is taken out of the chain.
    Lost,
    /// A transaction is put into the chain once more.
    Doubled,
    /// A byte of a receipt is another one.
    Changed,
    /// A receipt moves to the next height.
    Moved,
    /// What was acknowledged is said to have been refused.
    Refused,
    /// A linearizable read shows an older state, which was right once.
    Stale,
    /// A read shows another version than its height has.
    WrongRead,
    /// A transaction is said to have begun after everything had ended.
    OutOfOrder,
    /// A node has another header.
    NodesDiffer,
    /// An unanswered transaction is nowhere and has not expired.
    Undecided,
}

/// Every one of them.
pub const ALL: [Corruption; 10] = [
    Corruption::Lost,
    Corruption::Doubled,
    Corruption::Changed,
    Corruption::Moved,
    Corruption::Refused,
    Corruption::Stale,
    Corruption::WrongRead,
    Corruption::OutOfOrder,
    Corruption::NodesDiffer,
    Corruption::Undecided,
];

/// A whole run, as the checker takes it.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub history: History,
    pub chain: Vec<ChainBlock>,
    pub others: Vec<Vec<Digest>>,
}

impl Evidence {
    /// Spoils one record; the fault that must be reported, none if there is no such record.
    pub fn corrupt(&mut self, corruption: Corruption) -> Option<Fault> {
        match corruption {
            Corruption::Lost => self.lose(),
            Corruption::Doubled => self.double(),
            Corruption::Changed => {
                self.change(|place| place.receipt.0[0] ^= 1)?;
                Some(Fault::Changed)
            }
            Corruption::Moved => {
                self.change(|place| place.height += 1)?;
                Some(Fault::Changed)
            }
            Corruption::Refused => {
                let refused = Said::Refused("admission.expired".to_owned());
                self.acknowledged()?.answers[0].said = refused;
                Some(Fault::RefusedYetThere)
            }
            Corruption::Stale => self.stale(),
            Corruption::WrongRead => self.wrong_read(),
            Corruption::OutOfOrder => {
                self.acknowledged()?.invoked_us = u64::MAX;
                Some(Fault::OutOfOrder)
            }
            Corruption::NodesDiffer => {
                self.others.last_mut()?.last_mut()?.header.0[0] ^= 1;
                Some(Fault::NodesDiffer)
            }
            Corruption::Undecided => {
                self.history.writes.push(Write {
                    transaction: Hash::of(b"nowhere"),
                    invoked_us: 0,
                    expires_ms: u64::MAX,
                    answers: Vec::new(),
                });
                Some(Fault::Undecided)
            }
        }
    }

    /// The acknowledged transaction in the middle of the history.
    fn acknowledged(&mut self) -> Option<&mut Write> {
        let half = self.history.writes.len() / 2;
        let mut later = self.history.writes[half..].iter_mut();
        later.find(|write| matches!(write.answers.first(), Some(a) if is_receipt(&a.said)))
    }

    fn change(&mut self, change: impl FnOnce(&mut crate::history::Place)) -> Option<()> {
        let write = self.acknowledged()?;
        match &mut write.answers[0].said {
            Said::Receipt(place) => change(place),
            Said::Refused(_) => return None,
        }
        Some(())
    }

    fn lose(&mut self) -> Option<Fault> {
        let transaction = self.acknowledged()?.transaction;
        for block in &mut self.chain {
            block
                .entries
                .retain(|entry| entry.transaction != transaction);
        }
        Some(Fault::Lost)
    }

    fn double(&mut self) -> Option<Fault> {
        let filled = self.chain.iter().find(|block| !block.entries.is_empty())?;
        let entry = filled.entries[0].clone();
        self.chain.last_mut()?.entries.push(entry);
        Some(Fault::Doubled)
    }

    /// The state just after the register had its first document, shown at the end.
    fn stale(&mut self) -> Option<Fault> {
        let mut model = Model::default();
        for block in &self.chain {
            for entry in &block.entries {
                model.take(block.height, entry);
            }
        }
        let mut reads = self.history.reads.iter_mut().rev();
        let read = reads.find(|read| is_register(read))?;
        let Seen::Register {
            name,
            version,
            document,
        } = &mut read.seen
        else {
            return None;
        };
        let first = (1..read.height).find_map(|height| model.register(name, height))?;
        (*version, *document) = (first.version, first.document);
        (read.height, read.min_height) = (first.height, 0);
        Some(Fault::Stale)
    }

    fn wrong_read(&mut self) -> Option<Fault> {
        let found = self
            .history
            .reads
            .iter_mut()
            .find_map(|r| match &mut r.seen {
                Seen::Register { version, .. } => Some(version),
                _ => None,
            });
        *found? += 1;
        Some(Fault::WrongRead)
    }
}

fn is_receipt(said: &Said) -> bool {
    matches!(said, Said::Receipt(_))
}

fn is_register(read: &Read) -> bool {
    read.linearizable && matches!(read.seen, Seen::Register { .. })
}
