//! What a hostile node sends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lamplighter_consensus::LogDigest;
use lamplighter_consensus::wire::{
    self, AppendBinding, AppendRequest, ControlRequest, ControlResponse, ElectionProof,
    EntryPayload, FileInfo, LogId, Manifest, Membership, ProposedBatch, RaftLogEntry,
    SignatureBytes, SignedVote, SnapshotMeta, SnapshotRequest, StoredMembership, Vote,
};
use lamplighter_ledger::PeerGossip;
use lamplighter_net::{Lane, Network, NodeKey};
use lamplighter_types::{Attestation, codec};
use openraft::raft::VoteRequest;
use tokio::time::{Instant, sleep, timeout};

use super::Attack;
use super::peer::HostilePeer;

/// The timeout of one of its requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of an image that does not exist, and of one piece of it.
const IMAGE_BYTES: u64 = 512 << 30;
const PIECE_BYTES: usize = 1 << 20;

/// One attack in progress.
struct Attacker<'a> {
    peer: &'a HostilePeer,
    network: &'a Network,
}

/// Attacks until then.
pub async fn run(attack: Attack, peer: &HostilePeer, network: &Network, until: Instant) {
    let mut attacker = Attacker { peer, network };
    let mut turn = 0u64;
    while Instant::now() < until {
        turn += 1;
        match attack {
            Attack::Lead => attacker.lead().await,
            Attack::Membership => attacker.membership().await,
            Attack::Truncate => attacker.truncate().await,
            Attack::Rewind => attacker.rewind().await,
            Attack::Height => attacker.height(turn),
            Attack::Frame => attacker.frame(),
            Attack::Flood => attacker.flood(turn).await,
            Attack::Fork => attacker.fork().await,
            Attack::Stand => attacker.stand().await,
            // Its answers are the attack.
            Attack::AnswerMax => {}
        }
        let pause = match attack {
            Attack::Frame => 3,
            Attack::Flood => 10,
            _ => 250,
        };
        sleep(Duration::from_millis(pause)).await;
    }
}

fn next(vote: &Vote, prev: Option<LogId>) -> LogId {
    LogId::new(vote.leader_id, prev.map_or(0, |prev| prev.index + 1))
}

fn blank(log_id: LogId) -> RaftLogEntry {
    RaftLogEntry {
        log_id,
        payload: EntryPayload::Blank,
    }
}

impl Attacker<'_> {
    fn nodes(&self) -> Vec<NodeKey> {
        self.peer.keys.values().copied().collect()
    }

    async fn send(&mut self, to: NodeKey, lane: Lane, body: Bytes) -> Option<Bytes> {
        self.peer.learned().sent += 1;
        let answer = self.network.request(to, lane, body, REQUEST_TIMEOUT).await;
        self.peer.record(lane, &answer);
        answer.ok()
    }

    async fn send_all(&mut self, lane: Lane, body: Bytes) {
        for to in self.nodes() {
            self.send(to, lane, body.clone()).await;
        }
    }

    fn gossip(&mut self, gossip: &PeerGossip) {
        let body = Bytes::from(codec::encode(gossip));
        for to in self.nodes() {
            self.peer.learned().sent += 1;
            // A full queue is no loss.
            let _ = self.network.notify(to, Lane::Attestation, body.clone());
        }
    }

    /// A term that follows the one that it knows, as its own leadership, and a proof with its own
    /// vote for every voter.
    fn claim(&self) -> (Vote, ElectionProof) {
        let term = self.peer.learned().term + 1;
        let vote = Vote::new_committed(term, self.peer.node);
        let mut proof = ElectionProof {
            term,
            candidate: self.peer.node,
            last_log_id: self.peer.last(),
            votes: Vec::new(),
        };
        let voters = self.peer.keys.keys().copied().chain([self.peer.node]);
        let signed = voters.map(|voter| SignedVote {
            voter,
            signature: self.peer.sign_vote(&proof, voter),
        });
        proof.votes = signed.collect();
        (vote, proof)
    }

    fn append(
        &self,
        prev: Option<LogId>,
        commit: Option<LogId>,
        entries: Vec<RaftLogEntry>,
    ) -> Bytes {
        let (vote, proof) = self.claim();
        let request = AppendRequest {
            vote,
            prev_log_id: prev,
            leader_commit: commit,
            entries,
        };
        let binding = self.bind(&request);
        wire::encode_append(&request, Some(&proof), binding)
    }

    /// Signs the entries as their leader, on top of a log that it makes up.
    fn bind(&self, request: &AppendRequest) -> Option<AppendBinding> {
        let prev_digest = LogDigest::EMPTY;
        let chain_id = &self.peer.chain_id.0;
        let sign = |message: &[u8]| self.peer.secret.sign(message).0;
        Some(AppendBinding::signed(
            request,
            prev_digest,
            &[],
            chain_id,
            sign,
        ))
    }

    fn heartbeat(&self, prev: Option<LogId>, commit: Option<LogId>) -> Bytes {
        let (vote, proof) = self.claim();
        wire::encode(&ControlRequest::Heartbeat {
            vote,
            prev_log_id: prev,
            leader_commit: commit,
            proof: Some(proof),
        })
        .into()
    }

    async fn lead(&mut self) {
        let body = self.heartbeat(None, None);
        self.send_all(Lane::Control, body).await;
    }

    async fn membership(&mut self) {
        let last = self.peer.last();
        let (vote, _) = self.claim();
        let log_id = next(&vote, last);
        let only = BTreeSet::from([self.peer.node]);
        let payload = EntryPayload::Membership(Membership::new(vec![only], ()));
        let entry = RaftLogEntry { log_id, payload };
        let body = self.append(last, Some(log_id), vec![entry]);
        self.send_all(Lane::Append, body).await;
    }

    /// Waits for an entry and sends another one in its place.
    async fn truncate(&mut self) {
        let _ = timeout(REQUEST_TIMEOUT, self.peer.appended.notified()).await;
        let last = self.peer.last();
        let (vote, _) = self.claim();
        let Some(last) = last.filter(|last| last.index > 0) else {
            return;
        };
        let prev = LogId::new(last.leader_id, last.index - 1);
        let log_id = next(&vote, Some(prev));
        let body = self.append(Some(prev), Some(log_id), vec![blank(log_id)]);
        self.send_all(Lane::Append, body).await;
    }

    async fn rewind(&mut self) {
        let last = self.peer.last();
        let (vote, _) = self.claim();
        let Some(last) = last else { return };
        let behind = LogId::new(vote.leader_id, last.index.saturating_sub(5));
        let body = self.heartbeat(Some(behind), Some(behind));
        self.send_all(Lane::Control, body).await;
    }

    fn height(&mut self, turn: u64) {
        let Some(mut certified) = self.peer.learned().certified.clone() else {
            return;
        };
        certified.header.height = u64::MAX - turn % 2;
        certified.certificate.height = certified.header.height;
        certified.certificate.header = certified.header.hash();
        let secret = &self.peer.secret;
        let attestations = [u64::MAX, u64::MAX - 1]
            .map(|height| Attestation::sign(height, certified.certificate.header, secret));
        self.gossip(&PeerGossip {
            attestations: attestations.to_vec(),
            certified: Some(certified),
        });
    }

    fn frame(&mut self) {
        let framed: Vec<Attestation> = {
            let learned = self.peer.learned();
            let newest = learned.attestations.back().map_or(0, |a| a.height);
            let under = |a: &Attestation| Attestation {
                height: newest + 1,
                ..a.clone()
            };
            learned.attestations.iter().map(under).collect()
        };
        self.gossip(&PeerGossip {
            attestations: framed,
            certified: None,
        });
    }

    async fn flood(&mut self, turn: u64) {
        let last = self.peer.last();
        let (vote, proof) = self.claim();
        let log_id = LogId::new(vote.leader_id, last.map_or(0, |last| last.index) + 1_000);
        let voters: BTreeSet<u64> = self.peer.keys.keys().copied().collect();
        let membership = Membership::new(vec![voters], ());
        let manifest = Manifest {
            meta: SnapshotMeta {
                last_log_id: Some(log_id),
                last_membership: StoredMembership::new(Some(log_id), membership),
                snapshot_id: "flood".to_owned(),
            },
            files: vec![FileInfo {
                name: "000001.sst".to_owned(),
                bytes: IMAGE_BYTES,
                hash: [7; 32],
            }],
        };
        let hash = manifest.hash();
        if turn == 1 {
            let offer = SnapshotRequest::Offer {
                vote,
                manifest,
                proof: Some(proof),
            };
            self.send_all(Lane::Snapshot, wire::frame(&offer, &[]))
                .await;
        }
        let chunk = SnapshotRequest::Chunk {
            vote,
            manifest: hash,
            file: 0,
            offset: (turn - 1) * PIECE_BYTES as u64,
        };
        let body = wire::frame(&chunk, &vec![7; PIECE_BYTES]);
        self.send_all(Lane::Snapshot, body).await;
    }

    /// A blank entry for one node, a batch for the others, both with one log id.
    async fn fork(&mut self) {
        let last = self.peer.last();
        let (vote, _) = self.claim();
        let log_id = next(&vote, last);
        let batch = RaftLogEntry {
            log_id,
            payload: EntryPayload::Normal(ProposedBatch(Bytes::from_static(b"no batch"))),
        };
        let (batch, blank) = (
            self.append(last, Some(log_id), vec![batch]),
            self.append(last, Some(log_id), vec![blank(log_id)]),
        );
        for (at, to) in self.nodes().into_iter().enumerate() {
            let body = if at == 0 { &blank } else { &batch };
            self.send(to, Lane::Append, body.clone()).await;
        }
    }

    /// Asks for votes with the newest log id that it knows, and takes the votes for a proof.
    async fn stand(&mut self) {
        let (term, last) = {
            let learned = self.peer.learned();
            (learned.term + 1, learned.last)
        };
        let vote = Vote::new(term, self.peer.node);
        let request = ControlRequest::Vote {
            request: VoteRequest::new(vote, last),
            log_proof: None,
        };
        let body = Bytes::from(wire::encode(&request));
        let mut votes = BTreeMap::<u64, SignatureBytes>::new();
        let keys = self.peer.keys.clone();
        for (voter, to) in keys {
            let answer = self.send(to, Lane::Control, body.clone()).await;
            let answer = answer.and_then(|bytes| wire::decode("answer", &bytes).ok());
            if let Some(ControlResponse::Vote {
                signature: Some(signature),
                ..
            }) = answer
            {
                votes.insert(voter, signature);
            }
        }
        let mut learned = self.peer.learned();
        learned.term = term;
        learned.votes = votes
            .into_iter()
            .map(|(voter, signature)| SignedVote { voter, signature })
            .collect();
    }
}
