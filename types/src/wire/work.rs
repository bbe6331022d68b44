//! Work messages: a node names work for a gateway, with everything that proves it (topic
//! `lamplighter/1/gw/{gw}/work`).
//!
//! A [`WorkMessage`] is JSON of at most [`WORK_BYTES_MAX`]. Its items only *name* deployments and
//! devices: a gateway acts on the proven records of [`ProofSet`] alone, so that a node or broker
//! can leave work out, which its silence shows, but can't invent or alter any.
//!
//! | item | records that the set must prove, each present or absent |
//! |---|---|
//! | [`Device`](WorkItem::Device) | the device |
//! | [`Deployment`](WorkItem::Deployment) at work | the deployment, the guards of its plan, the device, its `DeviceState`, the release, the vendor's account, the `KeyRecord` of the key that signed the release |
//! | [`Deployment`](WorkItem::Deployment) that ended | the deployment |
//! | [`Range`](WorkItem::Range) | none |
//! | [`Config`](WorkItem::Config) | the device, what it reported, and the desired documents of the fleet, its model, each level of its district from the outermost on, and the device itself |
//!
//! The keys are those of the contracts (`devices::keys`, `rollouts::keys`, `firmware::keys`,
//! `users::keys`, `config::keys`). Records are those of the newest state, and all of one block: a
//! gateway refuses a message whose records are of several ones, a
//! record whose block is older than its limit, or lower than the block of that record that it has
//! already. Items of one message may share records. A node sends several messages if one is too
//! short, and repeats open work again and again. A gateway tells what it holds in a
//! [`SyncRequest`], by digests of ranges and by names where a digest differs, and gets the
//! difference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::limits::PROOF_BYTES_MAX;
use crate::proof::{
    Ancestor, CertifiedHeader, PROOF_VERSION, ProofBundle, ProofError, Proven, RecordProof,
    SetChange, TrustedSet, verify_head, verify_record,
};
use crate::{Device, Id};

/// Bytes of a message: with its topic it fits one MQTT packet of the edge.
pub const WORK_BYTES_MAX: usize = 255 * 1024;
/// Number of items of one message.
pub const WORK_ITEMS_MAX: usize = 256;
/// Number of records proven by one message; items share many of them.
pub const WORK_RECORDS_MAX: usize = 1_024;
/// Number of heads and headers above the records of one message. A message of a node has one; other
/// sets may have several.
pub const WORK_HEADERS_MAX: usize = 64;
/// Number of devices in one [`SyncRequest`]: with the longest names it still fits a packet.
pub const DEVICES_HELD_MAX: usize = 2_000;
/// Number of set changes that lead to a head, the newest: with sets of the largest size they are a
/// third of a message. A gateway that needs more fetches them over HTTP.
pub const WORK_SET_CHANGES_MAX: usize = 4;
/// Number of digests in one [`SyncRequest`]: with the longest names they are 20 KiB.
pub const SYNC_RANGES_MAX: usize = 64;
/// Version of the format.
pub const WORK_VERSION: u32 = 2;

/// A gateway's request for its work (topic `lamplighter/1/gw/{gw}/sync`, JSON).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncRequest {
    /// `height.index` in the feed that the gateway has seen; it gets all open work nevertheless.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub since: Option<Cursor>,
    /// The devices that the gateway holds in a range. It then gets those that differ on the ledger,
    /// also those that are no longer assigned to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<DevicesHeld>,
    /// Digests of what the gateway holds in ranges that follow each other and do not overlap, at
    /// most [`SYNC_RANGES_MAX`]. Where the ledger differs, the node asks for the range
    /// ([`WorkItem::Range`]). With neither digests nor devices it gets all its devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeDigest>,
}

/// The names after `after` up to `until`, in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RangeDigest {
    /// The range begins after this name; with the first name if there is none.
    #[serde(default)]
    pub after: Option<Id>,
    /// The range ends with this name; with the last name if there is none.
    #[serde(default)]
    pub until: Option<Id>,
    /// Number of devices that the gateway holds in the range.
    pub count: u32,
    pub digest: DevicesDigest,
}

/// A digest of devices: the first 16 bytes, in hexadecimal digits, of the BLAKE3 digest of a text
/// with two lines for each device, in the order of their names: its name and its [`DeviceMark`].
/// Like a mark it decides only which work is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DevicesDigest(String);

/// Makes a [`DevicesDigest`] of devices that are added in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct DevicesDigester {
    hasher: blake3::Hasher,
    count: u32,
}

impl DevicesDigester {
    pub fn add(&mut self, name: &Id, mark: &DeviceMark) {
        for line in [name.as_str(), &mark.0] {
            self.hasher.update(line.as_bytes()).update(b"\n");
        }
        self.count = self.count.saturating_add(1);
    }

    /// The number of the devices, and their digest.
    pub fn finish(&self) -> (u32, DevicesDigest) {
        let digest = self.hasher.finalize();
        let digits = hex::encode(&digest.as_bytes()[..16]);
        (self.count, DevicesDigest(digits))
    }
}

/// The devices that a gateway holds among the names after `after` up to `until`, in the order of
/// their bytes. A gateway with more than [`DEVICES_HELD_MAX`] sends several requests, one for each
/// range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DevicesHeld {
    /// The range begins after this name; with the first name if there is none.
    #[serde(default)]
    pub after: Option<Id>,
    /// The range ends with this name; with the last name if there is none.
    #[serde(default)]
    pub until: Option<Id>,
    /// All devices that it holds in the range.
    pub devices: BTreeMap<Id, DeviceMark>,
}

/// A mark that distinguishes two records of a device: the first 8 bytes of the BLAKE3 digest of the
/// record's encoding, in hexadecimal digits. It decides only which work is sent, never what is
/// believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceMark(String);

impl DeviceMark {
    /// The mark of a record.
    pub fn of(device: &Device) -> Self {
        Self(hex::encode(&crate::codec::digest(device).0[..8]))
    }
}

/// Work for one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkMessage {
    /// Version of this format: 2.
    pub version: u32,
    pub gateway: Id,
    /// `height.index` in the feed up to which the message is complete: the next `since`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub cursor: Cursor,
    pub items: Vec<WorkItem>,
    pub proofs: ProofSet,
}

/// One piece of work.
// The derived order is that of sets and has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WorkItem {
    /// A device was assigned to the gateway, taken from it, or changed. Proven: the device or its
    /// absence.
    Device { device: Id },
    /// A deployment of one of its devices was assigned or changed its state. Proven: the deployment
    /// and, unless it has ended, the guards of its plan, there or absent, the device, its state,
    /// the release, the vendor's account and the record of the key that signed the release.
    Deployment { rollout: Id, device: Id },
    /// The effective configuration of one of its devices may not be the reported one. Proven: the
    /// device, what it reported, and the desired documents of the fleet, its model, each level of
    /// its district from the outermost on, and the device itself, each there or absent.
    Config { device: Id },
    /// The node asks what the gateway holds among the names after `after` up to `until`: the ledger
    /// has other devices there than the gateway's digest says. Answered by a [`SyncRequest`] with
    /// the devices, or with the digests of smaller ranges. Nothing is proven.
    Range {
        #[serde(default)]
        after: Option<Id>,
        #[serde(default)]
        until: Option<Id>,
    },
}

/// Several [`ProofBundle`]s with the parts that they share kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProofSet {
    pub heads: Vec<ProvenHead>,
    pub ancestors: Vec<Ancestor>,
    pub records: Vec<SharedRecord>,
}

/// A certified header with the newest set changes that lead to its validators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProvenHead {
    pub certified: CertifiedHeader,
    pub set_changes: Vec<SetChange>,
}

/// A record and where its header is in the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SharedRecord {
    /// Index in `heads`.
    pub head: u32,
    /// Index in `ancestors`; none if the head is the record's block.
    pub ancestor: Option<u32>,
    pub record: RecordProof,
}

/// Why a work message is refused.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    #[error("{got} bytes are more than the {WORK_BYTES_MAX} of a message")]
    TooLong { got: usize },
    #[error("the message is not work")]
    Malformed(#[source] crate::codec::CodecError),
    #[error("the message has version {got}, this gateway knows {WORK_VERSION}")]
    Version { got: u32 },
    #[error("the message is for the gateway {got}")]
    OtherGateway { got: Id },
    #[error("{got} {what} are more than the {limit} allowed")]
    TooMany {
        what: &'static str,
        got: usize,
        limit: usize,
    },
    #[error("record {record} names a header that the message does not have")]
    Dangling { record: usize },
    #[error("record {record} is not proven")]
    Proof {
        record: usize,
        #[source]
        source: ProofError,
    },
}

impl WorkError {
    /// True if the message does not lead from the trusted validators to those of its heads.
    pub fn lacks_changes(&self) -> bool {
        matches!(self, Self::Proof { source, .. } if source.lacks_changes())
    }
}

impl WorkMessage {
    /// The JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("our types have JSON forms")
    }

    /// Decodes a message for `gateway` and checks its form and counts; nothing is proven yet.
    ///
    /// # Errors
    /// Too long, malformed, for another gateway, of another version, or too many parts.
    pub fn from_json(bytes: &[u8], gateway: &Id) -> Result<Self, WorkError> {
        if bytes.len() > WORK_BYTES_MAX {
            return Err(WorkError::TooLong { got: bytes.len() });
        }
        let message: Self = crate::codec::decode_json(bytes).map_err(WorkError::Malformed)?;
        if message.version != WORK_VERSION {
            return Err(WorkError::Version {
                got: message.version,
            });
        }
        if message.gateway != *gateway {
            return Err(WorkError::OtherGateway {
                got: message.gateway,
            });
        }
        limit("items", message.items.len(), WORK_ITEMS_MAX)?;
        message.proofs.check()?;
        Ok(message)
    }
}

fn limit(what: &'static str, got: usize, limit: usize) -> Result<(), WorkError> {
    if got > limit {
        return Err(WorkError::TooMany { what, got, limit });
    }
    Ok(())
}

impl ProofSet {
    /// Adds a bundle.
    pub fn add(&mut self, bundle: ProofBundle) {
        let ProofBundle {
            version: _,
            record,
            ancestor,
            head,
            set_changes,
        } = bundle;
        let head = ProvenHead {
            certified: head,
            set_changes,
        };
        let shared = SharedRecord {
            head: index_of(&mut self.heads, head),
            ancestor: ancestor.map(|ancestor| index_of(&mut self.ancestors, ancestor)),
            record,
        };
        if !self.records.contains(&shared) {
            self.records.push(shared);
        }
    }

    /// Makes a set of bundles, in their order; equal parts are kept once.
    pub fn from_bundles(bundles: impl IntoIterator<Item = ProofBundle>) -> Self {
        let mut set = Self::default();
        bundles.into_iter().for_each(|bundle| set.add(bundle));
        set
    }

    fn check(&self) -> Result<(), WorkError> {
        limit("heads", self.heads.len(), WORK_HEADERS_MAX)?;
        limit("ancestors", self.ancestors.len(), WORK_HEADERS_MAX)?;
        limit("records", self.records.len(), WORK_RECORDS_MAX)
    }

    /// Proves every record from a trusted set, or from that of a genesis file. A head that several
    /// records share is verified once, so that a message costs as many signatures as it carries.
    ///
    /// # Errors
    /// Too many parts, or the first record that is not proven.
    pub fn verify(&self, trusted: impl Into<TrustedSet>) -> Result<Vec<Proven>, WorkError> {
        self.check()?;
        let trusted = trusted.into();
        let mut reached: Vec<Option<TrustedSet>> = vec![None; self.heads.len()];
        let records = self.records.iter().enumerate();
        let proven = records.map(|(record, shared)| {
            let dangling = WorkError::Dangling { record };
            let failed = |source| WorkError::Proof { record, source };
            let Some((head, ancestor)) = self.headers(shared) else {
                return Err(dangling);
            };
            let known = &mut reached[shared.head as usize];
            let reached = match known {
                Some(reached) => reached,
                None => known.insert(
                    verify_head(&head.certified, &head.set_changes, &trusted).map_err(failed)?,
                ),
            };
            let head = &head.certified.header;
            verify_record(&shared.record, ancestor, head, reached).map_err(failed)
        });
        proven.collect()
    }

    fn headers(&self, shared: &SharedRecord) -> Option<(&ProvenHead, Option<&Ancestor>)> {
        let head = self.heads.get(shared.head as usize)?;
        let ancestor = match shared.ancestor {
            Some(at) => Some(self.ancestors.get(at as usize)?),
            None => None,
        };
        Some((head, ancestor))
    }

    /// The proofs of the records of the state under these keys alone, with the headers that they
    /// need.
    pub fn select(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Self {
        let wanted = self.records.iter().enumerate().filter(|(_, shared)| {
            matches!(&shared.record, RecordProof::State { key, .. } if is_wanted(&key.0))
        });
        Self::from_bundles(wanted.filter_map(|(at, _)| self.bundle(at)))
    }

    /// Height of the lowest block that a record is of; `None` without records.
    pub fn oldest_height(&self) -> Option<u64> {
        let headers = self.records.iter().filter_map(|shared| {
            let (head, ancestor) = self.headers(shared)?;
            Some(ancestor.map_or(&head.certified.header, |ancestor| &ancestor.header))
        });
        headers.map(|header| header.height).min()
    }

    /// The bundle of one record; `None` if the record or a header that it names is missing.
    pub fn bundle(&self, record: usize) -> Option<ProofBundle> {
        let shared = self.records.get(record)?;
        let (head, ancestor) = self.headers(shared)?;
        Some(ProofBundle {
            version: PROOF_VERSION,
            record: shared.record.clone(),
            ancestor: ancestor.cloned(),
            head: head.certified.clone(),
            set_changes: head.set_changes.clone(),
        })
    }
}

/// The index of `value` in the list, to which it is added if it is missing.
fn index_of<T: PartialEq>(list: &mut Vec<T>, value: T) -> u32 {
    match list.iter().rposition(|known| *known == value) {
        Some(at) => at as u32,
        None => {
            list.push(value);
            (list.len() - 1) as u32
        }
    }
}

const _: () = assert!(WORK_BYTES_MAX < PROOF_BYTES_MAX);
