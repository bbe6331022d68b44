//! The faults of a run. Each kind of fault is a task of its own that ends with the token.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_store::Fault;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::node::CLOCK_OFFSET_MAX_MS;
use crate::plan::Skew;
use crate::rng::SimRng;
use crate::world::World;

/// Starts the faults of the plan; they end with `over`.
pub fn begin(world: &Arc<World>, over: &CancellationToken) {
    let plan = &world.plan;
    clocks(world, &mut SimRng::new(world.seed, "clocks"));
    let go = |wanted: bool, task: fn(Arc<World>) -> futures::future::BoxFuture<'static, ()>| {
        if wanted {
            let (world, over) = (world.clone(), over.clone());
            tokio::spawn(async move {
                tokio::select! {
                    // Checked first: a fault that is due at the same time does not happen.
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
    let lies = plan.lies.as_ref();
    go(lies.is_some_and(|lies| !lies.is_powerless()), |world| {
        Box::pin(vacancies(world))
    });
}

fn any_node(world: &World, rng: &mut SimRng) -> u64 {
    *rng.pick(&world.nodes())
}

/// Often the leader, otherwise any node.
fn victim(world: &World, rng: &mut SimRng) -> u64 {
    let leads = |node: &u64| world.up(*node).is_some_and(|up| up.consensus.is_leader());
    let leader = world.nodes().into_iter().find(leads);
    match leader {
        Some(leader) if rng.chance(500) => leader,
        _ => any_node(world, rng),
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

fn shape(world: &World, rng: &mut SimRng) -> Links {
    let nodes = world.nodes();
    let plan = &world.plan;
    let one_way = plan.one_way && (!plan.partitions || rng.chance(500));
    match rng.below(4) {
        // One against the rest, from it or to it.
        0 => {
            let alone = victim(world, rng);
            let rest: Vec<u64> = nodes.into_iter().filter(|n| *n != alone).collect();
            if rng.chance(500) {
                between(&[alone], &rest, one_way)
            } else {
                between(&rest, &[alone], one_way)
            }
        }
        // Two sides.
        1 => {
            let (left, right): (Vec<u64>, Vec<u64>) =
                nodes.into_iter().partition(|_| rng.chance(500));
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
            pairs.filter(|(a, b)| a != b && rng.chance(300)).collect()
        }
    }
}

async fn partitions(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "partitions");
    loop {
        sleep(rng.millis(200, 2_500)).await;
        let links = shape(&world, &mut rng);
        world.log_event(format!("cut {links:?}"));
        world.count("partitions");
        world.net.cut(&links);
        sleep(rng.millis(200, 4_000)).await;
        world.net.mend(&links);
        world.log_event("mended");
    }
}

async fn flapping(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "flapping");
    loop {
        sleep(rng.millis(500, 3_000)).await;
        let links = shape(&world, &mut rng);
        world.count("flapping links");
        for _ in 0..rng.between(3, 12) {
            world.net.cut(&links);
            sleep(rng.millis(20, 300)).await;
            world.net.mend(&links);
            sleep(rng.millis(20, 300)).await;
        }
    }
}

async fn crashes(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "crashes");
    loop {
        sleep(rng.millis(100, 3_000)).await;
        let node = victim(&world, &mut rng);
        let down = rng.millis(50, *rng.clone().pick(&[300, 1_000, 8_000]));
        if rng.chance(400) {
            world.crash(node, usize::MAX, down, "kills");
        } else {
            let kept = rng.below(6) as usize;
            world.crash(node, kept, down, "power losses");
        }
    }
}

/// Makes the power fail at a later write, often one of the next start.
async fn cuts(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "cuts");
    loop {
        sleep(rng.millis(50, 1_500)).await;
        let node = victim(&world, &mut rng);
        let writes = *rng.clone().pick(&[3, 30, 100]);
        let after = rng.below(writes);
        world.with(node, |slot| slot.power_for = Some(after));
    }
}

async fn blackouts(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "blackouts");
    loop {
        sleep(rng.millis(1_500, 8_000)).await;
        for node in world.nodes() {
            let down = rng.millis(100, 1_500);
            world.crash(node, rng.below(3) as usize, down, "blackouts");
        }
    }
}

async fn disks(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "disks");
    loop {
        sleep(rng.millis(500, 5_000)).await;
        let node = victim(&world, &mut rng);
        let fault = Fault {
            after_writes: rng.below(30),
            persisted: rng.chance(500),
            lasting: rng.chance(400),
        };
        world.log_event(format!("a fault of the disk of node {node}: {fault:?}"));
        world.with(node, |slot| slot.store.plan(fault));
    }
}

/// An empty battery, or a wrong answer of a time server.
const THREE_YEARS_MS: u64 = 3 * 365 * 86_400_000;

fn offset(rng: &mut SimRng, skew: Skew) -> i64 {
    let most = CLOCK_OFFSET_MAX_MS;
    let far = match skew {
        Skew::None => 0,
        Skew::Within => rng.below(most / 2),
        Skew::Beyond => rng.between(0, 2 * most),
        Skew::Years => THREE_YEARS_MS,
    };
    if rng.chance(500) {
        far as i64
    } else {
        -(far as i64)
    }
}

fn clocks(world: &World, rng: &mut SimRng) {
    for node in world.nodes() {
        let offset_ms = offset(rng, world.plan.skew);
        world.with(node, |slot| slot.offset_ms = offset_ms);
        world.log_event(format!("the clock of node {node} is off by {offset_ms} ms"));
    }
}

/// Parts an honest leader from the others for a while, so that a liar may win the election.
async fn vacancies(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "vacancies");
    let election_ms = world.plan.election.1.as_millis() as u64;
    loop {
        sleep(rng.millis(election_ms, 3 * election_ms)).await;
        let leads = |node: &u64| world.up(*node).is_some_and(|up| up.consensus.is_leader());
        let leaders: Vec<u64> = world.honest().into_iter().filter(leads).collect();
        let others = |node: &u64| !leaders.contains(node);
        let rest: Vec<u64> = world.nodes().into_iter().filter(others).collect();
        let links = between(&leaders, &rest, false);
        world.net.cut(&links);
        sleep(rng.millis(election_ms, 2 * election_ms)).await;
        world.net.mend(&links);
    }
}

/// Clocks jump. Those of one node alone may be years off: its log still has what it proposed then
/// when its clock is right again, and a second node with such a clock would acknowledge that.
async fn jumps(world: Arc<World>) {
    let mut rng = SimRng::new(world.seed, "jumps");
    let mut years_off = None;
    loop {
        sleep(rng.millis(300, 4_000)).await;
        let node = any_node(&world, &mut rng);
        let kinds = [Skew::None, Skew::Within, Skew::Beyond, Skew::Years];
        let mut skew = *rng.pick(&kinds);
        if skew == Skew::Years && *years_off.get_or_insert(node) != node {
            skew = Skew::None;
        }
        let offset_ms = offset(&mut rng, skew);
        world.with(node, |slot| slot.offset_ms = offset_ms);
        world.log_event(format!(
            "the clock of node {node} jumps to {offset_ms} ms off"
        ));
        world.count("clock jumps");
    }
}

/// Ends all faults, and restarts every node.
pub fn end(world: &World, over: &CancellationToken) {
    over.cancel();
    world.log_event("no more faults");
    world.net.heal();
    let mut rng = SimRng::new(world.seed, "end");
    for node in world.nodes() {
        world.with(node, |slot| {
            slot.power_for = None;
            slot.offset_ms = 0;
            if !slot.alive {
                // A new handle to the same content: faults that were to come are gone.
                slot.store = slot.store.kill();
            }
        });
        let kept = *rng.pick(&[0, 1, usize::MAX]);
        let down = Duration::from_millis(rng.between(50, 300));
        world.crash(node, kept, down, "restarts");
    }
}
