//! The target of the faults: the nodes and the links between them, with the record of all faults.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;

use crate::client::ClientsState;
use crate::cluster::{self, Cluster, NodeAlarm};
use crate::error::ChaosError;
use crate::links::{Links, Shape};
use crate::network::TestNetwork;
use crate::timeline::{LeaderLoss, LossKind, Timeline};
use lamplighter_devnet::hostile::Attack;

/// Interval between checks whether a started node answers.
const ANSWER_CHECK_EVERY: Duration = Duration::from_millis(50);
/// Interval between checks whether a node has ended by itself.
const EXIT_CHECK_EVERY: Duration = Duration::from_millis(500);
/// Notes that are kept; more are only counted.
const NOTES_MAX: usize = 20;

/// The counts of faults.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub kills: u64,
    pub leader_kills: u64,
    pub leader_stops: u64,
    pub partitions: BTreeMap<Shape, u64>,
    /// Attacks of hostile nodes that are over.
    pub attacks: BTreeMap<&'static str, u64>,
    pub clock_changes: u64,
    /// Nodes whose clock was too far off, that raised an alarm and signed no new certificate.
    pub clocks_noticed: u64,
    /// Nodes that ended by themselves; must be 0.
    pub ended_by_themselves: u64,
    pub notes: Vec<String>,
}

impl Counts {
    pub fn add_note(&mut self, what: String) {
        eprintln!("chaos: {what}");
        if self.notes.len() < NOTES_MAX {
            self.notes.push(what);
        }
    }
}

/// The nodes and their network. The nodes are dropped first.
#[derive(Debug)]
pub struct World {
    pub cluster: Cluster,
    pub network: TestNetwork,
    links: Links,
    /// True if the node's process runs and has answered since it was started.
    answers: Vec<bool>,
    /// Number of starts of each node.
    starts: Vec<u64>,
    pub timeline: Timeline,
    pub counts: Counts,
    shared: Arc<ClientsState>,
    log_file: File,
}

/// The world, shared by several schedules.
pub type SharedWorld = Arc<Mutex<World>>;

impl World {
    /// A world of nodes that serve.
    ///
    /// # Errors
    /// The file `faults.log` can't be made in the folder.
    pub fn new(
        cluster: Cluster,
        network: TestNetwork,
        shared: Arc<ClientsState>,
        folder: &Path,
    ) -> Result<Self, ChaosError> {
        let nodes = cluster.nodes.len();
        let path = folder.join("faults.log");
        let log_file = File::create(&path).map_err(ChaosError::file("making", &path))?;
        let mut world = Self {
            cluster,
            network,
            links: Links::whole(nodes),
            answers: vec![true; nodes],
            starts: vec![0; nodes],
            timeline: Timeline::default(),
            counts: Counts::default(),
            shared,
            log_file,
        };
        world.note_majority();
        Ok(world)
    }

    /// Logs an event, with the time of the machine, which the nodes' logs have too.
    pub fn log(&mut self, what: impl std::fmt::Display) {
        let (since_ms, now_ms) = (self.shared.now_us() / 1_000, lamplighter_system::unix_ms());
        // The log only helps people to examine a finding.
        writeln!(self.log_file, "{now_ms} {since_ms:>8} {what}").ok();
    }

    pub fn nodes(&self) -> usize {
        self.answers.len()
    }

    fn note_majority(&mut self) {
        let up: Vec<bool> = (0..self.nodes())
            .map(|node| self.answers[node] && !self.cluster.nodes[node].is_stopped())
            .collect();
        let there = self.links.majority(&up);
        if self.timeline.majority.last().map(|(_, last)| *last) != Some(there) {
            self.log(format_args!("majority {there}"));
        }
        self.timeline.note_majority(self.shared.now_us(), there);
    }

    /// Records the loss of the leader.
    fn record_leader_loss(&mut self, node: usize, how: LossKind) {
        self.timeline.losses.push(LeaderLoss {
            at_us: self.shared.now_us(),
            node: node as u64 + 1,
            how,
        });
    }

    /// Records that an attack is over; from now on service has to come back.
    pub fn record_attack(&mut self, attack: Attack) {
        *self.counts.attacks.entry(attack.name()).or_default() += 1;
        self.log(format_args!("the end of {}", attack.name()));
        self.record_leader_loss(self.nodes(), LossKind::Attacked);
    }

    /// `kill -9`.
    pub async fn kill(&mut self, node: usize, leads: bool) -> Result<(), ChaosError> {
        self.check_exited(node);
        self.answers[node] = false;
        self.note_majority();
        if leads {
            self.counts.leader_kills += 1;
            self.record_leader_loss(node, LossKind::Killed);
        }
        self.counts.kills += 1;
        self.log(format_args!("kill node {}, leader {leads}", node + 1));
        self.cluster.nodes[node].kill().await
    }

    /// Starts a node again; it counts as up once it answers.
    pub fn restart(&mut self, shared_world: &SharedWorld, node: usize) -> Result<(), ChaosError> {
        self.log(format_args!("start node {}", node + 1));
        self.cluster.nodes[node].process.start()?;
        self.starts[node] += 1;
        let (start, http) = (self.starts[node], self.cluster.http.clone());
        let shared_world = shared_world.clone();
        tokio::spawn(async move {
            while !cluster::answers(&http, node).await {
                tokio::time::sleep(ANSWER_CHECK_EVERY).await;
                if shared_world.lock().await.starts[node] != start {
                    return;
                }
            }
            let mut world = shared_world.lock().await;
            if world.starts[node] == start && world.cluster.nodes[node].process.pid().is_some() {
                world.answers[node] = true;
                world.log(format_args!("node {} answers", node + 1));
                world.note_majority();
            }
        });
        Ok(())
    }

    /// Stops the leader with SIGSTOP.
    pub fn stop_leader(&mut self, node: usize) -> Result<(), ChaosError> {
        self.counts.leader_stops += 1;
        self.log(format_args!("stop leader {}", node + 1));
        self.cluster.nodes[node].set_stopped(true)?;
        self.record_leader_loss(node, LossKind::Stopped);
        self.note_majority();
        Ok(())
    }

    /// Continues a stopped node with SIGCONT.
    pub fn resume(&mut self, node: usize) -> Result<(), ChaosError> {
        if self.cluster.nodes[node].is_stopped() {
            self.log(format_args!("let go node {}", node + 1));
            self.cluster.nodes[node].set_stopped(false)?;
        }
        self.note_majority();
        Ok(())
    }

    /// Applies the states of all links. The majority is recorded once the last link has changed.
    pub fn set_links(&mut self, links: Links, lost: Option<usize>) -> Result<(), ChaosError> {
        self.network.apply(&links)?;
        self.log(&links);
        self.links = links;
        if let Some(leader) = lost {
            self.record_leader_loss(leader, LossKind::CutOff);
        }
        self.note_majority();
        Ok(())
    }

    /// Ends all faults: of links, processes and clocks.
    pub fn heal(&mut self, shared_world: &SharedWorld) -> Result<(), ChaosError> {
        self.set_links(Links::whole(self.nodes()), None)?;
        for node in 0..self.nodes() {
            self.resume(node)?;
            self.cluster.nodes[node].set_clock(0)?;
            if self.cluster.nodes[node].process.pid().is_none() {
                self.restart(shared_world, node)?;
            }
        }
        Ok(())
    }

    /// Records alarms that must not be raised, and nodes that have halted. Where there are hostile
    /// nodes, only alarms that accuse an honest one are wrong.
    pub async fn record_alarms(&mut self, hostile: bool) {
        let keys = self.cluster.nodes.iter().map(|node| node.key.to_string());
        let keys: Vec<String> = keys.collect();
        let is_wrong = |alarm: &NodeAlarm| {
            let accuses = |key: &String| alarm.message.contains(key);
            alarm.kind != "clock_offset" && (!hostile || keys.iter().any(accuses))
        };
        for node in 0..self.nodes() {
            let Some(status) = cluster::status(&self.cluster.http, node).await else {
                continue;
            };
            let bad = status.alarms.iter().filter(|alarm| is_wrong(alarm));
            for what in bad.map(|a| &a.message).chain(&status.halted) {
                self.counts.ended_by_themselves += 1;
                self.counts
                    .add_note(format!("node {}: {what}", status.node));
            }
        }
    }

    /// Checks whether a node has ended by itself, and records it; true if so.
    fn check_exited(&mut self, node: usize) -> bool {
        let Err(error) = self.cluster.nodes[node].process.check() else {
            return false;
        };
        self.counts.ended_by_themselves += 1;
        self.counts.add_note(error.to_string());
        true
    }
}

/// Records nodes that end by themselves and starts them again, so that the run continues.
pub async fn watch(shared_world: SharedWorld) -> Result<(), ChaosError> {
    loop {
        tokio::time::sleep(EXIT_CHECK_EVERY).await;
        let mut world = shared_world.lock().await;
        for node in 0..world.nodes() {
            if world.check_exited(node) {
                world.answers[node] = false;
                world.note_majority();
                // Removes the ended process.
                world.cluster.nodes[node].kill().await?;
                world.restart(&shared_world, node)?;
            }
        }
    }
}
