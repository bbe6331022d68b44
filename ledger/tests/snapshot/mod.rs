//! Images of the chain: sealed by a certificate, checked by the receiver, installed whole or not at
//! all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::{self, Cluster};
use lamplighter_consensus::Limits;
use lamplighter_contracts::ContractError;
use lamplighter_ledger::{OpenError, Verdict};
use lamplighter_state::tables;
use lamplighter_store::{
    Cf, Direction, Durability, Fault, KeyRange, Kv, KvView, MemoryKv, WriteBatch,
};
use lamplighter_system::error_chain;
use lamplighter_types::ValidatorSet;
use lamplighter_types::merkle::StateProof;
use lamplighter_types::proof::HeaderProof;

const WITHIN: Duration = Duration::from_secs(20);

async fn register(cluster: &Cluster, node: u64, name: &str) -> u64 {
    let signed = cluster.organization(name);
    let ticket = cluster.handle(node).submit(signed).await.unwrap();
    match tokio::time::timeout(WITHIN, ticket.verdict())
        .await
        .unwrap()
    {
        Verdict::Committed(commitment) => commitment.height,
        other => panic!("{other:?}"),
    }
}

/// An image that a node built and sealed, and the marker in it.
async fn image(cluster: &Cluster, node: u64, name: &str) -> (PathBuf, Option<Vec<u8>>) {
    let (dir, machine) = (cluster.path().join(name), &cluster.running[&node].machine);
    let marker = machine.build_snapshot(&dir).unwrap();
    machine.seal_snapshot(&dir).await.unwrap();
    (dir, marker)
}

/// A copy of the image with changed contents and the same proof.
fn forge(image: &Path, to: &Path, change: impl FnOnce(&MemoryKv, &mut WriteBatch)) -> PathBuf {
    let kv = MemoryKv::open_checkpoint(image).unwrap();
    let mut batch = WriteBatch::new();
    change(&kv, &mut batch);
    kv.write(batch, Durability::Synced).unwrap();
    kv.checkpoint(to).unwrap();
    fs::copy(image.join("header-proof"), to.join("header-proof")).unwrap();
    to.to_owned()
}

/// The first row of a column family.
fn first(kv: &MemoryKv, cf: Cf) -> (bytes::Bytes, Vec<u8>) {
    let mut rows = kv.scan(cf, KeyRange::all(), Direction::Forward).unwrap();
    let (key, value) = rows.next().expect("there is a row").unwrap();
    (key, value.to_vec())
}

fn flip_first(cf: Cf) -> impl FnOnce(&MemoryKv, &mut WriteBatch) {
    move |kv, batch| {
        let (key, mut value) = first(kv, cf);
        *value.last_mut().unwrap() ^= 1;
        batch.put(cf, key, value);
    }
}

#[tokio::test]
async fn an_image_has_its_certificate_and_a_changed_one_is_refused() {
    let cluster = Cluster::start(4).await;
    for n in 0..3 {
        register(&cluster, 1, &format!("o{n}")).await;
    }
    let (good, marker) = image(&cluster, 1, "image").await;
    let proof = HeaderProof::from_bytes(&fs::read(good.join("header-proof")).unwrap()).unwrap();
    let header = proof.verify(&(&cluster.genesis).into()).unwrap();
    assert!(header.height >= 1);
    let receiver = &cluster.running[&1].machine;
    assert_eq!(receiver.check_snapshot(&good).unwrap(), marker);

    type Change = Box<dyn FnOnce(&MemoryKv, &mut WriteBatch)>;
    let certificate: Change = Box::new(|kv, batch| {
        let newest = tables::newest_certified(kv, 0).unwrap().unwrap();
        let mut bad = tables::certificate(kv, newest).unwrap().unwrap();
        bad.header.0[0] ^= 1;
        tables::put_certificate(batch, &bad);
    });
    let place: Change = Box::new(|_, batch| {
        batch.put(
            Cf::Transactions,
            [b"p".as_slice(), &[7; 32]].concat(),
            vec![0; 12],
        );
    });
    let height = header.height;
    let validators: Change = Box::new(move |_, batch| {
        let liar = cluster::genesis(9).validators.validators.swap_remove(8);
        let set = ValidatorSet {
            validators: vec![liar],
        };
        let path = StateProof {
            siblings: Vec::new(),
            other: None,
        };
        tables::put_validators(batch, height, &set, &path);
    });
    let changes: Vec<(&str, Change)> = vec![
        ("validators", validators),
        ("state", Box::new(flip_first(Cf::State))),
        ("blocks", Box::new(flip_first(Cf::Blocks))),
        ("receipts", Box::new(flip_first(Cf::Receipts))),
        ("history", Box::new(flip_first(Cf::History))),
        ("places", Box::new(flip_first(Cf::Transactions))),
        ("a place of nothing", place),
        ("certificate", certificate),
    ];
    for (name, change) in changes {
        let bad = forge(&good, &cluster.path().join(format!("bad {name}")), change);
        let error = receiver.check_snapshot(&bad).expect_err(name);
        println!("{name}: {}", error_chain(&error));
    }
    let unproven = forge(&good, &cluster.path().join("unproven"), |_, _| ());
    fs::remove_file(unproven.join("header-proof")).unwrap();
    receiver.check_snapshot(&unproven).expect_err("no proof");
    fs::write(unproven.join("header-proof"), b"\x07".repeat(90)).unwrap();
    receiver
        .check_snapshot(&unproven)
        .expect_err("no proof either");
    cluster.stop().await;
}

/// All rows of what an image replaces.
fn rows(kv: &MemoryKv) -> Vec<(Cf, bytes::Bytes, bytes::Bytes)> {
    let shared = Cf::ALL.into_iter().filter(|cf| cf.is_shared());
    let all = shared.flat_map(|cf| {
        let rows = kv.scan(cf, KeyRange::all(), Direction::Forward).unwrap();
        rows.map(move |row| {
            let (key, value) = row.unwrap();
            (cf, key, value)
        })
    });
    all.collect()
}

/// A lie of the sender about one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    Changed,
    LeftOut,
    /// A row beside it that no honest image has.
    Invented,
}

fn forge_row(lie: Lie, cf: Cf, key: &[u8], value: &[u8], batch: &mut WriteBatch) {
    let mut other = value.to_vec();
    match other.last_mut() {
        Some(last) => *last ^= 1,
        None => other.push(1),
    }
    match lie {
        Lie::Changed => batch.put(cf, key.to_vec(), other),
        Lie::LeftOut => batch.delete(cf, key.to_vec()),
        Lie::Invented => {
            let mut beside = key.to_vec();
            *beside.last_mut().unwrap() ^= 0x80;
            batch.put(cf, beside, value.to_vec());
        }
    }
}

/// Every row of an image is changed, left out, and given a false one beside it, one at a time: the
/// image is refused, or what is installed of it is the same.
#[tokio::test]
async fn no_row_of_an_image_is_the_word_of_its_sender() {
    let cluster = Cluster::start(4).await;
    for n in 0..3 {
        register(&cluster, 1, &format!("o{n}")).await;
    }
    let (good, marker) = image(&cluster, 1, "image").await;
    let honest = rows(&MemoryKv::open_checkpoint(&good).unwrap());
    let fresh = async |image: &Path| {
        let kv = MemoryKv::new();
        let machine = cluster.open_only(1, &kv).await.unwrap().state_machine();
        let accepted = machine.check_snapshot(image).is_ok();
        if accepted {
            machine.install_snapshot(image).unwrap();
            assert_eq!(machine.applied().unwrap(), marker);
        }
        accepted.then(|| rows(&kv))
    };
    let expected = fresh(&good).await.expect("the honest image is taken");
    let (mut refused, mut without_effect) = (0, Vec::new());
    for (number, (cf, key, value)) in honest.clone().into_iter().enumerate() {
        for lie in [Lie::Changed, Lie::LeftOut, Lie::Invented] {
            let to = cluster.path().join(format!("bad-{number}-{lie:?}"));
            let bad = forge(&good, &to, |_, batch| {
                forge_row(lie, cf, &key, &value, batch)
            });
            match fresh(&bad).await {
                None => refused += 1,
                // An earlier certificate is as good: a newer one comes with the next block.
                Some(installed) if cf == Cf::Certificates && lie == Lie::LeftOut => {
                    let of_honest = |row| expected.contains(row) || honest.contains(row);
                    assert!(installed.iter().all(of_honest));
                }
                Some(installed) => {
                    assert!(installed == expected, "{lie:?} {cf:?} {key:?}");
                    without_effect.push((cf, lie));
                }
            }
            fs::remove_dir_all(&bad).unwrap();
        }
    }
    println!("{refused} refused, {} without effect", without_effect.len());
    let changed = |cf| without_effect.contains(&(cf, Lie::Changed));
    for cf in [
        Cf::State,
        Cf::Blocks,
        Cf::Receipts,
        Cf::Transactions,
        Cf::History,
    ] {
        assert!(!changed(cf), "{cf:?} is checked");
    }
    assert!(refused > without_effect.len());
    cluster.stop().await;
}

/// Three of five nodes continue, but certificates need four: the image must wait for the
/// certificate, and the purge of the log with it, or a node that comes back could get neither.
#[tokio::test]
async fn an_image_waits_for_the_quorum() {
    let mut cluster = Cluster::start(4).await;
    cluster.limits = small_limits();
    for node in 1..=4 {
        cluster.crash(node).await;
        cluster.start_node(node).await;
    }
    let leader = cluster.leader().await;
    let away: Vec<u64> = (1..=4).filter(|node| *node != leader).take(2).collect();
    cluster.silence(&away);
    for n in 0..40 {
        register(&cluster, leader, &format!("o{n}")).await;
    }
    let running = &cluster.running[&leader];
    let dir = cluster.path().join("image");
    running.machine.build_snapshot(&dir).unwrap();
    let sealed = running.machine.seal_snapshot(&dir);
    let early = tokio::time::timeout(Duration::from_millis(500), sealed).await;
    assert!(early.is_err(), "it is not certified");
    assert!(!dir.join("header-proof").exists());
    let metrics = running.consensus.metrics();
    assert_eq!((metrics.snapshot_index, metrics.purged_index), (None, None));

    cluster.silence(&away[1..]);
    let running = &cluster.running[&leader];
    let sealed = tokio::time::timeout(WITHIN, running.machine.seal_snapshot(&dir)).await;
    sealed.expect("three of four are a quorum").unwrap();
    wait_for_purge(&cluster, leader, 20).await;
    cluster.stop().await;
}

fn small_limits() -> Limits {
    Limits {
        snapshot_every_entries: 20,
        keep_entries: 5,
        hold_bytes_max: 0,
        ..Limits::default()
    }
}

async fn wait_for_purge(cluster: &Cluster, node: u64, above: u64) {
    let purged = async {
        loop {
            let metrics = cluster.running[&node].consensus.metrics();
            if metrics.purged_index.is_some_and(|index| index > above) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let purged = tokio::time::timeout(WITHIN, purged).await;
    purged.expect("the log is purged");
}

/// Three nodes continue, and the fourth comes back when its part of the log is purged.
async fn with_one_behind() -> (Cluster, u64, u64) {
    let mut cluster = Cluster::start(4).await;
    cluster.limits = small_limits();
    for node in 1..=4 {
        cluster.crash(node).await;
        cluster.start_node(node).await;
    }
    register(&cluster, 1, "first").await;
    let away = 1 + cluster.leader().await % 4;
    cluster.crash(away).await;
    let leader = cluster.leader().await;
    for n in 0..60 {
        register(&cluster, leader, &format!("while-away-{n}")).await;
    }
    wait_for_purge(&cluster, leader, 20).await;
    (cluster, leader, away)
}

async fn assert_equal(cluster: &Cluster, leader: u64, away: u64) {
    let height = register(cluster, leader, "last").await;
    let (first, second) = (cluster.handle(leader), cluster.handle(away));
    second.wait_certified(height, WITHIN).await.unwrap();
    for height in 0..=height {
        assert_eq!(
            first.header(height).unwrap(),
            second.header(height).unwrap()
        );
        assert_eq!(
            first.receipts(height).unwrap(),
            second.receipts(height).unwrap()
        );
    }
    register(cluster, away, "through-the-one-that-was-away").await;
}

#[tokio::test]
async fn a_node_that_was_away_installs_an_image_and_continues() {
    let (mut cluster, leader, away) = with_one_behind().await;
    cluster.start_node(away).await;
    assert_equal(&cluster, leader, away).await;
    cluster.crash(away).await;
    cluster.start_node(away).await;
    cluster.stop().await;
}

/// Its block is never applied on this node, so only the image decides over it.
#[tokio::test]
async fn a_transaction_in_an_image_gets_its_verdict() {
    let (mut cluster, leader, away) = with_one_behind().await;
    let signed = cluster.organization("in-the-image");
    let ticket = cluster.handle(leader).submit(signed.clone()).await.unwrap();
    let Verdict::Committed(first) = ticket.verdict().await else {
        panic!("the leader takes it");
    };
    for n in 0..60 {
        register(&cluster, leader, &format!("after-it-{n}")).await;
    }
    wait_for_purge(&cluster, leader, first.height + 20).await;
    cluster.start_node(away).await;
    let ticket = cluster.handle(away).submit(signed).await.unwrap();
    let answered = tokio::time::timeout(WITHIN, ticket.verdict()).await;
    match answered.expect("it is answered when the image is installed") {
        Verdict::Committed(second) => {
            assert_eq!((second.height, second.index), (first.height, first.index))
        }
        other => panic!("{other:?}"),
    }
    cluster.stop().await;
}

/// Another transaction used its number, in a block that is never applied on this node.
#[tokio::test]
async fn a_transaction_with_a_number_used_in_an_image_is_refused() {
    let cluster = Cluster::start(1).await;
    let number = cluster.next_number();
    let sign = |name| {
        let action = cluster::register(name);
        cluster.sign_numbered("admin", &cluster::admin_secret(), number, action)
    };
    let ticket = cluster.handle(1).submit(sign("wins")).await.unwrap();
    let Verdict::Committed(won) = ticket.verdict().await else {
        panic!("it is the first");
    };
    let certified = cluster.handle(1).wait_certified(won.height, WITHIN).await;
    certified.unwrap();
    let (image, _) = image(&cluster, 1, "image").await;
    let behind = cluster.open_only(1, &MemoryKv::new()).await.unwrap();
    let loses = behind.handle().submit(sign("loses")).await.unwrap();
    behind.state_machine().install_snapshot(&image).unwrap();
    let answered = tokio::time::timeout(WITHIN, loses.verdict()).await;
    let Verdict::Refused(refusal) = answered.expect("the image answers it") else {
        panic!("its number is used");
    };
    assert_eq!(refusal.code(), "admission.sequence_used");
    cluster.stop().await;
}

/// The power fails after each single write of the installation.
#[tokio::test]
async fn an_interrupted_installation_is_repeated() {
    let (cluster, leader, away) = with_one_behind().await;
    let (image, _) = image(&cluster, leader, "image").await;
    let head = |kv: &MemoryKv| tables::head_height(kv).unwrap();
    let installed = head(&MemoryKv::open_checkpoint(&image).unwrap());
    let mut interrupted = 0;
    for writes in 0..40 {
        let kv = cluster.store(away).clone();
        let copy = cluster.path().join(format!("copy-{writes}"));
        let inside = copy.join("data");
        fs::create_dir_all(&inside).unwrap();
        for file in fs::read_dir(&image).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), inside.join(file.file_name())).unwrap();
        }
        kv.checkpoint(&copy.join("before")).unwrap();
        let victim = MemoryKv::open_checkpoint(&copy.join("before")).unwrap();
        let outcome = install(&cluster, &victim, away, &inside, writes).await;
        let reopened = victim.crash_keeping(writes as usize % 3);
        let is_interrupted = tables::installing(&reopened).unwrap().is_some();
        interrupted += u32::from(is_interrupted);
        cluster.open_only(away, &reopened).await.unwrap();
        assert_eq!(tables::installing(&reopened).unwrap(), None);
        if is_interrupted {
            assert_eq!(head(&reopened), installed);
            assert!(
                !copy.join("data").exists(),
                "the image is not needed any more"
            );
        }
        if outcome.is_ok() {
            break;
        }
        assert!(writes < 39, "the installation has an end");
    }
    assert!(
        interrupted >= 5,
        "{interrupted} interruptions in the middle"
    );
    // An installation can't be repeated without its image.
    let lost = MemoryKv::new();
    let mut batch = WriteBatch::new();
    tables::put_installing(&mut batch, Some("/nowhere/data"));
    lost.write(batch, Durability::Synced).unwrap();
    let refused = cluster.open_only(away, &lost).await;
    assert!(matches!(refused, Err(OpenError::HalfInstalled(_))));
    cluster.stop().await;
}

/// This node may have a certificate that the sender had not when it made the image, and that can't
/// be made again.
#[tokio::test]
async fn installing_an_image_keeps_the_certificates() {
    let (cluster, leader, away) = with_one_behind().await;
    let (image, _) = image(&cluster, leader, "image").await;
    let whole = MemoryKv::open_checkpoint(&image).unwrap();
    let newest = tables::newest_certified(&whole, 0).unwrap().unwrap();
    let certificate = |kv: &MemoryKv, height| tables::certificate(kv, height).unwrap();
    let mut certified = (1..newest).filter_map(|height| certificate(&whole, height));
    let kept = certified.next().expect("many headers are certified");

    let kv = cluster.store(away).clone();
    let mut batch = WriteBatch::new();
    tables::put_certificate(&mut batch, &kept);
    kv.write(batch, Durability::Synced).unwrap();
    let lacking = forge(&image, &cluster.path().join("lacking"), |_, batch| {
        batch.delete_range(Cf::Certificates, KeyRange::all());
        tables::put_certificate(batch, &certificate(&whole, newest).unwrap());
    });
    install(&cluster, &kv, away, &lacking, u64::MAX)
        .await
        .unwrap();
    assert_eq!(tables::newest_certified(&kv, 0).unwrap(), Some(newest));
    assert_eq!(certificate(&kv, kept.height), Some(kept));
    cluster.stop().await;
}

/// Opens the chain in `kv` and installs the image; the disk fails after so many writes.
async fn install(
    cluster: &Cluster,
    kv: &MemoryKv,
    node: u64,
    image: &Path,
    writes: u64,
) -> Result<(), String> {
    let machine = cluster.open_only(node, kv).await.unwrap().state_machine();
    machine.check_snapshot(image).unwrap();
    kv.plan(Fault {
        after_writes: writes,
        persisted: false,
        lasting: true,
    });
    machine
        .install_snapshot(image)
        .map_err(|error| error_chain(&error))
}
