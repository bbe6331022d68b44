//! All keys of the tables beside the contracts' state. Numbers are big-endian and of fixed width,
//! names end with a zero byte, and each table has a prefix of its own in its column family.

use lamplighter_store::{Cf, KeyRange};
use lamplighter_types::{AlarmId, ConfigTarget, Hash, Id};

use super::device_terms::{DeviceTerm, key_parts};
use super::feed::FeedKey;
use super::history::Subject;

/// A table: the column family and the prefix of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreTable {
    pub cf: Cf,
    pub prefix: &'static [u8],
    /// For messages about damaged records.
    pub name: &'static str,
}

const fn table(cf: Cf, prefix: &'static [u8], name: &'static str) -> StoreTable {
    StoreTable { cf, prefix, name }
}

/// height → header
pub(crate) const HEADERS: StoreTable = table(Cf::Blocks, b"h", "headers");
/// height, first index → transactions from that index on
pub(crate) const TRANSACTIONS: StoreTable = table(Cf::Blocks, b"t", "transactions");
/// height, first index → receipts from that index on
pub(crate) const RECEIPTS: StoreTable = table(Cf::Receipts, b"r", "receipts");
/// height, first index → event records from that index on
pub(crate) const EVENTS: StoreTable = table(Cf::Events, b"e", "events");
/// transaction hash → height, index
pub(crate) const PLACES: StoreTable = table(Cf::Transactions, b"p", "transaction places");
/// height → certificate
pub(crate) const CERTIFICATES: StoreTable = table(Cf::Certificates, b"c", "certificates");
/// level, index → hash of a complete subtree
pub(crate) const HISTORY: StoreTable = table(Cf::History, b"n", "history nodes");
/// device, sequence → height, index
pub(crate) const DEVICE_EVENTS: StoreTable = table(Cf::Index, b"e", "events of devices");
/// subject, height, receipt → nothing
pub(crate) const SUBJECT_RECEIPTS: StoreTable = table(Cf::Index, b"s", "receipts by subject");
/// feed key, height → nothing
pub(crate) const FEED_BLOCKS: StoreTable = table(Cf::Index, b"f", "blocks by notification");
/// → height up to which the blocks by notification are complete
pub(crate) const FEED_INDEXED: StoreTable = table(Cf::Index, b"n", "blocks by notification");
/// term, device → nothing
pub(crate) const DEVICE_TERMS: StoreTable = table(Cf::Index, b"q", "devices by term");
/// device → time at which it was last seen, and whether it ever reported
pub(crate) const DEVICE_SEEN: StoreTable = table(Cf::Index, b"h", "devices last seen");
/// → height up to which the devices by term, and when they were seen, are complete
pub(crate) const DEVICES_INDEXED: StoreTable = table(Cf::Index, b"m", "devices by term");
/// → height of the newest block
pub(crate) const HEAD: StoreTable = table(Cf::Chain, b"head", "head");
/// → the last entry that consensus applied, in its encoding
pub(crate) const MARKER: StoreTable = table(Cf::Chain, b"marker", "marker");
/// → the entry that carried the newest block's batch, in the encoding of consensus
pub(crate) const POSITION: StoreTable = table(Cf::Chain, b"position", "position");
/// height → the validators in force after that block
pub(crate) const VALIDATORS: StoreTable = table(Cf::Chain, b"validators", "validators");
/// height → the header that this node attested
pub(crate) const ATTESTED: StoreTable = table(Cf::Meta, b"attested", "attested headers");
/// → directory of the image that is being installed, none when it is done
pub(crate) const INSTALLING: StoreTable = table(Cf::Meta, b"installing", "installing");

/// height of a certified change of the validators → the step to it from the genesis set. It is of
/// this node alone, made of the other tables.
pub(crate) const SET_PATHS: StoreTable = table(Cf::Meta, b"setpath", "set paths");

#[cfg(test)]
pub(crate) const ALL: [StoreTable; 21] = [
    HEADERS,
    TRANSACTIONS,
    RECEIPTS,
    EVENTS,
    PLACES,
    CERTIFICATES,
    HISTORY,
    DEVICE_EVENTS,
    SUBJECT_RECEIPTS,
    FEED_BLOCKS,
    FEED_INDEXED,
    DEVICE_TERMS,
    DEVICE_SEEN,
    DEVICES_INDEXED,
    HEAD,
    MARKER,
    POSITION,
    VALIDATORS,
    ATTESTED,
    INSTALLING,
    SET_PATHS,
];

impl StoreTable {
    fn parts(&self, parts: &[&[u8]]) -> Vec<u8> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut key = Vec::with_capacity(self.prefix.len() + length);
        key.extend_from_slice(self.prefix);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// The only key of the table.
    pub fn only(&self) -> Vec<u8> {
        self.prefix.to_vec()
    }

    pub fn height(&self, height: u64) -> Vec<u8> {
        self.parts(&[&height.to_be_bytes()])
    }

    pub fn item(&self, height: u64, index: u32) -> Vec<u8> {
        self.parts(&[&height.to_be_bytes(), &index.to_be_bytes()])
    }

    pub fn hash(&self, hash: &Hash) -> Vec<u8> {
        self.parts(&[&hash.0])
    }

    pub fn node(&self, level: u8, index: u64) -> Vec<u8> {
        self.parts(&[&[level], &index.to_be_bytes()])
    }

    /// The prefix of all keys of a term. No such prefix begins another one: each text has its
    /// length before it.
    pub fn term(&self, term: &DeviceTerm) -> Vec<u8> {
        let (kind, first, second) = key_parts(term);
        let length = |text: &[u8]| u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
        let (first_length, second_length) = (length(&first), length(&second));
        self.parts(&[&[kind], &first_length, &first, &second_length, &second])
    }

    /// The key of a device, by its name, under a term.
    pub fn device_term(&self, term: &DeviceTerm, device: &[u8]) -> Vec<u8> {
        [&self.term(term), device].concat()
    }

    /// A name alone.
    pub fn name(&self, name: &Id) -> Vec<u8> {
        self.parts(&[name.as_str().as_bytes()])
    }

    /// The prefix of all keys of a device.
    pub fn device(&self, device: &Id) -> Vec<u8> {
        self.parts(&[device.as_str().as_bytes(), &[0]])
    }

    pub fn device_sequence(&self, device: &Id, sequence: u64) -> Vec<u8> {
        self.parts(&[device.as_str().as_bytes(), &[0], &sequence.to_be_bytes()])
    }

    /// The prefix of all keys of a subject. No such prefix begins another one: the kind is one
    /// byte, a name ends with a zero byte, a number has a fixed width.
    pub fn subject(&self, subject: &Subject) -> Vec<u8> {
        let mut number = None;
        let (kind, name) = match subject {
            Subject::Organization(organization) => (b'o', organization.as_str()),
            Subject::Account(account) => (b'a', account.as_str()),
            Subject::Device(device) => (b'd', device.as_str()),
            Subject::DeviceRecord(device) => (b'e', device.as_str()),
            Subject::Release(release) => (b'f', release.as_str()),
            Subject::Rollout(rollout) => (b'r', rollout.as_str()),
            Subject::Proposal(proposal) => (b'p', proposal.as_str()),
            Subject::Governance => (b'g', ""),
            Subject::Config(ConfigTarget::Fleet) => (b'F', ""),
            Subject::Config(ConfigTarget::Model { model }) => (b'M', model.as_str()),
            Subject::Config(ConfigTarget::District { district }) => (b'S', district.as_str()),
            Subject::Config(ConfigTarget::Device { device }) => (b'D', device.as_str()),
            Subject::Alarm(AlarmId { device, sequence }) => {
                number = Some(sequence.to_be_bytes());
                (b'l', device.as_str())
            }
        };
        let number = number.as_ref().map_or(&[][..], |number| &number[..]);
        self.parts(&[&[kind], name.as_bytes(), &[0], number])
    }

    /// The key of a block under a feed key. No part before the height begins another one.
    pub fn feed_block(&self, key: &FeedKey, height: u64) -> Vec<u8> {
        let (kind, name) = match key {
            FeedKey::Kind(kind) => (b'k', kind.as_str()),
            FeedKey::Device(device) => (b'd', device.as_str()),
            FeedKey::District(district) => (b's', district.as_str()),
        };
        self.parts(&[&[kind], name.as_bytes(), &[0], &height.to_be_bytes()])
    }

    /// The keys of a feed key's blocks from `from` up to `until`.
    pub fn feed_blocks(&self, key: &FeedKey, from: u64, until: u64) -> KeyRange {
        let mut end = self.feed_block(key, until);
        end.push(0);
        KeyRange::between(self.feed_block(key, from), end)
    }

    pub fn subject_item(&self, subject: &Subject, height: u64, index: u32) -> Vec<u8> {
        let place = [&height.to_be_bytes()[..], &index.to_be_bytes()].concat();
        [self.subject(subject), place].concat()
    }
}

/// The number in the last eight bytes of a key.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

/// Height and index in the last twelve bytes of a key.
pub(crate) fn last_item(key: &[u8]) -> Option<(u64, u32)> {
    let (rest, index) = key.split_last_chunk::<4>()?;
    Some((last_number(rest)?, u32::from_be_bytes(*index)))
}
