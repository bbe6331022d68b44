//! The network: messages that are late, lost, repeated, or cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{RaftLane, Transport, TransportError};
use lamplighter_ledger::{PeerAnswer, PeerError, PeerGossip, PeerRequest, Peers};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::lies::Lie;
use crate::plan::Plan;
use crate::rng::SimRng;
use crate::world::{RunningNode, World};
use crate::{lies, observe, planted};

/// The timeout of a request to another node, as in a real node.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The present faults of the network.
struct NetworkFaults {
    rng: SimRng,
    faults: bool,
    /// The cut links (from, to), each with the number of cuts, so that cuts may overlap.
    cut: BTreeMap<(u64, u64), u32>,
}

pub struct SimNetwork {
    state: Mutex<NetworkFaults>,
    plan: Plan,
}

impl SimNetwork {
    pub fn new(seed: u64, plan: &Plan) -> Self {
        Self {
            state: Mutex::new(NetworkFaults {
                rng: SimRng::new(seed, "network"),
                faults: true,
                cut: BTreeMap::new(),
            }),
            plan: plan.clone(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, NetworkFaults> {
        self.state.lock().expect("a panic ends the run")
    }

    pub fn cut(&self, links: &[(u64, u64)]) {
        let mut state = self.state();
        for link in links {
            *state.cut.entry(*link).or_default() += 1;
        }
    }

    pub fn mend(&self, links: &[(u64, u64)]) {
        let mut state = self.state();
        for link in links {
            let cuts = state.cut.get(link).map_or(0, |cuts| cuts.saturating_sub(1));
            match cuts {
                0 => state.cut.remove(link),
                cuts => state.cut.insert(*link, cuts),
            };
        }
    }

    /// Every link works from now on.
    pub fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.faults = false;
    }

    /// True during the time of faults.
    pub fn has_faults(&self) -> bool {
        self.state().faults
    }

    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.state().cut.contains_key(&(from, to))
    }

    /// The delay of a message; none if it is lost.
    fn travel(&self, from: u64, to: u64) -> Option<Duration> {
        let mut state = self.state();
        if state.cut.contains_key(&(from, to)) {
            return None;
        }
        let plan = &self.plan;
        let (least, most) = plan.delay_ms;
        if !state.faults {
            return Some(state.rng.millis(least.min(5), most.min(10)));
        }
        if state.rng.chance(plan.loss) {
            return None;
        }
        if state.rng.chance(plan.stragglers) {
            return Some(state.rng.millis(most, most + plan.straggle_ms));
        }
        // Microseconds, so that not everything happens at once.
        let us = state.rng.between(least * 1000, most * 1000 + 100);
        Some(Duration::from_micros(us))
    }

    fn is_repeated(&self) -> bool {
        let mut state = self.state();
        state.faults && state.rng.chance(self.plan.duplicates)
    }

    /// The time until a node notices a lost connection: soon when the other process ended, whose
    /// system says so, by the pings of the connection when packets are lost or the machine is off.
    /// After the faults processes end only as they do when they drop their logs.
    fn noticed_after(&self) -> Duration {
        let mut state = self.state();
        let most: &[u64] = match state.faults {
            true => &[5, 200, 3_000],
            false => &[5, 200],
        };
        let most = *state.rng.pick(most);
        state.rng.millis(1, most)
    }
}

/// The network as one life of a node sees it.
#[derive(Clone)]
pub struct NodeNetwork {
    pub world: Arc<World>,
    pub from: u64,
    pub life: u32,
}

/// The result of a request.
enum Exchange<T> {
    Answered(T),
    /// The other side can't be reached, and this side knows.
    Unreachable,
    Timeout,
}

impl NodeNetwork {
    /// Carries a message to a node and its answer back. `serve` is what the other node does.
    async fn ask<T, F, S>(&self, to: u64, within: Duration, name: String, serve: S) -> Exchange<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send,
        S: Fn(RunningNode) -> F + Send + Sync + 'static,
    {
        let ends = Instant::now() + within;
        let serve = Arc::new(serve);
        let (sender, receiver) = oneshot::channel();
        if self.world.net.is_repeated() {
            self.world.count("repeated messages");
            self.carry(to, format!("{name} again"), serve.clone(), None);
        }
        self.carry(to, name, serve, Some(sender));
        match timeout(within, receiver).await {
            Ok(Ok(answer)) => Exchange::Answered(answer),
            Err(_) => Exchange::Timeout,
            Ok(Err(_)) => {
                sleep_until(ends.min(Instant::now() + self.world.net.noticed_after())).await;
                if Instant::now() < ends {
                    Exchange::Unreachable
                } else {
                    Exchange::Timeout
                }
            }
        }
    }

    fn carry<T, F, S>(
        &self,
        to: u64,
        name: String,
        serve: Arc<S>,
        answer: Option<oneshot::Sender<T>>,
    ) where
        T: Send + 'static,
        F: Future<Output = T> + Send,
        S: Fn(RunningNode) -> F + Send + Sync + 'static,
    {
        let (world, from, life) = (self.world.clone(), self.from, self.life);
        if !world.lives(from, life) {
            return;
        }
        let Some(delay) = world.net.travel(from, to) else {
            world.count("lost messages");
            return;
        };
        tokio::spawn(async move {
            sleep(delay).await;
            let Some(up) = world.up(to).filter(|_| !world.net.is_cut(from, to)) else {
                return;
            };
            if !world.are_connected(from, to) {
                world.count("strangers turned away");
                return;
            }
            let served_by = up.life;
            world.log_event(format!("{from} > {to}.{served_by} {name}"));
            world.count("messages");
            let done = serve(up).await;
            if !world.lives(to, served_by) {
                return;
            }
            let (Some(sender), Some(delay)) = (answer, world.net.travel(to, from)) else {
                return;
            };
            sleep(delay).await;
            if world.lives(from, life) && !world.net.is_cut(to, from) {
                // The requesting node may have stopped waiting.
                let _ = sender.send(done);
            }
        });
    }
}

#[async_trait]
impl Transport for NodeNetwork {
    async fn call(
        &self,
        to: u64,
        lane: RaftLane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        if !self.world.lives(self.from, self.life) {
            return Err(TransportError::Unreachable(to));
        }
        let Some(request) = lies::alter_request(&self.world, self.from, to, lane, request) else {
            self.world.count(Lie::Withhold.name());
            sleep(timeout).await;
            return Err(TransportError::Timeout(to));
        };
        let name = if self.world.liars.is_liar(self.from) {
            format!("liar: {lane:?}")
        } else {
            observe::request(self, lane, &request)
        };
        self.exchange(to, lane, request, timeout, name).await
    }
}

impl NodeNetwork {
    /// Carries a request of consensus to a node, and its answer back.
    async fn exchange(
        &self,
        to: u64,
        lane: RaftLane,
        request: Bytes,
        timeout: Duration,
        name: String,
    ) -> Result<Bytes, TransportError> {
        let wire = self.clone();
        let serve = move |up: RunningNode| {
            let (wire, request) = (wire.clone(), request.clone());
            async move {
                let life = up.life;
                let (world, from) = (&wire.world, wire.from);
                let answer = up.consensus.serve(from, lane, request.clone()).await;
                let altered = lies::alter_answer(world, to, from, lane, &request, answer);
                let Some(answer) = altered else {
                    world.count(Lie::Withhold.name());
                    return std::future::pending().await;
                };
                if world.lives(to, life) && !world.liars.is_liar(to) {
                    observe::answer(&wire.world, to, lane, &request, &answer);
                }
                answer.map_err(|error| error.to_string())
            }
        };
        match self.ask(to, timeout, name, serve).await {
            Exchange::Answered(Ok(answer)) => Ok(answer),
            Exchange::Answered(Err(reason)) => Err(TransportError::Refused { node: to, reason }),
            Exchange::Unreachable => Err(TransportError::Unreachable(to)),
            Exchange::Timeout => Err(TransportError::Timeout(to)),
        }
    }

    /// Sends a forged request of consensus; the answer does not matter.
    pub fn inject(&self, to: u64, lane: RaftLane, request: Bytes, name: &'static str) {
        let network = self.clone();
        tokio::spawn(async move {
            let sent = network.exchange(to, lane, request, REQUEST_TIMEOUT, name.to_owned());
            if let Err(TransportError::Refused { reason, .. }) = sent.await {
                network.world.count("lies refused");
                network.world.log_event(format!("{name} to {to}: {reason}"));
            }
        });
    }

    /// Sends a forged request beside consensus; the answer does not matter.
    pub fn inject_request(&self, to: u64, request: PeerRequest, name: &'static str) {
        let network = self.clone();
        tokio::spawn(async move {
            // Whether it is refused is the other node's affair.
            let _ = network.ask_peer(to, request, name.to_owned()).await;
        });
    }

    /// Sends a forged broadcast to one node.
    pub fn inject_gossip(&self, to: u64, gossip: PeerGossip, name: &str) {
        self.carry_gossip(to, &gossip, name.to_owned());
    }

    fn carry_gossip(&self, to: u64, gossip: &PeerGossip, name: String) {
        let (world, gossip) = (self.world.clone(), gossip.clone());
        let serve = move |up: RunningNode| {
            lies::observe_gossip(&world, to, &gossip);
            let (world, gossip) = (world.clone(), gossip.clone());
            async move {
                let taken = planted::handle_gossip(world.plan.planted, &up.handle, gossip).await;
                if let Err(error) = taken {
                    world.log_event(format!("node {to} can't take a notice: {error}"));
                }
            }
        };
        self.carry(to, name, Arc::new(serve), None);
    }

    async fn ask_peer(
        &self,
        node: u64,
        request: PeerRequest,
        name: String,
    ) -> Result<PeerAnswer, PeerError> {
        let (from, world) = (self.from, self.world.clone());
        let serve = move |up: RunningNode| {
            let (request, world) = (request.clone(), world.clone());
            async move {
                let answer = up.handle.serve(from, request).await;
                answer.map(|answer| lies::alter_peer_answer(&world, node, answer))
            }
        };
        match self.ask(node, REQUEST_TIMEOUT, name, serve).await {
            Exchange::Answered(Ok(answer)) => Ok(answer),
            Exchange::Answered(Err(error)) => Err(PeerError::Refused {
                node,
                reason: error.to_string(),
            }),
            Exchange::Unreachable | Exchange::Timeout => Err(PeerError::Unreachable(node)),
        }
    }
}

#[async_trait]
impl Peers for NodeNetwork {
    async fn request(&self, node: u64, request: PeerRequest) -> Result<PeerAnswer, PeerError> {
        let name = match &request {
            PeerRequest::Submit(transactions) => format!("submit {}", transactions.len()),
            _ => "peer request".to_owned(),
        };
        self.ask_peer(node, request, name).await
    }

    fn broadcast(&self, notice: PeerGossip) {
        if !self.world.lives(self.from, self.life) {
            return;
        }
        let Some(notice) = lies::alter_gossip(&self.world, self.from, notice) else {
            return;
        };
        for attestation in &notice.attestations {
            self.world.attests(self.from, attestation);
        }
        let heights: Vec<_> = notice.attestations.iter().map(|a| a.height).collect();
        let certified = notice.certified.as_ref().map(|c| c.header.height);
        for node in self.connected() {
            let name = format!("attests {heights:?}, certified {certified:?}");
            self.carry_gossip(node, &notice, name);
        }
    }

    fn connected(&self) -> Vec<u64> {
        let net = &self.world.net;
        self.world
            .nodes()
            .into_iter()
            .filter(|node| *node != self.from && self.world.up(*node).is_some())
            .filter(|node| !net.is_cut(self.from, *node) && !net.is_cut(*node, self.from))
            .filter(|node| self.world.are_connected(self.from, *node))
            .collect()
    }
}
