//! What the faults act upon: the nodes, the links between them, and the note of what was done when.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;

use crate::client::Shared;
use crate::cluster::{self, Cluster};
use crate::error::ChaosError;
use crate::fleet::now_ms;
use crate::lab::Lab;
use crate::links::{Links, Shape};
use crate::timeline::{LeaderLoss, Loss, Timeline};

/// How often it is looked whether a node that was started answers.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it is looked whether a node has ended by itself.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Described in full; more are only counted.
const NOTES_MAX: usize = 20;

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub kills: u64,
    pub leader_kills: u64,
    pub leader_stops: u64,
    pub partitions: BTreeMap<Shape, u64>,
    pub clock_changes: u64,
    /// A node whose clock was too far off said so, and its signature was in no new certificate.
    pub clocks_noticed: u64,
    /// Nodes that ended without being told to; must be none.
    pub ended_by_themselves: u64,
    pub notes: Vec<String>,
}

impl Counts {
    pub fn note(&mut self, what: String) {
        eprintln!("chaos: {what}");
        if self.notes.len() < NOTES_MAX {
            self.notes.push(what);
        }
    }
}

/// The nodes and their network. Nodes go first when it is dropped.
#[derive(Debug)]
pub struct World {
    pub cluster: Cluster,
    pub lab: Lab,
    links: Links,
    /// Its process runs and has answered since it was started.
    answers: Vec<bool>,
    /// Counts the starts of each node.
    starts: Vec<u64>,
    pub timeline: Timeline,
    pub counts: Counts,
    shared: Arc<Shared>,
    log: File,
}

/// The world, for several schedules at once.
pub type Field = Arc<Mutex<World>>;

impl World {
    /// Of nodes that serve.
    ///
    /// # Errors
    /// The file `faults.log` can't be made in the folder.
    pub fn new(
        cluster: Cluster,
        lab: Lab,
        shared: Arc<Shared>,
        folder: &Path,
    ) -> Result<Self, ChaosError> {
        let nodes = cluster.nodes.len();
        let path = folder.join("faults.log");
        let log = File::create(&path).map_err(ChaosError::file("making", &path))?;
        let mut world = Self {
            cluster,
            lab,
            links: Links::whole(nodes),
            answers: vec![true; nodes],
            starts: vec![0; nodes],
            timeline: Timeline::default(),
            counts: Counts::default(),
            shared,
            log,
        };
        world.note_majority();
        Ok(world)
    }

    /// Writes down what is done, with the time of the machine, which the nodes' logs have too.
    pub fn tell(&mut self, what: impl std::fmt::Display) {
        let (since_ms, now_ms) = (self.shared.now_us() / 1_000, now_ms());
        // Only a help for people who look at a finding.
        writeln!(self.log, "{now_ms} {since_ms:>8} {what}").ok();
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
            self.tell(format_args!("majority {there}"));
        }
        self.timeline.note_majority(self.shared.now_us(), there);
    }

    /// Notes that the leader is taken from the others.
    fn lose(&mut self, node: usize, how: Loss) {
        self.timeline.losses.push(LeaderLoss {
            at_us: self.shared.now_us(),
            node: node as u64 + 1,
            how,
        });
    }

    /// `kill -9`.
    pub async fn kill(&mut self, node: usize, leads: bool) -> Result<(), ChaosError> {
        self.look_for_ended(node);
        self.answers[node] = false;
        self.note_majority();
        if leads {
            self.counts.leader_kills += 1;
            self.lose(node, Loss::Killed);
        }
        self.counts.kills += 1;
        self.tell(format_args!("kill node {}, leader {leads}", node + 1));
        self.cluster.nodes[node].kill().await
    }

    /// Starts a node again; it counts as up when it answers.
    pub fn restart(&mut self, field: &Field, node: usize) -> Result<(), ChaosError> {
        self.tell(format_args!("start node {}", node + 1));
        self.cluster.nodes[node].process.start()?;
        self.starts[node] += 1;
        let (start, http) = (self.starts[node], self.cluster.http.clone());
        let field = field.clone();
        tokio::spawn(async move {
            while !cluster::answers(&http, node).await {
                tokio::time::sleep(LOOK_EVERY).await;
                if field.lock().await.starts[node] != start {
                    return;
                }
            }
            let mut world = field.lock().await;
            if world.starts[node] == start && world.cluster.nodes[node].process.pid().is_some() {
                world.answers[node] = true;
                world.tell(format_args!("node {} answers", node + 1));
                world.note_majority();
            }
        });
        Ok(())
    }

    /// SIGSTOP.
    pub fn stop_leader(&mut self, node: usize) -> Result<(), ChaosError> {
        self.counts.leader_stops += 1;
        self.tell(format_args!("stop leader {}", node + 1));
        self.cluster.nodes[node].hold(true)?;
        self.lose(node, Loss::Stopped);
        self.note_majority();
        Ok(())
    }

    /// SIGCONT.
    pub fn let_go(&mut self, node: usize) -> Result<(), ChaosError> {
        if self.cluster.nodes[node].is_stopped() {
            self.tell(format_args!("let go node {}", node + 1));
            self.cluster.nodes[node].hold(false)?;
        }
        self.note_majority();
        Ok(())
    }

    /// Makes the links what they are said to be. What may still work is noted once the last of them
    /// has changed.
    pub fn link(&mut self, links: Links, lost: Option<usize>) -> Result<(), ChaosError> {
        self.lab.apply(&links)?;
        self.tell(&links);
        self.links = links;
        if let Some(leader) = lost {
            self.lose(leader, Loss::CutOff);
        }
        self.note_majority();
        Ok(())
    }

    /// Everything as it should be: links, processes, clocks.
    pub fn heal(&mut self, field: &Field) -> Result<(), ChaosError> {
        self.link(Links::whole(self.nodes()), None)?;
        for node in 0..self.nodes() {
            self.let_go(node)?;
            self.cluster.nodes[node].set_clock(0)?;
            if self.cluster.nodes[node].process.pid().is_none() {
                self.restart(field, node)?;
            }
        }
        Ok(())
    }

    /// Whether a node has ended by itself, which is noted; true if so.
    fn look_for_ended(&mut self, node: usize) -> bool {
        let Err(error) = self.cluster.nodes[node].process.check() else {
            return false;
        };
        self.counts.ended_by_themselves += 1;
        self.counts.note(error.to_string());
        true
    }
}

/// Notes nodes that end by themselves and starts them again, so that the run goes on.
pub async fn watch(field: Field) -> Result<(), ChaosError> {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let mut world = field.lock().await;
        for node in 0..world.nodes() {
            if world.look_for_ended(node) {
                world.answers[node] = false;
                world.note_majority();
                // Takes the process that has ended out of the way.
                world.cluster.nodes[node].kill().await?;
                world.restart(&field, node)?;
            }
        }
    }
}
