//! The verification of everything that comes from a node. The gateway acts only on records that are
//! proven from the validators it trusts and recent, and on releases that their vendors signed. A
//! node or broker that lies is refused here.

mod order;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_client::{TrustAnchor, TrustAnchorError};
use lamplighter_contracts::{Reader, config, devices, firmware, rollouts, users};
use lamplighter_state::{Key, StateError};
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use lamplighter_types::proof::{Proven, ProvenRecord, TrustedSet};
use lamplighter_types::report::ReleaseError;
use lamplighter_types::wire::work::{WorkError, WorkMessage};
use lamplighter_types::{
    Deployment, DeploymentState, Device, DeviceState, DeviceStatus, Hash, Id, InstallRules,
    Release, ReleaseManifest, ReleaseStatus, ReportedConfig, Role, SignedRelease, codec,
};
use serde::de::DeserializeOwned;

pub use order::{LedgerPin, OrderClock, OrderProof, OrderRefusal, ProvenOrder};

/// The time by which a certified block may be ahead of the gateway's clock: twice what nodes allow
/// each other. A block from further ahead is not recent; one of the clocks is wrong.
pub const AHEAD_MAX: Duration = Duration::from_secs(60);

/// Why the gateway does not act on a message of a node.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the work is not proven")]
    Work(#[from] WorkError),
    #[error("the validators that the work proves can't be kept")]
    Trust(#[from] TrustAnchorError),
    #[error(
        "a record of the block at height {height} is {age:?} old, at most {age_max:?} is believed"
    )]
    Stale {
        height: u64,
        age: Duration,
        age_max: Duration,
    },
    #[error("the block at height {height} is {ahead:?} ahead of this gateway's clock")]
    Future { height: u64, ahead: Duration },
    #[error(
        "the records are of several blocks, of heights {0} and {1}: they may never have been in \
         force together"
    )]
    SeveralBlocks(u64, u64),
    #[error("a proof in the work is not of a record of the state")]
    NotStateRecord,
    #[error("a record that is needed is not proven, or does not decode")]
    Record(#[from] StateError),
    #[error("the ledger has no {what}")]
    Absent { what: String },
    #[error("the device {device} is not this gateway's")]
    OtherGateway { device: Id },
    #[error("the device {0} is not active")]
    NotActive(Id),
    #[error("the release {0} is not the one that was signed")]
    Manifest(Id),
    #[error("the release is not signed by its key")]
    Signature(#[source] ReleaseError),
    #[error("the key that signed the release {release} is not a key in use of the vendor {vendor}")]
    VendorKey { release: Id, vendor: Id },
    #[error("{0} may not act as a vendor")]
    Vendor(Id),
    #[error("the release {release} is {status:?}")]
    Status { release: Id, status: ReleaseStatus },
    #[error("the release {release} is not for hardware of the class {class}")]
    HardwareClass { release: Id, class: String },
    #[error("the release has security counter {counter}, the device is at {floor}")]
    SecurityCounter { counter: u64, floor: u64 },
    #[error("the release {0} has expired")]
    Expired(Id),
    #[error("an artifact of {0} bytes is not allowed")]
    Size(u64),
}

/// The records of one message in the state of one block, each proven present or absent.
#[derive(Debug, Default)]
pub struct ProvenState {
    /// The value under each key; none: it is proven absent.
    records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Height of the newest certified header that was shown.
    pub head_height: u64,
    /// The block whose state has all records; none without records.
    block: Option<StateBlock>,
    /// The newest validators that the proofs lead to; none without records.
    reached: Option<TrustedSet>,
}

/// The block whose state is proven.
#[derive(Clone, Copy, Debug)]
struct StateBlock {
    height: u64,
    /// When it was made, in Unix ms.
    time_ms: u64,
}

impl Reader for ProvenState {
    fn get<T: DeserializeOwned>(&self, key: &Key<T>) -> Result<Option<T>, StateError> {
        let digits = || hex::encode(key.as_bytes());
        let missing = || StateError::Missing {
            what: format!("a proof of the record {}", digits()),
        };
        let Some(value) = self.records.get(key.as_bytes()).ok_or_else(missing)? else {
            return Ok(None);
        };
        let corrupt = |source| StateError::Corrupt {
            table: "a proven record",
            key: digits(),
            source,
        };
        codec::decode_stored(value).map(Some).map_err(corrupt)
    }

    /// Fails: a set of proofs proves no whole range.
    fn scan<T: DeserializeOwned>(
        &self,
        _: &Key<T>,
        _: Option<&[u8]>,
        _: usize,
    ) -> Result<Vec<(Key<T>, T)>, StateError> {
        Err(StateError::Missing {
            what: "a proof of a whole range".to_owned(),
        })
    }
}

impl VerifyError {
    /// True if the validators that are trusted are so old that the work does not lead on from them.
    pub fn lacks_changes(&self) -> bool {
        matches!(self, Self::Work(error) if error.lacks_changes())
    }
}

impl ProvenState {
    /// Proves every record of a message from the trusted validators, keeps the newest ones that it
    /// shows, and checks that all records are of one block, and that it is recent. Blocks on the
    /// disk.
    ///
    /// The age of a *record's* block counts, not that of the head: an old state can be proven under
    /// a new head as well, and would bring back a deployment that was cancelled. A block from the
    /// future is not recent either: it would stay "recent" for as long as it is ahead.
    ///
    /// # Errors
    /// A proof is not valid, or a record is too old, not of the state or of another block.
    pub fn prove(
        message: &WorkMessage,
        anchor: &TrustAnchor,
        now_ms: u64,
        age_max: Duration,
    ) -> Result<Self, VerifyError> {
        let all = anchor.verify(|trusted| {
            let all = message.proofs.verify(trusted)?;
            let newest = all.iter().map(|proven| &proven.trusted);
            let newest = newest.max_by_key(|reached| reached.height);
            let newest = newest.unwrap_or(trusted).clone();
            Ok::<_, VerifyError>((all, newest))
        })?;
        for proven in &all {
            let (height, time_ms) = (proven.height, proven.time_ms);
            let ahead = Duration::from_millis(time_ms.saturating_sub(now_ms));
            if ahead > AHEAD_MAX {
                return Err(VerifyError::Future { height, ahead });
            }
            let age = Duration::from_millis(now_ms.saturating_sub(time_ms));
            if age > age_max {
                return Err(VerifyError::Stale {
                    height,
                    age,
                    age_max,
                });
            }
        }
        Self::of(all)
    }

    /// The state that proven records show. Each of them was in force at the height of its block.
    /// All together they were if it is the same: else who has the proofs of two blocks could make
    /// up a third state of them.
    fn of(all: Vec<Proven>) -> Result<Self, VerifyError> {
        let mut state = Self::default();
        for proven in all {
            let Proven {
                record,
                height,
                time_ms,
                head_height,
                trusted,
                ..
            } = proven;
            let ProvenRecord::State { key, value } = record else {
                return Err(VerifyError::NotStateRecord);
            };
            let block = state.block.get_or_insert(StateBlock { height, time_ms });
            if block.height != height {
                return Err(VerifyError::SeveralBlocks(block.height, height));
            }
            state.head_height = state.head_height.max(head_height);
            let reached = state.reached.as_ref();
            if reached.is_none_or(|reached| reached.height < trusted.height) {
                state.reached = Some(trusted);
            }
            state.records.insert(key, value);
        }
        Ok(state)
    }

    /// When the block of the records was made, in Unix ms.
    fn proven_ms(&self) -> u64 {
        self.block.map_or(0, |block| block.time_ms)
    }

    /// Height of the block of the records.
    fn height(&self) -> u64 {
        self.block.map_or(0, |block| block.height)
    }
}

/// A proven assignment of a release to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub deployment: Deployment,
    pub device: Device,
    /// Highest report counter that the ledger has seen of the device.
    pub report_counter: u64,
    pub release: SignedRelease,
    pub manifest: ReleaseManifest,
    /// The guards of its plan, if it has some.
    pub rules: Option<InstallRules>,
    /// Height of the block whose state this is.
    pub height: u64,
    /// Height of the certified header that proves it.
    pub head_height: u64,
    /// When the block of its records was made, in Unix ms.
    pub proven_ms: u64,
    /// For a Thing that checks orders itself.
    pub proof: OrderProof,
}

/// A proven deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifiedDeployment {
    Open(Box<Assignment>),
    Ended { state: DeploymentState, height: u64 },
}

/// The record of a device, with the height of its state; `None` if the ledger has no such device or
/// assigned it to another gateway.
pub fn device(
    state: &ProvenState,
    name: &Id,
    gateway: &Id,
) -> Result<(Option<Device>, u64), VerifyError> {
    let key = devices::keys::device(name);
    let found = state.get(&key)?.filter(|device| {
        let is_assigned = device.device == *name && device.gateway.as_ref() == Some(gateway);
        is_assigned && device.status != DeviceStatus::Decommissioned
    });
    Ok((found, state.height()))
}

/// The record of a device of this gateway that is active.
fn active_device(state: &ProvenState, name: &Id, gateway: &Id) -> Result<Device, VerifyError> {
    let (found, _) = device(state, name, gateway)?;
    let device = found.ok_or_else(|| VerifyError::OtherGateway {
        device: name.clone(),
    })?;
    if device.status != DeviceStatus::Active {
        return Err(VerifyError::NotActive(name.clone()));
    }
    Ok(device)
}

/// Verifies a deployment: the device is this gateway's, and the release was signed by its vendor
/// with a key in use, was released, and fits the device.
///
/// # Errors
/// The first condition that is not met; the gateway must not act on the deployment then.
pub fn deployment(
    state: &ProvenState,
    rollout: &Id,
    name: &Id,
    gateway: &Id,
    now_ms: u64,
) -> Result<VerifiedDeployment, VerifyError> {
    let key = rollouts::keys::deployment(rollout, name);
    let height = state.height();
    let absent = || VerifyError::Absent {
        what: format!("deployment of {rollout} to {name}"),
    };
    let deployment = state.get(&key)?.ok_or_else(absent)?;
    if deployment.state.is_end() {
        return Ok(VerifiedDeployment::Ended {
            state: deployment.state,
            height,
        });
    }
    let device = active_device(state, name, gateway)?;
    let counters: DeviceState =
        state
            .get(&devices::keys::state(name))?
            .ok_or_else(|| VerifyError::Absent {
                what: format!("state of the device {name}"),
            })?;
    let (release, manifest) = release(state, &deployment.release)?;
    // A node that leaves them out must not make the gateway install at any time.
    let rules = state.get(&rollouts::keys::install_rules(rollout))?;
    // Once the Thing installs it, it continues, whatever happens to the release.
    if !deployment.state.is_past_return() {
        check_status(state, &deployment.release)?;
        check_fit(&manifest, &device, &counters, now_ms)?;
    }
    Ok(VerifiedDeployment::Open(Box::new(Assignment {
        deployment,
        device,
        report_counter: counters.report_counter,
        release,
        manifest,
        rules,
        height,
        head_height: state.head_height,
        proven_ms: state.proven_ms(),
        proof: OrderProof::default(),
    })))
}

fn release_record(state: &ProvenState, name: &Id) -> Result<Release, VerifyError> {
    let record = state.get(&firmware::keys::release(name))?;
    record.ok_or_else(|| VerifyError::Absent {
        what: format!("release {name}"),
    })
}

/// The release and its manifest, as the vendor signed them.
fn release(
    state: &ProvenState,
    name: &Id,
) -> Result<(SignedRelease, ReleaseManifest), VerifyError> {
    let record = release_record(state, name)?;
    let manifest = record.signed.verify().map_err(VerifyError::Signature)?;
    if manifest != record.manifest || manifest.release != *name {
        return Err(VerifyError::Manifest(name.clone()));
    }
    if manifest.size_bytes == 0 || manifest.size_bytes > ARTIFACT_BYTES_MAX {
        return Err(VerifyError::Size(manifest.size_bytes));
    }
    Ok((record.signed, manifest))
}

/// Checks that a release is released, and signed with a key that its vendor uses. A deprecated
/// release gets no new rollout, but running ones continue.
fn check_status(state: &ProvenState, name: &Id) -> Result<(), VerifyError> {
    let record = release_record(state, name)?;
    if !matches!(
        record.status,
        ReleaseStatus::Released | ReleaseStatus::Deprecated
    ) {
        return Err(VerifyError::Status {
            release: name.clone(),
            status: record.status,
        });
    }
    let vendor = record.manifest.vendor;
    let owner = state.get(&users::keys::key(&record.signed.key))?;
    if !owner.is_some_and(|owner| owner.account == vendor && !owner.revoked) {
        return Err(VerifyError::VendorKey {
            release: name.clone(),
            vendor,
        });
    }
    let account = state.get(&users::keys::account(&vendor))?;
    if !account.is_some_and(|a| !a.disabled && a.has_role_somewhere(Role::Vendor)) {
        return Err(VerifyError::Vendor(vendor));
    }
    Ok(())
}

/// Checks that a release fits a device.
fn check_fit(
    manifest: &ReleaseManifest,
    device: &Device,
    state: &DeviceState,
    now_ms: u64,
) -> Result<(), VerifyError> {
    let release = manifest.release.clone();
    if !manifest.hardware_classes.contains(&device.hardware_class) {
        return Err(VerifyError::HardwareClass {
            release,
            class: device.hardware_class.clone(),
        });
    }
    let (counter, floor) = (manifest.security_counter, state.security_counter);
    if counter < floor {
        return Err(VerifyError::SecurityCounter { counter, floor });
    }
    match manifest.expires_ms {
        Some(at) if at <= now_ms => Err(VerifyError::Expired(release)),
        _ => Ok(()),
    }
}

/// The configuration that a device should have, and the one that it reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredDocument {
    pub device: Id,
    /// The effective document, merged here from the proven parts.
    pub document: String,
    pub hash: Hash,
    pub reported: Option<ReportedConfig>,
    /// The device has a key and signs its reports.
    pub keyed: bool,
    /// Height of the block of its parts.
    pub height: u64,
    /// When that block was made, in Unix ms.
    pub proven_ms: u64,
    /// For a Thing that checks orders itself.
    pub proof: OrderProof,
}

impl DesiredDocument {
    /// True if a report of a document proves that the device got this one. For a device with a key,
    /// only a signed report does: anybody can register in its name.
    pub fn is_reported_by(&self, reported: &Hash, attested: bool) -> bool {
        *reported == self.hash && (attested || !self.keyed)
    }
}

/// Merges the configuration of a device from its proven parts.
///
/// # Errors
/// A part is not proven, or the device is not this gateway's.
pub fn configuration(
    state: &ProvenState,
    name: &Id,
    gateway: &Id,
) -> Result<DesiredDocument, VerifyError> {
    let device = active_device(state, name, gateway)?;
    let (document, hash) = config::effective(state, &device)?;
    let reported = config::reported(state, name)?;
    Ok(DesiredDocument {
        device: name.clone(),
        document,
        hash,
        reported,
        keyed: device.key.is_some(),
        height: state.height(),
        proven_ms: state.proven_ms(),
        proof: OrderProof::default(),
    })
}
