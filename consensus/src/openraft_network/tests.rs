use std::collections::BTreeSet;

use async_trait::async_trait;
use lamplighter_store::MemoryKv;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::advance;

use super::*;
use crate::blocking_io::BlockingIo;
use crate::config::Limits;
use crate::suite::{KvMachine, SharedVoters, TestElectorate};
use crate::types::{Membership, RaftMetrics, StoredMembership};

/// A network that reaches nobody: these tests judge answers, and ask for none.
struct Nowhere;

#[async_trait]
impl Transport for Nowhere {
    async fn call(
        &self,
        to: NodeId,
        _: RaftLane,
        _: Bytes,
        _: Duration,
    ) -> Result<Bytes, TransportError> {
        Err(TransportError::Unreachable(to))
    }
}

/// Node 1 of four, which asks node 2.
async fn client(dir: &TempDir) -> PeerClient {
    let kv = Arc::new(MemoryKv::new());
    let io = BlockingIo {
        inline: true,
        ..BlockingIo::default()
    };
    let log = LogStore::open(kv.clone(), io, Limits::default());
    let log = log.await.unwrap();
    let electorate = Arc::new(TestElectorate {
        node: 1,
        voters: Arc::<SharedVoters>::default(),
    });
    let elections = Elections::open(1, electorate, kv.clone(), io, log.clone());
    let elections = elections.await.unwrap();
    let mut metrics = RaftMetrics::new_initial(1);
    let membership = Membership::new(vec![BTreeSet::from([1, 2, 3, 4])], ());
    metrics.membership_config = Arc::new(StoredMembership::new(None, membership));
    let metrics = watch::channel(metrics).1;
    elections.voters.connect(metrics, Arc::default());
    let config = ConsensusConfig::new(1, dir.path().join("snapshots"));
    PeerClient {
        target: 2,
        pending: None,
        network: OpenraftNetwork {
            transport: Arc::new(Nowhere),
            log,
            config: Arc::new(config),
            machine: Arc::new(KvMachine::new(kv)),
            last_contact: Arc::default(),
            throttle: Arc::new(SnapshotThrottle::new(1)),
            elections,
            signed: Arc::default(),
        },
    }
}

fn leader(term: u64) -> LeaderId {
    LeaderId::new(term, 1)
}

/// The answer of node 2, of a later term than the leadership.
fn higher(term: u64) -> Vote {
    Vote::new(term + 1, 2)
}

/// Lets nodes 3 and 4 confirm the leadership, which is a quorum with node 1.
fn confirm(client: &PeerClient, term: u64) {
    for node in [3, 4] {
        let gate = &client.network.elections.gate;
        gate.record_answer(leader(term), node, Instant::now());
    }
}

/// Deposed, with the vote that openraft gets; refused; or refused as another answer.
fn answer(client: &PeerClient, term: u64) -> Option<Vote> {
    match client.deposed_by(leader(term), higher(term)) {
        Ok(vote) => Some(vote),
        Err(AnswerError::Again(vote)) => {
            assert_eq!(vote, higher(term));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The time of a pause: eight times the longest election timeout, which is 3 s here.
const PAUSE: Duration = Duration::from_secs(24);
const MOMENT: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn a_voter_deposes_a_confirmed_leader_once_in_a_pause_that_doubles() {
    let dir = TempDir::new().unwrap();
    let client = client(&dir).await;
    assert_eq!(client.network.config.timers.election_max * 8, PAUSE);
    confirm(&client, 3);
    // The next term is the voter's, who may have voted for itself in it.
    assert_eq!(answer(&client, 3), Some(Vote::new(5, 2)));
    // Several answers came at once: each is about the same leadership, which is over.
    for (term, pause) in [(6, PAUSE), (9, 2 * PAUSE), (12, 4 * PAUSE)] {
        confirm(&client, term);
        assert_eq!(answer(&client, term), None);
        advance(pause - MOMENT).await;
        confirm(&client, term);
        assert_eq!(answer(&client, term), None, "{pause:?} are not over");
        advance(2 * MOMENT).await;
        confirm(&client, term);
        assert_eq!(answer(&client, term), Some(Vote::new(term + 2, 2)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_ends_at_ten_minutes() {
    let dir = TempDir::new().unwrap();
    let client = client(&dir).await;
    let longest = Duration::from_secs(600);
    for term in 1..12 {
        confirm(&client, 3 * term);
        assert!(answer(&client, 3 * term).is_some(), "{term}");
        advance(longest + MOMENT).await;
    }
    let term = 99;
    confirm(&client, term);
    assert!(answer(&client, term).is_some());
    advance(longest - MOMENT).await;
    confirm(&client, term + 3);
    assert_eq!(answer(&client, term + 3), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_the_others_do_not_confirm_is_deposed_at_once() {
    let dir = TempDir::new().unwrap();
    let client = client(&dir).await;
    let longest = client.network.config.timers.election_max;
    confirm(&client, 3);
    assert!(answer(&client, 3).is_some());
    // It was elected just now: that is as good as a confirmation.
    confirm(&client, 6);
    assert_eq!(answer(&client, 6), None);
    advance(longest + MOMENT).await;
    assert!(answer(&client, 6).is_some(), "nobody has answered lately");
    // One of the others is too few, and the voter itself does not count.
    confirm(&client, 9);
    advance(longest + MOMENT).await;
    let gate = &client.network.elections.gate;
    for node in [2, 3] {
        gate.record_answer(leader(9), node, Instant::now());
    }
    assert!(answer(&client, 9).is_some());
}

#[tokio::test(start_paused = true)]
async fn several_answers_to_one_leadership_are_one_deposition() {
    let dir = TempDir::new().unwrap();
    let client = client(&dir).await;
    let longest = client.network.config.timers.election_max;
    confirm(&client, 3);
    assert!(answer(&client, 3).is_some());
    for _ in 0..5 {
        advance(longest + MOMENT).await;
        assert!(answer(&client, 3).is_some());
    }
    confirm(&client, 6);
    advance(PAUSE - MOMENT).await;
    confirm(&client, 6);
    assert_eq!(answer(&client, 6), None);
    advance(2 * MOMENT).await;
    confirm(&client, 6);
    assert!(answer(&client, 6).is_some(), "the pause has not doubled");
}
