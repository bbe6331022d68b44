//! One run: a time with faults, a time without, then the final checks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_ledger::Subject;
use lamplighter_types::proof::VALIDATOR_SET_KEY;
use lamplighter_types::{
    GENESIS_VERSION, Genesis, GenesisAccount, Grant, Id, Policies, Role, Scope, Validator,
    ValidatorSet, codec,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::{self, Client};
use crate::lies::{self, LiePlan};
use crate::oracle::{Answer, Check, Violation, violation};
use crate::plan::Plan;
use crate::world::{Counts, EPOCH_MS, RunningNode, World};
use crate::{faults, membership, node, split, state_machine};

/// The time in which the cluster recovers without faults. Clocks that were ahead by twice the
/// tolerance delay it.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Election timeouts within which honest nodes serve again after a liar is cut off.
const SERVICE_TIMEOUTS: u32 = 3;
/// The same of five nodes. The four others are all needed then; if the log of only one of them can
/// win, each of the three may stand once before, in the term in which that one stands too.
const SERVICE_TIMEOUTS_OF_FIVE: u32 = 4;
/// Election timeouts within which they serve beside a liar that is neither proven nor cut off. Each
/// of four is then needed for a quorum without it, so two that stand at once cost one more.
const SERVICE_TIMEOUTS_AMONG_LIES: u32 = 5;
/// Syncs of a slow disk that a vote and a batch take beside.
const SERVICE_SYNCS: u32 = 6;

/// The result of a run.
pub struct Report {
    pub hash: String,
    pub events: u64,
    pub counts: Counts,
    pub measured: BTreeMap<&'static str, Vec<u64>>,
    pub broken: Option<Violation>,
    /// The last events.
    pub last: Vec<String>,
}

fn genesis(plan: &Plan) -> Genesis {
    let validator = |node: u64| Validator {
        node,
        account: node::account(node),
        key: node::secret(node).public(),
        address: format!("node-{node}:1"),
    };
    let account = |client: u64| GenesisAccount {
        account: client::account(client),
        name: format!("Client {client}"),
        key: client::secret(client).public(),
        grants: vec![Grant::founding(Role::Administrator, Scope::city())],
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Simulated City".to_owned(),
        created_ms: EPOCH_MS,
        validators: ValidatorSet {
            validators: (1..=plan.nodes).map(validator).collect(),
        },
        organization: Id::new("city").expect("a plain name"),
        // One more than there are clients for the end, and two who change the nodes.
        accounts: (0..=plan.clients + 2).map(account).collect(),
        policies: Policies::default(),
    }
}

/// Runs a seed in this thread, which must be new: its random numbers depend on earlier draws.
pub fn run(seed: u64, plan: Plan, dir: &Path, loud: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing");
    runtime.block_on(async {
        let genesis = genesis(&plan);
        let world = World::new(seed, plan, genesis, dir.to_owned(), loud);
        world.log_event(format!("{:?}", world.plan));
        let broken = tokio::select! {
            biased;
            broken = world.violated() => Some(broken),
            done = scenario(&world) => {
                done.err()
            }
        };
        // The last step may have broken something too.
        let broken = match broken {
            None if world.is_broken() => Some(world.violated().await),
            found => found,
        };
        let trace = world.trace();
        Report {
            hash: trace.hash(),
            events: trace.count(),
            counts: world.counts(),
            measured: world.measures.all(),
            broken,
            last: trace.last(400),
        }
    })
}

async fn scenario(world: &Arc<World>) -> Check {
    for node in world.nodes() {
        tokio::spawn(node::live(world.clone(), node));
    }
    tokio::spawn(node::watch(world.clone()));
    for node in world.plan.lies.iter().flat_map(|lies| &lies.liars) {
        tokio::spawn(lies::live(world.clone(), *node));
    }
    if world.liars.exist() {
        tokio::spawn(serves_after_proof(world.clone()));
    }
    world.liars.set_lying(true);
    let (faults_over, over) = (CancellationToken::new(), CancellationToken::new());
    faults::begin(world, &faults_over);
    let mut clients = JoinSet::new();
    for client in 1..=world.plan.clients {
        let shared = Client::new(world, client);
        for stream in 0..world.plan.streams {
            clients.spawn(shared.clone().stream(stream, over.clone()));
        }
    }
    if world.plan.changes {
        clients.spawn(membership::run(world.clone(), over.clone()));
    }
    sleep(world.plan.safety).await;
    faults::end(world, &faults_over);
    let liars = world.plan.lies.clone();
    if let Some(lies) = &liars {
        all_up(world).await?;
        if lies.is_powerless() {
            serves_among_lies(world).await?;
        }
        sleep(Duration::from_millis(lies.alone_ms)).await;
        if let CutOff::PeopleDecide = cut_off(world, lies).await? {
            over.cancel();
            return Ok(());
        }
    }
    over.cancel();
    if timeout(RECOVERY_TIMEOUT, clients.join_all()).await.is_err() {
        return violation(
            "every transaction gets a verdict",
            "some client still waits",
        );
    }
    if let Some(lies) = liars.filter(|lies| lies.removed) {
        let removed = membership::remove_liars(world, &lies.liars);
        if timeout(RECOVERY_TIMEOUT, removed).await.is_err() {
            return violation("a liar is removed without its signature", "not in time");
        }
    }
    let ups = all_up(world).await?;
    let height = serves(world).await?;
    certified(&ups, height).await?;
    proven(world, &ups).await?;
    members_follow(&ups).await?;
    for (node, up) in &ups {
        holds_all(world, *node, up)?;
    }
    agree(&ups)
}

/// Checks that all nodes have one chain, blocks of lying leaders included.
fn agree(ups: &RunningNodes) -> Check {
    let height = ups.iter().map(|(_, up)| up.handle.head().height).min();
    for height in 0..=height.unwrap_or(0) {
        let hashes = ups.iter().map(|(node, up)| {
            let header = up.handle.header(height);
            (*node, header.ok().flatten().map(|header| header.hash()))
        });
        let hashes: Vec<_> = hashes.collect();
        if hashes.iter().any(|(_, hash)| *hash != hashes[0].1) {
            return violation(
                "all nodes have one chain",
                format!("at {height}: {hashes:?}"),
            );
        }
    }
    Ok(())
}

/// Election timeouts within which honest nodes serve again once there is no liar.
fn service_timeouts(world: &World) -> u32 {
    match world.plan.nodes {
        5 => SERVICE_TIMEOUTS_OF_FIVE,
        _ => SERVICE_TIMEOUTS,
    }
}

/// The longest time in which service comes back: election timeouts, and the disks beside.
fn service_limit(world: &World, election_timeouts: u32) -> Duration {
    let slowest_sync = Duration::from_millis(world.plan.sync_ms.1);
    election_timeouts * world.plan.election.1 + SERVICE_SYNCS * slowest_sync
}

/// Submits a transaction through every honest node.
fn submit_everywhere(world: &Arc<World>, client: &Arc<Client>) -> JoinSet<()> {
    let mut served = JoinSet::new();
    for node in world.honest() {
        let client = client.clone();
        served.spawn(async move { client.submit_through(node).await });
    }
    served
}

/// Checks that liars without power cost no service once there are no other faults.
async fn serves_among_lies(world: &Arc<World>) -> Check {
    let client = Client::numbered(world, 0, 200);
    let began = world.elapsed();
    let mut served = submit_everywhere(world, &client);
    let limit = service_limit(world, SERVICE_TIMEOUTS_AMONG_LIES);
    let first = timeout(limit, served.join_next()).await;
    let took = world.elapsed() - began;
    world
        .measures
        .add("ms to service among lies", took.as_millis() as u64);
    match first {
        Ok(_) => Ok(()),
        Err(_) => violation(
            "a liar without power costs no service",
            format!("none for {took:?}"),
        ),
    }
}

/// The honest nodes that are up, each with its life.
fn lives(world: &Arc<World>) -> BTreeMap<u64, Option<u32>> {
    let life = |node: u64| (node, world.up(node).map(|up| up.life));
    world.honest().into_iter().map(life).collect()
}

/// Measures the time to service after a lie is proven, while the liar goes on. Where it is the only
/// one and there are no other faults, that time is bounded: without it there may be no quorum when
/// another node is down as well.
async fn serves_after_proof(world: Arc<World>) {
    world.proof().await;
    let alone = world.plan.lies.iter().all(|lies| lies.liars.len() == 1);
    let before = lives(&world);
    let all_up = before.values().all(Option::is_some);
    let bounded = alone && all_up && !world.net.has_faults();
    let (client, began) = (Client::numbered(&world, 0, 800), world.elapsed());
    let mut served = submit_everywhere(&world, &client);
    served.join_next().await;
    let took = world.elapsed() - began;
    if !bounded || lives(&world) != before {
        return;
    }
    world
        .measures
        .add("ms to service after a proof", took.as_millis() as u64);
    if took > service_limit(&world, service_timeouts(&world)) {
        world.check(violation(
            "honest nodes serve again after a lie is proven",
            format!("{took:?}"),
        ));
    }
}

/// What follows when the liars are cut off.
enum CutOff {
    Serves,
    /// No rule decides whose log goes: this is no success, and counted by itself.
    PeopleDecide,
}

/// Cuts the liars off, and measures the time until the others serve again.
async fn cut_off(world: &Arc<World>, lies: &LiePlan) -> Result<CutOff, Violation> {
    world.liars.set_lying(false);
    world.log_event("the liars are cut off");
    for node in &lies.liars {
        if world.nodes().contains(node) {
            world.remove(*node);
        }
    }
    let (cut, client) = (world.elapsed(), Client::new(world, 0));
    let mut served = submit_everywhere(world, &client);
    let first = timeout(RECOVERY_TIMEOUT, served.join_next()).await;
    let took = world.elapsed() - cut;
    if first.is_err() && split::is_undecidable(world) {
        split::is_noticed(world)?;
        world.count("splits for people");
        return Ok(CutOff::PeopleDecide);
    }
    let election = world.plan.election.1;
    world.measures.add("ms to service", took.as_millis() as u64);
    let share = took.as_millis() * 100 / election.as_millis();
    world
        .measures
        .add("% of an election timeout to service", share as u64);
    let limit = service_limit(world, service_timeouts(world));
    if first.is_err() || took > limit {
        return violation(
            "honest nodes serve again after a liar is cut off",
            format!("{took:?}, {limit:?} are allowed"),
        );
    }
    let rest = timeout(RECOVERY_TIMEOUT, served.join_all()).await;
    world.measures.add(
        "ms until every node serves",
        (world.elapsed() - cut).as_millis() as u64,
    );
    match rest {
        Ok(_) => Ok(CutOff::Serves),
        Err(_) => violation("every node serves again", "not after the liar was cut off"),
    }
}

type RunningNodes = Vec<(u64, RunningNode)>;

async fn all_up(world: &Arc<World>) -> Result<RunningNodes, Violation> {
    let found = timeout(RECOVERY_TIMEOUT, async {
        loop {
            let nodes = world.honest();
            let running = nodes.iter().map(|node| Some((*node, world.up(*node)?)));
            if let Some(ups) = running.collect::<Option<RunningNodes>>() {
                return ups;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    match found.await {
        Ok(ups) => Ok(ups),
        Err(_) => violation("every node runs again", "not within the time"),
    }
}

/// Submits a transaction through each node; returns the height of the last.
async fn serves(world: &Arc<World>) -> Result<u64, Violation> {
    let client = Client::numbered(world, 0, 500);
    for node in world.nodes() {
        if timeout(RECOVERY_TIMEOUT, client.submit_through(node))
            .await
            .is_err()
        {
            return violation("every node serves again", format!("node {node} does not"));
        }
    }
    Ok(world.oracle().highest_answer())
}

async fn certified(ups: &RunningNodes, height: u64) -> Check {
    for (node, up) in ups {
        let waited = up.handle.wait_certified(height, RECOVERY_TIMEOUT).await;
        if let Err(error) = waited {
            return violation(
                "every node has a certificate",
                format!("node {node}: {error}"),
            );
        }
    }
    Ok(())
}

/// Checks that a certified state can be proven with the genesis file alone.
async fn proven(world: &Arc<World>, ups: &RunningNodes) -> Check {
    for (node, up) in ups {
        let subject = Subject::State(VALIDATOR_SET_KEY.to_vec());
        let bundle = up.handle.prove(subject, 0, RECOVERY_TIMEOUT).await;
        let held = match &bundle {
            Ok(bundle) => bundle.verify(&world.genesis).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = held {
            return violation(
                "what is certified can be proven",
                format!("node {node}: {error}"),
            );
        }
    }
    Ok(())
}

/// Checks that Raft's members are the nodes that the ledger names.
async fn members_follow(ups: &RunningNodes) -> Check {
    let differs = |up: &RunningNode| {
        let named = up.handle.watch_membership().borrow().named.clone();
        let validators = named.validators.validators.iter().map(|v| v.node);
        let observers = named.observers.iter().map(|o| o.node);
        let members = up.consensus.metrics();
        members.voters != validators.collect() || members.learners != observers.collect()
    };
    let converged = timeout(RECOVERY_TIMEOUT, async {
        while ups.iter().any(|(_, up)| differs(up)) {
            sleep(Duration::from_millis(20)).await;
        }
    });
    match converged.await {
        Ok(()) => Ok(()),
        Err(_) => {
            let members = ups.iter().map(|(_, up)| up.consensus.metrics());
            violation(
                "the members are the nodes that the ledger names",
                format!("{:?}", members.collect::<Vec<_>>()),
            )
        }
    }
}

/// Checks that this node has everything that was acknowledged, unchanged.
fn holds_all(world: &Arc<World>, node: u64, up: &RunningNode) -> Check {
    let answers = world.oracle().answers().clone();
    for (hash, answer) in answers {
        let found = up.handle.transaction(&hash);
        let found = match found {
            Ok(Some(found)) => Answer {
                height: found.height,
                index: found.index,
                receipt: codec::digest(&*found.receipt),
            },
            other => {
                return violation(
                    "nothing acknowledged is lost",
                    format!("node {node} does not have {hash} at {answer:?}: {other:?}"),
                );
            }
        };
        if found != answer {
            return violation(
                "no receipt changes",
                format!("{hash} was {answer:?}, node {node} has {found:?}"),
            );
        }
    }
    let certified = world.oracle().certified().clone();
    for height in 0..=up.handle.head().height {
        let header = match up.handle.header(height) {
            Ok(Some(header)) => header,
            other => return violation("every node has every header", format!("{other:?}")),
        };
        world.oracle().header(node, &header)?;
        let hash = header.hash();
        if certified.get(&height).is_some_and(|known| *known != hash) {
            return violation(
                "nothing certified is lost",
                format!(
                    "node {node} has {hash} at {height}: {:?}",
                    certified[&height]
                ),
            );
        }
    }
    let store = world.with(node, |slot| slot.store.clone());
    state_machine::check_root(node, &up.handle, &store)
}
