//! Rollouts, the staged delivery of releases, and the deployments of their devices.
//!
//! # A rollout
//! `pending_approval → approved → running ⇄ paused`, and from there `paused_by_errors`, `stopping →
//! stopped` or `finished`.
//!
//! | action | who, over all districts of the plan | refused |
//! |---|---|---|
//! | plan | operator | release not released, expired, or its approvals count no more; its vendor does not serve a district; an unknown device listed; id taken; 16 plans of the sender's organization are open |
//! | approve, renew an approval | approver | author of the plan; a second time; another plan; begun and not paused; open for too long |
//! | withdraw an approval | who gave it | none given |
//! | start | operator | not approved, or approvals of plan or release count no more; open for too long; no slot free |
//! | pause | operator | not running |
//! | resume | operator | not paused; approvals of plan or release count no more; after an error pause: not newly approved |
//! | open a group | operator | not running; approvals of plan or release count no more; not the next one; its gate |
//! | cancel | operator | ended already |
//! | postpone | operator of the device's district | not offered yet; too late; critical release; above the plan's caps |
//! | consent, withdraw it, refuse | whom the plan asks for it | not offered yet; too late; the plan asks nobody |
//! | report | the device's gateway | see below |
//!
//! The roles are those for every device that the selection can reach: a filter names a district,
//! and covers all below it; a list takes the districts of its devices, which never change. An
//! approval counts only while it is alive
//! ([`users::live_approvals`](crate::users::live_approvals)): approver, role and key are looked at
//! again at each approval, at the start and whenever the rollout is resumed. One person is enough
//! to pause and to cancel.
//!
//! A running rollout pauses in the block in which an approver of its plan, or of its release, loses
//! role, key or account, if the approvals that are left are fewer than the policy asks for. Who
//! approves again lets it resume. What only time or the approver's own will ends does not stop what
//! has begun: an approval that expires or is withdrawn, a key that its owner rotates.
//!
//! A plan that was not started is *open*. Each organization has 16 at most; one that was not
//! started in the policy's time lapses, and leaves the state with the next plan. [`slots`] has the
//! shares of the rollouts that have begun.
//!
//! A running rollout assigns the devices of its selection, a bounded number in each block. A device
//! that can't install the release is skipped and counted, with the reason in a notification. A
//! device that runs the image already needs no deployment. A device with an active deployment of
//! another rollout is skipped, unless that deployment is not yet installing and of a lower version:
//! then it is superseded. Devices registered after the expansion has passed their place are not
//! part of the rollout.
//!
//! Only *confirmed* is a success. *Reverted, failed, rejected, timed out* are failures, so silence
//! counts as one. As soon as more than `error_percent_max` of at least `error_sample_min` ended
//! deployments failed, the error gate pauses the rollout. When no deployment is left, the gate
//! looks at the share whatever the size of the sample: a rollout in which too many failed does not
//! finish but waits for people. Resuming after such a pause takes new approvals of the plan, and
//! the gate then counts from there.
//!
//! While a rollout is paused, nothing new is offered, no download begins, and timers before
//! installing start again when they expire. A Thing's report about itself is always accepted: a
//! pause must not make the ledger blind. A gateway that had not yet seen the pause (`seen_height`)
//! may still report its offer.
//!
//! Cancelling a rollout, or revoking its release, cancels the deployments that are not yet
//! installing, a bounded number in each block. The others continue to their end, and then the
//! rollout is stopped; in a rollout in groups each of them gets a step that says so. From protocol
//! version 2 on, the blocks after a revocation also name each device that runs the release, and a
//! device that reports the image after them is named then. What nobody released is not searched
//! for.
//!
//! # Groups
//! From protocol version 2 on a rollout can have groups
//! ([`GroupedPlan`](lamplighter_types::GroupedPlan)). They open one after the other; the devices of
//! a group are assigned by blocks as above, from those that no earlier group has. A share is
//! chosen by a digest of rollout and device, so that all nodes choose the same devices without a
//! list.
//!
//! The gate of a group is passed when all of its devices are assigned, `sample_min` deployments
//! have ended with a success or a failure, and so many of all devices, also of those still at
//! work, have confirmed the release as `success_percent_min` says; and when that has been so for
//! `soak_ms`. Then the next group opens, or waits for a person (`next_by_hand`), for which the
//! approvals of plan and release count again. A group that ended below has failed: the rollout
//! pauses, can't be resumed, and is cancelled by people. So has one with nothing to judge: devices
//! that run the release already are no successes. Nothing opens while a rollout is paused, and a
//! soak begins again when it is resumed.
//!
//! The limits count in each group: a share of failures, their number, a share of silent devices.
//! Above one of them the rollout pauses, whichever group it was; after that, resuming takes new
//! approvals of the plan. When no deployment of a group is left, shares count whatever the sample.
//! A stop deadline cancels a rollout that runs or is paused. A continuous rollout also takes
//! devices that begin to match it, into the group that opened last, if one that has opened would
//! have had them; not into one of named devices.
//!
//! `amend` replaces a plan that has not begun: its approvals end, and the sender is the author.
//!
//! # Guards
//! From protocol version 3 on a plan can have [`InstallRules`](lamplighter_types::InstallRules):
//! windows in which devices install, and who has to consent before. [`guards`] has the rules.
//!
//! # A deployment
//! [`transitions`] has the table. Reports carry the state that the ledger has (a stale one is
//! refused), the result, the digest and a counter above all earlier ones of the device. From
//! `downloaded` on a Thing that has a key signs them; its gateway alone may report `offered`,
//! `downloading` and, when the Thing can't report, `failed`, which is marked as not attested. The
//! gateway vouches for a Thing without a key; these steps are marked in the same way. The counter
//! of an unsigned report is ignored if the Thing has a key: a bad gateway could use up the Thing's
//! numbers.
//!
//! A rollout in groups may list the codes that are retried, and wait longer before each retry: the
//! deployment is then postponed by the contract.
//!
//! `failed` leads back to `assigned` while retries are left, if the Thing itself reports it before
//! its trial or if installing has not begun; `rejected` (wrong hardware, signature or precursor)
//! and `reverted` never do.
//!
//! Each report of a batch is accepted or refused on its own, so that a stale one does not hold back
//! the end of another device; the receipt names the refused ones. If none is accepted, the
//! transaction fails with the reason of the first.
//!
//! A Thing may confirm a deployment that has already ended in another state, because it was silent
//! for too long or the recall came too late. Then the end and the counts stay as they are; the
//! device's record gets the running release, and the deployment a step that says so.

mod approving;
mod device_state;
mod error;
mod error_gate;
mod execute;
mod expand;
mod group_gate;
mod grouped;
mod groups;
pub mod guards;
mod kept;
pub mod keys;
mod late;
mod operator_actions;
mod plan;
mod read;
mod reports;
mod revoked;
pub mod slots;
#[cfg(test)]
mod tests;
mod tick;
mod timers;
pub mod transitions;
mod unit;

pub use error::RolloutsError;
pub use execute::{check, execute};
pub use late::devices_changed;
pub use operator_actions::{approvers_lost_power, device_left, recall};
pub use read::*;
pub use revoked::image_reported;
pub use tick::{due_ms, tick};

/// Number of rollouts begun and not ended. It bounds the work of a block and of a release's recall.
pub const ROLLOUTS_AT_WORK_MAX: usize = 64;
/// Number of open plans of one organization: a plan for each of its releases.
pub const OPEN_PLANS_PER_ORGANIZATION_MAX: usize = 16;
/// Number of continuous rollouts at work. It bounds what the change of a device costs.
pub const CONTINUOUS_ROLLOUTS_MAX: usize = 8;
/// Number of devices in one block that are asked whether they run a revoked release.
pub const DEVICES_SEARCHED_PER_BLOCK_MAX: usize = 512;
/// Number of revoked releases whose search is one walk: a vendor revokes those of all its models.
pub const REVOCATIONS_PER_WALK_MAX: usize = 16;
/// Number of releases of an image that are looked at when a device reports it: most have one.
pub const RELEASES_OF_IMAGE_MAX: usize = 64;
/// Number of steps kept of one deployment; a deployment without retries has nine.
pub const DEPLOYMENT_STEPS_MAX: usize = 32;
/// Bytes kept of the detail of a step; the block has the whole text.
pub const STEP_DETAIL_BYTES_MAX: usize = 256;
/// Longest time in ms of a step and of a postponement: a year.
pub const STEP_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
