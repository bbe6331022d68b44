//! Notifications of contracts to subscribers: one fact each, with the place that it is about.

use serde::{Deserialize, Serialize};

use crate::{
    AlarmId, ConfigTarget, ConsentChoice, DeploymentState, Device, DeviceCounters, Hash, Id,
    PublicKey, Role, Scope, Severity, SkipReason, Validator,
};

/// A fact of a block, for subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Notification {
    /// The device it is about, if any.
    pub place: Option<Place>,
    pub fact: Fact,
}

/// The device, district and gateway by which a subscription selects a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Place {
    pub device: Id,
    pub district: Scope,
    pub gateway: Option<Id>,
}

/// The fact that a notification reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Fact {
    OrganizationRegistered {
        organization: Id,
    },
    AccountRegistered {
        account: Id,
    },
    RoleGranted {
        account: Id,
        role: Role,
        scope: Scope,
    },
    RoleRevoked {
        account: Id,
        role: Role,
        scope: Scope,
    },
    KeyAdded {
        account: Id,
        key: PublicKey,
    },
    KeyRevoked {
        account: Id,
        key: PublicKey,
    },
    AccountDisabled {
        account: Id,
    },
    AccountEnabled {
        account: Id,
    },
    AccountRecovered {
        account: Id,
    },
    DeviceRegistered,
    DeviceAssigned {
        gateway: Option<Id>,
    },
    DeviceTagged,
    TransferOffered {
        to: Id,
    },
    TransferWithdrawn,
    TransferAccepted {
        owner: Id,
    },
    DeviceSuspended {
        reason: String,
    },
    DeviceResumed,
    DeviceDecommissioned {
        reason: String,
    },
    /// Numbers of the device were set by governance.
    DeviceReset {
        counters: DeviceCounters,
    },
    DeviceKeyReplaced {
        key: PublicKey,
    },
    /// The device's key may be registered once more.
    HardwareReleased,
    InventoryReported {
        digest: Hash,
    },
    DeviceDrifted {
        expected: Hash,
        running: Hash,
    },
    RegistrantCreated {
        registrant: String,
    },
    ThingRegistered {
        nonce: String,
    },
    SpecRegistered {
        spec: String,
    },
    RegistrantLinked {
        registrant: String,
        organization: Id,
    },
    ReleasePublished {
        release: Id,
        artifact: Hash,
    },
    ReleaseApproved {
        release: Id,
        by: Id,
    },
    ReleaseApprovalWithdrawn {
        release: Id,
        by: Id,
    },
    ReleaseReleased {
        release: Id,
    },
    /// Its author or vendor took it back before it was approved; it has left the state.
    ReleaseWithdrawn {
        release: Id,
    },
    /// It was not approved in time; it has left the state.
    ReleaseLapsed {
        release: Id,
    },
    ReleaseDeprecated {
        release: Id,
    },
    ReleaseRevoked {
        release: Id,
        reason: String,
    },
    ArtifactHeld {
        artifact: Hash,
        node: u64,
        holders: u32,
    },
    /// A validator is going to remove an artifact.
    ArtifactDropped {
        artifact: Hash,
        node: u64,
    },
    RolloutPlanned {
        rollout: Id,
    },
    RolloutApproved {
        rollout: Id,
        by: Id,
    },
    RolloutApprovalWithdrawn {
        rollout: Id,
        by: Id,
    },
    /// The plan was not started in time; it has left the state.
    RolloutLapsed {
        rollout: Id,
    },
    RolloutStarted {
        rollout: Id,
    },
    RolloutPaused {
        rollout: Id,
        reason: String,
    },
    RolloutResumed {
        rollout: Id,
    },
    RolloutStopped {
        rollout: Id,
    },
    RolloutFinished {
        rollout: Id,
    },
    DeploymentMoved {
        rollout: Id,
        from: Option<DeploymentState>,
        to: DeploymentState,
        attested: bool,
        code: u32,
    },
    DesiredSet {
        target: ConfigTarget,
        version: u64,
    },
    ConfigReported {
        document: Hash,
        applied: bool,
    },
    EventAppended {
        kind: String,
        severity: Severity,
        sequence: u64,
        attested: bool,
    },
    EventGapSeen {
        first: u64,
        last: u64,
    },
    AlarmRaised {
        alarm: AlarmId,
        kind: String,
        severity: Severity,
    },
    AlarmCleared {
        alarm: AlarmId,
    },
    AlarmAcknowledged {
        alarm: AlarmId,
        by: Id,
    },
    /// An open alarm has left the state: it was cleared and not acknowledged, and made room for a
    /// newer one; or the events of its device are numbered anew.
    AlarmEvicted {
        alarm: AlarmId,
    },
    /// An event raised no alarm, because the device has as many active ones as it may have.
    AlarmNotRaised {
        alarm: AlarmId,
        kind: String,
        severity: Severity,
    },
    ChangeProposed {
        proposal: Id,
    },
    ChangeApproved {
        proposal: Id,
        by: Id,
    },
    /// An approval of a proposal was taken back.
    ApprovalWithdrawn {
        proposal: Id,
        by: Id,
    },
    ProposalWithdrawn {
        proposal: Id,
    },
    ProposalExpired {
        proposal: Id,
    },
    ProposalCarriedOut {
        proposal: Id,
    },
    ValidatorAdded {
        validator: Validator,
    },
    ValidatorRemoved {
        node: u64,
    },
    ObserverAdded {
        node: u64,
    },
    ObserverRemoved {
        node: u64,
    },
    PoliciesSet,
    ProtocolSet {
        version: u32,
        from_height: u64,
    },
    /// No new device begins and what is not yet installing is being cancelled.
    RolloutStopping {
        rollout: Id,
        reason: String,
    },
    DeploymentSkipped {
        rollout: Id,
        reason: SkipReason,
    },
    /// One report of a batch was refused, for the reason that `code` gives.
    ReportRefused {
        rollout: Id,
        to: DeploymentState,
        counter: u64,
        code: String,
    },
    /// One message of a batch was refused, for the reason that `code` gives; the others count.
    MessageRefused {
        message: MessageKind,
        device: Id,
        /// Sequence number of an event, or counter of a report.
        number: u64,
        code: String,
    },
    /// A plan was replaced; its approvals have ended.
    RolloutAmended {
        rollout: Id,
    },
    GroupOpened {
        rollout: Id,
        group: u32,
    },
    /// The group has passed its gate; a person opens the next one.
    GroupReady {
        rollout: Id,
        group: u32,
    },
    /// The device runs a release that was revoked: it was found, or reported the image since.
    DeviceRunsRevoked {
        release: Id,
    },
    /// All devices that ran a revoked release have been named; whoever reports it from now on is
    /// named then.
    RevocationTraced {
        release: Id,
        devices: u64,
    },
    /// A person or a Thing decided about the installation of a deployment.
    ConsentDecided {
        rollout: Id,
        decision: ConsentChoice,
        by_thing: bool,
    },
}

/// The kind of a message of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MessageKind {
    Event,
    Inventory,
    Config,
}

impl Notification {
    /// A notification about no device in particular.
    pub fn city(fact: Fact) -> Self {
        Self { place: None, fact }
    }

    /// A notification about a device, for those who follow it, its gateway or its district.
    pub fn about_device(device: &Device, fact: Fact) -> Self {
        let place = Place {
            device: device.device.clone(),
            district: device.district.clone(),
            gateway: device.gateway.clone(),
        };
        Self {
            place: Some(place),
            fact,
        }
    }
}

impl Fact {
    /// The name of the fact as in its JSON form, e.g. `device_registered`.
    pub fn kind(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(serde_json::Value::Object(map)) => {
                map.keys().next().expect("an enum has one key").clone()
            }
            _ => unreachable!("facts are unit or struct variants"),
        }
    }
}
