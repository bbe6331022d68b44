//! Which state of a deployment may follow which.
//!
//! | from | reported |
//! |---|---|
//! | assigned | offered, not_needed |
//! | offered | downloading, downloaded, not_needed |
//! | downloading | downloaded |
//! | downloaded | installing |
//! | installing | staged, trial, reverted |
//! | staged | trial, reverted |
//! | trial | confirmed, reverted |
//! | any that is not an end | failed, rejected |
//!
//! `downloading` may be left out where the gateway had the artifact already, `staged` where a Thing
//! installs and boots in one go. By the contract itself: everything before installing can be
//! postponed (from offered on), cancelled or superseded; a postponement leads back to where it came
//! from; everything that is not an end can time out or be removed; a failure that is retried leads
//! to assigned.

use lamplighter_types::DeploymentState;

use DeploymentState::*;

/// Whether a report may move a deployment so.
pub fn is_reportable(from: DeploymentState, to: DeploymentState) -> bool {
    match to {
        Offered => from == Assigned,
        NotNeeded => matches!(from, Assigned | Offered),
        Downloading => from == Offered,
        Downloaded => matches!(from, Offered | Downloading),
        Installing => from == Downloaded,
        Staged => from == Installing,
        Trial => matches!(from, Installing | Staged),
        Confirmed => from == Trial,
        Reverted => matches!(from, Installing | Staged | Trial),
        Failed | Rejected => !from.is_end(),
        Assigned | WaitingConsent | Postponed | WaitingWindow | TimedOut | Cancelled
        | Superseded | Removed => false,
    }
}

/// Whether the contract itself may move a deployment so; `None` before it is assigned.
pub fn is_by_contract(from: Option<DeploymentState>, to: DeploymentState) -> bool {
    let Some(from) = from else {
        return matches!(to, Assigned | NotNeeded);
    };
    match to {
        Assigned => from == Failed,
        Postponed => is_postponable(from),
        Offered | Downloading | Downloaded => from == Postponed,
        Cancelled | Superseded => !from.is_past_return(),
        TimedOut | Removed => !from.is_end(),
        WaitingConsent | WaitingWindow | Installing | Staged | Trial | Confirmed | Reverted
        | Failed | Rejected | NotNeeded => false,
    }
}

/// Whether a deployment may be postponed: it was offered, and the Thing does not yet install it.
pub fn is_postponable(from: DeploymentState) -> bool {
    matches!(from, Offered | Downloading | Downloaded | Postponed)
}

/// Whether a Thing that has a key must sign the step itself.
pub(super) fn needs_signature(to: DeploymentState) -> bool {
    !matches!(to, Offered | Downloading | Failed)
}

/// What a step says about the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DigestRule {
    /// There, and that of the artifact.
    Artifact,
    /// That of the artifact, if it is there.
    ArtifactIfAny,
    /// Another one, if it is there: the Thing went back to the old image.
    OtherIfAny,
    Free,
}

pub(super) fn digest_rule(to: DeploymentState) -> DigestRule {
    match to {
        Downloaded | Trial | Confirmed | NotNeeded => DigestRule::Artifact,
        Installing | Staged => DigestRule::ArtifactIfAny,
        Reverted => DigestRule::OtherIfAny,
        Assigned | Offered | WaitingConsent | Postponed | WaitingWindow | Downloading | Failed
        | Rejected | TimedOut | Cancelled | Superseded | Removed => DigestRule::Free,
    }
}
