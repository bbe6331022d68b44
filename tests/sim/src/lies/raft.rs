//! What an adversary sends on the lanes of consensus of its own accord.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_consensus::RaftLane;
use lamplighter_consensus::wire::{ElectionProof, Manifest};
use lamplighter_types::Hash;
use openraft::Vote;
use tokio::time::Instant;

use super::adversary::Liar;
use super::{Lie, forge};
use crate::raft_messages::Place;
use crate::rng::SimRng;
use crate::world::EPOCH_MS;

/// A day in ms.
const DAY_MS: u64 = 86_400_000;
/// Bytes of an image that does not exist.
const IMAGE_BYTES: u64 = 512 << 30;
/// Bytes of one piece of it.
const PIECE_BYTES: usize = 64 << 10;
/// Messages of one flood.
const FLOOD: u64 = 24;

/// A term that nobody has voted for.
fn unvoted_term(rng: &mut SimRng, term: u64) -> u64 {
    // The last three: as far as an answer counts, as a candidate may be, and beyond all.
    let ahead = *rng.pick(&[1, 1, 2, 5, 1 << 20, (1 << 24) - 1_024, 1 << 24, 1 << 40]);
    term.saturating_add(ahead)
}

/// A leadership that nobody voted for, with a proof that does not hold.
struct Claim {
    vote: Vote<u64>,
    proof: Option<ElectionProof>,
    chain_id: Hash,
}

impl Claim {
    fn of(liar: &Liar, term: u64, rng: &mut SimRng) -> Self {
        let vote = forge::vote(term, liar.view.node, true);
        let voters: Vec<u64> = (1..=liar.world.plan.nodes).collect();
        let chain_id = liar.world.genesis.chain_id();
        let proof = forge::proof(&vote, &voters, &chain_id, *rng.pick(&forge::FLAWS));
        Self {
            vote,
            proof,
            chain_id,
        }
    }

    fn new(liar: &Liar, rng: &mut SimRng) -> Self {
        let term = unvoted_term(rng, liar.view.term);
        Self::of(liar, term, rng)
    }

    fn heartbeat(&self, prev: Option<Place>, commit: Option<Place>) -> Bytes {
        forge::heartbeat(self.vote, prev, commit, self.proof.clone())
    }

    fn append(&self, prev: Option<Place>, commit: Option<Place>, entry: Vec<u8>) -> Bytes {
        let proof = self.proof.clone();
        forge::append(self.vote, prev, commit, proof, &entry, &self.chain_id)
    }

    fn offer(&self, manifest: Manifest) -> Bytes {
        forge::offer(self.vote, manifest, self.proof.clone())
    }

    /// The entry that follows, under this vote.
    fn next(&self, prev: Option<Place>) -> Place {
        let index = prev.map_or(0, |(_, _, index)| index.saturating_add(1));
        (self.vote.leader_id.term, self.vote.leader_id.node_id, index)
    }
}

/// Some of the others, often all.
fn targets(liar: &Liar, rng: &mut SimRng) -> Vec<u64> {
    let all = &liar.view.others;
    if rng.chance(700) {
        return all.clone();
    }
    all.iter().copied().filter(|_| rng.chance(500)).collect()
}

/// Heartbeats or a blank entry in a term that it did not win. It goes on in one term for a while,
/// as a leader would.
pub fn lead(liar: &Liar) {
    let Some(mut state) = liar.state() else {
        return;
    };
    let rng = &mut state.rng.clone();
    let (term, left) = match state.claim {
        Some((term, left)) if left > 0 && term >= liar.view.term => (term, left - 1),
        _ => (unvoted_term(rng, liar.view.term), rng.below(20)),
    };
    let claim = Claim::of(liar, term, rng);
    let last = liar.view.last();
    let commit = *rng.pick(&[None, None, liar.view.applied, last]);
    let appends = rng.chance(400);
    let to = targets(liar, rng);
    state.claim = Some((term, left));
    state.rng = rng.clone();
    drop(state);
    for node in to {
        if appends {
            let entry = forge::entry(forge::BLANK, claim.next(last), &[]);
            let request = claim.append(last, commit, entry);
            liar.send(Lie::Lead, node, RaftLane::Append, request);
        } else {
            let request = claim.heartbeat(None, commit);
            liar.send(Lie::Lead, node, RaftLane::Control, request);
        }
    }
}

/// Draws from the adversary's stream; none if it does not lie now.
fn draw<T>(liar: &Liar, draw: impl FnOnce(&mut SimRng) -> T) -> Option<T> {
    liar.state().map(|mut state| draw(&mut state.rng))
}

/// An entry that makes the liar the only voter, or that has voters who do not exist.
pub fn membership(liar: &Liar) {
    let drawn = draw(liar, |rng| {
        (Claim::new(liar, rng), rng.below(3), targets(liar, rng))
    });
    let Some((claim, choice, to)) = drawn else {
        return;
    };
    let (node, last) = (liar.view.node, liar.view.last());
    let voters = match choice {
        0 => BTreeSet::from([node]),
        1 => BTreeSet::from([node, 90, 91]),
        _ => liar
            .view
            .others
            .iter()
            .copied()
            .take(1)
            .chain([node])
            .collect(),
    };
    let all: BTreeSet<u64> = liar.view.others.iter().copied().chain([node]).collect();
    let place = claim.next(last);
    let content = forge::membership(&voters, &all);
    let entry = forge::entry(forge::MEMBERSHIP, place, &content);
    let request = claim.append(last, Some(place), entry);
    for to in to {
        liar.send(Lie::Membership, to, RaftLane::Append, request.clone());
    }
}

/// A blank entry instead of one of the newest, and its commit.
pub fn truncate(liar: &Liar) {
    let drawn = draw(liar, |rng| {
        (Claim::new(liar, rng), rng.below(3), targets(liar, rng))
    });
    let Some((claim, back, to)) = drawn else {
        return;
    };
    let prev = liar.view.entries.get(1 + back as usize).copied();
    let Some(prev) = prev else { return };
    let place = claim.next(Some(prev));
    let entry = forge::entry(forge::BLANK, place, &[]);
    let request = claim.append(Some(prev), Some(place), entry);
    for to in to {
        liar.send(Lie::Truncate, to, RaftLane::Append, request.clone());
    }
}

/// A previous log id and a commit that are behind the common ones, or far ahead, under its name.
pub fn rewind(liar: &Liar) {
    let Some((claim, far, to)) = draw(liar, |rng| {
        (Claim::new(liar, rng), rng.below(4), targets(liar, rng))
    }) else {
        return;
    };
    let Some((_, _, last)) = liar.view.last() else {
        return;
    };
    let (term, node) = (claim.vote.leader_id.term, liar.view.node);
    let place = match far {
        0 => (term, node, last.saturating_sub(5)),
        1 => (term, node, 0),
        2 => (u64::MAX, u64::MAX, last.saturating_sub(1)),
        _ => (term, node, u64::MAX),
    };
    let request = claim.heartbeat(Some(place), Some(place));
    for to in to {
        liar.send(Lie::Rewind, to, RaftLane::Control, request.clone());
    }
}

/// Asks for votes in its own name and in the name of others, with a log that it does not have.
pub fn candidate(liar: &Liar) {
    let drawn = draw(liar, |rng| {
        let term = unvoted_term(rng, liar.view.term);
        let last = liar.view.last();
        let claimed = [
            last,
            last.map(|(_, _, index)| (term, liar.view.node, index + 1_000)),
            Some((u64::MAX, u64::MAX, u64::MAX)),
            None,
        ];
        let name = match rng.below(5) {
            0 => *rng.pick(&liar.view.others),
            _ => liar.view.node,
        };
        let vote = forge::vote(term, name, rng.chance(100));
        (vote, *rng.pick(&claimed), targets(liar, rng))
    });
    let Some((vote, last, to)) = drawn else {
        return;
    };
    for to in to {
        let request = forge::ask_for_votes(vote, last);
        liar.send(Lie::Candidate, to, RaftLane::Control, request);
    }
}

/// An image of half a TiB and its first pieces.
pub fn flood(liar: &Liar) {
    let drawn = draw(liar, |rng| {
        (Claim::new(liar, rng), rng.below(1_000), targets(liar, rng))
    });
    let Some((claim, salt, to)) = drawn else {
        return;
    };
    let Some((_, _, last)) = liar.view.last() else {
        return;
    };
    let voters: BTreeSet<u64> = liar.view.others.iter().copied().collect();
    let place = (claim.vote.leader_id.term, liar.view.node, last + 1_000);
    let hash = forge::manifest(place, &voters, IMAGE_BYTES, salt).hash();
    let piece = vec![salt as u8; PIECE_BYTES];
    for to in to {
        let manifest = forge::manifest(place, &voters, IMAGE_BYTES, salt);
        let request = claim.offer(manifest);
        liar.send(Lie::Flood, to, RaftLane::Snapshot, request);
        for turn in 0..FLOOD {
            let request = forge::chunk(claim.vote, hash, turn * PIECE_BYTES as u64, &piece);
            liar.send(Lie::Flood, to, RaftLane::Snapshot, request);
        }
    }
}

/// An image whose position is not that of its contents.
pub fn image(liar: &Liar) {
    let drawn = draw(liar, |rng| {
        (Claim::new(liar, rng), rng.below(1_000), targets(liar, rng))
    });
    let Some((claim, salt, to)) = drawn else {
        return;
    };
    let voters = BTreeSet::from([liar.view.node]);
    let place = (claim.vote.leader_id.term, liar.view.node, 1 << 60);
    for to in to {
        let manifest = forge::manifest(place, &voters, 100, salt);
        let request = claim.offer(manifest);
        liar.send(Lie::Image, to, RaftLane::Snapshot, request);
    }
}

/// Sends old messages again, to anybody.
pub fn replay(liar: &Liar) {
    let drawn = liar.state().map(|mut state| {
        let count = state.requests.len() as u64;
        let mut rng = state.rng.clone();
        let mut old = Vec::new();
        for _ in 0..rng.between(1, 6).min(count) {
            let (lane, request) = state.requests[rng.below(count) as usize].clone();
            old.push((*rng.pick(&liar.view.others), lane, request));
        }
        state.rng = rng;
        old
    });
    for (to, lane, request) in drawn.into_iter().flatten() {
        liar.send(Lie::Replay, to, lane, request);
    }
}

/// Falls silent towards some or all of the others.
pub fn withhold(liar: &Liar) {
    let Some(mut state) = liar.state() else {
        return;
    };
    let rng = &mut state.rng.clone();
    let until = Instant::now() + Duration::from_millis(rng.between(50, 3_000));
    let to = targets(liar, rng);
    state.rng = rng.clone();
    state.silent.extend(to.into_iter().map(|to| (to, until)));
    drop(state);
    liar.count(Lie::Withhold);
}

/// Moves its clock far ahead, to the end of time, or back to the beginning.
pub fn misdate(liar: &Liar) {
    let Some(mut state) = liar.state() else {
        return;
    };
    let now = EPOCH_MS + liar.world.elapsed().as_millis() as u64;
    let times = [
        None,
        Some(now + 10_000),
        Some(now + DAY_MS),
        Some(now + 1_000 * DAY_MS),
        Some(u64::MAX - 1),
        Some(u64::MAX),
        Some(0),
    ];
    state.clock_ms = *state.rng.clone().pick(&times);
    let _ = state.rng.below(2);
    drop(state);
    liar.count(Lie::Time);
}
