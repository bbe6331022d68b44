//! Checks the messages of nodes against the invariants of Raft, and describes them for the trace.

use std::sync::Arc;

use bytes::Bytes;
use lamplighter_consensus::wire::ControlRequest;
use lamplighter_consensus::{RaftLane, ServeError};
use lamplighter_types::Hash;

use crate::net::NodeNetwork;
use crate::oracle::{Check, violation};
use crate::raft_messages;
use crate::world::World;

/// Checks and describes a request that a node sends.
pub fn request(wire: &NodeNetwork, lane: RaftLane, request: &Bytes) -> String {
    match lane {
        RaftLane::Control => control(wire, request),
        RaftLane::Append => append(wire, request),
        RaftLane::Snapshot => {
            let tag = request.get(4).copied().unwrap_or(0);
            let step = ["offer", "chunk", "install"].get(tag as usize);
            format!("snapshot {}", step.unwrap_or(&"?"))
        }
    }
}

fn control(wire: &NodeNetwork, request: &[u8]) -> String {
    let NodeNetwork { world, from, life } = wire;
    match raft_messages::control(request).expect("a node sends what others understand") {
        ControlRequest::Vote { request, .. } => {
            let candidate = raft_messages::leader(&request.vote);
            let check = world.oracle().vote(*from, candidate);
            world.check(check);
            format!("asks for votes as {candidate:?}")
        }
        ControlRequest::Heartbeat {
            vote,
            leader_commit,
            ..
        } => {
            let leader = raft_messages::leader(&vote);
            let commit = leader_commit.as_ref().map(raft_messages::place);
            leads(wire, leader, commit);
            format!("heartbeat {leader:?} commit {:?}", commit.map(|c| c.2))
        }
        ControlRequest::ReadIndex => format!("read index of life {life}"),
        ControlRequest::Ping => "ping".to_owned(),
        ControlRequest::Compare(request) => {
            let indexes = request.indexes;
            format!(
                "compares logs, {:?} to {:?}",
                indexes.first(),
                indexes.last()
            )
        }
    }
}

fn leads(wire: &NodeNetwork, leader: raft_messages::Leader, commit: Option<raft_messages::Place>) {
    let NodeNetwork { world, from, life } = wire;
    let check = world.oracle().lead(*from, *life, leader);
    world.check(check);
    if let Some(commit) = commit {
        let announced = world.oracle().announce_commit(*from, commit);
        let check = announced.and_then(|new| {
            if new {
                world.check_majority(commit)
            } else {
                Ok(())
            }
        });
        world.check(check);
    }
}

fn append(wire: &NodeNetwork, request: &Bytes) -> String {
    let append = raft_messages::append(request).expect("a node sends what others understand");
    leads(wire, append.leader, append.commit);
    for (place, content) in &append.entries {
        if let Some(batch) = raft_messages::batch(content).filter(|_| place.1 == wire.from) {
            wire.world.oracle().sent(*place, Hash::of(batch));
        }
        // Where there are liars, a node may pass on in good faith what one of them altered.
        if !wire.world.liars.exist() || place.1 == wire.from {
            let check = wire.world.oracle().entry(*place, Hash::of(content));
            wire.world.check(check);
        }
    }
    let last = append.entries.last().map(|(place, _)| *place);
    format!(
        "append {:?} after {:?} to {last:?} commit {:?}",
        append.leader,
        append.prev.map(|prev| prev.2),
        append.commit.map(|commit| commit.2)
    )
}

/// Checks the answer of a node to a request.
pub fn answer(
    world: &Arc<World>,
    node: u64,
    lane: RaftLane,
    request: &Bytes,
    answer: &Result<Bytes, ServeError>,
) {
    match (lane, answer) {
        (RaftLane::Control, Ok(answer)) => voted(world, node, request, answer),
        (RaftLane::Append, Ok(answer)) => appended(world, node, request, answer),
        _ => {}
    }
}

fn voted(world: &Arc<World>, node: u64, request: &[u8], answer: &[u8]) {
    let Some(ControlRequest::Vote { request, .. }) = raft_messages::control(request) else {
        return;
    };
    let response = raft_messages::vote_response(answer).expect("a vote is answered with a vote");
    let candidate = raft_messages::leader(&request.vote);
    if response.vote_granted {
        world.log_event(format!("node {node} votes for {candidate:?}"));
        let check = world.oracle().vote(node, candidate);
        world.check(check);
    }
}

/// A leader that was replaced may still read its log, which has the new leader's entries by then,
/// and send them under its own name and behind its own entry. A node that accepted them would have
/// a log with a wrong joint, so they must be refused.
fn appended(world: &Arc<World>, node: u64, request: &Bytes, answer: &[u8]) {
    if !raft_messages::is_success(answer) {
        return;
    }
    let append = raft_messages::append(request).expect("a node answers what it understands");
    for (place, _) in &append.entries {
        if (place.0, place.1) > append.leader {
            world.check(violation(
                "no entry is newer than the leader it is taken from",
                format!("node {node} takes {place:?} from {:?}", append.leader),
            ));
        }
    }
    world.check(stored(world, node, &append));
}

/// Checks that acknowledged entries are on the disk, unless a newer leader replaced them.
fn stored(world: &Arc<World>, node: u64, append: &raft_messages::Append) -> Check {
    let last = world.last_entry(node);
    let replaced = last.is_some_and(|(term, by, _)| (term, by) > append.leader);
    match append.entries.last() {
        Some((place, _)) if !world.holds(node, *place) && !replaced => violation(
            "what a follower acknowledges is on its disk",
            format!("node {node} acknowledges {place:?}"),
        ),
        _ => Ok(()),
    }
}
