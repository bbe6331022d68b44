//! The adversary of each liar: what it knows, and its own messages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lamplighter_consensus::{LogDigest, RaftLane};
use lamplighter_store::{Cf, Direction, KeyRange, KvView};
use lamplighter_types::Attestation;
use lamplighter_types::proof::CertifiedHeader;
use tokio::time::{Instant, sleep};

use super::{Lie, LiePlan, gossip, raft};
use crate::net::NodeNetwork;
use crate::raft_messages::{self, Place};
use crate::rng::SimRng;
use crate::world::{RunningNode, World};

/// Messages that an adversary keeps to repeat them.
const KEPT_MAX: usize = 64;
/// Log entries that it looks back.
const ENTRIES_READ: usize = 8;

/// The adversaries of a run.
pub struct Liars {
    lying: AtomicBool,
    plan: Option<LiePlan>,
    adversaries: BTreeMap<u64, Mutex<Adversary>>,
}

/// What one adversary has learned and is about to do.
pub struct Adversary {
    pub rng: SimRng,
    pub requests: VecDeque<(RaftLane, Bytes)>,
    pub attestations: VecDeque<Attestation>,
    pub certified: Option<CertifiedHeader>,
    /// It sends nothing to these nodes until then.
    pub silent: BTreeMap<u64, Instant>,
    /// The time that its clock shows instead of the true one.
    pub clock_ms: Option<u64>,
    /// The digests of the logs that it made the others have, by node and index.
    pub digests: BTreeMap<u64, BTreeMap<u64, LogDigest>>,
    /// The term that it claims to lead, and how often it repeats it.
    pub claim: Option<(u64, u64)>,
}

impl Adversary {
    pub fn keep(&mut self, lane: RaftLane, request: &Bytes) {
        if self.requests.len() == KEPT_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back((lane, request.clone()));
    }

    pub fn keep_attestations(&mut self, attestations: &[Attestation]) {
        for attestation in attestations {
            if self.attestations.len() == KEPT_MAX {
                self.attestations.pop_front();
            }
            self.attestations.push_back(attestation.clone());
        }
    }

    pub fn is_silent(&self, to: u64) -> bool {
        self.silent
            .get(&to)
            .is_some_and(|until| Instant::now() < *until)
    }
}

impl Liars {
    pub fn new(seed: u64, plan: Option<&LiePlan>) -> Self {
        let adversary = |node: &u64| {
            let adversary = Adversary {
                rng: SimRng::new(seed, &format!("liar {node}")),
                requests: VecDeque::new(),
                attestations: VecDeque::new(),
                certified: None,
                silent: BTreeMap::new(),
                clock_ms: None,
                digests: BTreeMap::new(),
                claim: None,
            };
            (*node, Mutex::new(adversary))
        };
        let nodes = plan.iter().flat_map(|plan| plan.liars.iter());
        Self {
            lying: AtomicBool::new(false),
            adversaries: nodes.map(adversary).collect(),
            plan: plan.cloned(),
        }
    }

    /// True if there are liars in this run.
    pub fn exist(&self) -> bool {
        !self.adversaries.is_empty()
    }

    pub fn is_liar(&self, node: u64) -> bool {
        self.adversaries.contains_key(&node)
    }

    pub fn set_lying(&self, lying: bool) {
        self.lying.store(lying, Ordering::SeqCst);
    }

    /// The adversary of a node that lies now.
    pub fn lying(&self, node: u64) -> Option<MutexGuard<'_, Adversary>> {
        let adversary = self.adversaries.get(&node)?;
        let lying = self.lying.load(Ordering::SeqCst);
        lying.then(|| adversary.lock().expect("a panic ends the run"))
    }

    /// True if this kind of lie belongs to the run.
    pub fn wants(&self, lie: Lie) -> bool {
        self.plan
            .as_ref()
            .is_some_and(|plan| plan.kinds.contains(&lie))
    }
}

/// What an adversary reads from its own node.
pub struct LiarView {
    pub node: u64,
    pub term: u64,
    /// The newest entries of its log, newest first.
    pub entries: Vec<Place>,
    pub applied: Option<Place>,
    pub others: Vec<u64>,
}

impl LiarView {
    fn read(world: &World, node: u64, up: &RunningNode) -> Self {
        let store = world.with(node, |slot| slot.store.clone());
        let log = store.scan(Cf::Log, KeyRange::all(), Direction::Backward);
        let entries = log.into_iter().flatten().flatten().take(ENTRIES_READ);
        Self {
            node,
            term: up.consensus.metrics().term,
            entries: entries
                .filter_map(|(_, entry)| raft_messages::entry_place(&entry))
                .collect(),
            applied: raft_messages::applied(&store),
            others: world.nodes().into_iter().filter(|n| *n != node).collect(),
        }
    }

    pub fn last(&self) -> Option<Place> {
        self.entries.first().copied().or(self.applied)
    }
}

/// The hands of one adversary.
pub struct Liar {
    pub world: Arc<World>,
    pub view: LiarView,
    life: u32,
    pub up: RunningNode,
}

impl Liar {
    pub fn state(&self) -> Option<MutexGuard<'_, Adversary>> {
        self.world.liars.lying(self.view.node)
    }

    fn network(&self) -> NodeNetwork {
        NodeNetwork {
            world: self.world.clone(),
            from: self.view.node,
            life: self.life,
        }
    }

    /// Sends a message that its node knows nothing of.
    pub fn send(&self, lie: Lie, to: u64, lane: RaftLane, request: Bytes) {
        self.count(lie);
        self.network().inject(to, lane, request, lie.name());
    }

    pub fn gossip(&self, lie: Lie, gossip: lamplighter_ledger::PeerGossip) {
        self.count(lie);
        for to in &self.view.others {
            self.network()
                .inject_gossip(*to, gossip.clone(), lie.name());
        }
    }

    pub fn request(&self, lie: Lie, to: u64, request: lamplighter_ledger::PeerRequest) {
        self.count(lie);
        self.network().inject_request(to, request, lie.name());
    }

    pub fn count(&self, lie: Lie) {
        self.world.count(lie.name());
    }
}

/// Lies until the run ends; the switch of the run decides when.
pub async fn live(world: Arc<World>, node: u64) {
    let Some(plan) = world.plan.lies.clone() else {
        return;
    };
    let mut rng = SimRng::new(world.seed, &format!("pace {node}"));
    loop {
        sleep(rng.millis(plan.every_ms.0, plan.every_ms.1)).await;
        let lie = *rng.pick(&plan.kinds);
        let Some(up) = world.up(node).filter(|_| world.liars.lying(node).is_some()) else {
            continue;
        };
        let liar = Liar {
            view: LiarView::read(&world, node, &up),
            life: up.life,
            world: world.clone(),
            up,
        };
        perform(&liar, lie);
    }
}

/// One lie; those that alter what the node itself sends happen when it sends.
fn perform(liar: &Liar, lie: Lie) {
    match lie {
        Lie::Lead => raft::lead(liar),
        Lie::Membership => raft::membership(liar),
        Lie::Truncate => raft::truncate(liar),
        Lie::Rewind => raft::rewind(liar),
        Lie::Candidate => raft::candidate(liar),
        Lie::Flood => raft::flood(liar),
        Lie::Replay => raft::replay(liar),
        Lie::Withhold => raft::withhold(liar),
        Lie::Time => raft::misdate(liar),
        Lie::Image => raft::image(liar),
        Lie::Attest => gossip::attest(liar),
        Lie::Frame => gossip::frame(liar),
        Lie::Height => gossip::height(liar),
        Lie::Records => gossip::records(liar),
        Lie::Votes
        | Lie::AnswerTerm
        | Lie::AnswerLog
        | Lie::Equivocate
        | Lie::Garbage
        | Lie::Inherited => {}
    }
}
