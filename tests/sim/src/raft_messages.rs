//! The messages of consensus, as far as the invariants need them.

use std::collections::BTreeSet;
use std::path::Path;

use bincode::config::legacy;
use bytes::Bytes;
use lamplighter_consensus::wire::{
    self, AppendAnswer, AppendMessage, ControlRequest, ControlResponse,
};
use lamplighter_state::tables;
use lamplighter_store::{Cf, Kv, KvView, MemoryKv};
use openraft::raft::VoteResponse;
use openraft::{EmptyNode, LogId, Membership, Vote};
use serde::de::DeserializeOwned;

/// Term and node of a leader.
pub type Leader = (u64, u64);

/// Term, node and index.
pub type Place = (u64, u64, u64);

/// Sets of voters, each of which needs a majority: two while the members change.
pub type Voters = Vec<BTreeSet<u64>>;

/// An append with the places of its entries and the bytes of each.
#[derive(Debug)]
pub struct Append {
    pub leader: Leader,
    pub prev: Option<Place>,
    pub commit: Option<Place>,
    pub entries: Vec<(Place, Bytes)>,
}

/// The kind of an entry that holds a batch.
const BATCH: u8 = 1;
/// The kind of an entry that holds a membership.
const MEMBERSHIP: u8 = 2;
/// Bytes before the content of an entry: kind, term, node, index.
const ENTRY_HEADER_BYTES: usize = 25;

pub fn leader(vote: &Vote<u64>) -> Leader {
    (vote.leader_id.term, vote.leader_id.node_id)
}

pub fn place(log_id: &LogId<u64>) -> Place {
    (
        log_id.leader_id.term,
        log_id.leader_id.node_id,
        log_id.index,
    )
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, usize)> {
    bincode::serde::decode_from_slice(bytes, legacy()).ok()
}

pub fn control(request: &[u8]) -> Option<ControlRequest> {
    wire::decode("request", request).ok()
}

/// The answer to [`ControlRequest::Vote`].
pub fn vote_response(answer: &[u8]) -> Option<VoteResponse<u64>> {
    match wire::decode("answer", answer).ok()? {
        ControlResponse::Vote { response, .. } => Some(response),
        _ => None,
    }
}

/// True if an append was accepted completely.
pub fn is_success(answer: &[u8]) -> bool {
    let accepted = |answer| match answer {
        AppendAnswer::Response { response, .. } => response.is_success(),
        AppendAnswer::Unproven => false,
    };
    wire::decode("answer", answer).is_ok_and(accepted)
}

pub fn append(request: &Bytes) -> Option<Append> {
    let AppendMessage { request, .. } = wire::decode_append(request.clone()).ok()?;
    let entries = request.entries.iter().map(|entry| {
        let mut bytes = Vec::new();
        wire::put_entry(entry, &mut bytes);
        (place(&entry.log_id), bytes.into())
    });
    Some(Append {
        leader: leader(&request.vote),
        prev: request.prev_log_id.as_ref().map(place),
        commit: request.leader_commit.as_ref().map(place),
        entries: entries.collect(),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Place of an entry as it is stored and sent.
pub fn entry_place(entry: &[u8]) -> Option<Place> {
    entry.get(..ENTRY_HEADER_BYTES)?;
    Some((number(entry, 1)?, number(entry, 9)?, number(entry, 17)?))
}

/// The batch in an entry, if it has one.
pub fn batch(entry: &[u8]) -> Option<&[u8]> {
    let (head, content) = entry.split_at_checked(ENTRY_HEADER_BYTES)?;
    (head[0] == BATCH).then_some(content)
}

/// The voters that an entry names, if it is of a membership.
pub fn voters(entry: &[u8]) -> Option<(Place, Voters)> {
    let place = entry_place(entry)?;
    if entry[0] != MEMBERSHIP {
        return None;
    }
    let (membership, _) = decode::<Membership<u64, EmptyNode>>(&entry[ENTRY_HEADER_BYTES..])?;
    Some((place, membership.get_joint_config().clone()))
}

/// The last applied entry of the state in a store. While an image is installed, the tables are in
/// part those of before: the state is then that of the image, whose files are durable, and with
/// which the next start begins.
pub fn applied(store: &dyn KvView) -> Option<Place> {
    let marker = match tables::installing(store).ok()? {
        None => tables::marker(store),
        Some(dir) => tables::position(&*MemoryKv::new().read_checkpoint(Path::new(&dir)).ok()?),
    };
    log_id(&marker.ok()??)
}

/// The last purged entry of the log in a store.
pub fn purged(store: &dyn KvView) -> Option<Place> {
    log_id(&store.get(Cf::Meta, b"raft/purged").ok()??)
}

/// The last entry that a node had acknowledged when it dropped its log.
pub fn vote_floor(store: &dyn KvView) -> Option<Place> {
    let floor = store.get(Cf::Meta, b"raft/floor").ok()??;
    let (tag, rest) = floor.split_first()?;
    (*tag == 1).then(|| log_id(rest))?
}

/// Place of a stored log id, with which a marker begins too.
pub fn log_id(bytes: &[u8]) -> Option<Place> {
    Some((number(bytes, 0)?, number(bytes, 8)?, number(bytes, 16)?))
}
