//! A thief with the key of an approver, and approvals that do not count.

use lamplighter_types::{
    Action, FirmwareAction, GovernanceChange, Hash, Policies, ReleaseManifest, Role,
    RolloutsAction, SignedRelease, UsersAction,
};

use super::{agree, grant_of};
use crate::DevnetError;
use crate::attacks::{image_of, must_fail, register_user};
use crate::city::id;
use crate::feed::FeedSubscriber;
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::{approve_as, manifest_of, plan_for, publish, wait_stored};

/// The time that the city waits from now on until a new approver counts.
const NEWCOMER_WAIT_MS: u64 = 24 * 3600 * 1000;
const RELEASE: &str = "approved-by-a-thief";

pub(super) async fn run(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let (image, _) = image_of("an image of another maker");
    let manifest = manifest_of(RELEASE, "other-vendor", &image);
    let secret = &devnet.city.member("other-vendor").secret;
    publish(
        &devnet.client("other-vendor")?,
        SignedRelease::sign(&manifest, secret),
    )
    .await?;
    wait_stored(devnet, feed, manifest.artifact).await?;
    dead_approval(devnet, journal, &manifest).await?;
    newcomers(devnet, journal, &manifest).await?;
    let other = Action::Firmware(FirmwareAction::Approve {
        release: manifest.release.clone(),
        manifest: Hash::of(b"another manifest"),
    });
    let approver = devnet.client("approver-1")?;
    let verdict = must_fail(&approver, other, &["firmware.other_manifest"]).await;
    journal.attack("an approval of another manifest", verdict);
    let withdraw = Action::Firmware(FirmwareAction::WithdrawApproval {
        release: manifest.release.clone(),
    });
    let verdict = must_fail(&approver, withdraw, &["firmware.no_approval"]).await;
    journal.attack("an approval withdrawn by another approver", verdict);
    let withdraw = Action::Firmware(FirmwareAction::Withdraw {
        release: manifest.release,
    });
    let vendor = devnet.client("other-vendor")?;
    submit_action(&vendor, "withdrawing a release", withdraw)
        .await
        .map(drop)
}

/// A thief approves, its key is revoked, and an honest second approval is not enough then.
async fn dead_approval(
    devnet: &mut Devnet,
    journal: &mut Journal,
    manifest: &ReleaseManifest,
) -> Result<(), DevnetError> {
    register_user(devnet, "stolen-approver").await?;
    let grants = vec![grant_of("stolen-approver", Role::Approver)];
    agree(devnet, "roles-of-stolen-approver", grants).await?;
    approve_as(&devnet.client("stolen-approver")?, manifest).await?;
    let revoke = UsersAction::RevokeKey {
        account: id("stolen-approver"),
        key: devnet.city.member("stolen-approver").secret.public(),
    };
    let security = devnet.client("security")?;
    submit_action(&security, "revoking a key", Action::Users(revoke)).await?;
    approve_as(&devnet.client("approver-2")?, manifest).await?;
    let verdict = not_released(devnet, "of-a-dead-approval").await;
    journal.attack("an approval that died with its key", verdict);
    Ok(())
}

/// Checks that the release can't be rolled out.
async fn not_released(devnet: &Devnet, rollout: &str) -> Result<String, DevnetError> {
    let plan = plan_for(rollout, RELEASE);
    let plan = Action::Rollouts(RolloutsAction::Plan { plan });
    let operator = devnet.client("operator")?;
    must_fail(&operator, plan, &["firmware.not_released"]).await
}

/// An approver of this minute approves, in a city whose newcomers wait a day.
async fn newcomers(
    devnet: &mut Devnet,
    journal: &mut Journal,
    manifest: &ReleaseManifest,
) -> Result<(), DevnetError> {
    let policies = Policies {
        newcomer_wait_ms: NEWCOMER_WAIT_MS,
        ..devnet.city.genesis.policies
    };
    let changes = vec![GovernanceChange::SetPolicies { policies }];
    agree(devnet, "newcomers-wait", changes).await?;
    register_user(devnet, "new-approver").await?;
    let grants = vec![grant_of("new-approver", Role::Approver)];
    agree(devnet, "roles-of-new-approver", grants).await?;
    approve_as(&devnet.client("new-approver")?, manifest).await?;
    let verdict = not_released(devnet, "of-a-new-approval").await;
    journal.attack("an approval that is too new", verdict);
    Ok(())
}
