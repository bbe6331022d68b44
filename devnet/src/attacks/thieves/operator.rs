//! A thief with the key of an operator.

use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, DeviceCounters, DevicesAction, FirmwareAction,
    GovernanceChange, RolloutsAction, codec,
};

use super::{approve, propose};
use crate::DevnetError;
use crate::attacks::must_fail;
use crate::attacks::releases::plan_for_list;
use crate::city::id;
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::{RELEASE, lamp};

pub(super) async fn run(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    districts(devnet, journal).await?;
    rollouts(devnet, journal).await?;
    repair(devnet, journal).await
}

/// An operator of one district acts for the city, and on a device of nobody's district.
async fn districts(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let maintainer = devnet.client("maintainer")?;
    let config = ConfigAction::SetDesired {
        target: ConfigTarget::Fleet,
        document: "{}".to_owned(),
        replaces_version: 1,
    };
    let verdict = must_fail(&maintainer, Action::Config(config), &["forbidden"]).await;
    journal.attack("a district's operator that configures the city", verdict);
    let gateway = DevicesAction::AssignGateway {
        device: lamp(1),
        gateway: Some(id("operator")),
    };
    let operator = devnet.client("operator")?;
    let codes = ["devices.not_a_gateway"];
    let verdict = must_fail(&operator, Action::Devices(gateway), &codes).await;
    journal.attack("an operator that makes itself a lamp's gateway", verdict);
    let recall = FirmwareAction::Revoke {
        release: id(RELEASE),
        reason: "a thief".to_owned(),
    };
    let verdict = must_fail(
        &operator,
        Action::Firmware(recall),
        &["firmware.not_in_charge"],
    )
    .await;
    journal.attack("an operator that recalls a release", verdict);
    Ok(())
}

/// A plan that nobody approved is approved or started by its author.
async fn rollouts(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let operator = devnet.client("operator")?;
    let rollout = id("of-a-thief");
    let plan = plan_for_list(rollout.as_str(), &id(RELEASE), &[lamp(1)]);
    let approval = RolloutsAction::Approve {
        rollout: rollout.clone(),
        plan: codec::digest(&plan),
    };
    let action = Action::Rollouts(RolloutsAction::Plan { plan });
    submit_action(&operator, "planning a rollout", action).await?;
    let codes = ["forbidden", "rollouts.own_plan"];
    let verdict = must_fail(&operator, Action::Rollouts(approval), &codes).await;
    journal.attack("a plan approved by its author", verdict);
    let start = Action::Rollouts(RolloutsAction::Start {
        rollout: rollout.clone(),
    });
    let verdict = must_fail(&operator, start, &["rollouts.status"]).await;
    journal.attack("a plan started without approvals", verdict);
    let cancel = Action::Rollouts(RolloutsAction::Cancel {
        rollout,
        reason: "of a thief".to_owned(),
    });
    submit_action(&operator, "cancelling a rollout", cancel)
        .await
        .map(drop)
}

/// One operator alone sets the numbers of a device.
async fn repair(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let operator = devnet.client("operator")?;
    let changes = vec![GovernanceChange::ResetDevice {
        device: lamp(1),
        counters: DeviceCounters {
            report_counter: None,
            security_counter: Some(0),
            event_sequence: None,
        },
    }];
    let approval = approve("reset-alone", &changes);
    let verdict = match must_fail(&operator, propose("reset-alone", changes), &["forbidden"]).await
    {
        // Where operators may propose it, one of them is not enough.
        Err(DevnetError::NotRefused(_)) => {
            must_fail(&operator, approval, &["governance.approved"]).await
        }
        verdict => verdict,
    };
    journal.attack("a device's floor lowered by one operator", verdict);
    Ok(())
}
