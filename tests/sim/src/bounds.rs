//! Bounds of what liars can do to an honest node: its disk, its lists, its view of the others.

use std::fs;

use lamplighter_ledger::{NodeAlarm, Phase, RaisedAlarm};
use lamplighter_store::{Cf, Direction, KeyRange, KvView};

use crate::node;
use crate::oracle::{Check, violation};
use crate::world::{RunningNode, World};

/// Alarms that a node keeps.
const ALARMS_MAX: usize = 64;
/// Log entries beyond those that honest nodes have.
const ENTRIES_MAX: u64 = 500;
/// Bytes of an image that is being received; an honest one has about 300 KiB.
const INCOMING_BYTES_MAX: u64 = 8 << 20;
/// Transactions that wait for a block; the clients have fewer in flight.
const PENDING_MAX: usize = 1_000;
/// Blocks by which reports of others may be ahead of the checks of this run.
const HEIGHTS_AHEAD: u64 = 2;

/// Checks an honest node of a run with liars.
pub fn check(world: &World, node: u64, up: &RunningNode) -> Check {
    if !world.liars.exist() || world.liars.is_liar(node) {
        return Ok(());
    }
    accusations(world, node, up)?;
    view(world, node, up)?;
    let store = world.with(node, |slot| slot.store.clone());
    let log = store.scan(Cf::Log, KeyRange::all(), Direction::Backward);
    let entries = log.map_or(0, Iterator::count) as u64;
    let committed = world.oracle().committed().map_or(0, |place| place.2);
    let incoming = incoming_bytes(world, node);
    let pending = up.handle.status().pending;
    world.measures.peak("log entries of a node", entries);
    world
        .measures
        .peak("KiB of an image on its way", incoming >> 10);
    if entries > committed + ENTRIES_MAX || incoming > INCOMING_BYTES_MAX || pending > PENDING_MAX {
        return violation(
            "a liar does not fill an honest node",
            format!(
                "node {node}: {entries} entries, {committed} committed, {incoming} bytes of an \
                 image, {pending} transactions"
            ),
        );
    }
    Ok(())
}

fn incoming_bytes(world: &World, node: u64) -> u64 {
    let snapshots = world.dir.join(node.to_string()).join("snapshots");
    let folders = fs::read_dir(snapshots).into_iter().flatten().flatten();
    let incoming = folders.filter(|f| f.file_name().to_string_lossy().starts_with("incoming-"));
    let files = incoming.flat_map(|folder| fs::read_dir(folder.path().join("data")));
    let sizes = files
        .flatten()
        .flatten()
        .filter_map(|file| file.metadata().ok());
    sizes.map(|metadata| metadata.len()).sum()
}

/// Checks that no alarm names a node that does not lie, and that none is missing.
fn accusations(world: &World, node: u64, up: &RunningNode) -> Check {
    let alarms = up.handle.status().alarms;
    let void = |raised: &RaisedAlarm| matches!(raised.alarm, NodeAlarm::VoidBatch { .. });
    let certified = up.handle.certified_height();
    if world.measures.remove_void(node, up.life, certified) && !alarms.iter().any(void) {
        return violation(
            "a void batch is noticed",
            format!("node {node} has the alarms {alarms:?}"),
        );
    }
    world.measures.peak("alarms of a node", alarms.len() as u64);
    if alarms.len() > ALARMS_MAX {
        return violation(
            "a liar does not fill an honest node",
            format!("node {node} has {} alarms", alarms.len()),
        );
    }
    let honest = |key| {
        let mut nodes = world.honest().into_iter();
        nodes.find(|node| node::secret(*node).public() == key)
    };
    for raised in alarms {
        let accused = match &raised.alarm {
            NodeAlarm::DoubleAttestation(both) => honest(both[0].key),
            NodeAlarm::Equivocation { node: accused, .. } => {
                let honest = world.honest().into_iter().find(|node| node == accused);
                if honest.is_none() {
                    world.prove(*accused);
                }
                honest
            }
            NodeAlarm::EarlyBatch { leader, .. } | NodeAlarm::LeaderNoElector { leader } => {
                world.honest().into_iter().find(|node| node == leader)
            }
            // These name nobody as the one who is wrong.
            NodeAlarm::ClockOffset { .. }
            | NodeAlarm::ClockDiffers { .. }
            | NodeAlarm::VoidBatch { .. }
            | NodeAlarm::Divergence(_)
            | NodeAlarm::ValidatorNoVoter { .. }
            | NodeAlarm::LogsDiffer { .. }
            | NodeAlarm::DiskFull(_)
            | NodeAlarm::DamagedArtifact(_)
            | NodeAlarm::NewerProtocol { .. } => None,
        };
        if let Some(accused) = accused {
            return violation(
                "no honest node is accused",
                format!("node {node} accuses {accused}: {}", raised.alarm),
            );
        }
    }
    Ok(())
}

/// Checks that a node believes no height that was not proven.
fn view(world: &World, node: u64, up: &RunningNode) -> Check {
    let behind = match up.handle.watch_progress().borrow().phase {
        Phase::CatchingUp { blocks_behind } => blocks_behind,
        _ => 0,
    };
    let announced = up.handle.watch_announced_validators();
    let announced = announced.borrow().as_ref().map_or(0, |set| set.height);
    // The distance was measured when this node was lower than it is now.
    let believed = behind.max(announced);
    let highest = world.highest_height().saturating_add(HEIGHTS_AHEAD);
    if believed <= highest {
        return Ok(());
    }
    violation(
        "no height is believed that was not proven",
        format!("node {node} believes in {believed}, the highest block is {highest}"),
    )
}
