//! The history of records: the index of receipts by subject.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_store::{Direction, KvView, WriteBatch};
use lamplighter_types::{
    AlarmId, ConfigTarget, Fact, Header, Id, Notification, PublicKey, Receipt, SignedTransaction,
    TransactionError,
};

use Fact::*;

use super::blocks::{headers, items};
use super::keys::{RECEIPTS, SUBJECT_RECEIPTS, TRANSACTIONS, last_item};
use super::row;
use crate::StateError;

/// A record whose changes can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Organization(Id),
    Account(Id),
    /// Everything that happened to a device.
    Device(Id),
    /// Changes of the record of a device alone.
    DeviceRecord(Id),
    Release(Id),
    Rollout(Id),
    /// The desired document of a target.
    Config(ConfigTarget),
    Alarm(AlarmId),
    Proposal(Id),
    /// The ledger itself: its nodes, policies and protocol.
    Governance,
}

/// The author and time of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorship {
    /// Time of the block, Unix ms.
    pub time_ms: u64,
    /// The account that signed; `None` when the time of the block alone was the cause.
    pub author: Option<Id>,
    /// The key of the author that signed.
    pub key: Option<PublicKey>,
}

/// A receipt with its notifications about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    pub height: u64,
    /// Place of the receipt in its block; with `height` it is the cursor.
    pub index: u32,
    pub authorship: Authorship,
    /// The receipt, with the notifications about this subject only.
    pub receipt: Receipt,
}

/// Adds the receipts of a block to the index by subject.
pub(super) fn put(batch: &mut WriteBatch, height: u64, receipts: &[Arc<Receipt>]) {
    for (receipt, index) in receipts.iter().zip(0u32..) {
        let subjects = receipt.notifications.iter().flat_map(subjects);
        for subject in subjects.collect::<BTreeSet<_>>() {
            let key = SUBJECT_RECEIPTS.subject_item(&subject, height, index);
            row::put(batch, SUBJECT_RECEIPTS, key, &());
        }
    }
}

/// The subjects of a notification: a device, another record, or both. Appended events have an index
/// of their own and do not count as history.
fn subjects(notification: &Notification) -> impl Iterator<Item = Subject> + use<> {
    let Notification { place, fact } = notification;
    let is_event = matches!(fact, Fact::EventAppended { .. });
    let device = place.as_ref().filter(|_| !is_event);
    let record = device.filter(|_| changes_device(fact));
    let record = record.map(|place| Subject::DeviceRecord(place.device.clone()));
    let device = device.map(|place| Subject::Device(place.device.clone()));
    device.into_iter().chain(record).chain(record_of(fact))
}

/// Tells whether a fact changes the record of its device, not only the state that the device
/// reports.
fn changes_device(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::DeviceRegistered
            | Fact::DeviceAssigned { .. }
            | Fact::DeviceTagged
            | Fact::TransferOffered { .. }
            | Fact::TransferWithdrawn
            | Fact::TransferAccepted { .. }
            | Fact::DeviceSuspended { .. }
            | Fact::DeviceResumed
            | Fact::DeviceDecommissioned { .. }
            | Fact::DeviceReset { .. }
            | Fact::DeviceKeyReplaced { .. }
            | Fact::HardwareReleased
    )
}

/// The record that a fact changes, unless it is the device that the notification names. The moves
/// of deployments are in the history of their devices only: in that of the rollout they would hide
/// the actions of people.
fn record_of(fact: &Fact) -> Option<Subject> {
    Some(match fact {
        OrganizationRegistered { organization } | RegistrantLinked { organization, .. } => {
            Subject::Organization(organization.clone())
        }
        AccountRegistered { account }
        | RoleGranted { account, .. }
        | RoleRevoked { account, .. }
        | KeyAdded { account, .. }
        | KeyRevoked { account, .. }
        | AccountDisabled { account }
        | AccountEnabled { account }
        | AccountRecovered { account } => Subject::Account(account.clone()),
        ReleasePublished { release, .. }
        | ReleaseApproved { release, .. }
        | ReleaseApprovalWithdrawn { release, .. }
        | ReleaseReleased { release }
        | ReleaseDeprecated { release }
        | ReleaseRevoked { release, .. }
        | RevocationTraced { release, .. } => Subject::Release(release.clone()),
        ReleaseWithdrawn { release } | ReleaseLapsed { release } => {
            Subject::Release(release.clone())
        }
        RolloutPlanned { rollout }
        | RolloutApproved { rollout, .. }
        | RolloutApprovalWithdrawn { rollout, .. }
        | RolloutLapsed { rollout }
        | RolloutStarted { rollout }
        | RolloutPaused { rollout, .. }
        | RolloutResumed { rollout }
        | RolloutStopping { rollout, .. }
        | RolloutStopped { rollout }
        | RolloutFinished { rollout }
        | RolloutAmended { rollout }
        | GroupOpened { rollout, .. }
        | GroupReady { rollout, .. } => Subject::Rollout(rollout.clone()),
        DesiredSet { target, .. } => Subject::Config(target.clone()),
        AlarmRaised { alarm, .. }
        | AlarmCleared { alarm }
        | AlarmAcknowledged { alarm, .. }
        | AlarmEvicted { alarm }
        | AlarmNotRaised { alarm, .. } => Subject::Alarm(alarm.clone()),
        ChangeProposed { proposal }
        | ChangeApproved { proposal, .. }
        | ApprovalWithdrawn { proposal, .. }
        | ProposalWithdrawn { proposal }
        | ProposalExpired { proposal }
        | ProposalCarriedOut { proposal } => Subject::Proposal(proposal.clone()),
        ValidatorAdded { .. }
        | ValidatorRemoved { .. }
        | ObserverAdded { .. }
        | ObserverRemoved { .. }
        | PoliciesSet
        | ProtocolSet { .. } => Subject::Governance,
        DeviceRegistered | DeviceAssigned { .. } | DeviceTagged => return None,
        TransferOffered { .. } | TransferWithdrawn | TransferAccepted { .. } => return None,
        DeviceSuspended { .. } | DeviceResumed | DeviceDecommissioned { .. } => return None,
        DeviceReset { .. } | DeviceKeyReplaced { .. } | HardwareReleased => return None,
        InventoryReported { .. } | DeviceDrifted { .. } => return None,
        RegistrantCreated { .. } | ThingRegistered { .. } | SpecRegistered { .. } => return None,
        ArtifactHeld { .. } | ArtifactDropped { .. } => return None,
        DeploymentMoved { .. } | DeploymentSkipped { .. } | ReportRefused { .. } => return None,
        ConfigReported { .. } | EventAppended { .. } | EventGapSeen { .. } => return None,
        MessageRefused { .. } | DeviceRunsRevoked { .. } | ConsentDecided { .. } => return None,
    })
}

/// Up to `limit` receipts about a subject, beyond the cursor (height, index) if one is given: above
/// it forwards, below it backwards. The events that a device emitted are under
/// [`device_events`](super::device_events).
pub fn history(
    store: &dyn KvView,
    subject: &Subject,
    cursor: Option<(u64, u32)>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<HistoryEntry>, StateError> {
    let places = places(store, subject, cursor, direction, limit)?;
    entries(store, subject, &places)
}

fn places(
    store: &dyn KvView,
    subject: &Subject,
    cursor: Option<(u64, u32)>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<(u64, u32)>, StateError> {
    let prefix = SUBJECT_RECEIPTS.subject(subject);
    let cursor =
        cursor.map(|(height, index)| SUBJECT_RECEIPTS.subject_item(subject, height, index));
    let range = match direction {
        Direction::Forward => row::after(prefix, cursor),
        Direction::Backward => row::before(prefix, cursor),
    };
    let found = row::scan::<()>(store, SUBJECT_RECEIPTS, range, direction)?;
    found
        .take(limit)
        .map(|found| {
            let (key, ()) = found?;
            row::read_key(SUBJECT_RECEIPTS, &key, last_item(&key))
        })
        .collect()
}

fn entries(
    store: &dyn KvView,
    subject: &Subject,
    places: &[(u64, u32)],
) -> Result<Vec<HistoryEntry>, StateError> {
    let receipts = items(store, RECEIPTS, places, |_, mut receipt: Receipt| {
        let is_about =
            |notification: &Notification| subjects(notification).any(|about| about == *subject);
        receipt.notifications.retain(is_about);
        // A receipt of a thousand devices has room for all of them.
        receipt.notifications.shrink_to_fit();
        Ok(receipt)
    })?;
    let authorships = authorships(store, places)?;
    let entry = |((receipt, authorship), (height, index)): ((Option<Receipt>, _), &(u64, u32))| {
        let missing = || StateError::Missing {
            what: format!("the receipt {height}.{index}, which an index names,"),
        };
        Ok(HistoryEntry {
            height: *height,
            index: *index,
            authorship,
            receipt: receipt.ok_or_else(missing)?,
        })
    };
    let found = receipts.into_iter().zip(authorships).zip(places);
    found.map(entry).collect()
}

/// The authors and times of receipts by height and index, in the order of the places. A receipt
/// beyond the transactions is that of the block itself and has no author.
fn authorships(store: &dyn KvView, places: &[(u64, u32)]) -> Result<Vec<Authorship>, StateError> {
    let heights: Vec<_> = places.iter().map(|(height, _)| *height).collect();
    let headers = headers(store, &heights)?;
    let signer = |(height, index), signed: SignedTransaction| {
        let sender = signed.stored_sender();
        let sender = sender.map_err(|error| undecodable(height, index, error))?;
        Ok((sender, signed.key))
    };
    let signers = items(store, TRANSACTIONS, places, signer)?;
    let authorship = |((header, signer), (height, _)): (_, &(u64, u32))| {
        let (header, signer): (Option<Header>, Option<(Id, PublicKey)>) = (header, signer);
        let missing = || StateError::Missing {
            what: format!("the header {height}, which an index names,"),
        };
        let (author, key) = signer.unzip();
        Ok(Authorship {
            time_ms: header.ok_or_else(missing)?.timestamp_ms,
            author,
            key,
        })
    };
    let found = headers.into_iter().zip(signers).zip(places);
    found.map(authorship).collect()
}

/// The error of a payload that does not decode: it was decoded before it came into the block, so it
/// is damaged.
fn undecodable(height: u64, index: u32, error: TransactionError) -> StateError {
    match error {
        TransactionError::Payload(source) => {
            row::corrupt(TRANSACTIONS, &TRANSACTIONS.item(height, index), source)
        }
        error => StateError::Missing {
            what: format!("the payload of transaction {height}.{index} ({error})"),
        },
    }
}
