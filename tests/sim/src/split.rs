//! The end at which people decide: honest nodes hold different contents at one place, and no rule
//! can tell which of them may be certified (ADR 16).
//!
//! It is judged here from the disks and the liars of the run, not by the code that is tested. For a
//! content, let all its honest holders have attested it, the proven liars too, and as many of the
//! unproven ones as there may be; a validator that is silent may be an honest holder, too. If that
//! is a quorum for two contents, each of the two worlds looks the same to every honest node, and in
//! each of them another content is certified.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_consensus::wire::StoredEntry;
use lamplighter_ledger::NodeAlarm;
use lamplighter_store::{Cf, Direction, KeyRange, KvView};

use crate::oracle::{Check, quorum, violation};
use crate::world::World;

type Digest = [u8; 32];

/// The digests of the log on a node's disk.
fn digests(world: &World, node: u64) -> Option<BTreeMap<u64, Digest>> {
    let store = world.with(node, |slot| slot.store.clone());
    let rows = store.scan(Cf::Log, KeyRange::all(), Direction::Forward);
    let digest = |row: Result<(_, bytes::Bytes), _>| {
        let stored = StoredEntry::decode(row.ok()?.1).ok()?;
        Some((stored.entry.log_id.index, stored.digest.0))
    };
    rows.ok()?.map(digest).collect()
}

/// The liars that all honest nodes have evidence of.
fn proven(world: &World) -> BTreeSet<u64> {
    let mut proven: BTreeSet<u64> = (1..=world.plan.nodes).collect();
    for node in world.honest() {
        let alarms = world.up(node).map(|up| up.handle.status().alarms);
        let named = alarms
            .into_iter()
            .flatten()
            .filter_map(|raised| match raised.alarm {
                NodeAlarm::Equivocation { node, .. } => Some(node),
                _ => None,
            });
        let named: BTreeSet<u64> = named.collect();
        proven.retain(|node| named.contains(node));
    }
    proven
}

/// The honest holders of each content at the first index at which honest logs differ; none if they
/// do not differ, or a node has nothing there and still may get one of them.
fn holders(world: &World) -> Option<Vec<usize>> {
    let logs = world.honest().into_iter().map(|node| digests(world, node));
    let logs: Vec<BTreeMap<u64, Digest>> = logs.collect::<Option<_>>()?;
    let indexes: BTreeSet<u64> = logs.iter().flat_map(|log| log.keys().copied()).collect();
    for index in indexes {
        let mut holders: BTreeMap<Digest, usize> = BTreeMap::new();
        for log in &logs {
            if let Some(digest) = log.get(&index) {
                *holders.entry(*digest).or_default() += 1;
            }
        }
        if holders.len() > 1 {
            let all = holders.values().sum::<usize>() == logs.len();
            return all.then(|| holders.into_values().collect());
        }
    }
    None
}

/// True if the honest nodes, alone by now, can't decide whose log goes, whatever their rule is.
pub fn is_undecidable(world: &World) -> bool {
    let n = world.plan.nodes as usize;
    let liars = (n - 1) / 3;
    let proven = proven(world).len();
    let silent = n - world.honest().len() - proven;
    let unproven = liars.saturating_sub(proven);
    let Some(holders) = holders(world) else {
        return false;
    };
    let may_be_certified = |holders: &&usize| {
        // As many others as may lie have signed for this content, too.
        let others = (n - proven - silent - **holders).min(unproven);
        **holders + proven + silent + others >= quorum(n)
    };
    unproven > 0 && holders.iter().filter(may_be_certified).count() > 1
}

/// Checks that every honest node says that the logs differ, and is not ready.
pub fn is_noticed(world: &World) -> Check {
    for node in world.honest() {
        let alarms = world.up(node).map(|up| up.handle.status().alarms);
        let mut alarms = alarms.into_iter().flatten();
        let reports = |alarm: &NodeAlarm| matches!(alarm, NodeAlarm::LogsDiffer { .. });
        if !alarms.any(|raised| reports(&raised.alarm) && raised.alarm.is_unready()) {
            return violation(
                "a split is noticed by every node",
                format!("node {node} has no alarm"),
            );
        }
    }
    Ok(())
}
