//! What an adversary does to the requests and the answers of its own node.

use std::sync::Arc;

use bytes::Bytes;
use lamplighter_consensus::RaftLane;
use lamplighter_consensus::wire::ControlRequest;

use super::adversary::Adversary;
use super::forge::AppendResponse;
use super::{Lie, forge};
use crate::raft_messages;
use crate::rng::SimRng;
use crate::world::World;

/// Variants of a batch that an equivocating leader makes, the true one included.
const VARIANTS: u64 = 3;

/// What a liar sends instead of what its node wanted to send; none if it sends nothing.
pub fn alter_request(
    world: &Arc<World>,
    from: u64,
    to: u64,
    lane: RaftLane,
    request: Bytes,
) -> Option<Bytes> {
    let Some(mut state) = world.liars.lying(from) else {
        return Some(request);
    };
    state.keep(lane, &request);
    if world.liars.wants(Lie::Withhold) && state.is_silent(to) {
        return None;
    }
    let altered = match lane {
        RaftLane::Append => alter_append(world, to, &request, &mut state),
        RaftLane::Snapshot => alter_snapshot(world, &request, &mut state.rng),
        RaftLane::Control => None,
    };
    Some(altered.unwrap_or(request))
}

/// Each node gets one of the variants of each batch, always the same one.
fn alter_append(world: &World, to: u64, request: &Bytes, state: &mut Adversary) -> Option<Bytes> {
    let garbage = world.liars.wants(Lie::Garbage);
    let equivocates = world.liars.wants(Lie::Equivocate);
    let inherited = world.liars.wants(Lie::Inherited);
    if !garbage && !equivocates && !inherited {
        return None;
    }
    let leader = raft_messages::append(request)?.leader;
    let mut altered_by = None;
    let digests = state.digests.entry(to).or_default();
    let chain_id = world.genesis.chain_id();
    let altered = forge::alter_entries(request, digests, &chain_id, |entry| {
        let place = raft_messages::entry_place(&entry);
        // The same decision for a node at each repetition, so that its log stays one log.
        let choice = place.map_or(0, |(term, _, index)| (term * 31 + index) * 7 + to);
        let variant = crate::rng::mix(crate::rng::step(choice)) % VARIANTS;
        // Bytes that are no batch may also be sent to all.
        let alike = garbage && !equivocates;
        let variant = if alike { 1 } else { variant };
        let is_of_leader = place.is_some_and(|(term, by, _)| (term, by) == leader);
        let other = match variant {
            0 => None,
            _ if !is_of_leader => forge::other_batch(&entry, variant)
                .filter(|_| inherited)
                .inspect(|_| altered_by = Some(Lie::Inherited)),
            _ if !garbage && !equivocates => None,
            _ if garbage && (!equivocates || variant == 2) => {
                forge::no_batch(&entry).inspect(|_| altered_by = Some(Lie::Garbage))
            }
            _ => {
                forge::other_batch(&entry, variant).inspect(|_| altered_by = Some(Lie::Equivocate))
            }
        };
        other.unwrap_or(entry)
    });
    if let Some(lie) = altered_by {
        world.count(lie.name());
    }
    altered
}

fn alter_snapshot(world: &World, request: &Bytes, rng: &mut SimRng) -> Option<Bytes> {
    if !world.liars.wants(Lie::Image) || rng.chance(500) {
        return None;
    }
    let absurd = rng.chance(500);
    let altered = forge::alter_snapshot(request, |manifest| {
        if absurd && let Some(last) = &mut manifest.meta.last_log_id {
            last.index += 1 << 50;
        } else if let Some(file) = manifest.files.first_mut() {
            file.bytes = file.bytes.saturating_mul(1 << 20);
        }
    });
    if altered.is_some() {
        world.count(Lie::Image.name());
    }
    altered
}

/// What a liar answers instead of its node's answer; none if it does not answer.
pub fn alter_answer<E>(
    world: &Arc<World>,
    node: u64,
    from: u64,
    lane: RaftLane,
    request: &Bytes,
    answer: Result<Bytes, E>,
) -> Option<Result<Bytes, E>> {
    let Some(mut state) = world.liars.lying(node) else {
        return Some(answer);
    };
    state.keep(lane, request);
    if world.liars.wants(Lie::Withhold) && state.is_silent(from) {
        return None;
    }
    let wants = |lie: Lie, rng: &mut SimRng| world.liars.wants(lie) && rng.chance(600);
    let rng = &mut state.rng;
    let altered = if wants(Lie::AnswerTerm, rng) {
        answer_term(world, node, lane, request, rng)
    } else if wants(Lie::AnswerLog, rng) {
        answer_log(world, node, lane, request, rng)
    } else if wants(Lie::Frame, rng) {
        accuse(world, node, from, lane, request)
    } else if wants(Lie::Votes, rng) {
        answer_vote(world, node, lane, request)
    } else {
        None
    };
    Some(altered.map_or(answer, Ok))
}

/// The term of a request; zero if there is none in it.
fn term_of(lane: RaftLane, request: &Bytes) -> u64 {
    let control = || match raft_messages::control(request)? {
        ControlRequest::Vote { request, .. } => Some(request.vote.leader_id.term),
        ControlRequest::Heartbeat { vote, .. } => Some(vote.leader_id.term),
        ControlRequest::ReadIndex | ControlRequest::Ping | ControlRequest::Compare(_) => None,
    };
    let term = match lane {
        RaftLane::Control => control(),
        RaftLane::Append => raft_messages::append(request).map(|append| append.leader.0),
        RaftLane::Snapshot => None,
    };
    term.unwrap_or(0)
}

fn answer_term(
    world: &World,
    node: u64,
    lane: RaftLane,
    request: &Bytes,
    rng: &mut SimRng,
) -> Option<Bytes> {
    let term = term_of(lane, request);
    let terms = [
        u64::MAX,
        u64::MAX - 1,
        term.saturating_add(1 << 32),
        term.saturating_add(1 << 20),
        term.saturating_add(1),
    ];
    let vote = forge::vote(*rng.pick(&terms), node, rng.chance(700));
    let answer = match lane {
        RaftLane::Append => forge::append_answer(AppendResponse::HigherVote(vote)),
        RaftLane::Snapshot => forge::snapshot_done(vote),
        RaftLane::Control => match raft_messages::control(request)? {
            ControlRequest::Vote { .. } => forge::vote_answer(vote, None, None),
            ControlRequest::Heartbeat { .. } => {
                forge::heartbeat_answer(AppendResponse::HigherVote(vote))
            }
            ControlRequest::ReadIndex | ControlRequest::Ping | ControlRequest::Compare(_) => {
                return None;
            }
        },
    };
    world.count(Lie::AnswerTerm.name());
    Some(answer)
}

fn answer_log(
    world: &World,
    node: u64,
    lane: RaftLane,
    request: &Bytes,
    rng: &mut SimRng,
) -> Option<Bytes> {
    let absurd = forge::log_id((u64::MAX, node, u64::MAX));
    let answer = match lane {
        RaftLane::Append => forge::append_answer(match rng.below(3) {
            0 => AppendResponse::PartialSuccess(Some(absurd)),
            1 => AppendResponse::PartialSuccess(None),
            _ => AppendResponse::Success,
        }),
        RaftLane::Snapshot => forge::snapshot_complete(),
        RaftLane::Control => match raft_messages::control(request)? {
            ControlRequest::Heartbeat { .. } => {
                forge::heartbeat_answer(AppendResponse::PartialSuccess(Some(absurd)))
            }
            ControlRequest::Vote { request, .. } => {
                let last = Some((u64::MAX, node, u64::MAX));
                forge::vote_answer(request.vote, last, None)
            }
            ControlRequest::ReadIndex => forge::read_index_answer(*rng.pick(&[0, u64::MAX])),
            ControlRequest::Ping | ControlRequest::Compare(_) => return None,
        },
    };
    world.count(Lie::AnswerLog.name());
    Some(answer)
}

/// Accuses the node that asks of having led with two logs.
fn accuse(world: &World, node: u64, from: u64, lane: RaftLane, request: &Bytes) -> Option<Bytes> {
    if lane != RaftLane::Control {
        return None;
    }
    let ControlRequest::Compare(_) = raft_messages::control(request)? else {
        return None;
    };
    world.count(Lie::Frame.name());
    let term = world.up(node)?.consensus.metrics().term;
    let chain_id = world.genesis.chain_id();
    Some(forge::comparison_answer(node, from, term, &chain_id))
}

/// Grants every vote, whatever it granted before.
fn answer_vote(world: &World, node: u64, lane: RaftLane, request: &Bytes) -> Option<Bytes> {
    if lane != RaftLane::Control {
        return None;
    }
    let ControlRequest::Vote { request, .. } = raft_messages::control(request)? else {
        return None;
    };
    world.count(Lie::Votes.name());
    let last = request.last_log_id.as_ref().map(raft_messages::place);
    let chain_id = world.genesis.chain_id();
    let granted = Some((&request, node, &chain_id));
    Some(forge::vote_answer(request.vote, last, granted))
}
