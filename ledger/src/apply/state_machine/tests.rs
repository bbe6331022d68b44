use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_store::{Fault, MemoryKv};
use lamplighter_types::proof::VALIDATOR_SET_KEY;

use super::*;
use crate::alarms::NodeAlarm;
use crate::tests::{START_MS, genesis, machine, machine_with};

impl LedgerStateMachine {
    /// State, tree and history are those of the head.
    fn assert_whole(&self) {
        let head = self.chain.read_head();
        let stored = Tree::new().load(&*self.chain.store()).unwrap();
        assert_eq!(head.tree.root(), head.header.state_root);
        assert_eq!(stored.root(), head.header.state_root);
        let height = head.header.height;
        let history = tables::load_history(&*self.chain.store(), height + 1).unwrap();
        assert_eq!(head.history, history);
        let header = tables::header(&*self.chain.store(), height).unwrap();
        assert_eq!(header.as_ref(), Some(&head.header));
    }
}

/// Its proofs hold whether the disk lost the failed write or kept it.
#[tokio::test]
async fn a_failed_write_leaves_the_head_that_is_stored() {
    for persisted in [false, true] {
        let kv = MemoryKv::new();
        let machine = machine(&kv, 1);
        let entry = machine.register("first", START_MS + 1);
        machine.apply(vec![entry]).unwrap();
        machine.assert_whole();
        let entry = machine.register("second", START_MS + 2);
        kv.plan(Fault {
            after_writes: 0,
            persisted,
            lasting: true,
        });
        machine.apply(vec![entry]).unwrap_err();
        assert_eq!(machine.chain.head().height, 1);
        let height = machine.chain.read_head().header.height;
        assert_eq!(height, if persisted { 2 } else { 1 });
        machine.assert_whole();
        assert!(machine.chain.halted().is_some());
    }
}

/// With pages on disk it is the same, whether the block's write fails or not.
#[tokio::test]
async fn a_tree_on_disk_is_taken_back_with_a_failed_write() {
    let (kv, dir) = (MemoryKv::new(), tempfile::tempdir().unwrap());
    let tree = Tree::on_disk(dir.path(), 0);
    let machine = machine_with(Arc::new(kv.clone()), genesis(1), tree);
    for number in 1..20 {
        let entry = machine.register(&format!("org-{number}"), START_MS + number);
        machine.apply(vec![entry]).unwrap();
        machine.assert_whole();
    }
    let entry = machine.register("last", START_MS + 20);
    kv.plan(Fault {
        after_writes: 0,
        persisted: false,
        lasting: true,
    });
    machine.apply(vec![entry]).unwrap_err();
    machine.assert_whole();
}

/// A file of pages that says something else stops the node before it computes a wrong root, and no
/// wrong proof is made.
#[tokio::test]
async fn a_changed_page_stops_the_node() {
    let (kv, dir) = (MemoryKv::new(), tempfile::tempdir().unwrap());
    let tree = Tree::on_disk(dir.path(), 0);
    let machine = machine_with(Arc::new(kv), genesis(1), tree);
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut paths = numbers.map(|entry| entry.unwrap().path());
    let is_here = |path: &PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.starts_with(dir.path()))
    };
    let pages = paths.find(is_here).expect("pages are on disk");
    let changed: Vec<_> = std::fs::read(&pages).unwrap();
    let changed: Vec<_> = changed.iter().map(|byte| byte ^ 1).collect();
    std::fs::write(&pages, changed).unwrap();
    let before = machine.chain.head();
    let entry = machine.register("first", START_MS + 1);
    machine.apply(vec![entry]).unwrap_err();
    assert_eq!(machine.chain.head(), before);
    assert!(machine.chain.halted().is_some());
    let head = machine.chain.read_head();
    head.tree.prove(VALIDATOR_SET_KEY).unwrap_err();
}

/// A view that is wanted while a block is being written, which may take long on a busy disk, comes
/// at once and says which block it shows.
#[tokio::test]
async fn a_view_waits_for_no_block_that_is_being_written() {
    let machine = machine(&MemoryKv::new(), 1);
    let entry = machine.register("first", START_MS + 1);
    machine.apply(vec![entry]).unwrap();
    let newest = || {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let chain = machine.chain.clone();
        std::thread::spawn(move || sender.send(chain.newest_view().unwrap()));
        receiver.recv_timeout(Duration::from_secs(10))
    };
    let before = machine.chain.head();
    let (first, second) = machine
        .chain
        .advance(|head| {
            let first = newest().expect("it waits for no write").1;
            // The block is stored, and the head does not know it yet.
            let mut header = head.header.clone();
            header.height += 1;
            let mut writes = WriteBatch::new();
            tables::put_block(&mut writes, &header, &[], &[], &[]);
            machine.chain.kv().write(writes, Durability::Unsynced)?;
            let (view, second) = newest().expect("it waits for no write");
            let shown = tables::head_height(&**view.store())?;
            assert_eq!(shown, Some(second.height));
            Ok::<_, StateError>((first, second))
        })
        .unwrap();
    assert_eq!((first, second.height), (before, before.height + 1));
}

#[tokio::test]
async fn a_header_has_its_batch_and_its_place_in_the_log() {
    let machine = machine(&MemoryKv::new(), 1);
    let entry = machine.register("first", START_MS + 1);
    let batch = entry.batch.clone().unwrap();
    machine.apply(vec![entry]).unwrap();
    let header = machine.chain.read_head().header.clone();
    assert_eq!(header.batch, Hash::of(&batch));
    assert_eq!(header.position, Hash::of(b"entry 1"));
    let blank = Committed {
        batch: None,
        ..machine.entry(Vec::new())
    };
    machine.apply(vec![blank]).unwrap();
    let store = machine.chain.store();
    assert_eq!(tables::position(&*store).unwrap().unwrap(), b"entry 1");
    assert_eq!(machine.applied().unwrap().unwrap(), b"entry 2");
}

/// A void batch makes no block, is the operator's business, and stops nothing.
#[tokio::test]
async fn a_void_batch_of_any_bytes_makes_no_block() {
    let machine = machine(&MemoryKv::new(), 1);
    let parent = machine.chain.last_batch();
    let of_time = |parent, timestamp_ms| {
        let transactions = Vec::new();
        Batch {
            parent,
            timestamp_ms,
            transactions,
        }
        .encode()
    };
    let mut endless = of_time(parent, START_MS + 1);
    let count = endless.len() - 8;
    endless[count..].copy_from_slice(&u64::MAX.to_le_bytes());
    let void = [
        Vec::new(),
        vec![7; 39],
        vec![0xff; 300],
        endless,
        of_time(Hash([7; 32]), START_MS + 1),
        of_time(parent, BLOCK_TIME_MS_MAX + 1),
        of_time(parent, u64::MAX),
    ];
    let mut seen = BTreeSet::new();
    for bytes in void {
        let entry = machine.entry(bytes);
        seen.insert(entry.marker.clone());
        assert_eq!(machine.apply(vec![entry]).unwrap(), [Bytes::new()]);
        let alarms = machine.alarms.list();
        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms[0].alarm, NodeAlarm::VoidBatch { log_index: 1 });
    }
    assert_eq!(machine.chain.head().height, 0);
    let entry = machine.register("first", START_MS + 1);
    machine.apply(vec![entry]).unwrap();
    assert_eq!(machine.chain.head().height, 1);
    machine.alarms.on_certified(1);
    assert_eq!(machine.alarms.list(), []);
}

#[test]
fn block_time_has_an_end_and_never_overflows() {
    assert_eq!(block_time(5, 0), Some(6));
    assert_eq!(block_time(5, 9), Some(9));
    assert_eq!(block_time(5, BLOCK_TIME_MS_MAX), Some(BLOCK_TIME_MS_MAX));
    assert_eq!(block_time(5, BLOCK_TIME_MS_MAX + 1), None);
    assert_eq!(block_time(BLOCK_TIME_MS_MAX, 0), None);
    assert_eq!(block_time(u64::MAX, 0), None);
}
