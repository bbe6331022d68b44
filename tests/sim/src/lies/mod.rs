//! Lying nodes. A liar is an honest node whose messages pass an adversary, which holds the node's
//! key: it alters, drops and repeats what the node sends and answers, and adds messages.
//!
//! `forge` makes the bytes; `raft` is what an adversary sends on the lanes of consensus, `requests`
//! what it does to the messages and the answers of its node, `gossip` what it does beside Raft.

mod adversary;
mod forge;
mod gossip;
mod raft;
mod requests;

use std::collections::BTreeSet;

pub use adversary::{Liars, live};
pub use forge::is_batch;
pub use gossip::{alter_gossip, alter_peer_answer, observe_gossip};
pub use requests::{alter_answer, alter_request};

use crate::rng::SimRng;

/// A kind of lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Lie {
    /// Claims to lead in a higher term, without a vote.
    Lead,
    /// Sends an entry that makes itself the only voter.
    Membership,
    /// Replaces the newest entries by its own.
    Truncate,
    /// Announces a commit that lies far behind, or far ahead.
    Rewind,
    /// Stands for election with terms and logs that do not exist.
    Candidate,
    /// Votes for everybody, and twice in a term.
    Votes,
    /// Answers with votes of absurd terms.
    AnswerTerm,
    /// Acknowledges what it does not have, and answers with absurd log ids.
    AnswerLog,
    /// As the elected leader, sends different batches under one log id.
    Equivocate,
    /// As the elected leader, sends bytes that are no batch.
    Garbage,
    /// As the elected leader, sends the entries of earlier leaders with other bytes.
    Inherited,
    /// Its clock is days ahead, or at the end of time.
    Time,
    /// Signs other headers, and other heights.
    Attest,
    /// Repeats the attestations of others under another height.
    Frame,
    /// Reports absurd heights.
    Height,
    /// Alters the images that it sends.
    Image,
    /// Offers images without end, and other floods.
    Flood,
    /// Sends artifacts, certificates and proofs that are not what was asked for.
    Records,
    /// Is silent: as a leader, to some, or altogether.
    Withhold,
    /// Repeats old messages, in any order.
    Replay,
}

/// Every kind.
pub const ALL: [Lie; 20] = [
    Lie::Lead,
    Lie::Membership,
    Lie::Truncate,
    Lie::Rewind,
    Lie::Candidate,
    Lie::Votes,
    Lie::AnswerTerm,
    Lie::AnswerLog,
    Lie::Equivocate,
    Lie::Garbage,
    Lie::Inherited,
    Lie::Time,
    Lie::Attest,
    Lie::Frame,
    Lie::Height,
    Lie::Image,
    Lie::Flood,
    Lie::Records,
    Lie::Withhold,
    Lie::Replay,
];

impl Lie {
    /// True if the lie needs no office: nodes that check what they get lose no service by it.
    pub fn is_powerless(self) -> bool {
        match self {
            Self::Lead
            | Self::Membership
            | Self::Truncate
            | Self::Rewind
            | Self::Attest
            | Self::Frame
            | Self::Height
            | Self::Flood
            | Self::Records
            | Self::Replay => true,
            // A leader or a candidate can hinder, and an answer can be missing.
            Self::Candidate
            | Self::Votes
            | Self::AnswerTerm
            | Self::AnswerLog
            | Self::Equivocate
            | Self::Garbage
            | Self::Inherited
            | Self::Time
            | Self::Image
            | Self::Withhold => false,
        }
    }

    /// Its name in the counts of a run.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lead => "lies: lead",
            Self::Membership => "lies: membership",
            Self::Truncate => "lies: truncate",
            Self::Rewind => "lies: rewind",
            Self::Candidate => "lies: candidate",
            Self::Votes => "lies: votes",
            Self::AnswerTerm => "lies: answer term",
            Self::AnswerLog => "lies: answer log",
            Self::Equivocate => "lies: equivocate",
            Self::Garbage => "lies: garbage",
            Self::Inherited => "lies: inherited",
            Self::Time => "lies: time",
            Self::Attest => "lies: attest",
            Self::Frame => "lies: frame",
            Self::Height => "lies: height",
            Self::Image => "lies: image",
            Self::Flood => "lies: flood",
            Self::Records => "lies: records",
            Self::Withhold => "lies: withhold",
            Self::Replay => "lies: replay",
        }
    }
}

/// The liars of one run, and what they do.
#[derive(Clone, Debug)]
pub struct LiePlan {
    pub liars: BTreeSet<u64>,
    /// The liar is an observer, who joins during the run.
    pub observer: bool,
    pub kinds: Vec<Lie>,
    /// The pause between two lies, in ms.
    pub every_ms: (u64, u64),
    /// The time in which there are lies and no other faults, in ms.
    pub alone_ms: u64,
    /// The administrators remove the liar at the end, without its signature.
    pub removed: bool,
}

impl LiePlan {
    /// True if none of the lies may cost service.
    pub fn is_powerless(&self) -> bool {
        self.kinds.iter().all(|lie| lie.is_powerless())
    }

    /// The lies of a seed among so many nodes; the number of validators may become another one.
    pub fn new(seed: u64, nodes: &mut u64, only: Option<Lie>) -> Self {
        let mut rng = SimRng::new(seed, "lies");
        let rng = &mut rng;
        let observer = rng.chance(200);
        let liars = if observer {
            // It is not among the tolerated liars, so it may do no harm to three either.
            BTreeSet::from([*nodes + 1])
        } else {
            *nodes = *rng.pick(&[4, 4, 4, 4, 4, 4, 5, 5, 5, 7]);
            let first = rng.between(1, *nodes);
            let second = (*nodes == 7).then(|| first % 7 + 1);
            [first].into_iter().chain(second).collect()
        };
        let drawn = match rng.below(10) {
            0..4 => vec![*rng.pick(&ALL)],
            4..8 => ALL.into_iter().filter(|_| rng.chance(250)).collect(),
            _ => ALL.to_vec(),
        };
        let kinds = match only {
            Some(only) => vec![only],
            None if drawn.is_empty() => vec![Lie::Lead],
            None => drawn,
        };
        Self {
            liars,
            observer,
            kinds,
            every_ms: *rng.pick(&[(20, 100), (50, 500), (50, 500), (200, 2_000)]),
            alone_ms: rng.between(1_000, 5_000),
            removed: !observer && rng.chance(300),
        }
    }
}
