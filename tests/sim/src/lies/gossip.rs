//! What an adversary says beside Raft: attestations, heights, artifacts, certificates, proofs.

use std::sync::Arc;

use bytes::Bytes;
use lamplighter_ledger::{PeerAnswer, PeerGossip, PeerRequest};
use lamplighter_types::{Attestation, Certificate, Encoding, Hash, SignedTransaction};

use super::Lie;
use super::adversary::Liar;
use crate::node;
use crate::rng::SimRng;
use crate::world::{EPOCH_MS, World};

/// Attestations of one message, more than a node accepts.
const ATTESTATIONS: usize = 600;
/// Transactions of one message.
const TRANSACTIONS: usize = 200;

fn hash(rng: &mut SimRng) -> Hash {
    Hash::of(&rng.below(u64::MAX).to_le_bytes())
}

fn absurd_height(rng: &mut SimRng, height: u64) -> u64 {
    let heights = [
        u64::MAX,
        u64::MAX - 1,
        height + 1,
        height + 1_000,
        1 << 60,
        0,
    ];
    *rng.pick(&heights)
}

/// Its own signatures under other headers, of the next height and of absurd ones.
pub fn attest(liar: &Liar) {
    let head = liar.up.handle.head();
    let Some(mut state) = liar.state() else {
        return;
    };
    let rng = &mut state.rng;
    let (many, near) = (rng.chance(100), rng.chance(600));
    let heights: Vec<u64> = match near {
        true => (head.height.saturating_sub(2)..=head.height + 1).collect(),
        false => vec![absurd_height(rng, head.height)],
    };
    let secret = node::secret(liar.view.node);
    let mut attestations: Vec<Attestation> = heights
        .into_iter()
        .map(|height| Attestation::sign(height, hash(rng), &secret))
        .collect();
    if many {
        let one = attestations[0].clone();
        attestations.resize(ATTESTATIONS, one);
    }
    drop(state);
    let gossip = PeerGossip {
        attestations,
        certified: None,
    };
    liar.gossip(Lie::Attest, gossip);
}

/// The attestations of others, with heights that they did not sign.
pub fn frame(liar: &Liar) {
    let head = liar.up.handle.head().height;
    let framed = liar.state().map(|mut state| {
        let back = state.rng.below(3);
        let heights = [head + 1, head.saturating_sub(back), head + 2];
        let height = *state.rng.pick(&heights);
        let of = |attestation: &Attestation| Attestation {
            height,
            ..attestation.clone()
        };
        state.attestations.iter().map(of).collect::<Vec<_>>()
    });
    let Some(attestations) = framed.filter(|framed| !framed.is_empty()) else {
        return;
    };
    let gossip = PeerGossip {
        attestations,
        certified: None,
    };
    liar.gossip(Lie::Frame, gossip);
}

/// A certified header of an absurd height, whose certificate is that of another one or empty.
pub fn height(liar: &Liar) {
    let head = liar.up.handle.head().height;
    let certified = liar.state().and_then(|mut state| {
        let height = absurd_height(&mut state.rng, head);
        let mut certified = state.certified.clone()?;
        certified.header.height = height;
        if state.rng.chance(500) {
            let header = certified.header.hash();
            certified.certificate = Certificate {
                height,
                header,
                ..certified.certificate
            };
        }
        Some(certified)
    });
    let Some(certified) = certified else { return };
    let gossip = PeerGossip {
        attestations: Vec::new(),
        certified: Some(certified),
    };
    liar.gossip(Lie::Height, gossip);
}

/// Transactions that nobody signed, and requests for what does not exist.
pub fn records(liar: &Liar) {
    let chain_id = liar.world.genesis.chain_id();
    let drawn = liar.state().map(|mut state| {
        let rng = &mut state.rng;
        (
            rng.below(3),
            rng.below(u64::MAX),
            *rng.pick(&liar.view.others),
        )
    });
    let Some((choice, salt, to)) = drawn else {
        return;
    };
    let request = match choice {
        0 => PeerRequest::Certificate { height: salt },
        1 => PeerRequest::Artifact(lamplighter_ledger::ArtifactRequest::Range {
            digest: Hash::of(&salt.to_le_bytes()),
            offset: u64::MAX - 1,
            length: u64::MAX,
        }),
        _ => {
            let transaction = crate::client::unsigned(salt);
            let secret = node::secret(liar.view.node);
            let signed =
                SignedTransaction::sign(&transaction, Encoding::Bincode, &chain_id, &secret);
            PeerRequest::Submit(vec![signed; TRANSACTIONS])
        }
    };
    liar.request(Lie::Records, to, request);
}

/// What a liar learns from the broadcasts of others.
pub fn observe_gossip(world: &World, node: u64, gossip: &PeerGossip) {
    if let Some(mut state) = world.liars.lying(node) {
        state.keep_attestations(&gossip.attestations);
        state.certified = gossip.certified.clone().or(state.certified.take());
    }
}

/// What a liar broadcasts instead of what its node wanted to broadcast; none if it is silent.
pub fn alter_gossip(world: &Arc<World>, from: u64, gossip: PeerGossip) -> Option<PeerGossip> {
    let Some(mut state) = world.liars.lying(from) else {
        return Some(gossip);
    };
    state.keep_attestations(&gossip.attestations);
    let withholds = world.liars.wants(Lie::Withhold) || world.liars.wants(Lie::Attest);
    // Signing some blocks and not others is within its power.
    (!withholds || state.rng.chance(400)).then_some(gossip)
}

/// What a liar answers beside Raft instead of its node's answer.
pub fn alter_peer_answer(world: &Arc<World>, node: u64, answer: PeerAnswer) -> PeerAnswer {
    let Some(mut state) = world.liars.lying(node) else {
        return answer;
    };
    if let PeerAnswer::Time { .. } = answer
        && world.liars.wants(Lie::Time)
    {
        world.count(Lie::Time.name());
        let now_ms = *state.rng.pick(&[0, u64::MAX, EPOCH_MS + (1 << 40)]);
        return PeerAnswer::Time { now_ms };
    }
    if !world.liars.wants(Lie::Records) || state.rng.chance(300) {
        return answer;
    }
    world.count(Lie::Records.name());
    match answer {
        PeerAnswer::Certificate(mut certificate) => {
            certificate.signatures.pop();
            PeerAnswer::Certificate(certificate)
        }
        PeerAnswer::Artifact(_) => PeerAnswer::Artifact(Bytes::from_static(b"other bytes")),
        PeerAnswer::Validators { .. } => PeerAnswer::Artifact(Bytes::new()),
        PeerAnswer::NotLeader => PeerAnswer::Submitted(Vec::new()),
        PeerAnswer::Submitted(mut accepted) => {
            accepted.fill(lamplighter_ledger::Acceptance::Accepted);
            accepted.push(lamplighter_ledger::Acceptance::Accepted);
            PeerAnswer::Submitted(accepted)
        }
        PeerAnswer::Unavailable | PeerAnswer::Time { .. } => PeerAnswer::NotLeader,
    }
}
