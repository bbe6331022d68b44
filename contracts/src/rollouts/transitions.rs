//! The transitions of a deployment.
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
//! `downloading` may be left out if the gateway had the artifact already, `staged` if a Thing
//! installs and boots in one step. The contract itself can postpone (from offered on), cancel or
//! supersede any deployment before installing; it returns a postponed one to its former state; any
//! deployment that has not ended can time out or be removed; a failure that is retried leads to
//! assigned, or to postponed if the plan waits before a retry.
//!
//! In a plan with guards ([`guards`](super::guards)) the contract leads from downloaded to
//! waiting_consent and back, and a report may also lead
//!
//! | from | reported |
//! |---|---|
//! | downloaded | waiting_window |
//! | offered to waiting_window | postponed |
//! | waiting_consent | downloaded (consent), cancelled (refusal) |
//! | waiting_consent, postponed, waiting_window | installing |

use lamplighter_types::DeploymentState;

use DeploymentState::*;

/// Tells whether a report may move a deployment from one state to the other.
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

/// Tells whether a deployment may move so; `from` is `None` before the assignment.
pub fn is_legal(from: Option<DeploymentState>, to: DeploymentState) -> bool {
    is_by_contract(from, to) || from.is_some_and(|from| is_reportable(from, to))
}

/// Tells whether the contract itself may make this move.
fn is_by_contract(from: Option<DeploymentState>, to: DeploymentState) -> bool {
    let Some(from) = from else {
        return matches!(to, Assigned | NotNeeded);
    };
    match to {
        Assigned => matches!(from, Failed | Postponed),
        Postponed => is_postponable(from) || from == Failed,
        Offered | Downloading => from == Postponed,
        Downloaded => matches!(from, Postponed | WaitingConsent),
        WaitingConsent => matches!(from, Downloaded | WaitingWindow),
        WaitingWindow => from == Downloaded,
        Installing => matches!(from, WaitingConsent | Postponed | WaitingWindow),
        Cancelled | Superseded => !from.is_past_return(),
        TimedOut | Removed => !from.is_end(),
        Staged | Trial | Confirmed | Reverted | Failed | Rejected | NotNeeded => false,
    }
}

/// Tells whether a deployment may be postponed: it was offered, and the Thing does not yet install
/// it.
pub fn is_postponable(from: DeploymentState) -> bool {
    matches!(
        from,
        Offered | WaitingConsent | Postponed | WaitingWindow | Downloading | Downloaded
    )
}

/// Tells whether the image is at the Thing and nothing more was ordered.
pub fn is_held(state: DeploymentState) -> bool {
    matches!(state, Downloaded | WaitingConsent | WaitingWindow)
}

/// Tells whether a Thing that has a key must sign the step itself. A gateway that puts an
/// installation off can do no more than one that does not order it.
pub(super) fn needs_signature(to: DeploymentState) -> bool {
    !matches!(
        to,
        Offered | Postponed | WaitingWindow | Downloading | Failed
    )
}

/// The rule for the digest in a report of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DigestRule {
    /// The digest of the artifact.
    Artifact,
    /// The digest of the artifact, or none.
    ArtifactIfAny,
    /// Another digest, or none: the Thing has reverted to the old image.
    OtherIfAny,
    /// Any digest or none.
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
