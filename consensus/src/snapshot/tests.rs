use std::fs;

use bytes::Bytes;

use super::message::Manifest;
use super::*;

fn store(dir: &Path) -> Arc<SnapshotStore> {
    Arc::new(SnapshotStore::open(dir).unwrap())
}

fn space(bytes_max: u64) -> SnapshotSpace {
    SnapshotSpace {
        bytes_max,
        reserve_bytes: 0,
        free_bytes: None,
    }
}

/// A directory with files, as a state machine could have built it.
fn source(dir: &Path) -> Arc<SnapshotDir> {
    let path = dir.join("source");
    fs::create_dir_all(path.join(DATA)).unwrap();
    fs::write(path.join(DATA).join("a"), vec![1; 1000]).unwrap();
    fs::write(path.join(DATA).join("b"), b"").unwrap();
    fs::write(path.join(DATA).join("c"), vec![3; 2500]).unwrap();
    SnapshotDir::new(path, false)
}

fn piece(source: &SnapshotDir, manifest: &Manifest, file: u32, offset: u64, len: usize) -> Bytes {
    let info = &manifest.files[file as usize];
    let bytes = fs::read(source.data().join(&info.name)).unwrap();
    let end = bytes.len().min(offset as usize + len);
    Bytes::copy_from_slice(&bytes[offset as usize..end])
}

/// Sends at most so many pieces; returns the next step of the transfer.
fn run(
    receiver: &mut SnapshotReceiver,
    source: &SnapshotDir,
    manifest: &Manifest,
    pieces: usize,
) -> TransferStep {
    let mut step = receiver.offer(manifest.clone()).unwrap();
    for _ in 0..pieces {
        let TransferStep::Next { file, offset } = step else {
            break;
        };
        let bytes = piece(source, manifest, file, offset, 400);
        step = receiver
            .chunk(manifest.hash(), file, offset, bytes)
            .unwrap();
    }
    step
}

#[test]
fn a_transfer_continues_after_a_restart_of_the_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let manifest = source.manifest(&SnapshotMeta::default()).unwrap();
    let target = dir.path().join("target");

    let mut receiver = SnapshotReceiver::new(store(&target), space(1 << 20));
    let step = run(&mut receiver, &source, &manifest, 5);
    assert_eq!(
        step,
        TransferStep::Next {
            file: 2,
            offset: 800
        }
    );
    drop(receiver);

    let mut receiver = SnapshotReceiver::new(store(&target), space(1 << 20));
    let offered = receiver.offer(Manifest::clone(&manifest)).unwrap();
    assert_eq!(offered, step, "what has arrived is not sent again");
    assert!(receiver.complete(manifest.hash()).is_err());
    assert_eq!(
        run(&mut receiver, &source, &manifest, 99),
        TransferStep::Complete
    );
    let ReceivedSnapshot { snapshot, .. } = receiver.complete(manifest.hash()).unwrap();
    assert_eq!(list(&snapshot.data()).unwrap(), manifest.files);
    let path = snapshot.path.clone();
    drop(snapshot);
    assert!(!path.exists(), "what is not adopted is removed");
}

#[test]
fn a_file_that_is_not_the_offered_one_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let manifest = source.manifest(&SnapshotMeta::default()).unwrap();
    let hash = manifest.hash();
    let mut receiver = SnapshotReceiver::new(store(&dir.path().join("target")), space(1 << 20));
    receiver.offer(Manifest::clone(&manifest)).unwrap();
    let error = receiver
        .chunk(hash, 0, 0, vec![9; 1000].into())
        .unwrap_err();
    assert!(matches!(error, ReceiveError::Invalid(_)), "{error}");
    let step = receiver.offer(Manifest::clone(&manifest)).unwrap();
    assert_eq!(step, TransferStep::Next { file: 0, offset: 0 });

    // A piece that was not requested changes nothing.
    let next = receiver.chunk(hash, 2, 100, vec![3; 10].into()).unwrap();
    assert_eq!(next, TransferStep::Next { file: 0, offset: 0 });
    assert!(
        receiver.chunk(hash, 0, 0, vec![1; 1001].into()).is_err(),
        "too long"
    );
    assert!(
        receiver.chunk(hash, 0, 0, Bytes::new()).is_err(),
        "no progress"
    );
    assert!(
        receiver.chunk([0; 32], 0, 0, vec![1; 10].into()).is_err(),
        "another transfer"
    );
    assert_eq!(
        run(&mut receiver, &source, &manifest, 99),
        TransferStep::Complete
    );
}

#[test]
fn impossible_offers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let good = source.manifest(&SnapshotMeta::default()).unwrap();
    let mut receiver = SnapshotReceiver::new(store(&dir.path().join("target")), space(10_000));
    let change = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = Manifest::clone(&good);
        change(&mut manifest);
        manifest
    };
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for name in [
        "",
        "..",
        "../a",
        "/etc/passwd",
        ".hidden",
        "a/b",
        "a\0",
        &long,
    ] {
        let bad = change(&|manifest| manifest.files[0].name = name.to_owned());
        assert!(receiver.offer(bad).is_err(), "{name:?}");
    }
    let bad = change(&|manifest| manifest.files.clear());
    assert!(receiver.offer(bad).is_err(), "no files");
    let bad = change(&|manifest| manifest.files[1].name = "a".to_owned());
    assert!(receiver.offer(bad).is_err(), "a name twice");
    let bad = change(&|manifest| manifest.files[1].bytes = u64::MAX);
    assert!(receiver.offer(bad).is_err(), "too many bytes");
    assert!(receiver.offer(Manifest::clone(&good)).is_ok());
}

#[test]
fn remains_of_interruptions_are_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["building", "snapshot-7-0", "something"] {
        fs::create_dir_all(dir.path().join(name).join(DATA)).unwrap();
    }
    fs::write(dir.path().join("snapshot-7-0").join(META), b"torn").unwrap();
    fs::create_dir_all(dir.path().join("incoming-00").join(DATA)).unwrap_or_default();
    assert!(store(dir.path()).current().is_none());
    let remaining: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(remaining, ["incoming-00"], "a transfer may continue");
}

/// All receivers together get so many bytes a second, in pieces that never take long.
#[tokio::test(start_paused = true)]
async fn all_snapshots_share_one_rate() {
    let throttle = SnapshotThrottle::new(1_000);
    assert_eq!(throttle.piece_bytes(1 << 20), 250);
    assert_eq!(throttle.piece_bytes(100), 100);
    let begun = tokio::time::Instant::now();
    let take = async || {
        for _ in 0..8 {
            throttle.wait(250).await;
        }
    };
    tokio::join!(take(), take());
    // The last piece may leave when the 15 before it have.
    let took = begun.elapsed().as_millis();
    assert!((3_750..3_770).contains(&took), "{took} ms");
}

/// Another node requests pieces, and stops waiting at once, many times.
#[tokio::test(start_paused = true)]
async fn a_caller_that_stops_waiting_uses_up_nothing() {
    let throttle = SnapshotThrottle::new(1_000);
    throttle.wait(250).await;
    for _ in 0..1_000 {
        let waited = tokio::time::timeout(std::time::Duration::ZERO, throttle.wait(250)).await;
        assert!(waited.is_err());
    }
    let begun = tokio::time::Instant::now();
    throttle.wait(250).await;
    assert!(begun.elapsed().as_millis() <= 251, "{:?}", begun.elapsed());
}

/// An image that does not fit leaves the reserve of the disk free, and no directory.
#[test]
fn an_image_that_does_not_fit_the_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let manifest = source.manifest(&SnapshotMeta::default()).unwrap();
    let target = dir.path().join("target");
    let total: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let receiver = |reserve_bytes| {
        let space = SnapshotSpace {
            bytes_max: 1 << 20,
            reserve_bytes,
            free_bytes: Some(|_| Ok(10_000)),
        };
        SnapshotReceiver::new(store(&target), space)
    };
    let offered = receiver(10_001 - total).offer(Manifest::clone(&manifest));
    assert!(
        matches!(offered, Err(ReceiveError::Invalid(_))),
        "{offered:?}"
    );
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    let mut fitting = receiver(10_000 - total);
    run(&mut fitting, &source, &manifest, 5);
    // What is here already needs no space any more.
    drop(fitting);
    assert!(
        receiver(10_000 - total + 1_000)
            .offer(Manifest::clone(&manifest))
            .is_ok()
    );
}

/// A transfer belongs to the leader that began it, also after a restart.
#[test]
fn a_transfer_is_removed_with_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let manifest = source.manifest(&SnapshotMeta::default()).unwrap();
    let target = dir.path().join("target");
    let mut receiver = SnapshotReceiver::new(store(&target), space(1 << 20));
    receiver.begin_leadership((3, 1)).unwrap();
    let step = run(&mut receiver, &source, &manifest, 5);
    receiver.begin_leadership((3, 1)).unwrap();
    assert_eq!(run(&mut receiver, &source, &manifest, 0), step);
    drop(receiver);

    let mut receiver = SnapshotReceiver::new(store(&target), space(1 << 20));
    receiver.begin_leadership((3, 1)).unwrap();
    assert_eq!(
        run(&mut receiver, &source, &manifest, 0),
        step,
        "the same leader goes on"
    );
    receiver.begin_leadership((4, 2)).unwrap();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    assert!(
        receiver
            .chunk(manifest.hash(), 2, 800, Bytes::from_static(b"x"))
            .is_err()
    );
}
