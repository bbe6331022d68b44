//! The certificate on a header that changes the validators, fetched from a node that has it.
//!
//! Of any other header a later certificate does as well. This one holds up all above it, and those
//! who could sign it again may be gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lamplighter_state::StateError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::attest;
use crate::chain::Halt;
use crate::inner::Inner;
use crate::message::{PeerAnswer, PeerRequest};

/// Between two looks whether one is missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let work = async {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = look(&inner).await {
                inner.chain.halt(Halt::Store(error.to_string()));
                tracing::error!(%error, "no certificates can be looked for: the store failed");
                return;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Asks the others if they have told of a certificate above the first one that is missing here.
async fn look(inner: &Arc<Inner>) -> Result<(), StateError> {
    let Some(height) = inner.chain.first_uncertified_change()? else {
        return Ok(());
    };
    if inner.told_height.load(Ordering::Relaxed) < height {
        return Ok(());
    }
    for node in inner.peers.connected() {
        let answer = inner
            .peers
            .request(node, PeerRequest::Certificate { height });
        if let Ok(PeerAnswer::Certificate(certificate)) = answer.await {
            attest::take_certificate(inner, *certificate)?;
        }
        if inner.chain.certified_height() >= height {
            return Ok(());
        }
    }
    Ok(())
}
