//! Whatever byte of whatever file changes: it is found when the store is opened, by the scrubber or
//! when it is read, named with its offset, and what this node alone has is never dropped unseen.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lamplighter_rocks::{Damage, Options, RocksKv, Scrub};
use lamplighter_store::{Cf, Durability, Kv, KvView, StoreError, WriteBatch};

const ENTRIES: u32 = 400;

fn key(at: u32) -> [u8; 4] {
    at.to_be_bytes()
}

fn value(at: u32) -> Vec<u8> {
    (0..300).map(|n| (n * 31 + at * 7) as u8).collect()
}

fn write(kv: &RocksKv, at: u32, durability: Durability) {
    let mut batch = WriteBatch::new();
    for cf in [Cf::Meta, Cf::Log, Cf::State, Cf::Blocks] {
        batch.put(cf, key(at).to_vec(), value(at));
    }
    kv.write(batch, durability).unwrap();
}

fn holds(kv: &RocksKv, cf: Cf, up_to: u32) -> bool {
    (0..up_to).all(|at| kv.get(cf, &key(at)).unwrap().as_deref() == Some(&value(at)[..]))
}

/// A store with half of its entries in tables and half in a log, closed.
fn filled(dir: &Path) {
    for half in 0..2 {
        // Opening brings into tables what the log has.
        let kv = RocksKv::open(dir, Options::default()).unwrap();
        for at in half * ENTRIES / 2..(half + 1) * ENTRIES / 2 {
            write(&kv, at, Durability::Unsynced);
        }
        kv.sync().unwrap();
    }
}

/// The seal first: what is copied after it has only grown since.
fn copy(from: &Path, to: &Path) {
    for (from, to) in [(seal(from), seal(to)), (from.to_owned(), to.to_owned())] {
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(&from).unwrap() {
            let entry = entry.unwrap();
            // Files of a store in use come and go.
            let copied = fs::copy(entry.path(), to.join(entry.file_name()));
            assert!(copied.is_ok() || !entry.path().exists());
        }
    }
}

fn seal(dir: &Path) -> PathBuf {
    PathBuf::from(format!("{}.seal", dir.display()))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The names of tables of a column family.
fn tables(dir: &Path, cf: Cf) -> Vec<String> {
    let of = |name: &String| {
        let record = fs::read_to_string(seal(dir).join(name)).unwrap();
        let line = record.lines().nth(1).unwrap();
        line.split(' ').next() == Some(cf.name())
    };
    let tables = names(dir).into_iter().filter(|name| name.ends_with(".sst"));
    tables.filter(of).collect()
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    First,
    Middle,
    Last,
    Half,
    Shorter,
}

const HARMS: [Harm; 5] = [
    Harm::First,
    Harm::Middle,
    Harm::Last,
    Harm::Half,
    Harm::Shorter,
];

fn harm(path: &Path, harm: Harm) {
    // A new file: nothing that is linked to the old one changes.
    let mut bytes = fs::read(path).unwrap();
    let (middle, last) = (bytes.len() / 2, bytes.len() - 1);
    match harm {
        Harm::First => bytes[0] ^= 0x04,
        Harm::Middle => bytes[middle] ^= 0x04,
        Harm::Last => bytes[last] ^= 0x04,
        Harm::Half => bytes.truncate(middle),
        Harm::Shorter => bytes.truncate(last),
    }
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A copy of the store with one file harmed.
fn harmed(parent: &Path, name: &str, how: Harm) -> PathBuf {
    let dir = parent.join(format!("{name}-{how:?}"));
    copy(&parent.join("kv"), &dir);
    harm(&dir.join(name), how);
    dir
}

fn refused(dir: &Path, name: &str) {
    for _ in 0..2 {
        let error = RocksKv::open_or_repair(dir, Options::default());
        let error = error.err().unwrap_or_else(|| panic!("{name} was opened"));
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("offset"), "{text}");
    }
}

#[test]
fn damage_to_what_this_node_alone_has_is_refused_with_file_and_offset() {
    let parent = tempfile::tempdir().unwrap();
    let kv = parent.path().join("kv");
    filled(&kv);
    let whole = |name: &&String| {
        let growing = name.ends_with(".log") || name.starts_with("MANIFEST");
        (growing || *name == "CURRENT") && fs::metadata(kv.join(name)).unwrap().len() > 0
    };
    let mut files: Vec<String> = names(&kv).iter().filter(whole).cloned().collect();
    assert_eq!(files.len(), 3, "{files:?}");
    files.extend(tables(&kv, Cf::Meta));
    files.extend(tables(&kv, Cf::Log));
    assert!(files.len() >= 5, "{files:?}");
    for name in &files {
        for how in HARMS {
            refused(&harmed(parent.path(), name, how), name);
        }
        let missing = parent.path().join(format!("{name}-gone"));
        copy(&kv, &missing);
        fs::remove_file(missing.join(name)).unwrap();
        let opened = RocksKv::open_or_repair(&missing, Options::default());
        assert!(opened.is_err(), "without {name}");
    }
}

#[test]
fn damage_to_what_others_have_is_found_and_all_of_that_is_removed() {
    let parent = tempfile::tempdir().unwrap();
    let kv = parent.path().join("kv");
    filled(&kv);
    let names = tables(&kv, Cf::State);
    assert!(!names.is_empty());
    for name in &names {
        for how in HARMS {
            let dir = harmed(parent.path(), name, how);
            let (kv, damage) = RocksKv::open_or_repair(&dir, Options::default()).unwrap();
            let (kv, damage) = match damage {
                Some(damage) => (kv, damage),
                None => {
                    scrub_finds(&kv, name);
                    drop(kv);
                    let (kv, damage) = RocksKv::open_or_repair(&dir, Options::default()).unwrap();
                    (kv, damage.unwrap())
                }
            };
            assert_eq!(damage.path, dir.join(name), "{how:?}");
            assert_eq!(damage.family, Some(Cf::State));
            assert!(holds(&kv, Cf::Meta, ENTRIES) && holds(&kv, Cf::Log, ENTRIES));
            for cf in [Cf::State, Cf::Blocks] {
                assert!((0..ENTRIES).all(|at| kv.get(cf, &key(at)).unwrap().is_none()));
            }
            write(&kv, 0, Durability::Synced);
            drop(kv);
            let (kv, damage) = RocksKv::open_or_repair(&dir, Options::default()).unwrap();
            assert_eq!(damage, None, "repaired once");
            assert!(holds(&kv, Cf::State, 1));
        }
    }
}

/// One round of the scrubber, in small steps, finds the damage; then nothing is written any more.
fn scrub_finds(kv: &RocksKv, name: &str) {
    let mut scrub = Scrub::default();
    let error = loop {
        match kv.scrub(&mut scrub, 1) {
            Err(error) => break error,
            Ok(()) => assert_eq!(scrub.rounds, 0, "{name} was not found"),
        }
    };
    let text = error.to_string();
    assert!(text.contains(name) && text.contains("offset"), "{text}");
    assert!(kv.failure().unwrap().damaged);
    let mut batch = WriteBatch::new();
    batch.put(Cf::Meta, "key", "value");
    let error = kv.write(batch, Durability::Synced).unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
}

#[test]
fn a_scrubber_finds_nothing_in_a_store_that_is_whole() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    filled(&dir);
    let kv = RocksKv::open(&dir, Options::default()).unwrap();
    let mut scrub = Scrub::default();
    while scrub.rounds < 2 {
        kv.scrub(&mut scrub, 100_000).unwrap();
    }
    assert_eq!(kv.failure(), None);
}

#[test]
fn a_read_that_meets_damage_stops_the_store_and_the_next_opening_knows() {
    let parent = tempfile::tempdir().unwrap();
    let kv = parent.path().join("kv");
    filled(&kv);
    let name = tables(&kv, Cf::State).remove(0);
    // Early in the file are the entries.
    let dir = harmed(parent.path(), &name, Harm::First);
    let kv = RocksKv::open(&dir, Options::default()).unwrap();
    let read = (0..ENTRIES).find_map(|at| kv.get(Cf::State, &key(at)).err());
    let error = read.expect("what is damaged is not served");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(kv.failure().unwrap().damaged);
    drop(kv);
    let error = RocksKv::open(&dir, Options::default()).err().unwrap();
    assert!(error.to_string().contains(&name), "{error}");
    let (_, damage) = RocksKv::open_or_repair(&dir, Options::default()).unwrap();
    assert_eq!(damage.unwrap().family, Some(Cf::State));
}

#[test]
fn damage_to_unused_files_is_ignored() {
    let parent = tempfile::tempdir().unwrap();
    let kv = parent.path().join("kv");
    filled(&kv);
    let of_rocks = names(&kv).into_iter();
    let idle = |name: &String| name.starts_with("OPTIONS") || name == "IDENTITY";
    let of_rocks = of_rocks.filter(idle).map(|name| (false, name));
    let in_seal = names(&seal(&kv)).into_iter().map(|name| (true, name));
    let files: Vec<_> = of_rocks.chain(in_seal).collect();
    assert!(files.len() > 5, "{files:?}");
    for (is_in_seal, name) in files {
        for how in HARMS {
            let dir = parent.path().join(format!("{name}-{how:?}"));
            copy(&kv, &dir);
            let folder = if is_in_seal { seal(&dir) } else { dir.clone() };
            harm(&folder.join(&name), how);
            let (kv, damage) = RocksKv::open_or_repair(&dir, Options::default()).unwrap();
            assert_eq!(damage, None, "{name} {how:?}");
            for cf in [Cf::Meta, Cf::Log, Cf::State, Cf::Blocks] {
                assert!(holds(&kv, cf, ENTRIES), "{name} {how:?}");
            }
        }
    }
}

/// Every file of the images, in small steps.
fn scrub_images(kv: &RocksKv, images: &BTreeSet<PathBuf>) -> Option<Damage> {
    let mut at = 0;
    loop {
        let damage = kv.scrub_images(images, &mut at, 1).unwrap();
        if damage.is_some() || at == 0 {
            return damage;
        }
    }
}

#[test]
fn damage_to_any_file_of_an_image_is_found() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    filled(&dir);
    let kv = RocksKv::open(&dir, Options::default()).unwrap();
    for at in 0..5 {
        write(&kv, ENTRIES + at, Durability::Synced);
    }
    let mut count = 0;
    let whole = parent.path().join("whole");
    kv.checkpoint(&whole).unwrap();
    for name in names(&whole) {
        for how in HARMS {
            count += 1;
            let image = parent.path().join(format!("{count}")).join("data");
            fs::create_dir_all(image.parent().unwrap()).unwrap();
            kv.checkpoint(&image).unwrap();
            let images = [image.clone()].into();
            assert_eq!(scrub_images(&kv, &images), None);
            // Names of the logs and the manifest may be others than in the first image.
            let same = image.join(&name);
            if !same.exists() || fs::metadata(&same).unwrap().len() == 0 {
                continue;
            }
            harm(&same, how);
            let damage = scrub_images(&kv, &images).unwrap();
            assert_eq!(damage.path, same, "{how:?}");
        }
    }
    assert!(count > 30, "{count}");
    assert_eq!(kv.failure(), None, "the store itself is whole");
    assert_eq!(scrub_images(&kv, &Default::default()), None);
    let left = names(&seal(&dir));
    assert!(
        !left.iter().any(|name| name.starts_with("image-")),
        "{left:?}"
    );
}

/// The last file with such a name that is sealed, and up to where.
fn sealed(dir: &Path, fits: impl Fn(&str) -> bool) -> Option<(String, u64)> {
    let text = fs::read_to_string(seal(dir).join("sealed-now")).ok()?;
    let mut files = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next().filter(|name| fits(name))?;
        Some((name.to_owned(), words.next()?.parse().ok()?))
    });
    files.next_back()
}

fn is_log(name: &str) -> bool {
    name.ends_with(".log")
}

/// Waits until that file is sealed up to its end.
fn until_sealed(dir: &Path, fits: impl Fn(&str) -> bool) -> (String, u64) {
    let begun = Instant::now();
    loop {
        let sealed = sealed(dir, &fits);
        if let Some((name, bytes)) = sealed
            && fs::metadata(dir.join(&name)).is_ok_and(|log| log.len() == bytes)
        {
            return (name, bytes);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it is not sealed"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A crash may tear what was not synced, at any byte; it must not cost anything that was.
#[test]
fn a_torn_end_is_cut_off_and_what_was_synced_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    let kv = RocksKv::open(&dir, Options::default()).unwrap();
    for at in 0..50 {
        write(&kv, at, Durability::Synced);
    }
    let (log, sealed) = until_sealed(&dir, is_log);
    let image = parent.path().join("image");
    copy(&dir, &image);
    for at in 50..60 {
        write(&kv, at, Durability::Unsynced);
    }
    fs::copy(dir.join(&log), image.join(&log)).unwrap();
    drop(kv);
    let written = fs::metadata(image.join(&log)).unwrap().len();
    assert!(sealed < written);
    let step = (written - sealed) / 7;
    for round in 0..8 {
        let crashed = parent.path().join(format!("crashed-{round}"));
        copy(&image, &crashed);
        let file = OpenOptions::new()
            .write(true)
            .open(crashed.join(&log))
            .unwrap();
        file.set_len((sealed + round * step).min(written)).unwrap();
        let kv = RocksKv::open(&crashed, Options::default()).unwrap();
        assert!(holds(&kv, Cf::Meta, 50) && holds(&kv, Cf::Log, 50));
    }
    for lost in [1, 700, sealed / 2] {
        let crashed = parent.path().join(format!("lost-{lost}"));
        copy(&image, &crashed);
        let file = OpenOptions::new()
            .write(true)
            .open(crashed.join(&log))
            .unwrap();
        file.set_len(sealed - lost).unwrap();
        refused(&crashed, &log);
    }
}

/// A flush makes the manifest longer, and no sync of the log follows.
#[test]
fn a_manifest_that_grows_in_the_background_is_sealed() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    let kv = RocksKv::open(&dir, Options::default()).unwrap();
    write(&kv, 0, Durability::Synced);
    until_sealed(&dir, is_log);
    let is_manifest = |name: &str| name.starts_with("MANIFEST");
    let (_, before) = until_sealed(&dir, is_manifest);
    // An image begins with a flush.
    kv.checkpoint(&parent.path().join("image")).unwrap();
    let (manifest, after) = until_sealed(&dir, is_manifest);
    assert!(after > before, "the flush is in {manifest}");
    drop(kv);
    let last = OpenOptions::new().write(true).open(dir.join(&manifest));
    last.unwrap().set_len(after - 1).unwrap();
    refused(&dir, &manifest);
}

/// For the images of a busy store, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(50);

/// Images taken at any moment of a busy store open: the seal claims nothing that is not so.
#[test]
fn a_crash_is_never_taken_for_damage() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    let options = Options {
        memtables_bytes: 2 << 20,
        ..Options::default()
    };
    let kv = RocksKv::open(&dir, options.clone()).unwrap();
    // The number of synced entries; its lock excludes other writers.
    let synced = Mutex::new(0);
    let stop = AtomicBool::new(false);
    let images = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // The maker of images gets a turn.
                std::thread::sleep(Duration::from_millis(1));
                let mut synced = synced.lock().unwrap();
                for at in *synced..*synced + 8 {
                    write(&kv, at, Durability::Unsynced);
                }
                kv.sync().unwrap();
                *synced += 8;
            }
        });
        let mut images = Vec::new();
        let begun = Instant::now();
        while images.len() < 8 && begun.elapsed() < TIMEOUT {
            let pause = 10 + 13 * images.len() as u64;
            std::thread::sleep(Duration::from_millis(pause));
            let synced = synced.lock().unwrap();
            let image = parent.path().join(format!("image-{}", images.len()));
            // Not while a flush or a compaction was at work: that is no moment. With nobody writing
            // they come to an end.
            loop {
                let before = standing(&dir);
                copy(&dir, &image);
                if before == standing(&dir) {
                    break;
                }
                fs::remove_dir_all(&image).unwrap();
                assert!(begun.elapsed() < TIMEOUT, "the store never rests");
            }
            images.push((image, *synced));
        }
        stop.store(true, Ordering::Relaxed);
        images
    });
    assert_eq!(kv.failure(), None);
    assert!(images.len() >= 3, "{}", images.len());
    for (image, synced) in images {
        let kv = RocksKv::open(&image, options.clone()).unwrap();
        assert!(holds(&kv, Cf::Log, synced), "{synced}");
    }
}

/// The logs and manifests of a store and their lengths.
fn standing(dir: &Path) -> Vec<(String, u64)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let grows = name.ends_with(".log") || name.starts_with("MANIFEST");
            grows.then_some(())?;
            Some((name, entry.metadata().ok()?.len()))
        })
        .collect();
    files.sort();
    files
}
