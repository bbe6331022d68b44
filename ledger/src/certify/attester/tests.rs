use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use lamplighter_consensus::StateMachine;
use lamplighter_store::MemoryKv;
use tempfile::TempDir;

use super::*;
use crate::apply::state_machine::LedgerStateMachine;
use crate::certify::pace::INTERVAL_MS;
use crate::evidence::EvidenceStore;
use crate::message::{PeerAnswer, PeerError, PeerRequest};
use crate::tests::{START_MS, machine, secret};

/// A clock that stands still.
struct FixedClock;

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        START_MS
    }
}

/// Records what is broadcast.
#[derive(Default)]
struct RecordingPeers(Mutex<Vec<PeerGossip>>);

#[async_trait]
impl Peers for RecordingPeers {
    async fn request(&self, node: u64, _: PeerRequest) -> Result<PeerAnswer, PeerError> {
        Err(PeerError::Unreachable(node))
    }

    fn broadcast(&self, gossip: PeerGossip) {
        self.0.lock().unwrap().push(gossip);
    }

    fn connected(&self) -> Vec<u64> {
        Vec::new()
    }
}

/// The attester of node 1 of four.
struct RunningAttester {
    machine: LedgerStateMachine,
    certifier: Arc<Certifier>,
    peers: Arc<RecordingPeers>,
    stop: CancellationToken,
    _dir: TempDir,
}

impl RunningAttester {
    async fn start() -> Self {
        let machine = machine(&MemoryKv::new(), 4);
        let dir = TempDir::new().unwrap();
        let (chain, alarms) = (machine.chain.clone(), machine.alarms.clone());
        let evidence = dir.path().join("evidence");
        let evidence = EvidenceStore::open(evidence, chain.clone(), alarms.clone()).unwrap();
        let certifier = Arc::new(Certifier::new(
            chain.clone(),
            alarms.clone(),
            Arc::new(evidence),
        ));
        let peers = Arc::<RecordingPeers>::default();
        let stop = CancellationToken::new();
        let attester = Attester {
            config: LedgerConfig::new(1),
            secret: secret(1),
            chain,
            certifier: certifier.clone(),
            peers: peers.clone(),
            alarms,
            clock: Arc::new(FixedClock),
            blocking: Blocking::Inline,
        };
        tokio::spawn(attester.run(stop.clone()));
        let test = Self {
            machine,
            certifier,
            peers,
            stop,
            _dir: dir,
        };
        test.pause(1).await;
        test
    }

    /// Applies a block of this time.
    async fn block(&self, ms: u64) -> u64 {
        let name = format!("o{ms}");
        let entry = self.machine.register(&name, START_MS + ms);
        self.machine.apply(vec![entry]).unwrap();
        // On a paused clock everything else runs first.
        self.pause(1).await;
        self.machine.chain.head().height
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// The heights at which it signed, and how many announcements it made.
    fn broadcast(&self) -> (BTreeSet<u64>, usize) {
        let gossip = self.peers.0.lock().unwrap();
        let heights = gossip.iter().flat_map(|g| &g.attestations);
        let demands = gossip.iter().filter(|g| g.is_demand());
        (heights.map(|a| a.height).collect(), demands.count())
    }

    fn signed(&self) -> BTreeSet<u64> {
        self.broadcast().0
    }

    /// Lets other validators sign this node's header.
    fn attest(&self, validators: &[u8], height: u64) {
        let header = tables::header_hash(&*self.machine.chain.store(), height);
        let hash = header.unwrap().unwrap();
        let sign = |n: &u8| Attestation::sign(height, hash, &secret(*n));
        let gossip = PeerGossip {
            attestations: validators.iter().map(sign).collect(),
            certified: None,
        };
        self.certifier.handle_gossip(gossip).unwrap();
    }

    fn certified(&self) -> u64 {
        self.machine.chain.certified_height()
    }
}

impl Drop for RunningAttester {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_header_of_an_interval_is_signed_and_the_last_of_a_burst() {
    let test = RunningAttester::start().await;
    for ms in [100, 110, 120, 100 + INTERVAL_MS, 110 + INTERVAL_MS] {
        test.block(ms).await;
    }
    assert_eq!(test.signed(), [1, 4].into());
    // The validators agree on height 4; height 5 waits for a while.
    test.attest(&[2, 3], 4);
    assert_eq!(test.certified(), 4);
    test.pause(1).await;
    test.pause(UNCERTIFIED_AFTER.as_millis() as u64).await;
    assert_eq!(test.signed(), [1, 4, 5].into());
    // Each on its own, far from the one before: signed at once.
    for ms in [500, 700, 900] {
        let height = test.block(ms).await;
        assert!(test.signed().contains(&height));
    }
}

#[tokio::test(start_paused = true)]
async fn every_header_is_signed_while_a_caller_waits() {
    let test = RunningAttester::start().await;
    for ms in [100, 110, 120] {
        test.block(ms).await;
    }
    assert_eq!(test.broadcast(), ([1].into(), 0));
    test.certifier.demands().record_local();
    test.pause(1).await;
    // The newest at once, without waiting for the next block, and the others get to know.
    assert_eq!(test.broadcast(), ([1, 3].into(), 1));
    for ms in [121, 122, 123] {
        test.block(ms).await;
    }
    assert_eq!(test.broadcast(), ([1, 3, 4, 5, 6].into(), 1));
}

/// Otherwise validators whose clocks and networks differ could sign different headers for ever.
#[tokio::test(start_paused = true)]
async fn a_header_that_another_validator_signed_is_signed() {
    let test = RunningAttester::start().await;
    for ms in [100, 110, 120] {
        test.block(ms).await;
    }
    assert_eq!(test.signed(), [1].into());
    test.attest(&[2], 2);
    test.pause(1).await;
    assert_eq!(test.signed(), [1, 2].into());
    test.attest(&[3], 2);
    assert_eq!(test.certified(), 2);

    // One that this node has not executed yet.
    let hash = Hash([9; 32]);
    let gossip = PeerGossip {
        attestations: vec![Attestation::sign(4, hash, &secret(2))],
        certified: None,
    };
    test.certifier.handle_gossip(gossip).unwrap();
    test.pause(1).await;
    assert_eq!(test.signed(), [1, 2].into());
    test.block(121).await;
    assert_eq!(test.signed(), [1, 2, 4].into());
}

/// A validator below the quorum does not sign again and again, and continues with the others.
#[tokio::test(start_paused = true)]
async fn a_lone_validator_signs_the_newest_header_once() {
    let test = RunningAttester::start().await;
    let height = test.block(100).await;
    test.block(101).await;
    test.pause(10_000).await;
    assert_eq!(test.signed(), [height, height + 1].into());
    test.attest(&[2, 3], height + 1);
    assert_eq!(test.certified(), height + 1);
}
