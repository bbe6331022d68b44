//! Golden scripts: each command of `scripts/NAME.script` is followed by its output, indented.
//! `UPDATE_GOLDEN=1` rewrites the outputs.
//!
//! | command | meaning |
//! |---|---|
//! | `start` | the node starts on a state of which every change is certified |
//! | `restart` | it starts again; `certifying=` and `before=` as the store has them |
//! | `update` | a block or a certificate came |
//! | `raft` | prints the changes that Raft's members need |
//! | `release` | releases the departed, given Raft's members |
//! | `reach` | prints the nodes that may connect |
//!
//! Arguments are lists of node ids: `validators=1,2 observers=5`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use lamplighter_types::{Id, Observer, PublicKey, Validator, ValidatorSet};

use super::{Membership, NamedNodes, RaftMembers};

fn account(node: u64) -> Id {
    Id::new(format!("node-{node}")).unwrap()
}

fn set(nodes: &[u64]) -> Arc<ValidatorSet> {
    let validators = nodes.iter().map(|node| Validator {
        node: *node,
        account: account(*node),
        key: PublicKey([*node as u8; 32]),
        address: format!("10.0.0.{node}:7400"),
    });
    let validators = validators.collect();
    Arc::new(ValidatorSet { validators })
}

fn observer(node: &u64) -> Observer {
    Observer {
        node: *node,
        account: account(*node),
        key: PublicKey([*node as u8; 32]),
        address: format!("10.0.0.{node}:7400"),
    }
}

/// The arguments of a command: lists of node ids by name.
struct Arguments(BTreeMap<String, Vec<u64>>);

impl Arguments {
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let lists = words.map(|word| {
            let (name, list) = word.split_once('=').unwrap();
            let ids = list.split(',').filter(|id| !id.is_empty());
            (name.to_owned(), ids.map(|id| id.parse().unwrap()).collect())
        });
        Self(lists.collect())
    }

    fn get(&self, name: &str) -> Option<&[u64]> {
        self.0.get(name).map(Vec::as_slice)
    }

    fn set(&self, name: &str) -> Option<Arc<ValidatorSet>> {
        self.get(name).map(set)
    }

    fn named(&self) -> Option<NamedNodes> {
        let observers = self.get("observers").unwrap_or_default();
        Some(NamedNodes {
            validators: self.set("validators")?,
            observers: observers.iter().map(observer).collect(),
        })
    }

    fn raft(&self) -> RaftMembers {
        let ids = |name| -> BTreeSet<u64> {
            let list: &[u64] = self.get(name).unwrap_or_default();
            list.iter().copied().collect()
        };
        RaftMembers {
            voters: ids("voters"),
            learners: ids("learners"),
        }
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.join(",")
    }
}

fn show(membership: &Membership) -> String {
    let Membership {
        named,
        voters,
        departing,
    } = membership;
    format!(
        "validators {} voters {} observers {} departing {}",
        list(named.validators.validators.iter().map(|v| v.node)),
        list(voters.validators.iter().map(|v| v.node)),
        list(named.observers.iter().map(|o| o.node)),
        list(departing.iter().map(|v| v.node)),
    )
}

/// Carries out one command and returns its output.
fn run(membership: &mut Option<Membership>, command: &str) -> String {
    let mut words = command.split_whitespace();
    let verb = words.next().unwrap();
    let arguments = Arguments::parse(words);
    if verb == "start" {
        let started = Membership::certified(arguments.named().unwrap());
        return show(membership.insert(started));
    }
    if verb == "restart" {
        let named = arguments.named().unwrap();
        let before = arguments.set("before");
        let started = Membership::at_start(named, arguments.set("certifying"), before.as_deref());
        return show(membership.insert(started));
    }
    let membership = membership.as_mut().unwrap();
    match verb {
        "update" => {
            let changed = membership.update(arguments.named(), arguments.set("certifying"));
            format!("changed {changed} {}", show(membership))
        }
        "release" => {
            let released = membership.release(&arguments.raft());
            format!("released {released} {}", show(membership))
        }
        "raft" => {
            let changes = membership.raft_changes(&arguments.raft());
            let voters = changes.voters.map_or("same".to_owned(), list);
            format!(
                "add {} voters {voters} remove {}",
                list(changes.add_learners),
                list(changes.remove_learners)
            )
        }
        "reach" => list(membership.all().map(|(node, ..)| node)),
        other => panic!("no command {other}"),
    }
}

#[test]
fn every_script_prints_its_golden_output() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/membership/scripts");
    let mut scripts = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (mut membership, mut output) = (None, String::new());
        for line in text.lines().filter(|line| !line.starts_with("    ")) {
            output += &format!("{line}\n");
            if !line.is_empty() && !line.starts_with('#') {
                output += &format!("    {}\n", run(&mut membership, line));
            }
        }
        if std::env::var("UPDATE_GOLDEN").is_ok() {
            fs::write(&path, &output).unwrap();
        }
        assert_eq!(output, fs::read_to_string(&path).unwrap(), "{path:?}");
        scripts += 1;
    }
    assert!(scripts >= 4);
}
