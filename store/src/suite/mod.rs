//! The tests that every implementation of [`Kv`] has to pass.

mod model;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::Durability::{Synced, Unsynced};
use crate::{
    Cf, Direction, KEYS_AT_ONCE, KeyRange, Kv, KvView, SOME_BYTES_MAX, StoreError, WriteBatch,
    get_each,
};

/// Name and code.
type Test = (&'static str, fn(&dyn Kv));

/// Runs every test. `open` opens the store that belongs to a directory, creating it the first time;
/// it is called again for the same directory after the earlier store was dropped.
///
/// # Panics
/// When the store does not do what [`Kv`] promises.
pub fn run(open: impl Fn(&Path) -> Arc<dyn Kv>) {
    let tests: &[Test] = &[
        ("get and put", get_and_put),
        ("get many", get_many),
        ("get many large ones", get_many_large),
        ("column families are apart", column_families_are_apart),
        ("a batch is applied in order", batch_in_order),
        ("delete range", delete_range),
        ("scans", scans),
        ("a scan keeps its moment", scan_keeps_its_moment),
        ("views", views),
        ("large values", large_values),
    ];
    for (name, test) in tests {
        println!("store suite: {name}");
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        test(&*open(&dir.path().join("kv")));
    }
    reopen(&open);
    checkpoints(&open);
    writers_in_parallel(&open);
    model::run(&open);
}

/// All entries of a range.
pub fn entries(
    view: &dyn KvView,
    cf: Cf,
    range: KeyRange,
    direction: Direction,
) -> Vec<(Bytes, Bytes)> {
    let scan = view.scan(cf, range, direction).expect("scan starts");
    scan.map(|entry| entry.expect("scan goes on")).collect()
}

fn keys(view: &dyn KvView, cf: Cf, range: KeyRange, direction: Direction) -> Vec<String> {
    let entries = entries(view, cf, range, direction);
    entries
        .iter()
        .map(|(key, _)| String::from_utf8_lossy(key).into_owned())
        .collect()
}

fn write(kv: &dyn Kv, fill: impl FnOnce(&mut WriteBatch)) {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    kv.write(batch, Unsynced).expect("write succeeds");
}

fn get(view: &dyn KvView, cf: Cf, key: &str) -> Option<Bytes> {
    view.get(cf, key.as_bytes()).expect("get succeeds")
}

fn get_and_put(kv: &dyn Kv) {
    assert_eq!(get(kv, Cf::State, "a"), None);
    write(kv, |batch| batch.put(Cf::State, "a", "1"));
    assert_eq!(get(kv, Cf::State, "a").as_deref(), Some(&b"1"[..]));
    write(kv, |batch| batch.put(Cf::State, "a", ""));
    assert_eq!(
        get(kv, Cf::State, "a").as_deref(),
        Some(&b""[..]),
        "an empty value is a value"
    );
    write(kv, |batch| batch.delete(Cf::State, "a"));
    assert_eq!(get(kv, Cf::State, "a"), None);
    write(kv, |batch| batch.delete(Cf::State, "never there"));
    write(kv, |_| ());
    kv.sync().expect("sync succeeds");
}

/// The values of keys, which are read some at a time.
fn values(view: &dyn KvView, cf: Cf, keys: &[Vec<u8>]) -> Vec<Option<Bytes>> {
    let mut values = Vec::new();
    let read = get_each::<StoreError>(view, cf, keys, |number, value| {
        assert_eq!(number, values.len(), "each key once, in order");
        values.push(value);
        Ok(())
    });
    read.expect("get each succeeds");
    values
}

/// However many keys a caller has, a part of their values is in memory.
fn get_many_large(kv: &dyn Kv) {
    const VALUE_BYTES: usize = SOME_BYTES_MAX / 8;
    let keys: Vec<_> = (0..100u8).map(|number| vec![number]).collect();
    write(kv, |batch| {
        for key in &keys {
            batch.put(Cf::State, key.clone(), vec![key[0]; VALUE_BYTES]);
        }
    });
    let view = kv.view().expect("a view is made");
    for view in [&*view, kv as &dyn KvView] {
        let some = view.get_some(Cf::State, &keys).expect("get some succeeds");
        let most = SOME_BYTES_MAX / VALUE_BYTES + KEYS_AT_ONCE;
        assert!((1..most).contains(&some.len()), "{} at once", some.len());
        let none = vec![b"none".to_vec(); 1_000];
        let some = view.get_some(Cf::State, &none).expect("get some succeeds");
        assert_eq!(some, vec![None; 1_000], "what is absent takes nothing");
        let all = values(view, Cf::State, &keys);
        let expected = |key: &Vec<u8>| Some(Bytes::from(vec![key[0]; VALUE_BYTES]));
        assert!(all.into_iter().eq(keys.iter().map(expected)));
    }
}

fn get_many(kv: &dyn Kv) {
    let many = |view: &dyn KvView, keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let found = values(view, Cf::State, &keys);
        let text = |value: Bytes| String::from_utf8_lossy(&value).into_owned();
        found
            .into_iter()
            .map(|value| value.map(text))
            .collect::<Vec<_>>()
    };
    assert_eq!(many(kv, &[]), Vec::<Option<String>>::new());
    write(kv, |batch| {
        for key in ["a", "b", "c"] {
            batch.put(Cf::State, key, format!("{key}1"));
        }
        batch.put(Cf::Index, "d", "of another family");
    });
    let view = kv.view().expect("a view is made");
    write(kv, |batch| {
        batch.put(Cf::State, "a", "");
        batch.delete(Cf::State, "b");
    });
    // Neither sorted nor distinct.
    let keys = ["c", "a", "never there", "b", "a", "d"];
    let some = |text: &str| Some(text.to_owned());
    let now = [some("c1"), some(""), None, None, some(""), None];
    assert_eq!(many(kv, &keys), now);
    let then = [some("c1"), some("a1"), None, some("b1"), some("a1"), None];
    assert_eq!(many(&*view, &keys), then);
}

fn column_families_are_apart(kv: &dyn Kv) {
    write(kv, |batch| {
        for cf in Cf::ALL {
            batch.put(cf, "key", cf.name());
        }
    });
    for cf in Cf::ALL {
        assert_eq!(get(kv, cf, "key").as_deref(), Some(cf.name().as_bytes()));
    }
    write(kv, |batch| batch.delete_range(Cf::Log, KeyRange::all()));
    assert_eq!(get(kv, Cf::Log, "key"), None);
    assert!(get(kv, Cf::Meta, "key").is_some());
}

fn batch_in_order(kv: &dyn Kv) {
    write(kv, |batch| {
        batch.put(Cf::State, "a", "1");
        batch.delete_range(Cf::State, KeyRange::prefix("a"));
        batch.put(Cf::State, "ab", "2");
        batch.delete(Cf::State, "ab");
        batch.put(Cf::State, "ab", "3");
    });
    assert_eq!(get(kv, Cf::State, "a"), None);
    assert_eq!(get(kv, Cf::State, "ab").as_deref(), Some(&b"3"[..]));
}

fn delete_range(kv: &dyn Kv) {
    let fill = || {
        write(kv, |batch| {
            for key in ["a", "b", "ba", "c", "d"] {
                batch.put(Cf::Index, key, key);
            }
        });
    };
    let table: &[(KeyRange, &[&str])] = &[
        (KeyRange::between("b", "c"), &["a", "c", "d"]),
        (KeyRange::between("c", "b"), &["a", "b", "ba", "c", "d"]),
        (KeyRange::between("b", "b"), &["a", "b", "ba", "c", "d"]),
        (KeyRange::starting_at("ba"), &["a", "b"]),
        (KeyRange::prefix("b"), &["a", "c", "d"]),
        (KeyRange::all(), &[]),
    ];
    for (range, left) in table {
        fill();
        write(kv, |batch| batch.delete_range(Cf::Index, range.clone()));
        assert_eq!(
            keys(kv, Cf::Index, KeyRange::all(), Direction::Forward),
            *left,
            "{range:?}"
        );
    }
    write(kv, |batch| {
        batch.put(Cf::Index, vec![0xff, 0xff, 0xff], "last");
        batch.put(Cf::Index, "", "first");
    });
    write(kv, |batch| batch.delete_range(Cf::Index, KeyRange::all()));
    assert!(entries(kv, Cf::Index, KeyRange::all(), Direction::Forward).is_empty());
}

fn scans(kv: &dyn Kv) {
    write(kv, |batch| {
        for key in ["a", "b", "b\u{0}", "ba", "c"] {
            batch.put(Cf::Events, key, key);
        }
        batch.put(Cf::Certificates, "other", "");
    });
    let table: &[(KeyRange, &[&str])] = &[
        (KeyRange::all(), &["a", "b", "b\u{0}", "ba", "c"]),
        (KeyRange::between("b", "c"), &["b", "b\u{0}", "ba"]),
        (KeyRange::between("b", "b\u{0}"), &["b"]),
        (KeyRange::between("aa", "bb"), &["b", "b\u{0}", "ba"]),
        (KeyRange::between("c", "a"), &[]),
        (KeyRange::starting_at("ba"), &["ba", "c"]),
        (KeyRange::starting_at("d"), &[]),
        (KeyRange::prefix("b"), &["b", "b\u{0}", "ba"]),
    ];
    for (range, expected) in table {
        let forward = keys(kv, Cf::Events, range.clone(), Direction::Forward);
        assert_eq!(forward, *expected, "{range:?}");
        let mut backward = keys(kv, Cf::Events, range.clone(), Direction::Backward);
        backward.reverse();
        assert_eq!(backward, *expected, "{range:?} backward");
    }
    assert!(entries(kv, Cf::Index, KeyRange::all(), Direction::Backward).is_empty());
}

fn scan_keeps_its_moment(kv: &dyn Kv) {
    write(kv, |batch| {
        batch.put(Cf::State, "a", "1");
        batch.put(Cf::State, "c", "1");
    });
    let scan = kv
        .scan(Cf::State, KeyRange::all(), Direction::Forward)
        .expect("scan starts");
    write(kv, |batch| {
        batch.put(Cf::State, "b", "2");
        batch.put(Cf::State, "c", "2");
        batch.delete(Cf::State, "a");
    });
    let seen: Vec<_> = scan.map(|entry| entry.expect("scan goes on")).collect();
    assert_eq!(
        seen,
        [("a".into(), "1".into()), ("c".into(), Bytes::from("1"))]
    );
}

fn views(kv: &dyn Kv) {
    write(kv, |batch| batch.put(Cf::State, "a", "1"));
    let before = kv.view().expect("view opens");
    write(kv, |batch| {
        batch.put(Cf::State, "a", "2");
        batch.put(Cf::Blocks, "b", "2");
    });
    let after = kv.view().expect("view opens");
    write(kv, |batch| batch.delete_range(Cf::State, KeyRange::all()));
    assert_eq!(get(&*before, Cf::State, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&*before, Cf::Blocks, "b"), None);
    assert_eq!(get(&*after, Cf::State, "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(
        keys(&*after, Cf::State, KeyRange::all(), Direction::Forward),
        ["a"]
    );
    assert_eq!(get(kv, Cf::State, "a"), None);
}

fn large_values(kv: &dyn Kv) {
    let value = Bytes::from(vec![7u8; 4 << 20]);
    write(kv, |batch| {
        for at in 0..4u8 {
            batch.put(Cf::Log, vec![at], value.clone());
        }
    });
    for at in 0..4u8 {
        assert!(kv.get(Cf::Log, &[at]).expect("get succeeds") == Some(value.clone()));
    }
}

fn reopen(open: &impl Fn(&Path) -> Arc<dyn Kv>) {
    println!("store suite: reopen");
    let parent = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = parent.path().join("kv");
    let kv = open(&dir);
    write(&*kv, |batch| batch.put(Cf::Chain, "unsynced", "1"));
    let mut batch = WriteBatch::new();
    batch.put(Cf::Meta, "synced", "2");
    kv.write(batch, Synced).expect("write succeeds");
    drop(kv);
    let kv = open(&dir);
    assert_eq!(get(&*kv, Cf::Chain, "unsynced").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&*kv, Cf::Meta, "synced").as_deref(), Some(&b"2"[..]));
}

fn checkpoints(open: &impl Fn(&Path) -> Arc<dyn Kv>) {
    println!("store suite: checkpoints");
    let parent = tempfile::tempdir().expect("a temporary directory can be made");
    let kv = open(&parent.path().join("kv"));
    let dir = parent.path().join("checkpoint");
    write(&*kv, |batch| {
        for cf in Cf::ALL {
            batch.put(cf, "a", "1");
        }
    });
    kv.checkpoint(&dir).expect("checkpoint is made");
    write(&*kv, |batch| batch.put(Cf::State, "a", "2"));
    write(&*kv, |batch| batch.put(Cf::State, "b", "2"));
    assert!(kv.checkpoint(&dir).is_err(), "the directory exists");
    assert!(
        kv.checkpoint(&parent.path().join("no/such")).is_err(),
        "the parent does not"
    );

    let moved = parent.path().join("moved");
    std::fs::rename(&dir, &moved).expect("rename succeeds");
    let before: Vec<_> = files(&moved);
    let image = kv.read_checkpoint(&moved).expect("checkpoint opens");
    for cf in Cf::ALL {
        assert_eq!(
            get(&*image, cf, "a").as_deref(),
            Some(&b"1"[..]),
            "{}",
            cf.name()
        );
    }
    assert_eq!(
        keys(&*image, Cf::State, KeyRange::all(), Direction::Forward),
        ["a"]
    );
    let again = kv.read_checkpoint(&moved).expect("it opens twice");
    drop((image, again));
    assert_eq!(before, files(&moved), "reading changes nothing");
    assert!(kv.read_checkpoint(&parent.path().join("missing")).is_err());
    assert!(
        !parent.path().join("missing").exists(),
        "reading creates nothing"
    );
}

fn files(dir: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(dir).expect("directory can be listed");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("directory can be listed");
            let len = entry.metadata().expect("file has metadata").len();
            (entry.file_name().to_string_lossy().into_owned(), len)
        })
        .collect();
    files.sort();
    files
}

fn writers_in_parallel(open: &impl Fn(&Path) -> Arc<dyn Kv>) {
    println!("store suite: writers in parallel");
    let parent = tempfile::tempdir().expect("a temporary directory can be made");
    let kv = open(&parent.path().join("kv"));
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let kv = kv.clone();
            scope.spawn(move || {
                for round in 0..50u8 {
                    write(&*kv, |batch| {
                        batch.put(Cf::State, vec![writer, round], vec![round]);
                        batch.put(Cf::Index, vec![writer], vec![round]);
                    });
                    // The two column families never disagree in a view.
                    let view = kv.view().expect("view opens");
                    let last = view.get(Cf::Index, &[writer]).expect("get succeeds");
                    assert_eq!(last.as_deref(), Some(&[round][..]));
                }
            });
        }
    });
    assert_eq!(
        entries(&*kv, Cf::State, KeyRange::all(), Direction::Forward).len(),
        200
    );
}
