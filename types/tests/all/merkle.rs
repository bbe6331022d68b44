//! The trees against their definitions, and their verifiers against everything else.

use lamplighter_types::Hash;
use lamplighter_types::merkle::{History, ListTree, MerkleError, OtherLeaf, StateProof};
use lamplighter_types::merkle::{history, list, sparse};
use proptest::prelude::*;

use crate::fixture::{State, digests, sparse_path, sparse_root};

/// RFC 9162 section 2.1.1, word by word.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => Hash::of(b""),
        1 => leaves[0],
        n => {
            let mut k = 1;
            while k * 2 < n {
                k *= 2;
            }
            let both = [naive_root(&leaves[..k]).0, naive_root(&leaves[k..]).0].concat();
            Hash::of(&[&[1], &both[..]].concat())
        }
    }
}

fn items(n: u64) -> Vec<[u8; 8]> {
    (0..n).map(u64::to_be_bytes).collect()
}

fn leaves(n: u64) -> Vec<Hash> {
    items(n)
        .iter()
        .map(|item| Hash::of(&[&[0], &item[..]].concat()))
        .collect()
}

/// A stored history of `n` headers, whose hashes are `Hash([i; 32])`.
struct Stored {
    history: History,
    nodes: Vec<Vec<Hash>>,
    roots: Vec<Hash>,
}

impl Stored {
    fn new(n: u64) -> Self {
        let mut history = History::new();
        let (mut nodes, mut roots) = (vec![Vec::new(); 64], vec![history.root()]);
        for i in 0..n {
            for node in history.append(&header(i)) {
                let level: &mut Vec<Hash> = &mut nodes[usize::from(node.level)];
                assert_eq!(level.len() as u64, node.index);
                level.push(node.hash);
            }
            roots.push(history.root());
        }
        Self {
            history,
            nodes,
            roots,
        }
    }

    fn read(&self, level: u8, index: u64) -> Result<Hash, String> {
        let node = self.nodes[usize::from(level)].get(index as usize);
        node.copied()
            .ok_or_else(|| format!("no node {level} {index}"))
    }
}

fn header(i: u64) -> Hash {
    Hash([i as u8; 32])
}

#[test]
fn roots_are_those_of_the_definition() {
    for n in 0..140 {
        let root = naive_root(&leaves(n));
        assert_eq!(list::root(items(n)), root, "{n} items");
        assert_eq!(list::block_root(items(n)), list::counted(n, &root));
        assert_eq!(
            ListTree::new(items(n)).block_root(),
            list::counted(n, &root)
        );
    }
    let stored = Stored::new(140);
    let leaves: Vec<_> = (0..140).map(|i| list::leaf(&header(i).0)).collect();
    for (n, root) in stored.roots.iter().enumerate() {
        assert_eq!(*root, naive_root(&leaves[..n]), "{n} headers");
        let loaded = History::load(n as u64, |level, index| stored.read(level, index)).unwrap();
        assert_eq!(loaded.root(), *root);
    }
    let loaded = History::load(140, |level, index| stored.read(level, index)).unwrap();
    assert_eq!(loaded, stored.history);
}

#[test]
fn the_empty_list_has_the_hash_of_nothing() {
    let blake3_of_nothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(list::empty_root().to_string(), blake3_of_nothing);
}

#[test]
fn every_item_is_proven_at_its_place_and_nowhere_else() {
    for n in 1..34 {
        let tree = ListTree::new(items(n));
        let root = tree.block_root();
        for index in 0..n {
            let proof = tree.prove(index).unwrap();
            assert_eq!(
                proof.verify(&index.to_be_bytes(), &root),
                Ok(()),
                "{index} of {n}"
            );
            assert!(proof.verify(&(index + 1).to_be_bytes(), &root).is_err());
            for other in 0..n + 3 {
                let mut moved = proof.clone();
                moved.index = other;
                assert_eq!(
                    moved.verify(&index.to_be_bytes(), &root).is_ok(),
                    other == index
                );
                let mut resized = proof.clone();
                resized.count = other;
                assert_eq!(
                    resized.verify(&index.to_be_bytes(), &root).is_ok(),
                    other == n
                );
            }
            let mut longer = proof.clone();
            longer.path.push(Hash::ZERO);
            assert!(longer.verify(&index.to_be_bytes(), &root).is_err());
            let mut shorter = proof;
            if shorter.path.pop().is_some() {
                assert!(shorter.verify(&index.to_be_bytes(), &root).is_err());
            }
        }
        assert_eq!(tree.prove(n), None);
    }
}

#[test]
fn an_inner_node_is_no_item() {
    let tree = ListTree::new(items(4));
    let leaves = leaves(4);
    let inner = [&[1], &leaves[0].0[..], &leaves[1].0].concat();
    let proof = tree.prove(2).unwrap();
    let mut forged = tree.prove(0).unwrap();
    forged.path = vec![proof.path[1]];
    forged.count = 2;
    assert!(forged.verify(&inner[1..], &tree.block_root()).is_err());
}

#[test]
fn headers_are_proven_under_every_head_above() {
    let stored = Stored::new(70);
    for size in 1..=70 {
        for height in 0..size {
            let path = history::inclusion_path(height, size, |l, i| stored.read(l, i)).unwrap();
            let root = &stored.roots[size as usize];
            assert_eq!(
                history::verify(&header(height), height, size, &path, root),
                Ok(())
            );
            assert!(history::verify(&header(height + 1), height, size, &path, root).is_err());
            assert!(history::verify(&header(height), size, size, &path, root).is_err());
        }
        let none = history::inclusion_path(size, size, |l, i| stored.read(l, i)).unwrap();
        assert!(none.is_empty());
    }
}

#[test]
fn consistency_is_proven_between_all_sizes() {
    let stored = Stored::new(70);
    for new in 0..=70 {
        for old in 0..=new {
            let path = history::consistency_path(old, new, |l, i| stored.read(l, i)).unwrap();
            let (old_root, new_root) = (&stored.roots[old as usize], &stored.roots[new as usize]);
            let verdict = list::verify_consistency(old, old_root, new, new_root, &path);
            assert_eq!(verdict, Ok(()), "{old} to {new}");
            if old != new && old != 0 {
                let forged = list::verify_consistency(old, &Hash::ZERO, new, new_root, &path);
                assert_eq!(forged, Err(MerkleError::Root));
                let forged = list::verify_consistency(old, old_root, new, &Hash::ZERO, &path);
                assert_eq!(forged, Err(MerkleError::Root));
                for at in 0..path.len() {
                    let mut other = path.clone();
                    other[at].0[5] ^= 1;
                    assert!(
                        list::verify_consistency(old, old_root, new, new_root, &other).is_err()
                    );
                }
                let shorter = &path[..path.len() - 1];
                assert!(list::verify_consistency(old, old_root, new, new_root, shorter).is_err());
            }
            let longer = [&path[..], &[Hash::ZERO]].concat();
            assert!(list::verify_consistency(old, old_root, new, new_root, &longer).is_err());
        }
    }
    let sizes = list::verify_consistency(2, &stored.roots[2], 1, &stored.roots[1], &[]);
    assert_eq!(sizes, Err(MerkleError::Sizes { old: 2, new: 1 }));
    let zero = list::verify_consistency(0, &stored.roots[1], 1, &stored.roots[1], &[]);
    assert_eq!(zero, Err(MerkleError::Root));
}

fn state(keys: &[u16]) -> State {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys.iter()
        .map(|k| (k.to_be_bytes().to_vec(), vec![*k as u8; 5]))
        .collect()
}

fn absent_key(proof: &StateProof) -> OtherLeaf {
    let at = Hash([proof.siblings.len() as u8; 32]);
    OtherLeaf { key: at, value: at }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn state_paths_prove_what_is_there_and_what_is_not(
        keys in prop::collection::vec(0u16..500, 0..60),
        asked in 0u16..500,
    ) {
        let state = state(&keys);
        let root = sparse_root(&digests(&state), 0);
        let key = asked.to_be_bytes();
        let proof = sparse_path(&state, &key);
        match state.iter().find(|(k, _)| *k == key) {
            Some((_, value)) => {
                prop_assert_eq!(proof.verify_value(&key, value, &root), Ok(()));
                prop_assert!(proof.verify_value(&key, b"else", &root).is_err());
                prop_assert!(proof.verify_absence(&key, &root).is_err());
                // The key's own leaf shown as if it were another one.
                let itself = OtherLeaf { key: Hash::of(&key), value: Hash::of(value) };
                let forged = StateProof { other: Some(itself), ..proof.clone() };
                let refused = forged.verify_absence(&key, &root);
                prop_assert_eq!(refused, Err(MerkleError::OtherLeaf));
            }
            None => {
                prop_assert_eq!(proof.verify_absence(&key, &root), Ok(()));
                prop_assert!(proof.verify_value(&key, b"value", &root).is_err());
                let forged = StateProof { other: Some(absent_key(&proof)), ..proof.clone() };
                prop_assert!(forged.verify_absence(&key, &root).is_err());
            }
        }
        for at in 0..proof.siblings.len() {
            let mut other = proof.clone();
            other.siblings[at].0[9] ^= 4;
            prop_assert!(other.verify_absence(&key, &root).is_err());
            prop_assert!(other.verify_value(&key, &[asked as u8; 5], &root).is_err());
        }
    }

    /// The neighbour of an absent key must lie on that key's path, down to where it is shown.
    #[test]
    fn a_leaf_beside_the_path_proves_nothing(keys in prop::collection::vec(0u16..500, 2..60)) {
        let state = state(&keys);
        let root = sparse_root(&digests(&state), 0);
        for (key, value) in &state {
            let proof = sparse_path(&state, key);
            let itself = OtherLeaf { key: Hash::of(key), value: Hash::of(value) };
            let forged = StateProof { other: Some(itself), siblings: proof.siblings.clone() };
            for (victim, _) in &state {
                prop_assert!(forged.verify_absence(victim, &root).is_err());
            }
        }
    }

    #[test]
    fn verifiers_never_panic(
        index in any::<u64>(), size in any::<u64>(), small in 0u64..70,
        path in prop::collection::vec(any::<u8>().prop_map(|b| Hash([b; 32])), 0..300),
        root in any::<u8>().prop_map(|b| Hash([b; 32])),
        other in any::<bool>(),
    ) {
        let near_the_end = (size.wrapping_sub(small), size);
        for (index, size) in [(index, size), (small, size), near_the_end, (small, small + 1)] {
            prop_assert!(list::verify_inclusion(&root, index, size, &path, &root).is_err()
                || path.is_empty());
            let verdict = list::verify_consistency(index, &root, size, &root, &path);
            prop_assert!(verdict.is_err() || index == size && path.is_empty());
        }
        let leaf = other.then_some(OtherLeaf { key: root, value: root });
        let proof = StateProof { siblings: path.clone(), other: leaf };
        prop_assert!(proof.verify_value(b"k", b"v", &root).is_err());
        prop_assert!(proof.verify_absence(b"k", &root).is_err() || path.is_empty());
    }
}

#[test]
fn paths_of_the_greatest_height_are_taken_and_longer_ones_refused() {
    let deep = StateProof {
        siblings: vec![Hash::ZERO; sparse::PATH_MAX + 1],
        other: None,
    };
    let refused = deep.verify_absence(b"key", &Hash::ZERO);
    assert_eq!(refused, Err(MerkleError::Length { got: 257 }));
    let path = vec![Hash::ZERO; list::PATH_MAX];
    let leaf = list::leaf(b"x");
    let root = path
        .iter()
        .fold(leaf, |hash, sibling| list::node(&hash, sibling));
    assert_eq!(
        list::verify_inclusion(&leaf, 0, u64::MAX, &path, &root),
        Ok(())
    );
    let longer = [&path[..], &[Hash::ZERO]].concat();
    let refused = list::verify_inclusion(&leaf, 0, u64::MAX, &longer, &root);
    assert_eq!(refused, Err(MerkleError::Length { got: 65 }));
}
