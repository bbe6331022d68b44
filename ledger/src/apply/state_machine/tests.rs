use std::collections::BTreeSet;

use lamplighter_store::{Fault, MemoryKv};

use super::*;
use crate::alarms::NodeAlarm;
use crate::tests::{START_MS, machine};

impl LedgerStateMachine {
    /// State, tree and history are those of the head.
    fn assert_whole(&self) {
        let head = self.chain.read_head();
        let stored = Tree::load(&*self.chain.store()).unwrap();
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
