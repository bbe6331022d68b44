//! The tree against its definition and against the verifier of its proofs.

use std::collections::BTreeMap;

use lamplighter_state::tree::Tree;
use lamplighter_types::Hash;
use lamplighter_types::merkle::sparse;
use proptest::prelude::*;

type Model = BTreeMap<u16, u8>;

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

fn key(number: u16) -> [u8; 2] {
    number.to_be_bytes()
}

fn digest(number: u16, value: u8) -> (Hash, Hash) {
    (Hash::of(&key(number)), Hash::of(&[value]))
}

fn model_root(model: &Model) -> Hash {
    let entries: Vec<_> = model.iter().map(|(k, v)| digest(*k, *v)).collect();
    definition(&entries, 0)
}

fn changes(block: &[(u16, Option<u8>)]) -> Vec<(Hash, Option<Hash>)> {
    block
        .iter()
        .map(|(k, v)| (Hash::of(&key(*k)), v.map(|v| Hash::of(&[v]))))
        .collect()
}

fn apply(model: &mut Model, block: &[(u16, Option<u8>)]) {
    for (key, value) in block {
        match value {
            Some(value) => model.insert(*key, *value),
            None => model.remove(key),
        };
    }
}

/// Blocks of changes over few keys, so that many are overwritten and deleted.
fn blocks() -> impl Strategy<Value = Vec<Vec<(u16, Option<u8>)>>> {
    let change = (0u16..150, prop::option::of(any::<u8>()));
    prop::collection::vec(prop::collection::vec(change, 0..40), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_root_is_that_of_the_definition(blocks in blocks()) {
        let (mut tree, mut model) = (Tree::default(), Model::new());
        for block in blocks {
            apply(&mut model, &block);
            let root = tree.update(changes(&block));
            prop_assert_eq!(root, model_root(&model));
            prop_assert_eq!(root, tree.root());
            prop_assert_eq!(tree.len(), model.len());
            let entries = model.iter().map(|(k, v)| digest(*k, *v));
            prop_assert_eq!(Tree::rebuild(entries.rev()).root(), root);
        }
    }

    #[test]
    fn every_key_is_proven_present_or_absent(blocks in blocks()) {
        let (mut tree, mut model) = (Tree::default(), Model::new());
        for block in &blocks {
            apply(&mut model, block);
            tree.update(changes(block));
        }
        let root = tree.root();
        for number in 0..170 {
            let (key, proof) = (key(number), tree.prove(&key(number)));
            match model.get(&number) {
                Some(value) => {
                    prop_assert_eq!(proof.verify_value(&key, &[*value], &root), Ok(()));
                    prop_assert!(proof.verify_absence(&key, &root).is_err());
                    prop_assert_eq!(tree.get(&Hash::of(&key)), Some(Hash::of(&[*value])));
                }
                None => {
                    prop_assert_eq!(proof.verify_absence(&key, &root), Ok(()));
                    prop_assert!(proof.verify_value(&key, &[0], &root).is_err());
                    prop_assert_eq!(tree.get(&Hash::of(&key)), None);
                }
            }
        }
    }

    #[test]
    fn the_order_and_grouping_of_changes_do_not_matter(
        keys in prop::collection::btree_map(any::<u16>(), any::<u8>(), 0..100),
        seed in any::<prop::sample::Index>(),
    ) {
        let all: Vec<_> = keys.iter().map(|(k, v)| (*k, Some(*v))).collect();
        let (mut whole, mut single) = (Tree::default(), Tree::default());
        whole.update(changes(&all));
        let mut turned = all.clone();
        turned.rotate_left(if all.is_empty() { 0 } else { seed.index(all.len()) });
        for change in &turned {
            single.update(changes(&[*change]));
        }
        prop_assert_eq!(whole.root(), single.root());
        let deleted: Vec<_> = turned.iter().map(|(key, _)| (*key, None)).collect();
        single.update(changes(&deleted));
        prop_assert_eq!(single.root(), sparse::EMPTY);
        prop_assert!(single.is_empty());
    }
}

/// Digests that share all bits but the last: the deepest tree there can be.
#[test]
fn keys_that_differ_in_the_last_bit_only() {
    let (mut low, mut high) = ([0xa5; 32], [0xa5; 32]);
    (low[31], high[31]) = (0xa4, 0xa5);
    let (low, high) = (Hash(low), Hash(high));
    let value = Hash([1; 32]);
    let mut tree = Tree::default();
    let root = tree.update([(low, Some(value)), (high, Some(value))]);
    assert_eq!(root, definition(&[(low, value), (high, value)], 0));
    assert_eq!(tree.get(&high), Some(value));
    let root = tree.update([(high, None)]);
    assert_eq!(root, sparse::leaf(&low, &value));
    assert_eq!(tree.update([(low, None), (high, None)]), sparse::EMPTY);
}

#[test]
fn of_several_changes_of_a_key_the_last_counts() {
    let mut tree = Tree::default();
    let root = tree.update(changes(&[
        (1, Some(1)),
        (2, Some(2)),
        (1, None),
        (2, Some(3)),
    ]));
    assert_eq!(root, model_root(&Model::from([(2, 3)])));
    let root = tree.update(changes(&[(2, None), (2, Some(4)), (7, None)]));
    assert_eq!(root, model_root(&Model::from([(2, 4)])));
}

#[test]
fn freed_places_are_used_again() {
    let mut tree = Tree::default();
    let fill = |tree: &mut Tree, value| {
        let block: Vec<_> = (0..2_000).map(|key| (key, value)).collect();
        tree.update(changes(&block))
    };
    let root = fill(&mut tree, Some(1));
    fill(&mut tree, None);
    let reserved = tree.memory_bytes();
    for _ in 0..20 {
        assert_eq!(fill(&mut tree, Some(1)), root);
        assert_eq!(fill(&mut tree, None), sparse::EMPTY);
    }
    assert!(
        tree.memory_bytes() <= reserved * 2,
        "{} after {reserved}",
        tree.memory_bytes()
    );
}
