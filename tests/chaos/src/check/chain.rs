//! The chain as a node tells it, reduced to what is compared, and what it makes of the state.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::{Hash, Id};

/// What a transaction asks for, as far as clients can read it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
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
    /// Nothing that clients read.
    Other,
}

/// A transaction of a block with its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub transaction: Hash,
    pub expires_ms: u64,
    /// blake3 of the receipt's bytes.
    pub receipt: Hash,
    pub succeeded: bool,
    pub effect: Effect,
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
    pub entries: Vec<Entry>,
}

/// What another node has at a height: to be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    pub height: u64,
    pub header: Hash,
    pub content: Hash,
}

impl ChainBlock {
    pub fn digest(&self) -> Digest {
        Digest {
            height: self.height,
            header: self.header,
            content: self.content,
        }
    }
}

/// A document from a height on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub height: u64,
    pub version: u64,
    pub document: Hash,
}

/// Events of a device from a height on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub height: u64,
    pub count: u64,
    pub highest: u64,
}

/// The state at every height, computed from the blocks alone and without the node's own code.
#[derive(Debug, Default)]
pub struct Model {
    registers: BTreeMap<String, Vec<Version>>,
    devices: BTreeMap<Id, Vec<Count>>,
    used: BTreeMap<Id, BTreeSet<u64>>,
    organizations: BTreeMap<Id, u64>,
}

impl Model {
    /// Takes the next transaction. Says what is wrong if its outcome can't be the right one.
    pub fn take(&mut self, height: u64, entry: &Entry) -> Option<String> {
        match &entry.effect {
            Effect::Set {
                register,
                document,
                replaces,
            } => self.set(height, entry.succeeded, register, *document, *replaces),
            Effect::Append(events) if entry.succeeded => self.append(height, events),
            Effect::Organization(name) => {
                let there = self.organizations.contains_key(name);
                if entry.succeeded {
                    self.organizations.entry(name.clone()).or_insert(height);
                }
                (there == entry.succeeded)
                    .then(|| format!("{name} was there: {there}, yet success: {}", !there))
            }
            Effect::Append(_) | Effect::Other => None,
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
            versions.push(Version {
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
            counts.push(Count {
                height,
                count: last.count + 1,
                highest: last.highest.max(*number),
            });
        }
        wrong
    }

    /// The document of a register after the block of a height.
    pub fn register(&self, name: &str, height: u64) -> Option<Version> {
        let versions = self.registers.get(name)?;
        let after = versions.partition_point(|version| version.height <= height);
        versions[..after].last().copied()
    }

    /// The events of a device after the block of a height.
    pub fn device(&self, device: &Id, height: u64) -> Count {
        let counts = self.devices.get(device).map_or(&[][..], Vec::as_slice);
        let after = counts.partition_point(|count| count.height <= height);
        counts[..after].last().copied().unwrap_or_default()
    }

    /// The height at which an organization was registered.
    pub fn organization(&self, name: &Id) -> Option<u64> {
        self.organizations.get(name).copied()
    }
}
