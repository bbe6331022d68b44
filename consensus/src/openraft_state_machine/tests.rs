use std::fs;

use lamplighter_store::{Fault, Kv, MemoryKv};
use openraft::storage::RaftStateMachine;

use super::*;
use crate::config::Limits;
use crate::suite::KvMachine;

/// The disk fails during an installation, the node stops and its process ends in order. The next
/// start continues with the image, so it must be there.
#[tokio::test]
async fn an_image_stays_when_its_installation_fails() {
    let dir = tempfile::tempdir().unwrap();
    let kv = MemoryKv::new();
    let io = BlockingIo {
        inline: true,
        ..BlockingIo::default()
    };
    let snapshots = Arc::new(SnapshotStore::open(dir.path()).unwrap());
    let log = LogStore::open(Arc::new(kv.clone()), io, Limits::default())
        .await
        .unwrap();
    let machine = Arc::new(KvMachine::new(Arc::new(kv.clone())));
    let mut state_machine = OpenraftStateMachine::new(machine, log, snapshots.clone(), io);
    let image = snapshots.blank().unwrap();
    let data = image.data();
    fs::remove_dir(&data).unwrap();
    kv.checkpoint(&data).unwrap();

    kv.plan(Fault {
        after_writes: 0,
        persisted: false,
        lasting: true,
    });
    let meta = SnapshotMeta::default();
    let installed = state_machine.install_snapshot(&meta, Box::new(image)).await;
    assert!(installed.is_err());
    drop(state_machine);
    drop(snapshots);
    assert!(data.exists(), "the image is needed again");
}
