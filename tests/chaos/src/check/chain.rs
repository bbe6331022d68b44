//! The chain of a node, reduced to the compared fields, and a model of the state that follows from
//! it.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::{Hash, Id};

/// The effect of an action that clients can read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionEffect {
    /// Replaces a document if its version is still the one named.
    Set {
        register: String,
        /// blake3 of the document.
        document: Hash,
        replaces: u64,
    },
    /// Events: device and number of each.
    Append(Vec<(Id, u64)>),
    Organization(Id),
    /// An effect that clients do not read.
    Other,
}

/// A transaction of a block with its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEntry {
    pub transaction: Hash,
    pub expires_ms: u64,
    /// blake3 of the receipt's bytes.
    pub receipt: Hash,
    pub succeeded: bool,
    pub effect: ActionEffect,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBlock {
    pub height: u64,
    pub header: Hash,
    pub parent: Hash,
    pub timestamp_ms: u64,
    /// blake3 of all its transactions and receipts.
    pub content: Hash,
    pub entries: Vec<ChainEntry>,
}

/// The digest of a block, for the comparison with other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockDigest {
    pub height: u64,
    pub header: Hash,
    pub content: Hash,
}

impl ChainBlock {
    pub fn digest(&self) -> BlockDigest {
        BlockDigest {
            height: self.height,
            header: self.header,
            content: self.content,
        }
    }
}

/// A document from a height on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentVersion {
    pub height: u64,
    pub version: u64,
    pub document: Hash,
}

/// Events of a device from a height on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCount {
    pub height: u64,
    pub count: u64,
    pub highest: u64,
}

/// A model of the state at every height, computed from the blocks alone and without the node's
/// code.
#[derive(Debug, Default)]
pub struct Model {
    registers: BTreeMap<String, Vec<DocumentVersion>>,
    devices: BTreeMap<Id, Vec<EventCount>>,
    used: BTreeMap<Id, BTreeSet<u64>>,
    organizations: BTreeMap<Id, u64>,
}

impl Model {
    /// Applies the next transaction. Returns a description if its outcome is wrong.
    pub fn apply(&mut self, height: u64, entry: &ChainEntry) -> Option<String> {
        match &entry.effect {
            ActionEffect::Set {
                register,
                document,
                replaces,
            } => self.set(height, entry.succeeded, register, *document, *replaces),
            ActionEffect::Append(events) if entry.succeeded => self.append(height, events),
            ActionEffect::Organization(name) => {
                let there = self.organizations.contains_key(name);
                if entry.succeeded {
                    self.organizations.entry(name.clone()).or_insert(height);
                }
                (there == entry.succeeded)
                    .then(|| format!("{name} was there: {there}, yet success: {}", !there))
            }
            ActionEffect::Append(_) | ActionEffect::Other => None,
        }
    }

    fn set(
        &mut self,
        height: u64,
        succeeded: bool,
        register: &str,
        document: Hash,
        replaces: u64,
    ) -> Option<String> {
        let versions = self.registers.entry(register.to_owned()).or_default();
        let current = versions.last().map_or(0, |last| last.version);
        if succeeded {
            versions.push(DocumentVersion {
                height,
                version: current + 1,
                document,
            });
        }
        (succeeded != (replaces == current)).then(|| {
            format!("{register} had version {current}, {replaces} was replaced: {succeeded}")
        })
    }

    fn append(&mut self, height: u64, events: &[(Id, u64)]) -> Option<String> {
        let mut wrong = None;
        for (device, number) in events {
            if !self.used.entry(device.clone()).or_default().insert(*number) {
                wrong = Some(format!("event {number} of {device} was recorded twice"));
            }
            let counts = self.devices.entry(device.clone()).or_default();
            let last = counts.last().copied().unwrap_or_default();
            counts.push(EventCount {
                height,
                count: last.count + 1,
                highest: last.highest.max(*number),
            });
        }
        wrong
    }

    /// The document of a register after the block of a height.
    pub fn register(&self, name: &str, height: u64) -> Option<DocumentVersion> {
        let versions = self.registers.get(name)?;
        let after = versions.partition_point(|version| version.height <= height);
        versions[..after].last().copied()
    }

    /// The events of a device after the block of a height.
    pub fn device(&self, device: &Id, height: u64) -> EventCount {
        let counts = self.devices.get(device).map_or(&[][..], Vec::as_slice);
        let after = counts.partition_point(|count| count.height <= height);
        counts[..after].last().copied().unwrap_or_default()
    }

    /// The height at which an organization was registered.
    pub fn organization(&self, name: &Id) -> Option<u64> {
        self.organizations.get(name).copied()
    }
}
