//! Wills are kept and handed in by the guard: a will is a transaction that the gateway signed
//! before it vanished.

use std::sync::Arc;

use super::Shared;
use super::connect::Will;
use super::intake::{self, Patience, Verdict};
use super::seat::Seat;

/// Waits for the will's delay and hands it in, unless the client came back or the node stops.
pub async fn leave(shared: Arc<Shared>, seat: Arc<Seat>, arrival: u64, will: Will) {
    if !will.delay.is_zero() {
        let mut orders = seat.orders();
        let back = orders.wait_for(|orders| orders.latest > arrival);
        tokio::select! {
            () = tokio::time::sleep(will.delay.min(shared.config.session_time)) => {}
            _ = back => return,
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
