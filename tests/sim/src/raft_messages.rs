//! The messages of consensus, as far as the invariants need them. The layout is that of the crate
//! `consensus`, in its file `message.rs`.

use std::collections::BTreeSet;

use bincode::config::legacy;
use bytes::Bytes;
use lamplighter_state::tables;
use lamplighter_store::{Cf, KvView};
use openraft::raft::{VoteRequest, VoteResponse};
use openraft::{EmptyNode, LogId, Membership, Vote};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Term and node of a leader.
pub type Leader = (u64, u64);

/// Term, node and index.
pub type Place = (u64, u64, u64);

/// Sets of voters, each of which needs a majority: two while the members change.
pub type Voters = Vec<BTreeSet<u64>>;

/// A request on the control lane; the order is that of the original.
#[derive(Debug, Deserialize)]
pub enum Control {
    Vote(VoteRequest<u64>),
    ReadIndex,
    Heartbeat {
        vote: Vote<u64>,
        #[expect(dead_code, reason = "it stands before what is looked at")]
        prev_log_id: Option<LogId<u64>>,
        leader_commit: Option<LogId<u64>>,
    },
    Ping,
}

#[derive(Debug, Deserialize)]
struct AppendHeader {
    vote: Vote<u64>,
    prev_log_id: Option<LogId<u64>>,
    leader_commit: Option<LogId<u64>>,
    entries: Vec<u32>,
}

/// An append with the places of its entries and the bytes of each.
#[derive(Debug)]
pub struct Append {
    pub leader: Leader,
    pub prev: Option<Place>,
    pub commit: Option<Place>,
    pub entries: Vec<(Place, Bytes)>,
}

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

pub fn control(request: &[u8]) -> Option<Control> {
    decode(request).map(|(control, _)| control)
}

/// The answer to [`Control::Vote`].
pub fn vote_response(answer: &[u8]) -> Option<VoteResponse<u64>> {
    let tag = answer.get(..4)?;
    (tag == [0; 4])
        .then(|| decode(&answer[4..]))?
        .map(|(response, _)| response)
}

/// True if an append was accepted completely.
pub fn is_success(answer: &[u8]) -> bool {
    answer.get(..4) == Some(&[0; 4])
}

pub fn append(request: &Bytes) -> Option<Append> {
    let length = u32::from_le_bytes(request.get(..4)?.try_into().ok()?) as usize;
    let (header, _) = decode::<AppendHeader>(request.get(4..4 + length)?)?;
    let mut at = 4 + length;
    let mut entries = Vec::with_capacity(header.entries.len());
    for size in header.entries {
        let entry = request.slice(at..at + size as usize);
        entries.push((entry_place(&entry)?, entry));
        at += size as usize;
    }
    Some(Append {
        leader: leader(&header.vote),
        prev: header.prev_log_id.as_ref().map(place),
        commit: header.leader_commit.as_ref().map(place),
        entries,
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

/// The voters that an entry names, if it is of a membership.
pub fn voters(entry: &[u8]) -> Option<(Place, Voters)> {
    let place = entry_place(entry)?;
    if entry[0] != MEMBERSHIP {
        return None;
    }
    let (membership, _) = decode::<Membership<u64, EmptyNode>>(&entry[ENTRY_HEADER_BYTES..])?;
    Some((place, membership.get_joint_config().clone()))
}

/// The last applied entry of the state in a store.
pub fn applied(store: &dyn KvView) -> Option<Place> {
    log_id(&tables::marker(store).ok()??)
}

/// The last purged entry of the log in a store.
pub fn purged(store: &dyn KvView) -> Option<Place> {
    log_id(&store.get(Cf::Meta, b"raft/purged").ok()??)
}

/// Place of a stored log id, with which a marker begins too.
pub fn log_id(bytes: &[u8]) -> Option<Place> {
    Some((number(bytes, 0)?, number(bytes, 8)?, number(bytes, 16)?))
}
