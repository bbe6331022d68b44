use lamplighter_types::{AlarmId, DeploymentState, Fact, Id, Notification, SkipReason};

use super::{because, hash, key, role, target, words};
use crate::guards;

/// A notification in a line.
pub fn notification(notification: &Notification) -> String {
    let Notification { place, fact } = notification;
    let device = place.as_ref().map_or("a device", |p| p.device.as_str());
    self::fact(device, fact)
}

/// A fact in a line; `device` is the one that it is about, if it is about one. Each contract's
/// facts have a function of their own.
fn fact(device: &str, fact: &Fact) -> String {
    use Fact::*;
    let line = match fact {
        OrganizationRegistered { .. } | AccountRegistered { .. } => of_people(fact),
        RoleGranted { .. } | RoleRevoked { .. } => of_people(fact),
        KeyAdded { .. } | KeyRevoked { .. } | AccountDisabled { .. } => of_people(fact),
        AccountEnabled { .. } | AccountRecovered { .. } => of_people(fact),
        RegistrantCreated { .. } | RegistrantLinked { .. } => of_people(fact),
        TransferOffered { .. } | TransferWithdrawn | TransferAccepted { .. } => {
            of_devices(device, fact)
        }
        DeviceRegistered
        | DeviceAssigned { .. }
        | DeviceTagged
        | DeviceSuspended { .. }
        | DeviceResumed
        | DeviceDecommissioned { .. }
        | DeviceReset { .. }
        | DeviceKeyReplaced { .. }
        | HardwareReleased
        | InventoryReported { .. }
        | DeviceDrifted { .. }
        | ThingRegistered { .. }
        | SpecRegistered { .. } => of_devices(device, fact),
        ReleasePublished { .. } | ReleaseApproved { .. } => of_firmware(fact),
        ReleaseApprovalWithdrawn { .. } | ReleaseReleased { .. } => of_firmware(fact),
        ReleaseDeprecated { .. } | ReleaseRevoked { .. } => of_firmware(fact),
        ReleaseWithdrawn { .. } | ReleaseLapsed { .. } => of_firmware(fact),
        DeviceRunsRevoked { release } => {
            format!("{device} runs the revoked release {release}").into()
        }
        RevocationTraced { .. } => of_firmware(fact),
        ArtifactHeld { .. } | ArtifactDropped { .. } => of_firmware(fact),
        RolloutPlanned { .. } | RolloutApproved { .. } | RolloutApprovalWithdrawn { .. } => {
            of_rollouts(device, fact)
        }
        GroupOpened { .. } | GroupReady { .. } | ConsentDecided { .. } => of_rollouts(device, fact),
        RolloutLapsed { .. }
        | RolloutStarted { .. }
        | RolloutPaused { .. }
        | RolloutResumed { .. }
        | RolloutStopping { .. }
        | RolloutStopped { .. }
        | RolloutFinished { .. }
        | RolloutAmended { .. }
        | DeploymentMoved { .. }
        | DeploymentSkipped { .. }
        | ReportRefused { .. } => of_rollouts(device, fact),
        DesiredSet { .. } | ConfigReported { .. } => of_config(device, fact),
        EventAppended { .. } | EventGapSeen { .. } => of_events(device, fact),
        MessageRefused { .. }
        | AlarmRaised { .. }
        | AlarmCleared { .. }
        | AlarmAcknowledged { .. } => of_events(device, fact),
        AlarmEvicted { .. } | AlarmNotRaised { .. } => of_events(device, fact),
        ValidatorAdded { .. } | ValidatorRemoved { .. } => of_governance(fact),
        ObserverAdded { .. } | ObserverRemoved { .. } => of_governance(fact),
        ChangeProposed { .. }
        | ChangeApproved { .. }
        | ApprovalWithdrawn { .. }
        | ProposalWithdrawn { .. }
        | ProposalExpired { .. }
        | ProposalCarriedOut { .. }
        | PoliciesSet
        | ProtocolSet { .. } => of_governance(fact),
    };
    line.unwrap_or_else(|| words(&fact.kind()))
}

fn of_people(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::OrganizationRegistered { organization } => {
            format!("organization {organization} registered")
        }
        Fact::AccountRegistered { account } => format!("account {account} registered"),
        Fact::RoleGranted {
            account,
            role: granted,
            scope,
        } => format!("{account} is now {}", role(*granted, scope)),
        Fact::RoleRevoked {
            account,
            role: revoked,
            scope,
        } => format!("{account} is no longer {}", role(*revoked, scope)),
        Fact::KeyAdded { account, key: new } => format!("{account} has the new key {}", key(new)),
        Fact::KeyRevoked { account, key: old } => {
            format!("the key {} of {account} revoked", key(old))
        }
        Fact::AccountDisabled { account } => format!("account {account} disabled"),
        Fact::AccountEnabled { account } => format!("account {account} enabled"),
        Fact::AccountRecovered { account } => {
            format!("account {account} recovered with a new key")
        }
        Fact::RegistrantCreated { registrant } => format!("registrant {registrant} created"),
        Fact::RegistrantLinked {
            registrant,
            organization,
        } => format!("registrant {registrant} acts for {organization}"),
        _ => return None,
    })
}

fn of_devices(device: &str, fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::DeviceRegistered => format!("{device} registered"),
        Fact::DeviceAssigned {
            gateway: Some(gateway),
        } => format!("{device} given to {gateway}"),
        Fact::DeviceAssigned { gateway: None } => format!("{device} taken from its gateway"),
        Fact::DeviceTagged => format!("{device} has new tags"),
        Fact::TransferOffered { to } => format!("{device} offered to {to}"),
        Fact::TransferWithdrawn => format!("{device} offered no longer"),
        Fact::TransferAccepted { owner } => format!("{device} belongs to {owner}"),
        Fact::DeviceSuspended { reason } => format!("{device} suspended{}", because(reason)),
        Fact::DeviceResumed => format!("{device} resumed"),
        Fact::DeviceDecommissioned { reason } => {
            format!("{device} decommissioned{}", because(reason))
        }
        Fact::DeviceReset { counters } => format!("{device} reset: {}", super::counters(counters)),
        Fact::DeviceKeyReplaced { key: new } => format!("{device} has the new key {}", key(new)),
        Fact::HardwareReleased => format!("the key of {device} may be registered again"),
        Fact::InventoryReported { digest } => {
            format!("{device} runs the image {}", hash(digest))
        }
        Fact::DeviceDrifted { expected, running } => format!(
            "{device} runs the image {}, not {} as was confirmed",
            hash(running),
            hash(expected)
        ),
        Fact::ThingRegistered { nonce } => format!("Thing with the nonce {nonce} registered"),
        Fact::SpecRegistered { spec } => format!("specification {spec} registered"),
        Fact::DeviceRunsRevoked { release } => {
            format!("{device} runs the revoked release {release}")
        }
        _ => return None,
    })
}

fn of_firmware(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::ReleasePublished { release, artifact } => {
            format!("release {release} published, image {}", hash(artifact))
        }
        Fact::ReleaseApproved { release, by } => format!("release {release} approved by {by}"),
        Fact::ReleaseApprovalWithdrawn { release, by } => {
            format!("release {release}: {by} withdrew the approval")
        }
        Fact::ReleaseWithdrawn { release } => format!("release {release} withdrawn"),
        Fact::ReleaseLapsed { release } => {
            format!("release {release} lapsed: it was not approved in time")
        }
        Fact::ReleaseReleased { release } => {
            format!("release {release} released: it has the approvals it needs")
        }
        Fact::ReleaseDeprecated { release } => {
            format!("release {release} deprecated: no new rollout")
        }
        Fact::ReleaseRevoked { release, reason } => {
            format!("release {release} revoked{}", because(reason))
        }
        Fact::ArtifactHeld {
            artifact,
            node,
            holders,
        } => format!(
            "node {node} holds the image {}, {holders} in all",
            hash(artifact)
        ),
        Fact::ArtifactDropped { artifact, node } => {
            format!("node {node} drops the image {}", hash(artifact))
        }
        Fact::RevocationTraced { release, devices } => {
            format!("{devices} devices run the revoked release {release}, all named above")
        }
        _ => return None,
    })
}

fn of_rollouts(device: &str, fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::RolloutPlanned { rollout } => format!("rollout {rollout} planned"),
        Fact::RolloutApproved { rollout, by } => format!("rollout {rollout} approved by {by}"),
        Fact::RolloutApprovalWithdrawn { rollout, by } => {
            format!("rollout {rollout}: {by} withdrew the approval")
        }
        Fact::RolloutLapsed { rollout } => {
            format!("rollout {rollout} lapsed: it was not started in time")
        }
        Fact::RolloutStarted { rollout } => format!("rollout {rollout} started"),
        Fact::RolloutPaused { rollout, reason } => {
            format!("rollout {rollout} paused{}", because(reason))
        }
        Fact::RolloutResumed { rollout } => format!("rollout {rollout} resumed"),
        Fact::RolloutStopping { rollout, reason } => {
            format!("rollout {rollout} is being stopped{}", because(reason))
        }
        Fact::RolloutStopped { rollout } => format!("rollout {rollout} stopped"),
        Fact::RolloutFinished { rollout } => format!("rollout {rollout} finished"),
        Fact::RolloutAmended { rollout } => {
            format!("the plan of rollout {rollout} changed: it needs new approvals")
        }
        Fact::GroupOpened { rollout, group } => {
            format!("rollout {rollout}: group {} opened", u64::from(*group) + 1)
        }
        Fact::GroupReady { rollout, group } => format!(
            "rollout {rollout}: group {} passed its gate, and the next one waits to be opened",
            u64::from(*group) + 1
        ),
        Fact::ConsentDecided {
            rollout,
            decision,
            by_thing,
        } => {
            let by = if *by_thing {
                ", signed by the Thing"
            } else {
                ""
            };
            format!("{device}: {} in {rollout}{by}", guards::choice(*decision))
        }
        Fact::DeploymentMoved {
            rollout,
            from,
            to,
            attested,
            code,
        } => moved(device, rollout, *from, *to, *attested, *code),
        Fact::DeploymentSkipped { rollout, reason } => {
            format!("{device} left out of {rollout}: {}", skipped(*reason))
        }
        Fact::ReportRefused {
            rollout,
            to,
            counter,
            code,
        } => format!(
            "{device}: report {counter} of {} for {rollout} refused ({code})",
            words(to)
        ),
        _ => return None,
    })
}

fn moved(
    device: &str,
    rollout: &Id,
    from: Option<DeploymentState>,
    to: DeploymentState,
    attested: bool,
    code: u32,
) -> String {
    let from = from.map_or(String::new(), |from| format!("{} -> ", words(&from)));
    let code = match code {
        0 => String::new(),
        code => format!(", result {code}"),
    };
    let signed = if attested {
        ", signed by the Thing"
    } else {
        ""
    };
    format!("{device} in {rollout}: {from}{}{code}{signed}", words(&to))
}

fn skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NotActive => "it is suspended or decommissioned",
        SkipReason::NoGateway => "it has no gateway",
        SkipReason::HardwareClass => "the release is not for its hardware",
        SkipReason::Busy => "another rollout is at work on it",
        SkipReason::SecurityCounter => "the security counter of the release is below its own",
        SkipReason::RunningVersion => "the release does not replace what it runs",
        SkipReason::Dependency => "it lacks a release that this one depends on",
        SkipReason::ReleaseExpired => "the release has expired",
    }
}

fn of_config(device: &str, fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::DesiredSet {
            target: set,
            version,
        } => format!("configuration {version} of {} set", target(set)),
        Fact::ConfigReported { document, applied } => {
            let did = if *applied { "applied" } else { "did not apply" };
            format!("{device} {did} the configuration {}", hash(document))
        }
        _ => return None,
    })
}

fn of_events(device: &str, fact: &Fact) -> Option<String> {
    let alarm = |alarm: &AlarmId| format!("alarm {} of {}", alarm.sequence, alarm.device);
    Some(match fact {
        Fact::EventAppended {
            kind,
            severity,
            sequence,
            attested,
        } => {
            let signed = if *attested {
                ", signed by the Thing"
            } else {
                ""
            };
            format!(
                "event {sequence} of {device}: {kind}, {}{signed}",
                words(severity)
            )
        }
        Fact::MessageRefused {
            message,
            device,
            number,
            code,
        } => format!("{device}: {} {number} refused ({code})", words(message)),
        Fact::EventGapSeen { first, last } if first == last => {
            format!("event {first} of {device} never came")
        }
        Fact::EventGapSeen { first, last } => {
            format!("events {first} to {last} of {device} never came")
        }
        Fact::AlarmRaised {
            alarm: raised,
            kind,
            severity,
        } => format!("{} raised: {kind}, {}", alarm(raised), words(severity)),
        Fact::AlarmCleared { alarm: cleared } => format!("{} cleared", alarm(cleared)),
        Fact::AlarmAcknowledged {
            alarm: acknowledged,
            by,
        } => format!("{} acknowledged by {by}", alarm(acknowledged)),
        Fact::AlarmEvicted { alarm: evicted } => format!(
            "{} left the state: too many are not acknowledged, or events are numbered anew",
            alarm(evicted)
        ),
        Fact::AlarmNotRaised {
            alarm: refused,
            kind,
            severity,
        } => format!(
            "event {} of {} raised no alarm, there are too many: {kind}, {}",
            refused.sequence,
            refused.device,
            words(severity)
        ),
        _ => return None,
    })
}

fn of_governance(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::ChangeProposed { proposal } => format!("{proposal} proposed"),
        Fact::ChangeApproved { proposal, by } => format!("{proposal} approved by {by}"),
        Fact::ApprovalWithdrawn { proposal, by } => {
            format!("{by} has withdrawn its approval of {proposal}")
        }
        Fact::ProposalWithdrawn { proposal } => format!("the proposal {proposal} is withdrawn"),
        Fact::ProposalExpired { proposal } => format!("the proposal {proposal} has expired"),
        Fact::ProposalCarriedOut { proposal } => format!("the changes of {proposal} are made"),
        Fact::ValidatorAdded { validator } => {
            format!(
                "node {} validates, at {}",
                validator.node, validator.address
            )
        }
        Fact::ValidatorRemoved { node } => format!("node {node} validates no longer"),
        Fact::ObserverAdded { node } => format!("node {node} observes"),
        Fact::ObserverRemoved { node } => format!("node {node} observes no longer"),
        Fact::PoliciesSet => "policies set".to_owned(),
        Fact::ProtocolSet {
            version,
            from_height,
        } => format!("version {version} of the rules from block {from_height} on"),
        _ => return None,
    })
}
