use lamplighter_store::{Fault, MemoryKv};
use openraft::CommittedLeaderId;

use super::*;

const VOTE: &[u8] = b"raft/vote";
/// A row of the state machine outside of the shared families.
const INSTALLING: &[u8] = b"installing";

fn floor() -> VoteFloor {
    VoteFloor {
        log_id: Some(LogId::new(CommittedLeaderId::new(4, 2), 70)),
        applied: 69,
        drops: 1,
    }
}

/// A node that noted that its log has to go.
fn diverged() -> MemoryKv {
    let kv = MemoryKv::new();
    let mut batch = WriteBatch::new();
    for cf in Cf::ALL {
        batch.put(cf, "row", "value");
    }
    for key in [VOTE, COMMITTED, PURGED, INSTALLING] {
        batch.put(Cf::Meta, key, "value");
    }
    batch.put(Cf::Meta, DIVERGED, codec::encode(&floor()));
    kv.write(batch, Durability::Synced).unwrap();
    kv
}

fn has(kv: &MemoryKv, cf: Cf, key: &'static [u8]) -> bool {
    kv.get(cf, key).unwrap().is_some()
}

fn drop_installing(batch: &mut WriteBatch) {
    batch.delete(Cf::Meta, INSTALLING);
}

fn is_reset(kv: &MemoryKv) -> bool {
    let empty = |cf: &Cf| !has(kv, *cf, b"row");
    let removed = |key: &&'static [u8]| !has(kv, Cf::Meta, key);
    Cf::ALL.iter().filter(|cf| **cf != Cf::Meta).all(empty)
        && [COMMITTED, PURGED, INSTALLING, DIVERGED]
            .iter()
            .all(removed)
        && read(kv, FLOOR).unwrap() == Some(floor())
}

#[test]
fn log_and_state_go_and_promises_stay() {
    let (kv, dir) = (diverged(), tempfile::tempdir().unwrap());
    let snapshots = dir.path().join("snapshots");
    std::fs::create_dir_all(snapshots.join("snapshot-1")).unwrap();
    assert!(has_diverged(&kv).unwrap());
    assert!(reset(&kv, &snapshots, drop_installing).unwrap());
    let kv = kv.crash();
    assert!(is_reset(&kv) && !has_diverged(&kv).unwrap());
    assert!(has(&kv, Cf::Meta, b"row"), "identity and attested headers");
    assert!(has(&kv, Cf::Meta, VOTE));
    assert!(!snapshots.exists());
    assert!(!reset(&kv, &snapshots, drop_installing).unwrap(), "once");
}

#[test]
fn a_node_without_a_note_is_left_alone() {
    let kv = MemoryKv::new();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Log, "row", "value");
    kv.write(batch, Durability::Synced).unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(!reset(&kv, dir.path(), drop_installing).unwrap());
    assert!(has(&kv, Cf::Log, b"row") && dir.path().exists());
}

/// Each failure of the one write leaves the node as it was or reset, and the next start goes on.
#[test]
fn a_crash_in_a_reset_is_repeated_or_done() {
    for (persisted, sudden) in [(false, true), (false, false), (true, true), (true, false)] {
        let (kv, dir) = (diverged(), tempfile::tempdir().unwrap());
        kv.plan(Fault {
            after_writes: 0,
            persisted,
            lasting: true,
        });
        let failed = reset(&kv, &dir.path().join("snapshots"), drop_installing);
        assert!(failed.is_err());
        let kv = if sudden { kv.crash() } else { kv.kill() };
        let noted = has_diverged(&kv).unwrap();
        assert_ne!(
            noted,
            is_reset(&kv),
            "half of a reset: {persisted} {sudden}"
        );
        let again = reset(&kv, &dir.path().join("snapshots"), drop_installing);
        assert_eq!(again.unwrap(), noted);
        assert!(is_reset(&kv));
    }
}
