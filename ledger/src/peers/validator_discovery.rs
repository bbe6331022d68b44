//! Validators learned from peers while this node is behind its chain.
//!
//! A node that was away while the validators changed would refuse the present leader, and never
//! catch up. So while it is behind, it asks the nodes that it can reach for the validators in
//! force, with the proof from the genesis file up. The proven set only decides which nodes may
//! connect; the chain that they send is checked as always.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::proof::{ProofError, ProvenRecord, VALIDATOR_SET_KEY};
use lamplighter_types::{ValidatorSet, codec};
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
}

impl ValidatorAnnouncements {
    pub fn new(chain: Arc<Chain>) -> Self {
        let newest = watch::Sender::new(None);
        Self { chain, newest }
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
    #[error("another record was proven")]
    Record,
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
            match self.ask(node).await {
                Ok((announced, certified)) => {
                    self.certifier
                        .learn_validators(certified, &announced.validators);
                    self.announcements.add(announced);
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(node, error, "it does not say who validates");
                }
            }
        }
    }

    /// The validators that a node proves, and the height of the certificate in the proof.
    async fn ask(&self, node: u64) -> Result<(AnnouncedValidators, u64), DiscoveryError> {
        let answer = self.peers.request(node, PeerRequest::Validators).await?;
        let PeerAnswer::Validators(bundle) = answer else {
            return Err(PeerError::Unexpected(node).into());
        };
        let genesis = self.chain.genesis().clone();
        let verify = move || bundle.verify(&genesis);
        let proven = self.blocking.run(verify).await?;
        match proven.record {
            ProvenRecord::State {
                key,
                value: Some(value),
            } if key == VALIDATOR_SET_KEY => {
                let announced = AnnouncedValidators {
                    height: proven.height,
                    validators: codec::decode(&value).map_err(|_| DiscoveryError::Record)?,
                };
                Ok((announced, proven.head_height))
            }
            _ => Err(DiscoveryError::Record),
        }
    }
}
