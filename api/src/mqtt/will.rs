//! Wills are kept and handed in by the guard: a will is a transaction that the gateway signed
//! before it vanished.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::connect::Will;
use super::intake::{self, Patience, Verdict};
use super::seat::{Begun, Seat};

/// Waits for the will's delay or the end of the session, whichever is first (MQTT 5, 3.1.3.2.2),
/// and hands it in; not if the client has come back to its session, or the node stops. `begun` was
/// taken before anybody could come back.
pub async fn leave(
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    mut begun: watch::Receiver<Begun>,
    will: Will,
) {
    let kept = seat.with_session(|session| session.expiry);
    let delay = will.delay.min(kept);
    if !delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            // A connection with a new session has ended the old one.
            back = begun.changed() => if back.is_ok() && begun.borrow().resumed { return },
            () = shared.stop.cancelled() => return,
        }
    }
    shared.counters.wills.add(1);
    let account = seat.id.clone();
    let handed = intake::transaction(
        Arc::clone(&shared),
        seat,
        will.submission,
        None,
        Patience::Some,
    );
    if let Verdict::Busy | Verdict::Refused(..) = handed.await {
        tracing::warn!(account, "the ledger did not take the will of a client");
    }
}
