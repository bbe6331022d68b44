//! Whom a node that is behind may talk to, though its chain does not name them yet.
//!
//! A node that was away while the validators changed would refuse the one who leads by now, and
//! never catch up. So as long as it is behind it asks those whom it knows for the validators in
//! force, with the proof from the genesis file up. What is proven says who may connect; the chain
//! that they send is checked as ever.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_state::{StateError, prove};
use lamplighter_types::proof::{ProofError, ProvenRecord, VALIDATOR_SET_KEY};
use lamplighter_types::{ValidatorSet, codec};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::inner::Inner;
use crate::message::{PeerAnswer, PeerError, PeerRequest};
use crate::progress::Phase;

/// Between two questions while the node is behind.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Heartbeats without a new block, after which a node asks whether it misses some.
const STANDS_AFTER: u32 = 2;

/// The validators at a height that this node's chain has not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// From here on the node's own chain knows better.
    pub height: u64,
    pub validators: ValidatorSet,
}

/// Why an answer is not believed.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the proof does not hold")]
    Proof(#[from] ProofError),
    #[error("another record was proven")]
    Record,
}

/// Asks while the node is behind, until `stop`.
pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let work = async {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut head = inner.chain.watch_head();
        let mut grew = Instant::now();
        loop {
            ticks.tick().await;
            if head.has_changed().is_ok_and(|changed| changed) {
                head.mark_unchanged();
                grew = Instant::now();
            }
            // A node that is a little behind takes itself for one that follows.
            let stands = grew.elapsed() > STANDS_AFTER * inner.config.heartbeat_every;
            if stands || inner.progress.borrow().phase != Phase::Following {
                ask_all(&inner).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn ask_all(inner: &Arc<Inner>) {
    for node in inner.peers.connected() {
        match ask(inner, node).await {
            Ok(later) => take(inner, later),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(node, error, "it does not say who validates");
            }
        }
    }
}

async fn ask(inner: &Arc<Inner>, node: u64) -> Result<Later, AskError> {
    let answer = inner.peers.request(node, PeerRequest::Validators).await?;
    let PeerAnswer::Validators(bundle) = answer else {
        return Err(PeerError::Unexpected(node).into());
    };
    let genesis = inner.chain.genesis().clone();
    let verify = move || bundle.verify(&genesis);
    let proven = inner.blocking.run(verify).await?;
    match proven.record {
        ProvenRecord::State {
            key,
            value: Some(value),
        } if key == VALIDATOR_SET_KEY => Ok(Later {
            height: proven.height,
            validators: codec::decode(&value).map_err(|_| AskError::Record)?,
        }),
        _ => Err(AskError::Record),
    }
}

/// Keeps what is newer than all that is known.
pub(crate) fn take(inner: &Inner, later: Later) {
    let head = inner.chain.head().height;
    inner.later.send_if_modified(|known| {
        let newest = known.as_ref().map_or(head, |known| known.height.max(head));
        let newer = later.height > newest;
        if newer {
            *known = Some(later);
        }
        newer
    });
}

/// What another node is answered: at once, whether or not the newest header is certified. It may
/// be the node that asks whose signature is missing.
pub(crate) async fn answer(inner: &Arc<Inner>) -> Result<PeerAnswer, StateError> {
    let (store, certified) = (inner.chain.store(), inner.chain.certified_height());
    let prove = move || prove::validators(&*store, certified);
    let proven = inner.blocking.run(prove).await?;
    let answer = proven.map(|bundle| PeerAnswer::Validators(Box::new(bundle)));
    Ok(answer.unwrap_or(PeerAnswer::Unavailable))
}
