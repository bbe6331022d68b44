//! Staged delivery of releases: rollouts, and the deployment of each device.
//!
//! # A rollout
//! `pending_approval → approved → running ⇄ paused`, and from there `paused_by_errors`, `stopping →
//! stopped` or `finished`.
//!
//! | action | who, over all districts of the plan | refused |
//! |---|---|---|
//! | plan | operator | release not released or expired; an unknown device listed; id taken |
//! | approve | approver | author of the plan; a second time; another plan; not waiting for approval |
//! | start | operator | not approved; release no longer released; too many rollouts at work |
//! | pause, resume | operator | not running, not paused; after an error pause: not newly approved |
//! | cancel | operator | ended already |
//! | postpone | operator of the device's district | not offered yet; too late; critical release; above the plan's caps |
//! | report | the device's gateway | see below |
//!
//! A running rollout assigns the devices of its selection, a bounded number in each block. A device
//! that can't take the release is skipped and counted, with the reason in a notification. A device
//! that runs the image already needs none. A device at which an older rollout is at work is
//! skipped, unless that deployment is not yet installing and of a lower version: then it is
//! superseded. Devices registered after the expansion has passed their place are not part of the
//! rollout.
//!
//! Only *confirmed* is a success. *Reverted, failed, rejected, timed out* are failures: silence
//! counts. As soon as more than `error_percent_max` of at least `error_sample_min` ended
//! deployments failed, the rollout pauses by itself. When nothing is left to wait for, the share
//! counts whatever the sample: a rollout in which too much failed does not finish, it waits for
//! people. Resuming after such a pause takes new approvals of the plan, and the gate then looks at
//! what comes after.
//!
//! While a rollout is paused nothing new is offered and no download begins, and the timers before
//! installing begin anew when they are up. What a Thing reports of itself is always taken: a pause
//! must not make the ledger blind. A gateway that had not yet seen the pause (`seen_height`) may
//! still report its offer.
//!
//! Cancelling a rollout, or revoking its release, cancels what is not yet installing, a bounded
//! number in each block; what is past that goes on to its end, and then the rollout is stopped.
//!
//! # A deployment
//! [`transitions`] has the table. Reports carry the state that the ledger has (a stale one is
//! refused), the result, the digest and a counter above all earlier ones of the device. From
//! `downloaded` on a Thing that has a key signs them; its gateway alone may report `offered`,
//! `downloading` and, when the Thing can't speak, `failed`, which is marked as not attested. A
//! Thing without a key is vouched for by its gateway, marked the same. The counter of an unsigned
//! report of a Thing that has a key is not looked at: a bad gateway could use up the Thing's
//! numbers.
//!
//! `failed` leads back to `assigned` while retries are left, when the Thing itself says so before
//! its trial or when installing has not begun; `rejected` (wrong hardware, signature or precursor)
//! and `reverted` never do.
//!
//! Each report of a batch is taken or refused by itself, so that a stale one does not hold back
//! another device's end; the receipt names the refused ones. If none is taken the transaction fails
//! with the first one's reason.
//!
//! When a Thing confirms a deployment that has already ended otherwise (it was silent for too long,
//! or the recall came too late), the end stays as it is, and so do the counts; the device's record
//! tells what runs, and the deployment gets a step that says so.

mod device_state;
mod error;
mod error_gate;
mod execute;
mod expand;
pub mod keys;
mod operator_actions;
mod plan;
mod read;
mod reports;
#[cfg(test)]
mod tests;
mod tick;
mod timers;
pub mod transitions;
mod unit;

pub use error::RolloutsError;
pub use execute::{check, execute};
pub use operator_actions::{device_left, recall};
pub use read::{deployment, deployments, deployments_of_device, rollout, rollouts};
pub use tick::{due_ms, tick};

/// Rollouts begun and not ended. Bounds what a block has to look at, and a release's recall.
pub const ROLLOUTS_AT_WORK_MAX: usize = 64;
/// Steps kept of one deployment; a deployment without retries has nine.
pub const DEPLOYMENT_STEPS_MAX: usize = 32;
/// Bytes kept of the detail of a step; the block has the whole text.
pub const STEP_DETAIL_BYTES_MAX: usize = 256;
/// No step takes longer, and nothing is put off longer than this: a year.
pub const STEP_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
