//! The will of a client: a transaction that a gateway signed before it disappeared.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;

use super::handshake::Will;
use crate::mqtt::Shared;
use crate::mqtt::session::{AccountSession, SessionStart};
use crate::mqtt::submit::{self, BusyPolicy, PublishOutcome};

/// Submits a will after its delay or the end of the session, whichever is first (MQTT 5,
/// 3.1.3.2.2); not if the client has resumed its session, or the node stops. `starts` was taken
/// before the client could come back.
pub async fn publish(
    shared: Arc<Shared>,
    session: Arc<AccountSession>,
    mut starts: watch::Receiver<SessionStart>,
    will: Will,
) {
    let expiry = session.with_session(|session| session.expiry);
    let delay = will.delay.min(expiry);
    if !delay.is_zero() {
        tokio::select! {
            () = sleep(delay) => {}
            // A connection with a new session has ended the old one.
            started = starts.changed() => {
                if started.is_ok() && starts.borrow().resumed {
                    return;
                }
            }
            () = shared.stop.cancelled() => return,
        }
    }
    shared.counters.wills.add(1);
    let (account, policy) = (session.id.clone(), BusyPolicy::Retry);
    let submission = submit::transaction(shared, session, will.submitted, None, policy, false);
    if submission.await != PublishOutcome::Accepted {
        tracing::warn!(%account, "the ledger did not accept the will of a client");
    }
}
