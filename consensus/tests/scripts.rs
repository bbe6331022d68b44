//! Scenarios that read like a lab notebook. A line `> command` is run, the lines below it are what
//! it printed. With `UPDATE_SCRIPTS=1` the files are written anew.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, TIMEOUT};
use lamplighter_consensus::{Limits, NodeId};
use tokio::time::{sleep, timeout};

/// Small enough that a script reaches the limits.
fn limits() -> Limits {
    Limits {
        keep_entries: 2,
        hold_bytes_max: 0,
        snapshot_chunk_bytes: 512,
        ..Limits::default()
    }
}

struct Notebook {
    cluster: Cluster,
    leader: NodeId,
    proposed: u64,
}

impl Notebook {
    /// `leader`, `follower` or a number.
    async fn node(&self, name: &str) -> NodeId {
        match name {
            "leader" => self.cluster.leader().await,
            "follower" => self.cluster.follower().await,
            "down" => *self.cluster.down.keys().next().expect("a node is down"),
            number => number.parse().expect("a node's name"),
        }
    }

    async fn run(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["propose", count] => self.propose(count.parse().unwrap(), 10).await,
            ["propose", count, bytes] => {
                self.propose(count.parse().unwrap(), bytes.parse().unwrap())
                    .await
            }
            ["leader"] => self.show_leader().await,
            ["agree"] => format!("all hold {} batches", self.cluster.agree().await.len()),
            ["crash", name] => {
                let id = self.node(name).await;
                self.cluster.crash(id).await;
                "power lost".to_owned()
            }
            ["kill", name] => {
                let id = self.node(name).await;
                self.cluster.kill(id).await;
                "ended".to_owned()
            }
            ["crash", "all", "nodes"] => self.crash_all().await,
            ["restart"] => self.restart().await,
            ["cut", name] => {
                let id = self.node(name).await;
                self.cluster.net.cut(id);
                "cut off".to_owned()
            }
            ["heal"] => {
                self.cluster.net.heal();
                "connected".to_owned()
            }
            ["snapshot"] => self.snapshot().await,
            ["snapshots", "break", "after", count] => {
                self.cluster
                    .net
                    .limit_snapshot_requests(Some(count.parse().unwrap()));
                "will break".to_owned()
            }
            ["wait", "for", "break"] => self.wait_for_break().await,
            ["snapshots", "work"] => {
                self.cluster.net.limit_snapshot_requests(None);
                "work".to_owned()
            }
            ["learner", id] => self.learner(id.parse().unwrap()).await,
            ["voters", ref ids @ ..] => self.voters(ids).await,
            _ => panic!("no such command: {command}"),
        }
    }

    async fn propose(&mut self, count: u64, bytes: usize) -> String {
        let leader = self.cluster.leader().await;
        let mut proposals = Vec::new();
        for _ in 0..count {
            self.proposed += 1;
            let batch = format!("{:0bytes$}", self.proposed);
            proposals.push(
                self.cluster
                    .node(leader)
                    .propose(Bytes::from(batch))
                    .await
                    .unwrap(),
            );
        }
        let mut indexes = Vec::new();
        for proposal in proposals {
            match timeout(TIMEOUT, proposal.outcome()).await {
                Ok(Ok(applied)) => indexes.push(applied.log_index),
                Ok(Err(error)) => return format!("{error}"),
                Err(_) => return "no answer".to_owned(),
            }
        }
        let in_order = indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        format!("applied {}, in order: {in_order}", indexes.len())
    }

    async fn show_leader(&mut self) -> String {
        let before = std::mem::replace(&mut self.leader, self.cluster.leader().await);
        let who = if before == self.leader {
            "the same node"
        } else {
            "another node"
        };
        format!("{who} leads")
    }

    async fn crash_all(&mut self) -> String {
        let ids: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        for id in &ids {
            self.cluster.crash(*id).await;
        }
        format!("{} nodes lost power", ids.len())
    }

    async fn restart(&mut self) -> String {
        let ids: Vec<NodeId> = self.cluster.down.keys().copied().collect();
        for id in &ids {
            self.cluster.restart(*id).await;
        }
        format!("{} up again", ids.len())
    }

    async fn snapshot(&mut self) -> String {
        let leader = self.cluster.leader().await;
        let node = self.cluster.node(leader);
        let last = node.metrics().applied_index;
        node.trigger_snapshot().await.unwrap();
        let purged = async {
            while node.metrics().snapshot_index < last || node.metrics().purged_index.is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(TIMEOUT, purged).await.expect("a snapshot is made");
        "made, and the log purged".to_owned()
    }

    async fn wait_for_break(&mut self) -> String {
        let broken = async {
            while !self.cluster.net.snapshots_are_blocked() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(TIMEOUT, broken)
            .await
            .expect("a snapshot is under way");
        "broken".to_owned()
    }

    async fn learner(&mut self, id: NodeId) -> String {
        if !self.cluster.nodes.contains_key(&id) {
            self.cluster
                .boot(id, lamplighter_store::MemoryKv::new())
                .await;
        }
        self.cluster.voters.add_observer(id);
        let leader = self.cluster.leader().await;
        match self.cluster.node(leader).add_learner(id, TIMEOUT).await {
            Ok(()) => "follows and has caught up".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    async fn voters(&mut self, ids: &[&str]) -> String {
        let voters: BTreeSet<NodeId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let leader = self.cluster.leader().await;
        let before = self.cluster.node(leader).metrics().voters;
        self.cluster.voters.set(voters.clone());
        match self
            .cluster
            .node(leader)
            .change_membership(voters, TIMEOUT)
            .await
        {
            Ok(()) => "changed".to_owned(),
            Err(error) => {
                self.cluster.voters.set(before);
                error.to_string()
            }
        }
    }
}

/// Runs the commands of a script; returns it with what they printed now.
async fn play(script: &str) -> String {
    let mut out = String::new();
    let mut notebook: Option<Notebook> = None;
    for line in script.lines() {
        let Some(command) = line.strip_prefix("> ") else {
            if line.is_empty() || line.starts_with('#') {
                writeln!(out, "{line}").unwrap();
            }
            continue;
        };
        writeln!(out, "{line}").unwrap();
        let printed = match command.strip_prefix("start ") {
            Some(count) => {
                let count = count.parse().unwrap();
                let cluster = Cluster::with_limits(count, limits()).await;
                let leader = cluster.leader().await;
                notebook = Some(Notebook {
                    cluster,
                    leader,
                    proposed: 0,
                });
                format!("{count} nodes, one leads")
            }
            None => notebook.as_mut().expect("started").run(command).await,
        };
        writeln!(out, "{printed}").unwrap();
    }
    out
}

async fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scripts")
        .join(name);
    let script = fs::read_to_string(&path).unwrap();
    let played = play(&script).await;
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        fs::write(&path, &played).unwrap();
    }
    assert_eq!(played, script, "{name}");
}

macro_rules! scripts {
    ($($test:ident $file:literal)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            check($file).await;
        }
    )*};
}

scripts! {
    one_node "one_node.txt"
    three_nodes "three_nodes.txt"
    four_nodes "four_nodes.txt"
    five_nodes "five_nodes.txt"
    snapshots "snapshots.txt"
    membership "membership.txt"
}
