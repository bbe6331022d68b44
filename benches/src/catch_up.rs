//! The measurement `catch-up`: the time until a node follows the chain, one that starts empty and
//! one that was away, while clients work.
//!
//! The chain is made by real transactions: devices by the thousand and then one block after the
//! other. Only the time after that is measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_node::{DiskConfig, key};
use lamplighter_types::{
    Action, DevicesAction, GovernanceAction, GovernanceChange, KeyPurpose, Observer,
    SignedTransaction, codec,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, NodeProcess, NodeProgress};
use crate::error::BenchError;
use crate::fleet::{DEVICES_PER_LIST, Fleet, additional_devices, id};
use crate::load::{self, Background, SubmitOutcome};
use crate::machine::{self, Machine};
use crate::options::CatchUpOptions;
use crate::{procfs, report, table};

/// Clients that work during the measurement.
const CLIENTS: usize = 16;
/// Clients that create the blocks; more than one, so that blocks follow each other closely.
const PRODUCERS: usize = 2;
/// Interval between two reads of the node's status.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Limit for catching up.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(3_600);
const MB: f64 = 1e6;

#[derive(Debug, Serialize)]
pub struct CatchUpReport {
    pub machine: Machine,
    pub validators: usize,
    pub devices: u64,
    pub blocks: u64,
    /// Bytes of a node's tables before the measurement.
    pub chain_bytes: u64,
    pub made_in_seconds: f64,
    pub empty: CatchUpFigures,
    pub away: CatchUpFigures,
}

/// The figures of one node that caught up.
#[derive(Debug, Default, Serialize)]
pub struct CatchUpFigures {
    pub seconds: f64,
    /// Seconds in each phase, as the node reported it.
    pub phases_seconds: BTreeMap<String, f64>,
    /// Size of the image that the node fetched, if it did.
    pub image_bytes: u64,
    /// Rate of the image, or of the growth of the node's data, over the whole time.
    pub mb_per_second: f64,
    /// Transactions of the clients per second in this time.
    pub load_per_second: f64,
}

pub async fn run(options: &CatchUpOptions, dir: &Path, program: &Path) -> Result<(), BenchError> {
    let machine = machine::describe(dir)?;
    table::machine(&machine, program);
    let mut disk = DiskConfig::default();
    disk.snapshot_every_batches = options
        .snapshot_every
        .unwrap_or(disk.snapshot_every_batches);
    let mut cluster = Cluster::start_with(program, dir, options.validators, disk).await?;
    let outcome = measure(&mut cluster, options, machine).await;
    let stopped = cluster.stop().await;
    let report = outcome?;
    stopped?;
    report::write(options.report.as_deref(), "catch-up-report.json", &report)
}

async fn measure(
    cluster: &mut Cluster,
    options: &CatchUpOptions,
    machine: Machine,
) -> Result<CatchUpReport, BenchError> {
    cluster.ready().await?;
    let fleet = Arc::new(Fleet::new(cluster.chain_id));
    load::register(cluster, &fleet).await?;
    let begun = Instant::now();
    create_devices(cluster, &fleet, options.devices).await?;
    println!(
        "{} devices after {:.0} s",
        options.devices,
        begun.elapsed().as_secs_f64()
    );
    // This node follows, and is then away while the blocks are created.
    let mut away = add_observer(cluster, &fleet, options.validators as u64 + 1).await?;
    wait_following(cluster, &mut away, &mut CatchUpFigures::default()).await?;
    let home = away.stop_for_restart().await?;
    let from = cluster.nodes[0].status().await?.height;
    create_blocks(cluster, &fleet, from + options.blocks).await?;
    let made_in_seconds = begun.elapsed().as_secs_f64();
    let chain_bytes = procfs::disk_use(&cluster.nodes[0].data)?.tables_bytes;
    println!(
        "{} blocks after {made_in_seconds:.0} s, {:.0} MB of tables\n",
        options.blocks,
        chain_bytes as f64 / MB
    );
    let background = Background::start(cluster, &fleet, CLIENTS);
    let fresh = add_observer(cluster, &fleet, options.validators as u64 + 2).await?;
    let (empty, fresh) = measure_catch_up("empty", cluster, fresh, &background).await?;
    let back = home.start()?;
    let (away, back) = measure_catch_up("away", cluster, back, &background).await?;
    background.finish(cluster).await?;
    cluster.nodes.extend([fresh, back]);
    Ok(CatchUpReport {
        machine,
        validators: options.validators,
        devices: options.devices,
        blocks: options.blocks,
        chain_bytes,
        made_in_seconds,
        empty,
        away,
    })
}

/// Sends a transaction until it is in a block.
async fn commit(
    cluster: &Cluster,
    node: usize,
    signed: &SignedTransaction,
) -> Result<(), BenchError> {
    let mut connection = load::open(cluster.nodes[node].http).await?;
    commit_over(&mut connection, signed).await
}

async fn commit_over(
    connection: &mut crate::http::Connection,
    signed: &SignedTransaction,
) -> Result<(), BenchError> {
    let outcome = load::submit_until_accepted(connection, &codec::encode(signed)).await?;
    if let SubmitOutcome::Failed(why) = outcome {
        return Err(BenchError::Failures(1, "the making", why));
    }
    Ok(())
}

async fn create_devices(cluster: &Cluster, fleet: &Fleet, count: u64) -> Result<(), BenchError> {
    let mut connection = load::open(cluster.nodes[0].http).await?;
    for list in 0..count.div_ceil(DEVICES_PER_LIST) {
        let devices = additional_devices(list);
        let action = Action::Devices(DevicesAction::Register { devices });
        commit_over(&mut connection, &fleet.sign_as_administrator(action)).await?;
    }
    Ok(())
}

/// Sends events one by one, so that each makes a block, until the chain has the height.
async fn create_blocks(
    cluster: &mut Cluster,
    fleet: &Arc<Fleet>,
    height: u64,
) -> Result<(), BenchError> {
    while cluster.nodes[0].status().await?.height < height {
        let mut producers = tokio::task::JoinSet::new();
        for producer in 0..PRODUCERS {
            let (fleet, http) = (fleet.clone(), cluster.nodes[0].http);
            producers.spawn(async move {
                let mut connection = load::open(http).await?;
                for _ in 0..500 {
                    commit_over(&mut connection, &fleet.event(producer)).await?;
                }
                Ok::<_, BenchError>(())
            });
        }
        while let Some(made) = producers.join_next().await {
            cluster.check()?;
            made.expect("producers do not panic")?;
        }
    }
    Ok(())
}

/// Adds an observer by governance, and starts it with an empty folder.
async fn add_observer(
    cluster: &mut Cluster,
    fleet: &Fleet,
    node: u64,
) -> Result<NodeProcess, BenchError> {
    let new = cluster.create_node(node)?;
    let account = id(&format!("node-{node}"));
    let secret = key::read(&new.home.join("key"))?;
    let change = GovernanceChange::AddObserver {
        proof: secret.prove(KeyPurpose::Node, &fleet.chain_id, &account),
        observer: Observer {
            node,
            account,
            key: new.key,
            address: new.address.clone(),
        },
    };
    let proposal = id(&format!("join-{node}"));
    let action = GovernanceAction::Propose {
        proposal,
        changes: vec![change],
    };
    let signed = fleet.sign_as_administrator(Action::Governance(action));
    commit(cluster, 0, &signed).await?;
    new.start()
}

/// Waits until a node follows the chain, and collects the figures that it reports.
async fn wait_following(
    cluster: &mut Cluster,
    node: &mut NodeProcess,
    figures: &mut CatchUpFigures,
) -> Result<(), BenchError> {
    let begun = Instant::now();
    let mut last = begun;
    while begun.elapsed() < CATCH_UP_WITHIN {
        node.check()?;
        cluster.check()?;
        // The node may not listen yet.
        let status = node.status().await.ok();
        let now = Instant::now();
        let name = match &status {
            Some(status) => status.progress.phase.clone(),
            None => "starting".to_owned(),
        };
        if let Some(NodeProgress {
            bytes_total: Some(bytes),
            ..
        }) = status.as_ref().map(|s| &s.progress)
        {
            figures.image_bytes = figures.image_bytes.max(*bytes);
        }
        if name == "following" {
            return Ok(());
        }
        *figures.phases_seconds.entry(name).or_default() += (now - last).as_secs_f64();
        last = now;
        sleep(SAMPLE_EVERY).await;
    }
    Err(BenchError::NotReady {
        within: CATCH_UP_WITHIN,
    })
}

async fn measure_catch_up(
    name: &str,
    cluster: &mut Cluster,
    mut node: NodeProcess,
    background: &Background,
) -> Result<(CatchUpFigures, NodeProcess), BenchError> {
    let mut figures = CatchUpFigures::default();
    let before = procfs::disk_use(&node.data)?.all_bytes();
    let (begun, committed) = (Instant::now(), background.committed());
    wait_following(cluster, &mut node, &mut figures).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let growth_bytes = procfs::disk_use(&node.data)?
        .all_bytes()
        .saturating_sub(before);
    let bytes = if figures.image_bytes > 0 {
        figures.image_bytes
    } else {
        growth_bytes
    };
    figures.seconds = seconds;
    figures.mb_per_second = bytes as f64 / MB / seconds;
    figures.load_per_second = (background.committed() - committed) as f64 / seconds;
    println!(
        "{name}: {seconds:.1} s, {:.1} MB/s (image of {:.0} MB), {:.0} transactions/s meanwhile; \
         {:?}",
        figures.mb_per_second,
        figures.image_bytes as f64 / MB,
        figures.load_per_second,
        figures.phases_seconds
    );
    Ok((figures, node))
}
