//! The records whose readers are decided.

use lamplighter_state::tables;
use lamplighter_types::{Account, ConfigTarget, Device, Fact, Id, Release, Rollout};

use super::Kind;

/// A record, or its name where it still has to be looked up.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    Common,
    Block,
    Governance,
    Transaction {
        sender: &'a Id,
    },
    Account(&'a Account),
    AccountNamed(&'a Id),
    /// The sessions of an account.
    Sessions(&'a Id),
    Device(&'a Device),
    DeviceNamed(&'a Id),
    Release(&'a Release),
    ReleaseNamed(&'a Id),
    Rollout(&'a Rollout),
    RolloutNamed(&'a Id),
    Config(&'a ConfigTarget),
}

impl<'a> Record<'a> {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Common => Kind::Common,
            Self::Block => Kind::Block,
            Self::Governance => Kind::Governance,
            Self::Transaction { .. } => Kind::Transaction,
            Self::Account(_) | Self::AccountNamed(_) => Kind::Account,
            Self::Sessions(_) => Kind::Session,
            Self::Device(_) | Self::DeviceNamed(_) => Kind::Device,
            Self::Release(_) | Self::ReleaseNamed(_) => Kind::Release,
            Self::Rollout(_) | Self::RolloutNamed(_) => Kind::Rollout,
            Self::Config(_) => Kind::Config,
        }
    }

    /// The record of a history.
    pub fn of_history(subject: &'a tables::Subject) -> Self {
        use tables::Subject;
        match subject {
            Subject::Organization(_) => Self::Common,
            Subject::Account(account) => Self::AccountNamed(account),
            Subject::Device(device) | Subject::DeviceRecord(device) => Self::DeviceNamed(device),
            Subject::Release(release) => Self::ReleaseNamed(release),
            Subject::Rollout(rollout) => Self::RolloutNamed(rollout),
            Subject::Config(target) => Self::Config(target),
            Subject::Alarm(alarm) => Self::DeviceNamed(&alarm.device),
            Subject::Proposal(_) | Subject::Governance => Self::Governance,
        }
    }

    /// The record that a fact is about which has no place.
    pub fn of_fact(fact: &'a Fact) -> Self {
        match fact {
            Fact::OrganizationRegistered { .. }
            | Fact::RegistrantCreated { .. }
            | Fact::ThingRegistered { .. }
            | Fact::SpecRegistered { .. }
            | Fact::RegistrantLinked { .. }
            | Fact::ArtifactHeld { .. }
            | Fact::ArtifactDropped { .. }
            | Fact::ValidatorAdded { .. }
            | Fact::ValidatorRemoved { .. }
            | Fact::ObserverAdded { .. }
            | Fact::ObserverRemoved { .. }
            | Fact::PoliciesSet
            | Fact::ProtocolSet { .. } => Self::Common,
            Fact::AccountRegistered { account }
            | Fact::RoleGranted { account, .. }
            | Fact::RoleRevoked { account, .. }
            | Fact::KeyAdded { account, .. }
            | Fact::KeyRevoked { account, .. }
            | Fact::AccountDisabled { account }
            | Fact::AccountEnabled { account }
            | Fact::AccountRecovered { account } => Self::AccountNamed(account),
            Fact::ReleasePublished { release, .. }
            | Fact::ReleaseApproved { release, .. }
            | Fact::ReleaseApprovalWithdrawn { release, .. }
            | Fact::ReleaseReleased { release }
            | Fact::ReleaseWithdrawn { release }
            | Fact::ReleaseLapsed { release }
            | Fact::ReleaseDeprecated { release }
            | Fact::ReleaseRevoked { release, .. }
            | Fact::RevocationTraced { release, .. } => Self::ReleaseNamed(release),
            Fact::RolloutPlanned { rollout }
            | Fact::RolloutApproved { rollout, .. }
            | Fact::RolloutApprovalWithdrawn { rollout, .. }
            | Fact::RolloutLapsed { rollout }
            | Fact::RolloutStarted { rollout }
            | Fact::RolloutPaused { rollout, .. }
            | Fact::RolloutResumed { rollout }
            | Fact::RolloutStopped { rollout }
            | Fact::RolloutFinished { rollout }
            | Fact::RolloutStopping { rollout, .. }
            | Fact::RolloutAmended { rollout }
            | Fact::GroupOpened { rollout, .. }
            | Fact::GroupReady { rollout, .. } => Self::RolloutNamed(rollout),
            Fact::DesiredSet { target, .. } => Self::Config(target),
            #[rustfmt::skip]
            Fact::ChangeProposed { .. } | Fact::ChangeApproved { .. }
            | Fact::ApprovalWithdrawn { .. } | Fact::ProposalWithdrawn { .. }
            | Fact::ProposalExpired { .. } | Fact::ProposalCarriedOut { .. } => Self::Governance,
            Fact::AlarmRaised { alarm, .. }
            | Fact::AlarmCleared { alarm }
            | Fact::AlarmAcknowledged { alarm, .. }
            | Fact::AlarmEvicted { alarm }
            | Fact::AlarmNotRaised { alarm, .. } => Self::DeviceNamed(&alarm.device),
            // They name no device where they have no place: for those who read everything.
            #[rustfmt::skip]
            Fact::DeviceRegistered | Fact::DeviceAssigned { .. } | Fact::DeviceTagged
            | Fact::TransferOffered { .. } | Fact::TransferWithdrawn
            | Fact::TransferAccepted { .. } | Fact::DeviceSuspended { .. } | Fact::DeviceResumed
            | Fact::DeviceDecommissioned { .. } | Fact::DeviceReset { .. }
            | Fact::DeviceKeyReplaced { .. } | Fact::HardwareReleased
            | Fact::InventoryReported { .. } | Fact::DeviceDrifted { .. }
            | Fact::DeploymentMoved { .. } | Fact::ConfigReported { .. }
            | Fact::EventAppended { .. } | Fact::EventGapSeen { .. }
            | Fact::DeploymentSkipped { .. } | Fact::ReportRefused { .. }
            | Fact::MessageRefused { .. } | Fact::DeviceRunsRevoked { .. }
            | Fact::ConsentDecided { .. } => Self::Governance,
        }
    }
}
