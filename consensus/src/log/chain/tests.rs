use std::sync::Arc;

use bytes::Bytes;
use lamplighter_store::MemoryKv;
use openraft::CommittedLeaderId;
use openraft::storage::RaftLogStorage;
use proptest::prelude::*;

use super::*;
use crate::blocking_io::BlockingIo;
use crate::config::Limits;
use crate::log::LogStore;
use crate::type_config::{EntryPayload, ProposedBatch};

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64, batch: &[u8]) -> RaftLogEntry {
    let payload = if batch.is_empty() {
        EntryPayload::Blank
    } else {
        EntryPayload::Normal(ProposedBatch(Bytes::copy_from_slice(batch)))
    };
    RaftLogEntry {
        log_id: log_id(term, index),
        payload,
    }
}

async fn open(kv: &MemoryKv) -> LogStore {
    let io = BlockingIo {
        inline: true,
        ..BlockingIo::default()
    };
    let limits = Limits {
        cache_bytes_max: 200,
        ..Limits::default()
    };
    let log = LogStore::open(Arc::new(kv.clone()), io, limits).await;
    log.expect("the log opens")
}

/// A step of a log's life. Numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
enum LogChange {
    Append(Vec<u8>),
    Truncate(u8),
    Purge(u8),
    Restart,
    PowerLoss,
}

fn changes() -> impl Strategy<Value = Vec<LogChange>> {
    let change = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..5).prop_map(LogChange::Append),
        1 => any::<u8>().prop_map(LogChange::Truncate),
        1 => any::<u8>().prop_map(LogChange::Purge),
        1 => Just(LogChange::Restart),
        1 => Just(LogChange::PowerLoss),
    ];
    prop::collection::vec(change, 1..30)
}

/// The same log as a list, without a store.
#[derive(Default)]
struct Model {
    entries: Vec<RaftLogEntry>,
    /// Entries that were purged.
    purged: usize,
    term: u64,
}

impl Model {
    fn digest(&self, index: usize) -> LogDigest {
        let first = self.entries[..=index].iter();
        first.fold(LogDigest::EMPTY, |digest, entry| digest.after(entry))
    }
}

async fn apply(model: &mut Model, log: &mut LogStore, kv: &mut MemoryKv, change: LogChange) {
    match change {
        LogChange::Append(batches) => {
            let first = model.entries.len() as u64;
            let added: Vec<_> = (first..)
                .zip(&batches)
                .map(|(index, byte)| entry(model.term, index, &vec![*byte; usize::from(byte % 60)]))
                .collect();
            model.entries.extend(added.clone());
            log.append_entries(added).await.unwrap();
            log.all_durable().await.unwrap();
        }
        LogChange::Truncate(at) if model.entries.len() > model.purged => {
            let left = model.entries.len() - model.purged;
            let at = model.purged + usize::from(at) % left;
            log.truncate(model.entries[at].log_id).await.unwrap();
            log.all_durable().await.unwrap();
            model.entries.truncate(at);
            model.term += 1;
        }
        LogChange::Purge(at) if model.entries.len() > model.purged => {
            let left = model.entries.len() - model.purged;
            let at = model.purged + usize::from(at) % left;
            log.purge(model.entries[at].log_id).await.unwrap();
            model.purged = at + 1;
        }
        LogChange::Truncate(_) | LogChange::Purge(_) => {}
        LogChange::Restart => {
            *kv = kv.kill();
            *log = open(kv).await;
        }
        LogChange::PowerLoss => {
            // The purge is unsynced; it may be undone with the entries that it removed.
            *kv = kv.crash();
            *log = open(kv).await;
            let purged = log.purged().map_or(0, |log_id| log_id.index as usize + 1);
            assert!(purged <= model.purged);
            model.purged = purged;
        }
    }
}

async fn check(changes: Vec<LogChange>) {
    let mut kv = MemoryKv::new();
    let mut log = open(&kv).await;
    let mut model = Model::default();
    for change in changes {
        let context = format!("{change:?}");
        apply(&mut model, &mut log, &mut kv, change).await;
        let known = model.purged.saturating_sub(1)..model.entries.len();
        for index in known {
            let log_id = model.entries[index].log_id;
            let digest = log.digest(log_id).await.unwrap();
            assert_eq!(digest, Some(model.digest(index)), "{index} after {context}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens to a log, each digest that it knows is that of the same entries in a list.
    #[test]
    fn digests_are_those_of_the_entries(changes in changes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(check(changes));
    }

    /// A stored entry is read back as it was, and no prefix of it is read at all.
    #[test]
    fn a_stored_entry_is_read_back(
        batch in prop::collection::vec(any::<u8>(), 0..80),
        signed in any::<bool>(),
        author in any::<bool>(),
    ) {
        let entry = entry(3, 7, &batch);
        let digest = LogDigest([9; 32]).after(&entry);
        let statement = signed.then_some(LeaderStatement {
            term: 4,
            leader: 2,
            index: 7,
            digest,
            signature: SignatureBytes([5; 64]),
        });
        let author = author.then_some(SignatureBytes([6; 64]));
        let stored = StoredEntry { entry, digest, statement, author };
        let bytes = Bytes::from(stored.encode());
        let read = StoredEntry::decode(bytes.clone()).unwrap();
        prop_assert_eq!(read.entry, stored.entry);
        prop_assert_eq!(read.digest, digest);
        prop_assert_eq!(read.statement, statement);
        prop_assert_eq!(read.author, author);
        // Shorter bytes are an error or another entry; they never panic.
        for end in 0..bytes.len() {
            let _ = StoredEntry::decode(bytes.slice(..end));
        }
    }
}

#[test]
fn every_part_of_an_entry_is_in_its_digest() {
    let base = LogDigest::EMPTY.after(&entry(1, 0, b"a"));
    let changed = [
        LogDigest::EMPTY.after(&entry(1, 0, b"b")),
        LogDigest::EMPTY.after(&entry(2, 0, b"a")),
        LogDigest::EMPTY.after(&entry(1, 1, b"a")),
        LogDigest::EMPTY.after(&entry(1, 0, b"")),
        LogDigest([1; 32]).after(&entry(1, 0, b"a")),
    ];
    assert!(changed.iter().all(|digest| *digest != base));
    assert_eq!(
        hex::encode(base.0),
        "008c5402f9940526dc3b4d59ab1e9055eb4ecd37a4e4d96668f4ba66c158d48b"
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_continues_from_the_digest_of_an_image() {
    let kv = MemoryKv::new();
    let mut log = open(&kv).await;
    let end = ChainEnd {
        log_id: log_id(3, 40),
        digest: Some(LogDigest([4; 32])),
    };
    log.set_applied(end);
    log.purge(end.log_id).await.unwrap();
    let next = entry(3, 41, b"batch");
    log.append_entries(vec![next.clone()]).await.unwrap();
    let expected = Some(LogDigest([4; 32]).after(&next));
    assert_eq!(log.digest(next.log_id).await.unwrap(), expected);
    // The purge is in the write-ahead log before the entry.
    log.all_durable().await.unwrap();
    let log = open(&kv.crash()).await;
    assert_eq!(log.digest(next.log_id).await.unwrap(), expected);
    assert_eq!(log.digest(end.log_id).await.unwrap(), end.digest);
}

#[tokio::test(start_paused = true)]
async fn no_entry_follows_an_unknown_digest() {
    let kv = MemoryKv::new();
    let mut log = open(&kv).await;
    log.purge(log_id(3, 40)).await.unwrap();
    assert!(log.append_entries(vec![entry(3, 41, b"x")]).await.is_err());
}
