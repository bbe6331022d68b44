//! Bytes of a file change. `rocks/tests/rocks_damage.rs` goes through every kind of file; here are
//! whole nodes: one that is damaged while it runs, one while it is down, all of them.

use std::fs;
use std::path::{Path, PathBuf};

use lamplighter_devnet::{FeedSubscriber, Journal, scenario};
use lamplighter_types::Hash;

use crate::city::{City, until};

/// The node that is hit.
const HIT: usize = 3;
/// Tries to kill a node at a moment of rest.
const KILLS_MAX: usize = 10;

fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at).unwrap();
}

/// A table of a column family, as noted beside the store.
fn table(data_dir: &Path, family: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(data_dir.join("db.seal")).ok()? {
        let note = entry.ok()?.path();
        let name = note.file_name()?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&note).unwrap_or_default();
        let of = text.lines().nth(1).and_then(|line| line.split(' ').next());
        let table = data_dir.join("db").join(&name);
        if name.ends_with(".sst") && of == Some(family) && table.exists() {
            return Some(table);
        }
    }
    None
}

/// The same; the note follows about a second after the table.
async fn noted_table(data_dir: &Path, family: &str) -> PathBuf {
    let what = format!("a table of {family} is noted");
    until(&what, async || table(data_dir, family).is_some()).await;
    table(data_dir, family).unwrap()
}

/// Kills a node when all files that a start reads are sealed and recorded, and returns its tables
/// of `meta` and `log`. A flush may come between the check and the kill; then it tries again.
async fn kill_at_rest(city: &mut City, at: usize) -> (PathBuf, PathBuf) {
    let dir = city.data_dir(at);
    let rests = || {
        let manifest = newest(&dir, |name| name.starts_with("MANIFEST-"));
        let whole = sealed(&manifest) == fs::metadata(&manifest).ok().map(|data| data.len());
        let tables = table(&dir, "meta").zip(table(&dir, "log"));
        tables.filter(|_| whole)
    };
    for _ in 0..KILLS_MAX {
        until("the store is at rest", async || rests().is_some()).await;
        city.node(at).process.kill().await.unwrap();
        if let Some(tables) = rests() {
            return tables;
        }
        city.start_again(at).await;
    }
    panic!("it never rests");
}

/// Brings what the log has into tables.
async fn restart(city: &mut City, at: usize) {
    city.node(at).process.stop().await.unwrap();
    city.start_again(at).await;
}

/// The node's own log has the whole chain: nothing needs to come from the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_is_found_and_built_again() {
    a_table_changes(30, "repaired").await;
}

/// The log begins later than the chain: an image of another node comes first.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_is_found_and_fetched_from_the_others() {
    a_table_changes(320, "an image is fetched from another node").await;
}

async fn a_table_changes(work: usize, message: &str) {
    let mut city = City::found().await;
    for at in 0..4 {
        city.configure(at, |disk| {
            disk.scrub_bytes_per_s = 64 << 20;
            disk.snapshot_every_batches = 100;
        });
    }
    city.start().await;
    city.work(work).await;
    restart(&mut city, HIT).await;
    let table = noted_table(&city.data_dir(HIT), "receipts").await;
    let logged = city.logged(HIT);
    flip(&table, 40);
    let log = city.ended(HIT, logged).await;
    let last = log.trim_end().lines().last().unwrap_or_default();
    // The scrubber finds it, or a compaction that comes earlier.
    assert!(last.contains(table.to_str().unwrap()), "{log}");
    assert!(last.contains("offset 0"), "{log}");
    city.work(20).await;

    let logged = city.logged(HIT);
    city.start_again(HIT).await;
    city.work(5).await;
    city.nothing_is_lost().await;
    let log = city.node(HIT).process.read_log().unwrap()[logged..].to_owned();
    assert!(log.contains(message), "{log}");
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_the_log_is_refused_on_one_node_and_on_all() {
    let mut city = City::found().await;
    city.start().await;
    city.work(30).await;
    city.node(HIT).process.kill().await.unwrap();
    let wal = newest_log(&city.data_dir(HIT));
    let whole = fs::read(&wal).unwrap();
    // The end of what was synced: without the seal it would count as torn and be forgotten.
    flip(&wal, sealed(&wal).unwrap() - 1);
    refuses(&mut city, HIT, &wal).await;
    city.work(20).await;

    for at in 0..3 {
        city.node(at).process.kill().await.unwrap();
        let wal = newest_log(&city.data_dir(at));
        flip(&wal, fs::metadata(&wal).unwrap().len() / 2);
    }
    for at in 0..3 {
        let wal = newest_log(&city.data_dir(at));
        refuses(&mut city, at, &wal).await;
    }
    // What was flipped is flipped back: nothing else was touched.
    fs::write(&wal, whole).unwrap();
    for at in 0..3 {
        let wal = newest_log(&city.data_dir(at));
        flip(&wal, fs::metadata(&wal).unwrap().len() / 2);
    }
    city.start().await;
    city.work(5).await;
    city.nothing_is_lost().await;
    city.stop().await;
}

/// Up to where a log or manifest is known to be synced; none if nothing is known of it.
fn sealed(path: &Path) -> Option<u64> {
    let seal = path.parent()?.with_extension("seal").join("sealed-now");
    let name = path.file_name()?.to_str()?;
    let text = fs::read_to_string(seal).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// The last file of the store whose name fits.
fn newest(data_dir: &Path, fits: impl Fn(&str) -> bool) -> PathBuf {
    let entries = fs::read_dir(data_dir.join("db")).unwrap();
    let fitting = entries.filter_map(|entry| {
        let entry = entry.unwrap();
        fits(entry.file_name().to_str()?).then(|| entry.path())
    });
    fitting.max().expect("every store has one")
}

/// The write-ahead log in use.
fn newest_log(data_dir: &Path) -> PathBuf {
    newest(data_dir, |name| name.ends_with(".log"))
}

/// The node does not start, and its last line names the file, an offset and what to do.
async fn refuses(city: &mut City, at: usize, file: &Path) {
    let logged = city.logged(at);
    city.node(at).process.start().unwrap();
    let log = city.ended(at, logged).await;
    let last = log.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains(file.to_str().unwrap()), "{log}");
    assert!(last.contains("offset"), "{log}");
    assert!(last.contains("lamplighter node join"), "{log}");
}

/// Damage to any other file that a node reads when it starts: it refuses, and names the file.
#[tokio::test(flavor = "multi_thread")]
async fn damage_to_any_file_that_a_start_needs_is_refused() {
    let mut city = City::found().await;
    city.start().await;
    city.work(20).await;
    restart(&mut city, HIT).await;
    let dir = city.data_dir(HIT);
    let (meta, log) = kill_at_rest(&mut city, HIT).await;
    let named = |start: &str| newest(&dir, |name| name.starts_with(start));
    for file in [meta, log, named("CURRENT"), named("MANIFEST")] {
        let whole = fs::read(&file).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            flip(&file, at as u64);
            refuses(&mut city, HIT, &file).await;
            fs::write(&file, &whole).unwrap();
        }
        let shorter = fs::OpenOptions::new().write(true).open(&file).unwrap();
        shorter.set_len(whole.len() as u64 - 1).unwrap();
        refuses(&mut city, HIT, &file).await;
        fs::write(&file, &whole).unwrap();
    }
    let node = &city.devnet.nodes[HIT].config;
    let (key, genesis) = (node.key.clone(), node.genesis.clone());
    let config = city.devnet.files.root.join("node-4.toml");
    for file in [key, genesis, config] {
        let whole = fs::read(&file).unwrap();
        flip(&file, whole.len() as u64 / 2);
        let logged = city.logged(HIT);
        city.node(HIT).process.start().unwrap();
        let log = city.ended(HIT, logged).await;
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(
            log.contains(name) || log.contains("of the chain"),
            "{name}: {log}"
        );
        fs::write(&file, &whole).unwrap();
    }
    flip(&named("IDENTITY"), 3);
    flip(&named("OPTIONS"), 300);
    city.start_again(HIT).await;
    city.work(5).await;
    city.nothing_is_lost().await;
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_is_not_served_and_fetched_again() {
    let mut city = City::found().await;
    for at in 0..4 {
        city.configure(at, |disk| disk.scrub_bytes_per_s = 16 << 20);
    }
    city.start().await;
    let digest = release(&mut city).await;
    let file = city
        .data_dir(HIT)
        .join("artifacts")
        .join(digest.to_string());
    until("every validator has the image", async || file.exists()).await;
    let image = city.devnet.firmware.1.clone();
    for at in [0, image.len() / 2, image.len() - 1] {
        flip(&file, at as u64);
        let aside = file.with_extension("damaged");
        until("the damaged one is set aside", async || aside.exists()).await;
        until("it is fetched again", async || {
            fs::read(&file).is_ok_and(|bytes| bytes == image)
        })
        .await;
        fs::remove_file(aside).unwrap();
    }
    let url = format!("{}/v1/status", city.node(HIT).url());
    let (_, status) = city.ask(&url).await.unwrap();
    assert_eq!(status["alarms"][0]["kind"], "damaged_artifact", "{status}");
    city.work(3).await;
    city.nothing_is_lost().await;
    city.stop().await;
}

/// Publishes an image, so that every validator fetches it.
async fn release(city: &mut City) -> Hash {
    let subscriber = FeedSubscriber::start(&city.devnet.client("auditor").unwrap());
    let mut journal = Journal::new(false);
    let released = scenario::release(&city.devnet, &subscriber, &mut journal).await;
    released.unwrap();
    Hash::of(&city.devnet.firmware.1)
}
