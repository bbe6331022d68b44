use lamplighter_types::{
    Action, AlarmId, ConfigAction, ConsentDecision, DevicesAction, EventsAction, FirmwareAction,
    GovernanceAction, GroupedPlan, GuardedPlan, RolloutPlan, RolloutsAction, UsersAction,
};

use super::{because, changes, hash, key, members, names, place, role, selection, target};
use crate::{guards, time};

/// An action in a line.
pub fn action(action: &Action) -> String {
    match action {
        Action::Users(action) => of_users(action),
        Action::Devices(action) => of_devices(action),
        Action::Firmware(action) => of_firmware(action),
        Action::Rollouts(action) => of_rollouts(action),
        Action::Config(action) => of_config(action),
        Action::Events(action) => of_events(action),
        Action::Governance(action) => of_governance(action),
    }
}

fn of_users(action: &UsersAction) -> String {
    match action {
        UsersAction::RegisterOrganization { organization, name } => {
            format!("register the organization {organization} ({name})")
        }
        UsersAction::RegisterUser {
            account,
            organization,
            name,
            key: public_key,
            proof: _,
        } => format!(
            "register the user {account} ({name}) of {organization} with the key {}",
            key(public_key)
        ),
        UsersAction::RegisterGateway {
            account,
            organization,
            district,
            key: public_key,
            proof: _,
        } => format!(
            "register the gateway {account} of {organization} for {} with the key {}",
            place(district),
            key(public_key)
        ),
        UsersAction::Grant {
            account,
            role: granted,
            scope,
        } => format!("make {account} {}", role(*granted, scope)),
        UsersAction::Revoke {
            account,
            role: revoked,
            scope,
        } => format!("make {account} no longer {}", role(*revoked, scope)),
        UsersAction::AddKey {
            key: new,
            label,
            proof: _,
        } => format!(
            "add the key {} ({label}) to the account that signs this",
            key(new)
        ),
        UsersAction::RotateKey { new_key, proof: _ } => {
            format!("replace the key that signs this by {}", key(new_key))
        }
        UsersAction::RevokeKey { account, key: old } => {
            format!("revoke the key {} of {account}", key(old))
        }
        UsersAction::Disable { account } => format!("disable {account}"),
    }
}

fn of_devices(action: &DevicesAction) -> String {
    match action {
        DevicesAction::Register { devices } => {
            let all: Vec<_> = devices.iter().map(|device| &device.device).collect();
            format!("register {}", names(&all))
        }
        DevicesAction::AssignGateway {
            device,
            gateway: Some(gateway),
        } => format!("give {device} to {gateway}"),
        DevicesAction::AssignGateway {
            device,
            gateway: None,
        } => format!("take {device} from its gateway"),
        DevicesAction::Tag { device, tags } => {
            let tags: Vec<_> = tags
                .iter()
                .map(|tag| format!("{}={}", tag.name, tag.value))
                .collect();
            format!("tag {device} with {}", tags.join(" "))
        }
        DevicesAction::OfferTransfer { device, to } => format!("offer {device} to {to}"),
        DevicesAction::WithdrawTransfer { device } => format!("withdraw the offer of {device}"),
        DevicesAction::AcceptTransfer { device } => format!("accept {device}"),
        DevicesAction::Suspend { device, reason } => {
            format!("suspend {device}{}", because(reason))
        }
        DevicesAction::Resume { device } => format!("resume {device}"),
        DevicesAction::Decommission { device, reason } => {
            format!("decommission {device}{}", because(reason))
        }
        DevicesAction::ReportInventory { reports } => {
            let all: Vec<_> = reports.iter().map(|report| &report.device).collect();
            format!("report what devices run: {}", names(&all))
        }
        DevicesAction::RotateKeys { rotations } => {
            let all: Vec<_> = rotations.iter().map(|rotation| &rotation.device).collect();
            format!("replace the keys of {}, as they have signed", names(&all))
        }
        DevicesAction::IotRegistry {
            function,
            argument: _,
        } => format!("carry out the IOTRegistry operation {function}"),
        DevicesAction::LinkRegistrant {
            registrant,
            organization,
        } => format!("let the registrant {registrant} act for {organization}"),
    }
}

fn of_firmware(action: &FirmwareAction) -> String {
    match action {
        FirmwareAction::Publish { release } => match release.verify() {
            Ok(manifest) => format!(
                "publish the release {} (version {}, image {})",
                manifest.release,
                manifest.version,
                hash(&manifest.artifact)
            ),
            Err(error) => format!("publish a release that is not one: {error}"),
        },
        FirmwareAction::Approve { release, manifest } => {
            format!(
                "approve the release {release} (manifest {})",
                hash(manifest)
            )
        }
        FirmwareAction::Deprecate { release, reason } => {
            format!("deprecate the release {release}{}", because(reason))
        }
        FirmwareAction::Revoke { release, reason } => {
            format!("revoke the release {release}{}", because(reason))
        }
        FirmwareAction::HoldArtifact {
            artifact,
            size_bytes,
        } => format!("hold the image {} ({size_bytes} bytes)", hash(artifact)),
        FirmwareAction::DropArtifact {
            artifact,
            size_bytes,
        } => format!("drop the image {} ({size_bytes} bytes)", hash(artifact)),
        FirmwareAction::WithdrawApproval { release } => {
            format!("withdraw the approval of the release {release}")
        }
        FirmwareAction::Withdraw { release } => format!("withdraw the release {release}"),
    }
}

fn of_rollouts(action: &RolloutsAction) -> String {
    match action {
        RolloutsAction::Plan { plan } => of_plan(plan),
        RolloutsAction::Approve { rollout, plan } => {
            format!("approve the rollout {rollout} (plan {})", hash(plan))
        }
        RolloutsAction::WithdrawApproval { rollout } => {
            format!("withdraw the approval of the rollout {rollout}")
        }
        RolloutsAction::Start { rollout } => format!("start the rollout {rollout}"),
        RolloutsAction::Pause { rollout, reason } => {
            format!("pause the rollout {rollout}{}", because(reason))
        }
        RolloutsAction::Resume { rollout } => format!("resume the rollout {rollout}"),
        RolloutsAction::Cancel { rollout, reason } => {
            format!("cancel the rollout {rollout}{}", because(reason))
        }
        RolloutsAction::Postpone(p) => {
            let until = match p.until_ms {
                0 => "no longer".to_owned(),
                until_ms => format!("until {}", time::local(until_ms)),
            };
            let (device, rollout) = (&p.device, &p.rollout);
            format!(
                "postpone {device} in {rollout} {until}{}",
                because(&p.reason)
            )
        }
        RolloutsAction::Report { reports } => {
            let all: Vec<_> = reports.iter().map(|report| &report.device).collect();
            format!("report steps of deployments: {}", names(&all))
        }
        RolloutsAction::PlanGroups { plan } => of_grouped_plan(plan, "plan"),
        RolloutsAction::Amend { plan } => of_grouped_plan(plan, "change the plan of"),
        RolloutsAction::OpenGroup { rollout, group } => {
            let number = u64::from(*group) + 1;
            format!("open group {number} of the rollout {rollout}")
        }
        RolloutsAction::PlanGuarded { plan } => of_guarded_plan(plan, "plan"),
        RolloutsAction::AmendGuarded { plan } => of_guarded_plan(plan, "change the plan of"),
        RolloutsAction::Consent(ConsentDecision {
            rollout,
            device,
            decision,
            reason,
        }) => format!(
            "decide about {device} in {rollout}: {}{}",
            guards::choice(*decision),
            because(reason)
        ),
    }
}

fn of_guarded_plan(plan: &GuardedPlan, verb: &str) -> String {
    let rules = guards::rule_members(&plan.rules);
    let rules: Vec<_> = rules
        .iter()
        .map(|(name, rule)| format!("{name} {rule}"))
        .collect();
    format!(
        "{}; {}",
        of_grouped_plan(&plan.plan, verb),
        rules.join(", ")
    )
}

fn of_grouped_plan(plan: &GroupedPlan, verb: &str) -> String {
    let groups: Vec<_> = plan
        .groups
        .iter()
        .map(|group| members(&group.members))
        .collect();
    format!(
        "{verb} the rollout {} of {} to {} in groups: {}",
        plan.base.rollout,
        plan.base.release,
        selection(&plan.base.selection),
        groups.join("; ")
    )
}

fn of_plan(plan: &RolloutPlan) -> String {
    format!(
        "plan the rollout {} of {} to {}",
        plan.rollout,
        plan.release,
        selection(&plan.selection)
    )
}

fn of_config(action: &ConfigAction) -> String {
    match action {
        ConfigAction::SetDesired {
            target: set,
            document,
            replaces_version,
        } => format!(
            "set the configuration of {}, after version {replaces_version}, to {document}",
            target(set)
        ),
        ConfigAction::Report { reports } => {
            let all: Vec<_> = reports.iter().map(|report| &report.device).collect();
            format!("report configurations: {}", names(&all))
        }
    }
}

fn of_events(action: &EventsAction) -> String {
    let alarm = |alarm: &AlarmId| format!("alarm {} of {}", alarm.sequence, alarm.device);
    match action {
        EventsAction::Append { events } => {
            let all = events
                .iter()
                .map(|event| format!("{} {}", event.device, event.sequence));
            format!("record events: {}", names(&all.collect::<Vec<_>>()))
        }
        EventsAction::Acknowledge {
            alarm: acknowledged,
            comment,
        } => format!("acknowledge {}{}", alarm(acknowledged), because(comment)),
        EventsAction::Clear {
            alarm: cleared,
            comment,
        } => format!("clear {}{}", alarm(cleared), because(comment)),
    }
}

fn of_governance(action: &GovernanceAction) -> String {
    match action {
        GovernanceAction::Propose {
            proposal,
            changes: proposed,
        } => format!("propose {proposal}: {}", changes(proposed)),
        GovernanceAction::Approve {
            proposal,
            changes: approved,
        } => format!("approve {proposal} (changes {})", hash(approved)),
        GovernanceAction::Withdraw { proposal } => {
            format!("withdraw the approval of {proposal}")
        }
    }
}
