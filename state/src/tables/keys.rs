//! Every key beside the contracts' state, in one place. Numbers are big-endian and of fixed width,
//! names end with a zero byte; a key begins with a prefix that is its own in its column family.

use lamplighter_store::Cf;
use lamplighter_types::{Hash, Id};

/// A table: where its keys are and what they begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub cf: Cf,
    pub prefix: &'static [u8],
    /// For messages about damaged records.
    pub name: &'static str,
}

const fn table(cf: Cf, prefix: &'static [u8], name: &'static str) -> Table {
    Table { cf, prefix, name }
}

/// height → header
pub(crate) const HEADERS: Table = table(Cf::Blocks, b"h", "headers");
/// height, first index → transactions from that index on
pub(crate) const TRANSACTIONS: Table = table(Cf::Blocks, b"t", "transactions");
/// height, first index → receipts from that index on
pub(crate) const RECEIPTS: Table = table(Cf::Receipts, b"r", "receipts");
/// height, first index → event records from that index on
pub(crate) const EVENTS: Table = table(Cf::Events, b"e", "events");
/// transaction hash → height, index
pub(crate) const PLACES: Table = table(Cf::Transactions, b"p", "transaction places");
/// height → certificate
pub(crate) const CERTIFICATES: Table = table(Cf::Certificates, b"c", "certificates");
/// level, index → hash of a complete subtree
pub(crate) const HISTORY: Table = table(Cf::History, b"n", "history nodes");
/// device, sequence → height, index
pub(crate) const DEVICE_EVENTS: Table = table(Cf::Index, b"e", "events of devices");
/// device, height, receipt → nothing
pub(crate) const DEVICE_RECEIPTS: Table = table(Cf::Index, b"d", "receipts of devices");
/// → height of the newest block
pub(crate) const HEAD: Table = table(Cf::Chain, b"head", "head");
/// → what consensus applied last, in its own words
pub(crate) const MARKER: Table = table(Cf::Chain, b"marker", "marker");
/// → digest of the last batch
pub(crate) const LAST_BATCH: Table = table(Cf::Chain, b"batch", "last batch");
/// height → the validators in force after that block
pub(crate) const VALIDATORS: Table = table(Cf::Chain, b"validators", "validators");
/// height → the header that this node attested
pub(crate) const ATTESTED: Table = table(Cf::Meta, b"attested", "attested headers");
/// → directory of the image that is being installed, none when it is done
pub(crate) const INSTALLING: Table = table(Cf::Meta, b"installing", "installing");

#[cfg(test)]
pub(crate) const ALL: [Table; 15] = [
    HEADERS,
    TRANSACTIONS,
    RECEIPTS,
    EVENTS,
    PLACES,
    CERTIFICATES,
    HISTORY,
    DEVICE_EVENTS,
    DEVICE_RECEIPTS,
    HEAD,
    MARKER,
    LAST_BATCH,
    VALIDATORS,
    ATTESTED,
    INSTALLING,
];

impl Table {
    fn parts(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = self.prefix.to_vec();
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

    /// The beginning of all keys of a device.
    pub fn device(&self, device: &Id) -> Vec<u8> {
        self.parts(&[device.as_str().as_bytes(), &[0]])
    }

    pub fn device_sequence(&self, device: &Id, sequence: u64) -> Vec<u8> {
        [self.device(device), sequence.to_be_bytes().to_vec()].concat()
    }

    pub fn device_item(&self, device: &Id, height: u64, index: u32) -> Vec<u8> {
        let place = [&height.to_be_bytes()[..], &index.to_be_bytes()].concat();
        [self.device(device), place].concat()
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
