//! What goes wrong, and when. Each kind of fault is a task of its own that ends with the token.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_store::Fault;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::node::CLOCK_OFFSET_MAX_MS;
use crate::plan::Skew;
use crate::world::World;

/// Begins what the plan has; it ends with `over`.
pub fn begin(world: &Arc<World>, over: &CancellationToken) {
    let plan = &world.plan;
    clocks(world, &mut Dice::new(world.seed, "clocks"));
    let go = |wanted: bool, task: fn(Arc<World>) -> futures::future::BoxFuture<'static, ()>| {
        if wanted {
            let (world, over) = (world.clone(), over.clone());
            tokio::spawn(async move {
                tokio::select! {
                    // Looked at first: a fault that is due just now does not happen any more.
                    biased;
                    () = over.cancelled() => {}
                    () = task(world) => {}
                }
            });
        }
    };
    go(plan.partitions || plan.one_way, |world| {
        Box::pin(partitions(world))
    });
    go(plan.flapping, |world| Box::pin(flapping(world)));
    go(plan.crashes, |world| Box::pin(crashes(world)));
    go(plan.cuts, |world| Box::pin(cuts(world)));
    go(plan.blackouts, |world| Box::pin(blackouts(world)));
    go(plan.disk_faults, |world| Box::pin(disks(world)));
    go(plan.jumps, |world| Box::pin(jumps(world)));
}

fn any_node(world: &World, dice: &mut Dice) -> u64 {
    *dice.pick(&world.nodes())
}

/// The node that leads, often; else any.
fn victim(world: &World, dice: &mut Dice) -> u64 {
    let leads = |node: &u64| world.up(*node).is_some_and(|up| up.consensus.is_leader());
    let leader = world.nodes().into_iter().find(leads);
    match leader {
        Some(leader) if dice.chance(500) => leader,
        _ => any_node(world, dice),
    }
}

type Links = Vec<(u64, u64)>;

/// Links between two sides; in one direction only, if wanted.
fn between(left: &[u64], right: &[u64], one_way: bool) -> Links {
    let mut links = Links::new();
    for a in left {
        for b in right {
            links.push((*a, *b));
            if !one_way {
                links.push((*b, *a));
            }
        }
    }
    links
}

fn shape(world: &World, dice: &mut Dice) -> Links {
    let nodes = world.nodes();
    let plan = &world.plan;
    let one_way = plan.one_way && (!plan.partitions || dice.chance(500));
    match dice.below(4) {
        // One against the rest, from it or to it.
        0 => {
            let alone = victim(world, dice);
            let rest: Vec<u64> = nodes.into_iter().filter(|n| *n != alone).collect();
            match dice.chance(500) {
                true => between(&[alone], &rest, one_way),
                false => between(&rest, &[alone], one_way),
            }
        }
        // Two sides.
        1 => {
            let (left, right): (Vec<u64>, Vec<u64>) =
                nodes.into_iter().partition(|_| dice.chance(500));
            between(&left, &right, one_way)
        }
        // A ring, or a chain of them: each sees only some others.
        2 => {
            let apart = |a: u64, b: u64| a.abs_diff(b) > 1;
            let pairs = nodes.iter().flat_map(|a| nodes.iter().map(|b| (*a, *b)));
            pairs.filter(|(a, b)| apart(*a, *b)).collect()
        }
        // Single links.
        _ => {
            let pairs = nodes.iter().flat_map(|a| nodes.iter().map(|b| (*a, *b)));
            pairs.filter(|(a, b)| a != b && dice.chance(300)).collect()
        }
    }
}

async fn partitions(world: Arc<World>) {
    let mut dice = Dice::new(world.seed, "partitions");
    loop {
        sleep(dice.millis(200, 2_500)).await;
        let links = shape(&world, &mut dice);
        world.note(format!("cut {links:?}"));
        world.count("partitions");
        world.net.cut(&links);
        sleep(dice.millis(200, 4_000)).await;
        world.net.mend(&links);
        world.note("mended");
    }
}

async fn flapping(world: Arc<World>) {
    let mut dice = Dice::new(world.seed, "flapping");
    loop {
        sleep(dice.millis(500, 3_000)).await;
        let links = shape(&world, &mut dice);
        world.count("flapping links");
        for _ in 0..dice.between(3, 12) {
            world.net.cut(&links);
            sleep(dice.millis(20, 300)).await;
            world.net.mend(&links);
            sleep(dice.millis(20, 300)).await;
        }
    }
}

async fn crashes(world: Arc<World>) {
    let mut dice = Dice::new(world.seed, "crashes");
    loop {
        sleep(dice.millis(100, 3_000)).await;
        let node = victim(&world, &mut dice);
        let down = dice.millis(50, *dice.clone().pick(&[300, 1_000, 8_000]));
        match dice.chance(400) {
            true => world.crash(node, usize::MAX, down, "kills"),
            false => {
                let kept = dice.below(6) as usize;
                world.crash(node, kept, down, "power losses");
            }
        }
    }
}

/// The power fails at some write that is to come, often one of the next start.
async fn cuts(world: Arc<World>) {
    let mut dice = Dice::new(world.seed, "cuts");
    loop {
        sleep(dice.millis(50, 1_500)).await;
        let node = victim(&world, &mut dice);
        let writes = *dice.clone().pick(&[3, 30, 100]);
        let after = dice.below(writes);
        world.with(node, |slot| slot.power_for = Some(after));
    }
}

async fn blackouts(world: Arc<World>) {
    let mut dice = Dice::new(world.seed, "blackouts");
    loop {
        sleep(dice.millis(1_500, 8_000)).await;
        for node in world.nodes() {
            let down = dice.millis(100, 1_500);
            world.crash(node, dice.below(3) as usize, down, "blackouts");
        }
    }
}

async fn disks(world: Arc<World>) {
    let mut dice = Dice::new(world.seed, "disks");
    loop {
        sleep(dice.millis(500, 5_000)).await;
        let node = victim(&world, &mut dice);
        let fault = Fault {
            after_writes: dice.below(30),
            persisted: dice.chance(500),
            lasting: dice.chance(400),
        };
        world.note(format!("a fault of the disk of node {node}: {fault:?}"));
        world.with(node, |slot| slot.store.plan(fault));
    }
}

fn offset(dice: &mut Dice, skew: Skew) -> i64 {
    let most = CLOCK_OFFSET_MAX_MS;
    let far = match skew {
        Skew::None => 0,
        Skew::Within => dice.below(most / 2),
        Skew::Beyond => dice.between(0, 2 * most),
    };
    match dice.chance(500) {
        true => far as i64,
        false => -(far as i64),
    }
}

fn clocks(world: &World, dice: &mut Dice) {
    for node in world.nodes() {
        let offset_ms = offset(dice, world.plan.skew);
        world.with(node, |slot| slot.offset_ms = offset_ms);
        world.note(format!("the clock of node {node} is off by {offset_ms} ms"));
    }
}

async fn jumps(world: Arc<World>) {
    let mut dice = Dice::new(world.seed, "jumps");
    loop {
        sleep(dice.millis(300, 4_000)).await;
        let node = any_node(&world, &mut dice);
        let skew = *dice.pick(&[Skew::None, Skew::Within, Skew::Beyond]);
        let offset_ms = offset(&mut dice, skew);
        world.with(node, |slot| slot.offset_ms = offset_ms);
        world.note(format!(
            "the clock of node {node} jumps to {offset_ms} ms off"
        ));
        world.count("clock jumps");
    }
}

/// Nothing goes wrong any more, and every node starts anew.
pub fn end(world: &World, over: &CancellationToken) {
    over.cancel();
    world.note("no more faults");
    world.net.heal();
    let mut dice = Dice::new(world.seed, "end");
    for node in world.nodes() {
        world.with(node, |slot| {
            slot.power_for = None;
            slot.offset_ms = 0;
            if !slot.alive {
                // A new handle to the same content: faults that were to come are gone.
                slot.store = slot.store.kill();
            }
        });
        let kept = *dice.pick(&[0, 1, usize::MAX]);
        let down = Duration::from_millis(dice.between(50, 300));
        world.crash(node, kept, down, "restarts");
    }
}
