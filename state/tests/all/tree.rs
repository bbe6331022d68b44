//! The tree against its definition, against a simple tree that has all keys at hand, and against
//! the verifier of its proofs; in memory, and with most of its pages on disk.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use lamplighter_state::StateError;
use lamplighter_state::tree::{FetchedPages, LeafChanges, Tree};
use lamplighter_store::{Cf, Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::Hash;
use lamplighter_types::merkle::{OtherLeaf, StateProof, sparse};
use proptest::prelude::*;
use tempfile::TempDir;

type Model = BTreeMap<u16, u8>;
/// Changes of one block.
type Block = Vec<(u16, Option<u8>)>;

/// The root by definition: split by one bit after the other.
fn definition(entries: &[(Hash, Hash)], depth: usize) -> Hash {
    match entries {
        [] => sparse::EMPTY,
        [(key, value)] => sparse::leaf(key, value),
        _ => {
            let (right, left): (Vec<_>, Vec<_>) = entries
                .iter()
                .partition(|(key, _)| sparse::branches_right(key, depth));
            sparse::node(
                &definition(&left, depth + 1),
                &definition(&right, depth + 1),
            )
        }
    }
}

/// The proof of a key by definition.
fn proof_by_definition(entries: &[(Hash, Hash)], key: &Hash) -> StateProof {
    let (mut rest, mut siblings) = (entries.to_vec(), Vec::new());
    while rest.len() > 1 {
        let depth = siblings.len();
        let side = sparse::branches_right(key, depth);
        let (same, other): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|(other, _)| sparse::branches_right(other, depth) == side);
        siblings.push(definition(&other, depth + 1));
        rest = same;
    }
    let other = rest.first().filter(|(found, _)| found != key);
    StateProof {
        siblings,
        other: other.map(|(key, value)| OtherLeaf {
            key: *key,
            value: *value,
        }),
    }
}

fn key(number: u16) -> [u8; 2] {
    number.to_be_bytes()
}

fn digest(number: u16, value: u8) -> (Hash, Hash) {
    (Hash::of(&key(number)), Hash::of(&[value]))
}

fn entries(model: &Model) -> Vec<(Hash, Hash)> {
    model.iter().map(|(k, v)| digest(*k, *v)).collect()
}

fn model_root(model: &Model) -> Hash {
    definition(&entries(model), 0)
}

fn changes(block: &[(u16, Option<u8>)]) -> LeafChanges {
    block
        .iter()
        .map(|(k, v)| (Hash::of(&key(*k)), v.map(|v| Hash::of(&[v]))))
        .collect()
}

fn update(tree: &mut Tree, changes: &LeafChanges) -> Hash {
    tree.update(changes, FetchedPages::default()).unwrap()
}

fn apply(model: &mut Model, block: &[(u16, Option<u8>)]) {
    for (key, value) in block {
        match value {
            Some(value) => model.insert(*key, *value),
            None => model.remove(key),
        };
    }
}

/// A tree in memory, one with all but a few pages on disk, and one with all but the last.
fn trees(dir: &Path) -> [Tree; 3] {
    [Tree::new(), Tree::on_disk(dir, 40), Tree::on_disk(dir, 0)]
}

/// Blocks of changes over few keys, so that many are overwritten and deleted.
fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let change = (0u16..150, prop::option::of(any::<u8>()));
    prop::collection::vec(prop::collection::vec(change, 0..40), 1..12)
}

/// Blocks that let the keys become many and few again, so that pages are split and merged.
fn waves() -> impl Strategy<Value = Vec<Block>> {
    let added = prop::collection::vec((0u16..600, any::<u8>().prop_map(Some)), 0..400);
    let removed = prop::collection::vec((0u16..600, Just(None)), 0..400);
    let wave = (added, removed).prop_map(|(added, removed)| [added, removed]);
    let waves = prop::collection::vec(wave, 1..6);
    waves.prop_map(|waves| waves.into_iter().flatten().collect())
}

fn assert_proofs(tree: &Tree, model: &Model, numbers: impl Iterator<Item = u16>) {
    let (root, entries) = (model_root(model), entries(model));
    for number in numbers {
        let (key, proof) = (key(number), tree.prove(&key(number)).unwrap());
        assert_eq!(proof, proof_by_definition(&entries, &Hash::of(&key)));
        let found = tree.get(&Hash::of(&key)).unwrap();
        match model.get(&number) {
            Some(value) => {
                assert_eq!(proof.verify_value(&key, &[*value], &root), Ok(()));
                proof.verify_absence(&key, &root).unwrap_err();
                assert_eq!(found, Some(Hash::of(&[*value])));
            }
            None => {
                assert_eq!(proof.verify_absence(&key, &root), Ok(()));
                proof.verify_value(&key, &[0], &root).unwrap_err();
                assert_eq!(found, None);
            }
        }
    }
}

/// The store with the state of a model.
fn stored(model: &Model) -> MemoryKv {
    let kv = MemoryKv::new();
    let mut batch = WriteBatch::new();
    for (number, value) in model {
        batch.put(Cf::State, key(*number).to_vec(), vec![*value]);
    }
    kv.write(batch, Durability::Synced).unwrap();
    kv
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_root_is_that_of_the_definition(blocks in prop_oneof![blocks(), waves()]) {
        let dir = TempDir::new().unwrap();
        let mut trees = trees(dir.path());
        let mut model = Model::new();
        for block in blocks {
            apply(&mut model, &block);
            let expected = model_root(&model);
            for tree in &mut trees {
                let changes = changes(&block);
                // What was read ahead makes no difference.
                let fetched = tree.fetch(&changes).unwrap();
                prop_assert_eq!(tree.update(&changes, fetched).unwrap(), expected);
                prop_assert_eq!(tree.root(), expected);
                prop_assert_eq!(tree.len(), model.len());
            }
            let entries = entries(&model).into_iter();
            prop_assert_eq!(Tree::of(entries.rev()).unwrap().root(), expected);
        }
    }

    #[test]
    fn every_key_is_proven_present_or_absent(blocks in prop_oneof![blocks(), waves()]) {
        let dir = TempDir::new().unwrap();
        let mut trees = trees(dir.path());
        let mut model = Model::new();
        for block in &blocks {
            apply(&mut model, block);
            for tree in &mut trees {
                update(tree, &changes(block));
            }
        }
        for tree in &trees {
            assert_proofs(tree, &model, (0..620).step_by(7));
        }
    }

    /// A restart makes the tree of what is stored, and goes on from it.
    #[test]
    fn a_tree_of_the_stored_state_is_the_same(blocks in waves(), more in waves()) {
        let dir = TempDir::new().unwrap();
        let mut model = Model::new();
        blocks.iter().for_each(|block| apply(&mut model, block));
        let kv = stored(&model);
        for empty in trees(dir.path()) {
            let mut model = model.clone();
            let mut tree = empty.load(&kv).unwrap();
            prop_assert_eq!(tree.root(), model_root(&model));
            prop_assert_eq!(tree.len(), model.len());
            assert_proofs(&tree, &model, (0..620).step_by(11));
            for block in &more {
                apply(&mut model, block);
                prop_assert_eq!(update(&mut tree, &changes(block)), model_root(&model));
            }
            assert_proofs(&tree, &model, (0..620).step_by(11));
            prop_assert!(tree.empty_like().is_empty());
        }
    }

    #[test]
    fn the_order_and_grouping_of_changes_do_not_matter(
        keys in prop::collection::btree_map(any::<u16>(), any::<u8>(), 0..100),
        seed in any::<prop::sample::Index>(),
    ) {
        let all: Vec<_> = keys.iter().map(|(k, v)| (*k, Some(*v))).collect();
        let dir = TempDir::new().unwrap();
        for mut single in trees(dir.path()) {
            let mut whole = Tree::new();
            update(&mut whole, &changes(&all));
            let mut turned = all.clone();
            turned.rotate_left(if all.is_empty() { 0 } else { seed.index(all.len()) });
            for change in &turned {
                update(&mut single, &changes(&[*change]));
            }
            prop_assert_eq!(whole.root(), single.root());
            let deleted: Vec<_> = turned.iter().map(|(key, _)| (*key, None)).collect();
            update(&mut single, &changes(&deleted));
            prop_assert_eq!(single.root(), sparse::EMPTY);
            prop_assert!(single.is_empty());
        }
    }
}

/// Digests that share all bits but the last: the deepest tree there can be.
#[test]
fn keys_that_differ_in_the_last_bit_only() {
    let (mut low, mut high) = ([0xa5; 32], [0xa5; 32]);
    (low[31], high[31]) = (0xa4, 0xa5);
    let (low, high) = (Hash(low), Hash(high));
    let value = Hash([1; 32]);
    let dir = TempDir::new().unwrap();
    for mut tree in trees(dir.path()) {
        let mut update = |changes: &[(Hash, Option<Hash>)]| {
            let changes = changes.iter().copied().collect();
            tree.update(&changes, FetchedPages::default()).unwrap()
        };
        let root = update(&[(low, Some(value)), (high, Some(value))]);
        assert_eq!(root, definition(&[(low, value), (high, value)], 0));
        assert_eq!(update(&[(high, Some(value))]), root);
        let root = update(&[(high, None)]);
        assert_eq!(root, sparse::leaf(&low, &value));
        assert_eq!(update(&[(low, None), (high, None)]), sparse::EMPTY);
    }
}

/// Digests that somebody searched for, so that all stand below one place far down.
#[test]
fn many_keys_below_one_deep_place() {
    let deep = |number: u8| {
        let mut key = [0x5a; 32];
        key[31] = number;
        (Hash(key), Hash([number; 32]))
    };
    let all: Vec<_> = (0..=255).map(deep).collect();
    let dir = TempDir::new().unwrap();
    for mut tree in trees(dir.path()) {
        let added = all.iter().map(|(key, value)| (*key, Some(*value)));
        let root = update(&mut tree, &added.collect());
        assert_eq!(root, definition(&all, 0));
        let removed = all[3..].iter().map(|(key, _)| (*key, None));
        let root = update(&mut tree, &removed.collect());
        assert_eq!(root, definition(&all[..3], 0));
    }
}

#[test]
fn of_several_changes_of_a_key_the_last_counts() {
    let mut tree = Tree::default();
    let several = changes(&[(1, Some(1)), (2, Some(2)), (1, None), (2, Some(3))]);
    let root = update(&mut tree, &several);
    assert_eq!(root, model_root(&Model::from([(2, 3)])));
    let several = changes(&[(2, None), (2, Some(4)), (7, None)]);
    let root = update(&mut tree, &several);
    assert_eq!(root, model_root(&Model::from([(2, 4)])));
}

fn fill(tree: &mut Tree, value: Option<u8>) -> Hash {
    let block: Block = (0..2_000).map(|key| (key, value)).collect();
    update(tree, &changes(&block))
}

#[test]
fn freed_places_are_used_again() {
    let dir = TempDir::new().unwrap();
    for mut tree in trees(dir.path()) {
        let root = fill(&mut tree, Some(1));
        fill(&mut tree, None);
        let (reserved, on_disk) = (tree.memory_bytes(), file_bytes(dir.path()));
        for _ in 0..20 {
            assert_eq!(fill(&mut tree, Some(1)), root);
            assert_eq!(fill(&mut tree, None), sparse::EMPTY);
        }
        let bytes = tree.memory_bytes();
        assert!(bytes <= reserved * 2, "{bytes} after {reserved}");
        let bytes = file_bytes(dir.path());
        assert!(bytes <= on_disk * 2, "{bytes} after {on_disk} in the file");
    }
}

/// Ten times as many keys take little more memory, however they came.
#[test]
fn memory_is_bounded() {
    let dir = TempDir::new().unwrap();
    let memory_of = |keys: u32, at_once: u32| {
        let mut tree = Tree::on_disk(dir.path(), 1_000);
        for first in (0..keys).step_by(at_once as usize) {
            let new = first..first + at_once;
            let new = new.map(|n| (Hash::of(&n.to_be_bytes()), Some(Hash([1; 32]))));
            update(&mut tree, &new.collect());
        }
        assert_eq!(tree.len(), keys as usize);
        tree.memory_bytes() as f64
    };
    let few = memory_of(5_000, 500);
    for at_once in [100, 500] {
        let each = (memory_of(50_000, at_once) - few) / 45_000.0;
        assert!(each < 20.0, "{each} bytes a key");
    }
}

/// A state that two threads read, with tables before, at and after the place where the second one
/// begins, and keys of every first byte.
#[test]
fn a_large_stored_state_makes_the_same_tree() {
    let (kv, dir) = (MemoryKv::new(), TempDir::new().unwrap());
    let mut batch = WriteBatch::new();
    let mut expected = Vec::new();
    for number in 0..80_000u32 {
        // The first table is larger than one thread reads alone.
        let table = if number < 70_000 { 0 } else { number as u8 };
        let key = [&[table], &number.to_be_bytes()[..]].concat();
        let value = number.to_le_bytes().to_vec();
        expected.push((Hash::of(&key), Hash::of(&value)));
        batch.put(Cf::State, key, value);
    }
    kv.write(batch, Durability::Synced).unwrap();
    let root = Tree::of(expected).unwrap().root();
    for empty in [Tree::new(), Tree::on_disk(dir.path(), 1_000)] {
        let tree = empty.load(&kv).unwrap();
        assert_eq!((tree.root(), tree.len()), (root, 80_000));
    }
}

/// The files without a name in a folder that this process has open.
fn open_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let numbers = fs::read_dir("/proc/self/fd").unwrap();
    let paths = numbers.map(|entry| entry.unwrap().path());
    let is_here =
        |path: &std::path::PathBuf| fs::read_link(path).is_ok_and(|target| target.starts_with(dir));
    paths.filter(is_here).collect()
}

fn file_bytes(dir: &Path) -> u64 {
    let sizes = open_files(dir).into_iter();
    sizes.map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// A byte of the file that is not what was written is noticed, for proofs and for changes, and the
/// tree goes no further.
#[test]
fn a_changed_byte_on_disk_is_noticed() {
    let dir = TempDir::new().unwrap();
    let mut tree = Tree::on_disk(dir.path(), 0);
    fill(&mut tree, Some(1));
    let files = open_files(dir.path());
    assert_eq!(files.len(), 1);
    let file = OpenOptions::new().write(true).open(&files[0]).unwrap();
    let bytes = fs::read(&files[0]).unwrap();
    // Of keys and values, in whatever page they are.
    let wrong: Vec<_> = bytes.iter().map(|byte| byte ^ 1).collect();
    file.write_all_at(&wrong, 0).unwrap();
    let failed = |result: Result<_, StateError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, StateError::Mismatch { .. }), "{error:?}");
    };
    failed(tree.prove(&key(7)).map(drop));
    failed(tree.get(&Hash::of(&key(8))).map(drop));
    let before = tree.root();
    let one = changes(&[(9, Some(2))]);
    let fetched = tree.fetch(&one).unwrap();
    failed(tree.update(&one, fetched).map(drop));
    file.write_all_at(&bytes, 0).unwrap();
    for incomplete in [
        tree.prove(&key(7)).map(drop),
        tree.update(&one, FetchedPages::default()).map(drop),
    ] {
        assert!(matches!(incomplete, Err(StateError::TreeIncomplete)));
    }
    assert_eq!(tree.root(), before);
}

/// Keys in another order, twice, or of another page would make a tree that is deeper than any key.
#[test]
fn leaves_that_are_no_page_are_refused() {
    let dir = TempDir::new().unwrap();
    let mut tree = Tree::on_disk(dir.path(), 0);
    fill(&mut tree, Some(1));
    let files = open_files(dir.path());
    let file = OpenOptions::new().write(true).open(&files[0]).unwrap();
    let bytes = fs::read(&files[0]).unwrap();
    let same = bytes[..64].repeat(bytes.len() / 64);
    let turned: Vec<_> = bytes.chunks(64).rev().flatten().copied().collect();
    for wrong in [same, turned, Vec::from([0; 64]).repeat(bytes.len() / 64)] {
        file.write_all_at(&wrong, 0).unwrap();
        for number in 0..200 {
            let proof = tree.prove(&key(number));
            assert!(matches!(proof, Err(StateError::Mismatch { .. })));
        }
    }
}

/// A proof that was begun is of the tree as it was then, or is refused: other pages may have taken
/// the places of those that it still has to read.
#[test]
fn a_begun_proof_is_of_the_tree_in_which_it_began() {
    const KEYS: u16 = 2_000;
    for changed in [10, KEYS] {
        let dir = TempDir::new().unwrap();
        let mut tree = Tree::on_disk(dir.path(), 0);
        let all = |value: u8, count: u16| {
            let block: Block = (0..count).map(|number| (number, Some(value))).collect();
            changes(&block)
        };
        tree.update(&all(1, KEYS), FetchedPages::default()).unwrap();
        let root = tree.root();
        let begun = (0..KEYS).map(|number| (number, tree.begin_proof(&key(number)).unwrap()));
        let begun: Vec<_> = begun.collect();
        tree.update(&all(2, changed), FetchedPages::default())
            .unwrap();
        let (mut held, mut refused) = (0, 0);
        for (number, begun) in begun {
            match begun.complete() {
                Ok(proof) => {
                    proof.verify_value(&key(number), &[1], &root).unwrap();
                    held += 1;
                }
                Err(StateError::Mismatch { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0, "{held} proofs hold, {refused} do not");
        assert_eq!(
            held > 0,
            changed < KEYS,
            "{held} proofs hold, {refused} do not"
        );
        let new = tree.prove(&key(0)).unwrap();
        new.verify_value(&key(0), &[2], &tree.root()).unwrap();
    }
}
