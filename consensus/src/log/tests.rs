use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_store::{Fault, MemoryKv};
use openraft::{CommittedLeaderId, RaftLogReader};
use tokio::time::timeout;

use super::*;
use crate::type_config::{EntryPayload, ProposedBatch};
use crate::types::Vote;

async fn open(kv: &MemoryKv) -> LogStore {
    let io = BlockingIo {
        inline: true,
        ..BlockingIo::default()
    };
    LogStore::open(Arc::new(kv.clone()), io, Limits::default())
        .await
        .unwrap()
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64, bytes: usize) -> RaftLogEntry {
    let batch = ProposedBatch(Bytes::from(vec![index as u8; bytes]));
    RaftLogEntry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(batch),
    }
}

fn indexes(entries: &[RaftLogEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_readable_before_it_is_durable() {
    let kv = MemoryKv::new();
    let mut log = open(&kv).await;
    let syncs = kv.syncs();
    log.append_entries(vec![entry(1, 0, 10), entry(1, 1, 10)])
        .await
        .unwrap();
    assert_eq!(
        indexes(&log.try_get_log_entries(0..9).await.unwrap()),
        [0, 1]
    );
    assert_eq!(kv.syncs(), syncs, "appending itself does not sync");
    log.durable(1).await.unwrap();
    assert_eq!(kv.syncs(), syncs + 1);

    let log = open(&kv.crash()).await;
    assert_eq!(log.recent().last(), Some(log_id(1, 1)));
}

#[tokio::test(start_paused = true)]
async fn one_sync_serves_many_appends() {
    let kv = MemoryKv::new();
    let log = open(&kv).await;
    let syncs = kv.syncs();
    for index in 0..50 {
        log.append_entries(vec![entry(1, index, 10)]).await.unwrap();
    }
    log.all_durable().await.unwrap();
    // The syncer had no turn in between, as all this is one thread.
    assert!(kv.syncs() <= syncs + 2, "{} syncs", kv.syncs() - syncs);
}

#[tokio::test(start_paused = true)]
async fn no_entry_is_durable_after_a_failed_sync() {
    let kv = MemoryKv::new();
    let log = open(&kv).await;
    log.append_entries(vec![entry(1, 0, 10)]).await.unwrap();
    log.durable(0).await.unwrap();
    kv.plan(Fault {
        after_writes: 1,
        persisted: false,
        lasting: true,
    });
    log.append_entries(vec![entry(1, 1, 10)]).await.unwrap();
    assert!(log.durable(1).await.is_err());
    assert!(log.all_durable().await.is_err());
    log.durable(0).await.unwrap();
    let reopened = open(&kv.crash()).await;
    assert_eq!(reopened.recent().last(), Some(log_id(1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_entry_has_to_become_durable_again() {
    let kv = MemoryKv::new();
    let mut log = open(&kv).await;
    log.append_entries((0..5).map(|index| entry(1, index, 10)).collect())
        .await
        .unwrap();
    log.all_durable().await.unwrap();
    log.truncate(log_id(1, 3)).await.unwrap();
    assert_eq!(log.recent().last(), Some(log_id(1, 2)));
    log.append_entries(vec![entry(2, 3, 10)]).await.unwrap();
    let syncs = kv.syncs();
    let waited = timeout(Duration::from_secs(1), log.durable(3)).await;
    waited.unwrap().unwrap();
    assert_eq!(kv.syncs(), syncs + 1);
    assert_eq!(
        log.try_get_log_entries(3..).await.unwrap()[0].log_id,
        log_id(2, 3)
    );
    // Truncated down to nothing, what was purged counts.
    log.purge(log_id(1, 1)).await.unwrap();
    log.truncate(log_id(1, 2)).await.unwrap();
    assert_eq!(log.recent().last(), Some(log_id(1, 1)));
    let reopened = open(&kv.kill()).await;
    assert_eq!(reopened.recent().last(), Some(log_id(1, 1)));
    assert_eq!(reopened.recent().purged(), Some(log_id(1, 1)));
}

#[tokio::test(start_paused = true)]
async fn reads_are_limited_by_bytes_from_memory_and_from_disk() {
    let kv = MemoryKv::new();
    let log = open(&kv).await;
    let mib = 1 << 20;
    for index in 0..8 {
        log.append_entries(vec![entry(1, index, mib)])
            .await
            .unwrap();
    }
    log.append_entries(vec![entry(1, 8, 6 * mib)])
        .await
        .unwrap();
    log.all_durable().await.unwrap();
    for mut log in [log.clone(), open(&kv.kill()).await] {
        let limited = log.limited_get_log_entries(0, 9).await.unwrap();
        assert_eq!(indexes(&limited), [0, 1, 2]);
        let large = log.limited_get_log_entries(8, 9).await.unwrap();
        assert_eq!(indexes(&large), [8], "one entry always, however large");
        assert_eq!(
            indexes(&log.limited_get_log_entries(2, 4).await.unwrap()),
            [2, 3]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let kv = MemoryKv::new();
    let mut log = open(&kv).await;
    let limit = Limits::default().cache_bytes_max;
    for index in 0..40 {
        log.append_entries(vec![entry(1, index, 1 << 20)])
            .await
            .unwrap();
        log.all_durable().await.unwrap();
    }
    let first = log.recent().write_number(0);
    assert_eq!(first, 0, "the oldest entries are only on disk");
    assert!(log.recent().write_number(39) > 0);
    let kept = log.recent().get(30, 40, usize::MAX).unwrap();
    assert!(kept.len() == 10 && kept.len() << 20 < limit);
    let read = log.try_get_log_entries(0..40).await.unwrap();
    assert_eq!(read.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_leader_resigns() {
    let kv = MemoryKv::new();
    let mut log = open(&kv).await;
    log.save_vote(&Vote::new_committed(7, 1)).await.unwrap();
    let mut log = open(&kv.crash()).await;
    log.resign(1).await.unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(7, 1)));
    // A vote for another node stays as it is.
    log.save_vote(&Vote::new_committed(8, 2)).await.unwrap();
    log.resign(1).await.unwrap();
    assert_eq!(
        log.read_vote().await.unwrap(),
        Some(Vote::new_committed(8, 2))
    );
}

#[tokio::test(start_paused = true)]
async fn damaged_records_are_errors() {
    let kv = MemoryKv::new();
    let mut log = open(&kv).await;
    let mut batch = WriteBatch::new();
    batch.put(Cf::Meta, VOTE, "nonsense");
    batch.put(Cf::Log, key(0), "nonsense");
    kv.write(batch, Durability::Synced).unwrap();
    assert!(log.read_vote().await.is_err());
    assert!(log.try_get_log_entries(0..1).await.is_err());
    let opened = LogStore::open(
        Arc::new(kv),
        BlockingIo {
            inline: true,
            ..BlockingIo::default()
        },
        Limits::default(),
    )
    .await;
    assert!(matches!(opened, Err(ConsensusError::Corrupt(_))));
}
