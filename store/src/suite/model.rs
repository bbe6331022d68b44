//! Random operations, compared with plain maps after each step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::entries;
use crate::{Cf, Direction, Durability, KeyRange, Kv, KvView, Op, WriteBatch};

/// The number of random runs; opening a store on disk takes some milliseconds.
const CASES: u32 = 24;

type Model = BTreeMap<(Cf, Bytes), Bytes>;

#[derive(Clone, Debug)]
enum Operation {
    Write(Vec<Op>, Durability),
    View,
    Reopen,
}

pub(super) fn run(open: &impl Fn(&Path) -> Arc<dyn Kv>) {
    println!("store suite: random operations against a model");
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = prop::collection::vec(step(), 1..40);
    let outcome = TestRunner::new(config).run(&steps, |steps| {
        play(open, steps);
        Ok(())
    });
    outcome.expect("the store agrees with the model");
}

fn cf() -> impl Strategy<Value = Cf> {
    prop::sample::select(vec![Cf::State, Cf::Index, Cf::Log])
}

/// Few different keys, so that operations meet; the extremes of the byte order are among them.
fn key() -> impl Strategy<Value = Bytes> {
    let byte = prop::sample::select(vec![0u8, 1, 0xfe, 0xff]);
    prop::collection::vec(byte, 0..4).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        (key(), key()).prop_map(|(start, end)| KeyRange::between(start, end)),
        key().prop_map(KeyRange::prefix),
        key().prop_map(KeyRange::starting_at),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop::collection::vec(any::<u8>(), 0..8).prop_map(Bytes::from);
    prop_oneof![
        6 => (cf(), key(), value).prop_map(|(cf, key, value)| Op::Put { cf, key, value }),
        2 => (cf(), key()).prop_map(|(cf, key)| Op::Delete { cf, key }),
        1 => (cf(), range()).prop_map(|(cf, range)| Op::DeleteRange { cf, range }),
    ]
}

fn step() -> impl Strategy<Value = Operation> {
    let durability = prop_oneof![Just(Durability::Synced), Just(Durability::Unsynced)];
    prop_oneof![
        12 => (prop::collection::vec(op(), 0..8), durability)
            .prop_map(|(ops, durability)| Operation::Write(ops, durability)),
        2 => Just(Operation::View),
        1 => Just(Operation::Reopen),
    ]
}

fn play(open: &impl Fn(&Path) -> Arc<dyn Kv>, steps: Vec<Operation>) {
    let parent = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = parent.path().join("kv");
    let mut kv = open(&dir);
    let mut model = Model::new();
    let mut views: Vec<(Arc<dyn KvView>, Model)> = Vec::new();
    for step in steps {
        match step {
            Operation::Write(ops, durability) => {
                ops.iter().for_each(|op| apply(&mut model, op));
                kv.write(batch(ops), durability).expect("write succeeds");
            }
            Operation::View => views.push((kv.view().expect("view opens"), model.clone())),
            Operation::Reopen => {
                check_views(&mut views);
                drop(kv);
                kv = open(&dir);
            }
        }
        compare(&*kv, &model);
    }
    check_views(&mut views);
}

fn check_views(views: &mut Vec<(Arc<dyn KvView>, Model)>) {
    for (view, model) in views.drain(..) {
        compare(&*view, &model);
    }
}

fn batch(ops: Vec<Op>) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for op in ops {
        match op {
            Op::Put { cf, key, value } => batch.put(cf, key, value),
            Op::Delete { cf, key } => batch.delete(cf, key),
            Op::DeleteRange { cf, range } => batch.delete_range(cf, range),
        }
    }
    batch
}

fn apply(model: &mut Model, op: &Op) {
    match op {
        Op::Put { cf, key, value } => {
            model.insert((*cf, key.clone()), value.clone());
        }
        Op::Delete { cf, key } => {
            model.remove(&(*cf, key.clone()));
        }
        Op::DeleteRange { cf, range } => {
            model.retain(|(at, key), _| at != cf || !range.contains(key));
        }
    }
}

fn compare(view: &dyn KvView, model: &Model) {
    for cf in [Cf::State, Cf::Index, Cf::Log] {
        let expected: Vec<_> = model
            .iter()
            .filter(|((at, _), _)| *at == cf)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        let forward = entries(view, cf, KeyRange::all(), Direction::Forward);
        assert_eq!(forward, expected);
        let mut backward = entries(view, cf, KeyRange::all(), Direction::Backward);
        backward.reverse();
        assert_eq!(backward, expected);
        for (key, value) in &expected {
            let found = view.get(cf, key).expect("get succeeds");
            assert_eq!(found.as_ref(), Some(value));
        }
        let all: Vec<_> = expected.iter().map(|(key, _)| key.to_vec()).collect();
        let found = super::values(view, cf, &all);
        assert!(
            found.iter().eq(expected
                .iter()
                .map(|(_, value)| Some(value.clone()))
                .collect::<Vec<_>>()
                .iter())
        );
    }
}
