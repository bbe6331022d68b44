//! The network side of a hostile node: it accepts everything, answers as the attack wants, and
//! remembers what it learns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::wire::{
    self, AppendAnswer, AppendResponse, ControlRequest, ControlResponse, ElectionProof, LogId,
    SignatureBytes, SignedVote, SnapshotResponse, Vote,
};
use lamplighter_ledger::{Acceptance, PeerAnswer, PeerGossip, PeerRequest};
use lamplighter_net::{AllowList, AllowedPeer, Lane, NodeKey, Service, ServiceError};
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::{Attestation, Genesis, Hash, SecretKey, codec};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Attack, AttackSummary, HostileOptions};

/// Attestations that it keeps to repeat them.
const ATTESTATIONS_MAX: usize = 64;
/// Reasons of refusals that it reports.
const REASONS_MAX: usize = 3;

/// The greeting of a node: the id of its store, and the highest block that it signed there.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct StoreGreeting {
    store: [u8; 16],
    signed: Option<u64>,
}

impl StoreGreeting {
    /// The same store, later: it signed whatever anybody can have seen of it.
    pub fn advanced(self) -> Self {
        Self {
            signed: Some(u64::MAX),
            ..self
        }
    }
}

/// What it learned.
#[derive(Default)]
pub struct Learned {
    pub term: u64,
    pub leader: Option<u64>,
    /// The newest entry that it was sent, and the last commit.
    pub last: Option<LogId>,
    pub commit: Option<LogId>,
    pub attestations: VecDeque<Attestation>,
    pub certified: Option<CertifiedHeader>,
    pub sent: u64,
    pub refused: u64,
    /// Requests whose answer is the one that an honest leader or candidate gets.
    pub obeyed: u64,
    pub reasons: Vec<String>,
    /// The greetings of its peers, by their keys.
    pub greetings: BTreeMap<[u8; 32], StoreGreeting>,
    /// Votes that it got for its last candidacy.
    pub votes: Vec<SignedVote>,
}

/// A hostile node.
pub struct HostilePeer {
    pub node: u64,
    pub chain_id: Hash,
    pub secret: SecretKey,
    pub keys: BTreeMap<u64, NodeKey>,
    attack: Attack,
    greeting: StoreGreeting,
    learned: Mutex<Learned>,
    /// Notified at each append.
    pub appended: Notify,
}

impl HostilePeer {
    pub fn new(options: &HostileOptions, genesis: &Genesis, secret: SecretKey) -> Arc<Self> {
        let validators = genesis.validators.validators.iter();
        let others = validators.filter(|v| v.node != options.node);
        let mut store = [0; 16];
        store.copy_from_slice(&secret.public().0[..16]);
        let separate = StoreGreeting {
            store,
            signed: None,
        };
        Arc::new(Self {
            node: options.node,
            chain_id: genesis.chain_id(),
            secret,
            keys: others.map(|v| (v.node, NodeKey(v.key.0))).collect(),
            attack: options.attack,
            greeting: options.greeting.unwrap_or(separate),
            learned: Mutex::default(),
            appended: Notify::new(),
        })
    }

    pub fn allow_list(&self, genesis: &Genesis) -> AllowList {
        let validators = genesis.validators.validators.iter();
        let allowed = validators.map(|v| AllowedPeer {
            key: NodeKey(v.key.0),
            address: Some(v.address.clone()),
        });
        AllowList(allowed.collect())
    }

    pub fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().expect("no holder panics")
    }

    /// The newest entry that it was sent.
    pub fn last(&self) -> Option<LogId> {
        self.learned().last
    }

    /// Records the answer to one of its messages.
    pub fn record(&self, lane: Lane, answer: &Result<Bytes, lamplighter_net::NetError>) {
        let refusal = match answer {
            Ok(bytes) => refusal(lane, bytes),
            Err(error) => Some(lamplighter_system::error_chain(error)),
        };
        let mut learned = self.learned();
        let Some(reason) = refusal else {
            learned.obeyed += 1;
            return;
        };
        learned.refused += 1;
        if learned.reasons.len() < REASONS_MAX && !learned.reasons.contains(&reason) {
            learned.reasons.push(reason);
        }
    }

    pub fn summary(&self, reached: usize) -> AttackSummary {
        let learned = self.learned();
        let Learned {
            sent,
            refused,
            obeyed,
            ..
        } = *learned;
        AttackSummary {
            reached,
            sent,
            refused,
            obeyed,
            reasons: learned.reasons.clone(),
            greetings: learned.greetings.clone(),
        }
    }

    fn observe(&self, vote: &Vote, last: Option<LogId>, commit: Option<LogId>) {
        let mut learned = self.learned();
        learned.term = learned.term.max(vote.leader_id.term);
        learned.leader = Some(vote.leader_id.node_id);
        learned.last = learned.last.max(last);
        learned.commit = learned.commit.max(commit);
    }

    fn append_answer(&self) -> AppendAnswer {
        let response = if self.attack == Attack::AnswerMax {
            AppendResponse::HigherVote(Vote::new_committed(u64::MAX, self.node))
        } else {
            // It acknowledges everything and keeps nothing.
            AppendResponse::Success
        };
        AppendAnswer::Response {
            response,
            signature: None,
        }
    }

    fn control(&self, body: &[u8]) -> Result<Bytes, ServiceError> {
        let request = wire::decode("request", body).map_err(failed)?;
        let response = match request {
            ControlRequest::Heartbeat {
                vote,
                leader_commit,
                ..
            } => {
                self.observe(&vote, leader_commit, leader_commit);
                ControlResponse::Heartbeat(self.append_answer())
            }
            ControlRequest::Vote { request, .. } => self.vote(&request),
            ControlRequest::ReadIndex => ControlResponse::ReadIndex(Some(u64::MAX)),
            _ => ControlResponse::Pong,
        };
        Ok(wire::encode(&response).into())
    }

    /// Votes for everybody.
    fn vote(&self, request: &VoteRequest) -> ControlResponse {
        let proof = ElectionProof {
            term: request.vote.leader_id.term,
            candidate: request.vote.leader_id.node_id,
            last_log_id: request.last_log_id,
            votes: Vec::new(),
        };
        let max = self.attack == Attack::AnswerMax;
        let vote = match max {
            true => Vote::new(u64::MAX, self.node),
            false => request.vote,
        };
        ControlResponse::Vote {
            response: VoteResponse {
                vote,
                vote_granted: !max,
                last_log_id: request.last_log_id,
            },
            signature: Some(self.sign_vote(&proof, self.node)),
        }
    }

    pub fn sign_vote(&self, proof: &ElectionProof, voter: u64) -> SignatureBytes {
        let statement = proof.statement(&self.chain_id.0, voter);
        SignatureBytes(self.secret.sign(&statement).0)
    }

    fn peer_request(&self, body: &[u8]) -> Result<Bytes, ServiceError> {
        let request: PeerRequest = codec::decode(body).map_err(failed)?;
        let answer = match request {
            // It accepts transactions and forgets them.
            PeerRequest::Submit(all) => {
                PeerAnswer::Submitted(vec![Acceptance::Accepted; all.len()])
            }
            _ => PeerAnswer::Unavailable,
        };
        Ok(codec::encode(&answer).into())
    }
}

type VoteRequest = openraft::raft::VoteRequest<u64>;
type VoteResponse = openraft::raft::VoteResponse<u64>;

/// The refusal in the answer to a request; `None` if the other node does what it was told.
fn refusal(lane: Lane, answer: &[u8]) -> Option<String> {
    let unreadable = || Some("an answer that can't be read".to_owned());
    match lane {
        Lane::Control => match wire::decode("answer", answer) {
            Ok(ControlResponse::Heartbeat(answer)) => append_refusal(&answer),
            Ok(ControlResponse::Vote { response, .. }) => {
                let refused = !response.vote_granted;
                refused.then(|| format!("no vote, the newest one is {}", response.vote))
            }
            Ok(_) => None,
            Err(_) => unreadable(),
        },
        Lane::Append => match wire::decode("answer", answer) {
            Ok(answer) => append_refusal(&answer),
            Err(_) => unreadable(),
        },
        Lane::Snapshot => match wire::decode("answer", answer) {
            Ok(SnapshotResponse::Unproven) => Some("the leadership is not proven".to_owned()),
            Ok(SnapshotResponse::Done { vote }) => Some(format!("not wanted, the vote is {vote}")),
            Ok(_) => None,
            Err(_) => unreadable(),
        },
        Lane::Transactions | Lane::Sync | Lane::Attestation => None,
    }
}

fn append_refusal(answer: &AppendAnswer) -> Option<String> {
    match answer {
        AppendAnswer::Unproven => Some("the leadership is not proven".to_owned()),
        AppendAnswer::Response { response, .. } => match response {
            AppendResponse::Success | AppendResponse::PartialSuccess(_) => None,
            AppendResponse::HigherVote(vote) => Some(format!("a newer vote is known, {vote}")),
            AppendResponse::Conflict => Some("the entry before is another one".to_owned()),
        },
    }
}

fn failed(error: impl std::fmt::Display) -> ServiceError {
    ServiceError::Failed(error.to_string())
}

#[async_trait]
impl Service for HostilePeer {
    async fn request(&self, _: NodeKey, lane: Lane, body: Bytes) -> Result<Bytes, ServiceError> {
        match lane {
            Lane::Control => self.control(&body),
            Lane::Append => {
                let message = wire::decode_append(body).map_err(failed)?;
                let request = message.request;
                let last = request.entries.last().map(|entry| entry.log_id);
                self.observe(&request.vote, last, request.leader_commit);
                self.appended.notify_one();
                Ok(wire::encode(&self.append_answer()).into())
            }
            Lane::Snapshot => {
                let vote = Vote::new_committed(u64::MAX, self.node);
                Ok(wire::encode(&SnapshotResponse::Done { vote }).into())
            }
            Lane::Transactions | Lane::Sync => self.peer_request(&body),
            Lane::Attestation => Err(failed("not now")),
        }
    }

    async fn notify(&self, _: NodeKey, lane: Lane, body: Bytes) {
        let Ok(gossip) = codec::decode::<PeerGossip>(&body) else {
            return;
        };
        if lane != Lane::Attestation {
            return;
        }
        let mut learned = self.learned();
        for attestation in gossip.attestations {
            if learned.attestations.len() == ATTESTATIONS_MAX {
                learned.attestations.pop_front();
            }
            learned.attestations.push_back(attestation);
        }
        learned.certified = gossip.certified.or(learned.certified.take());
    }

    fn greeting(&self) -> Bytes {
        codec::encode(&self.greeting).into()
    }

    /// It lets everybody in, and remembers the store of each.
    async fn verify_greeting(&self, from: NodeKey, greeting: Bytes) -> Result<(), String> {
        let greeting = codec::decode(&greeting).map_err(|error| error.to_string())?;
        self.learned().greetings.insert(from.0, greeting);
        Ok(())
    }
}
