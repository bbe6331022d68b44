use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_consensus::StateMachine;
use lamplighter_state::tree::Tree;
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Scan, StoreError, WriteBatch,
};

use super::*;
use crate::tests::{START_MS, genesis, machine_of, machine_with};

/// Longest that any step may take; only a failing test gets there.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The key whose reads are held.
const HELD: &[u8] = b"held";

/// Reports that a read begins, and holds it until it is released.
#[derive(Clone)]
struct Gate {
    begun: SyncSender<()>,
    released: Arc<Mutex<Receiver<()>>>,
}

/// A store, or a view of it, that holds the reads of one key.
struct HoldingStore<T: ?Sized> {
    gate: Gate,
    store: Arc<T>,
}

impl<T: KvView + ?Sized> KvView for HoldingStore<T> {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if key == HELD {
            self.gate.begun.send(()).unwrap();
            let released = self.gate.released.lock().unwrap();
            released.recv_timeout(TIMEOUT).unwrap();
        }
        self.store.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.store.scan(cf, range, direction)
    }
}

impl Kv for HoldingStore<MemoryKv> {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        self.store.write(batch, durability)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        Ok(Arc::new(HoldingStore {
            gate: self.gate.clone(),
            store: self.store.view()?,
        }))
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.store.checkpoint(dir)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        self.store.read_checkpoint(dir)
    }
}

#[tokio::test]
async fn a_block_is_applied_while_a_proof_waits_for_the_disk() {
    let ((begun, has_begun), (release, released)) = (sync_channel(1), sync_channel(1));
    let store = HoldingStore {
        gate: Gate {
            begun,
            released: Arc::new(Mutex::new(released)),
        },
        store: Arc::new(MemoryKv::new()),
    };
    let machine = machine_of(Arc::new(store), genesis(1));
    let chain = machine.chain.clone();
    let root = chain.read_head().header.state_root;
    let reader = chain.clone();
    let proving = thread::spawn(move || read_states(&reader, &[HELD.to_vec()]));
    has_begun.recv_timeout(TIMEOUT).unwrap();
    let (applied, is_applied) = sync_channel(1);
    thread::spawn(move || {
        let entry = machine.register("north", START_MS + 1);
        applied.send(machine.apply(vec![entry]).is_ok()).unwrap();
    });
    let in_time = is_applied.recv_timeout(TIMEOUT / 3);
    release.send(()).unwrap();
    assert_eq!(in_time, Ok(true), "the block waits for the proof");
    assert_eq!(chain.head().height, 1);
    // The proof is of the block before.
    let (height, records) = proving.join().unwrap().unwrap();
    assert_eq!(height, 0);
    let RecordProof::State { key, value, path } = &records[0] else {
        panic!("{records:?}");
    };
    assert_eq!((&key.0[..], value), (HELD, &None));
    path.verify_absence(HELD, &root).unwrap();
}

/// Proofs hold whatever blocks are written between their begin and their end, all pages on disk.
#[tokio::test]
async fn proofs_hold_while_blocks_are_applied() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::on_disk(dir.path(), 0);
    let machine = machine_with(Arc::new(MemoryKv::new()), genesis(1), tree);
    let chain = machine.chain.clone();
    let blocks = 60;
    let proving = thread::spawn(move || {
        let mut heights = BTreeSet::new();
        loop {
            let keys: Vec<_> = (0..30u8).map(|n| vec![n; 3]).collect();
            let (height, records) = read_states(&chain, &keys).unwrap();
            let header = tables::header(&*chain.store(), height).unwrap().unwrap();
            for record in records {
                let RecordProof::State { key, path, .. } = record else {
                    panic!("{record:?}");
                };
                path.verify_absence(&key.0, &header.state_root).unwrap();
            }
            heights.insert(height);
            if height == blocks {
                return heights.len();
            }
        }
    });
    for number in 1..=blocks {
        let entry = machine.register(&format!("org-{number}"), START_MS + number);
        machine.apply(vec![entry]).unwrap();
    }
    assert!(proving.join().unwrap() > 1);
}
