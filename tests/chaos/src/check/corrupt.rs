//! Corruptions of one record of a real run, to show that the checker finds them.

use lamplighter_types::Hash;

use super::{BlockDigest, ChainBlock, Fault, Model};
use crate::history::{History, ReadRecord, ReadResult, SubmitAnswer, WriteRecord};

/// A corruption that must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Corruption {
    /// An acknowledged transaction is removed from the chain.
    Lost,
    /// A transaction is added to the chain once more.
    Doubled,
    /// A byte of a receipt is changed.
    Changed,
    /// A receipt moves to the next height.
    Moved,
    /// An acknowledged transaction is recorded as refused.
    Refused,
    /// A linearizable read shows an older state, which was right once.
    Stale,
    /// A read shows a version that its height does not have.
    WrongRead,
    /// A transaction is recorded as sent after the end of the run.
    OutOfOrder,
    /// A node has a different header.
    NodesDiffer,
    /// An unanswered transaction is not in the chain and has not expired.
    Undecided,
}

/// All corruptions.
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

/// The input of the checker: the records of a whole run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub history: History,
    pub chain: Vec<ChainBlock>,
    pub others: Vec<Vec<BlockDigest>>,
}

impl Evidence {
    /// Corrupts one record. Returns the fault that must be found; `None` without such a record.
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
                let refused = SubmitAnswer::Refused("admission.expired".to_owned());
                self.acknowledged()?.answers[0].answer = refused;
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
                self.history.writes.push(WriteRecord {
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
    fn acknowledged(&mut self) -> Option<&mut WriteRecord> {
        let half = self.history.writes.len() / 2;
        let mut candidates = self.history.writes[half..].iter_mut();
        candidates.find(|write| matches!(write.answers.first(), Some(a) if is_receipt(&a.answer)))
    }

    fn change(&mut self, change: impl FnOnce(&mut crate::history::ReceiptPosition)) -> Option<()> {
        let write = self.acknowledged()?;
        match &mut write.answers[0].answer {
            SubmitAnswer::Receipt(place) => change(place),
            SubmitAnswer::Refused(_) => return None,
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
                model.apply(block.height, entry);
            }
        }
        let mut reads = self.history.reads.iter_mut().rev();
        let read = reads.find(|read| is_register(read))?;
        let ReadResult::Register {
            name,
            version,
            document,
        } = &mut read.result
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
            .find_map(|r| match &mut r.result {
                ReadResult::Register { version, .. } => Some(version),
                _ => None,
            });
        *found? += 1;
        Some(Fault::WrongRead)
    }
}

fn is_receipt(answer: &SubmitAnswer) -> bool {
    matches!(answer, SubmitAnswer::Receipt(_))
}

fn is_register(read: &ReadRecord) -> bool {
    read.linearizable && matches!(read.result, ReadResult::Register { .. })
}
