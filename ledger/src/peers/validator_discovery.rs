//! Validators learned from peers while this node is behind its chain.
//!
//! A node that was away while the validators changed would refuse the present leader, and never
//! catch up. So while it is behind, it asks the nodes that it can reach for the validators in
//! force, with the proof from the newest set that it knows up. The proven set only decides which
//! nodes may connect; the chain that they send is checked as always.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_state::StateError;
use lamplighter_types::ValidatorSet;
use lamplighter_types::proof::{ProofError, TrustedSet, verify_head};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::progress::{Phase, Progress};
use crate::blocking::Blocking;
use crate::certify::certifier::Certifier;
use crate::chain::Chain;
use crate::message::{PeerAnswer, PeerError, PeerRequest, Peers};

/// Time between two requests while the node is behind.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Heartbeats without a new block after which a node asks whether it misses some.
const STALLED_AFTER: u32 = 2;

/// The validators at a height that this node's chain has not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedValidators {
    /// From here on the node's chain is newer.
    pub height: u64,
    pub validators: ValidatorSet,
}

/// The newest announced validators, shared by the discovery and the network.
pub(crate) struct ValidatorAnnouncements {
    chain: Arc<Chain>,
    newest: watch::Sender<Option<AnnouncedValidators>>,
    /// The newest set that was proven, from which the next proof goes on.
    proven: Mutex<Option<TrustedSet>>,
}

impl ValidatorAnnouncements {
    pub fn new(chain: Arc<Chain>) -> Self {
        Self {
            chain,
            newest: watch::Sender::new(None),
            proven: Mutex::new(None),
        }
    }

    /// The newest set that is proven, or that this node's chain has certified.
    fn trusted(&self) -> Result<TrustedSet, StateError> {
        let certified = self.chain.trusted_set()?;
        let proven = self
            .proven
            .lock()
            .expect("the lock is not poisoned: no holder panics")
            .clone();
        Ok(match proven {
            Some(proven) if proven.height > certified.height => proven,
            _ => certified,
        })
    }

    /// Keeps a set that was proven, if it is newer than those before.
    fn add_proven(&self, reached: TrustedSet) {
        let announced = AnnouncedValidators {
            height: reached.height,
            validators: reached.set.clone(),
        };
        let mut proven = self
            .proven
            .lock()
            .expect("the lock is not poisoned: no holder panics");
        if proven.as_ref().is_none_or(|p| p.height < reached.height) {
            *proven = Some(reached);
        }
        drop(proven);
        self.add(announced);
    }

    pub fn watch(&self) -> watch::Receiver<Option<AnnouncedValidators>> {
        self.newest.subscribe()
    }

    /// Keeps the validators if they are newer than the chain and than the newest announced ones.
    pub fn add(&self, announced: AnnouncedValidators) {
        let head = self.chain.head().height;
        self.newest.send_if_modified(|newest| {
            let height = newest
                .as_ref()
                .map_or(head, |newest| newest.height.max(head));
            let newer = announced.height > height;
            if newer {
                *newest = Some(announced);
            }
            newer
        });
    }
}

/// Why an answer is rejected.
#[derive(Debug, thiserror::Error)]
enum DiscoveryError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the proof does not hold")]
    Proof(#[from] ProofError),
    #[error("the store failed")]
    State(#[from] StateError),
}

pub(crate) struct ValidatorDiscovery {
    pub chain: Arc<Chain>,
    pub announcements: Arc<ValidatorAnnouncements>,
    pub certifier: Arc<Certifier>,
    pub peers: Arc<dyn Peers>,
    pub progress: watch::Receiver<Progress>,
    pub blocking: Blocking,
    pub heartbeat_every: Duration,
}

impl ValidatorDiscovery {
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.ask_while_behind()).await;
    }

    async fn ask_while_behind(&self) {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut head = self.chain.watch_head();
        let mut last_block = Instant::now();
        loop {
            ticks.tick().await;
            if head.has_changed().is_ok_and(|changed| changed) {
                head.mark_unchanged();
                last_block = Instant::now();
            }
            // The progress of a node that is a little behind is already `Following`.
            let stalled = last_block.elapsed() > STALLED_AFTER * self.heartbeat_every;
            if stalled || self.progress.borrow().phase != Phase::Following {
                self.ask_all().await;
            }
        }
    }

    async fn ask_all(&self) {
        for node in self.peers.connected() {
            if let Err(error) = self.ask(node).await {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(node, error, "it does not say who validates");
            }
        }
    }

    /// Asks a node for the changes of the validators after those that are announced, or that this
    /// node's chain names.
    async fn ask(&self, node: u64) -> Result<(), DiscoveryError> {
        let trusted = self.announcements.trusted()?;
        let request = PeerRequest::Validators {
            trusted: trusted.height,
        };
        let answer = self.peers.request(node, request).await?;
        let PeerAnswer::Validators { path, head } = answer else {
            return Err(PeerError::Unexpected(node).into());
        };
        let verify = move || match head {
            Some(head) => {
                let reached = verify_head(&head, &path.set_changes, &trusted)?;
                Ok::<_, ProofError>((reached, head.header.height))
            }
            None => {
                let reached = path.verify(&trusted)?;
                let height = reached.height;
                Ok((reached, height))
            }
        };
        let (reached, certified) = self.blocking.run(verify).await?;
        self.certifier.learn_validators(certified, &reached.set);
        self.announcements.add_proven(reached);
        Ok(())
    }
}
