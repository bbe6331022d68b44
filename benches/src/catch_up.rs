//! `catch-up`: how long a node takes that starts empty, and one that was away, while others work.
//!
//! The chain is made by real transactions, devices by the thousand and then one block after the
//! other; only the time after that is measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_node::DiskConfig;
use lamplighter_types::{
    Action, DevicesAction, GovernanceAction, GovernanceChange, Observer, SignedTransaction, codec,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, NodeProcess, Progress};
use crate::error::BenchError;
use crate::fleet::{DEVICES_PER_LIST, Fleet, id, more_devices};
use crate::load::{self, BUSY_PAUSE, Background, Fate};
use crate::machine::{self, Machine};
use crate::options::CatchUpOptions;
use crate::{procfs, table};

/// Clients that work meanwhile.
const CLIENTS: usize = 16;
/// Transactions under way while the chain is made, so that blocks follow each other closely.
const MAKERS: usize = 2;
/// Between two looks at the node.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing takes longer, or it never ends.
const WITHIN: Duration = Duration::from_secs(3_600);
const MB: f64 = 1e6;

#[derive(Debug, Serialize)]
pub struct CatchUpReport {
    pub machine: Machine,
    pub validators: usize,
    pub devices: u64,
    pub blocks: u64,
    /// Bytes of a node's tables before anybody caught up.
    pub chain_bytes: u64,
    pub made_in_seconds: f64,
    pub empty: Caught,
    pub away: Caught,
}

/// How one node caught up.
#[derive(Debug, Default, Serialize)]
pub struct Caught {
    pub seconds: f64,
    /// In each phase, as the node told it.
    pub phases_seconds: BTreeMap<String, f64>,
    /// Size of the image that came, if one did.
    pub image_bytes: u64,
    /// Of the image, or of what the node's data grew by, over all of the time.
    pub mb_per_second: f64,
    /// Transactions of the clients in this time, a second.
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
    let path = match &options.report {
        Some(path) => path.clone(),
        None => crate::home()?.join("catch-up-report.json"),
    };
    let text = serde_json::to_vec_pretty(&report).expect("the report has a JSON form");
    std::fs::write(&path, text).map_err(BenchError::io("writing", &path))?;
    println!("\nreport: {}", path.display());
    Ok(())
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
    make_devices(cluster, &fleet, options.devices).await?;
    println!(
        "{} devices after {:.0} s",
        options.devices,
        begun.elapsed().as_secs_f64()
    );
    // One that is there, and then away while the blocks are made.
    let mut away = join(cluster, &fleet, options.validators as u64 + 1).await?;
    follow(cluster, &mut away, &mut Caught::default()).await?;
    let home = away.halt().await?;
    let from = cluster.nodes[0].status().await?.height;
    make_blocks(cluster, &fleet, from + options.blocks).await?;
    let made_in_seconds = begun.elapsed().as_secs_f64();
    let chain_bytes = procfs::disk_use(&cluster.nodes[0].data)?.tables_bytes;
    println!(
        "{} blocks after {made_in_seconds:.0} s, {:.0} MB of tables\n",
        options.blocks,
        chain_bytes as f64 / MB
    );
    let background = Background::start(cluster, &fleet, CLIENTS);
    let fresh = join(cluster, &fleet, options.validators as u64 + 2).await?;
    let (empty, fresh) = caught("empty", cluster, fresh, &background).await?;
    let back = home.start()?;
    let (away, back) = caught("away", cluster, back, &background).await?;
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

/// Sends until it is in a block.
async fn commit(
    cluster: &Cluster,
    node: usize,
    signed: &SignedTransaction,
) -> Result<(), BenchError> {
    let mut connection = load::open(cluster.nodes[node].http).await?;
    commit_on(&mut connection, signed).await
}

async fn commit_on(
    connection: &mut crate::http::Connection,
    signed: &SignedTransaction,
) -> Result<(), BenchError> {
    let body = codec::encode(signed);
    loop {
        match load::submit(connection, &body).await? {
            Fate::Committed(_) => return Ok(()),
            Fate::Busy => sleep(BUSY_PAUSE).await,
            Fate::Failed(why) => return Err(BenchError::Failures(1, "the making", why)),
        }
    }
}

async fn make_devices(cluster: &Cluster, fleet: &Fleet, count: u64) -> Result<(), BenchError> {
    let mut connection = load::open(cluster.nodes[0].http).await?;
    for list in 0..count.div_ceil(DEVICES_PER_LIST) {
        let devices = more_devices(list);
        let action = Action::Devices(DevicesAction::Register { devices });
        commit_on(&mut connection, &fleet.sign_as_administrator(action)).await?;
    }
    Ok(())
}

/// Events one by one, so that each makes a block, until the chain has the height.
async fn make_blocks(
    cluster: &mut Cluster,
    fleet: &Arc<Fleet>,
    height: u64,
) -> Result<(), BenchError> {
    while cluster.nodes[0].status().await?.height < height {
        let mut makers = tokio::task::JoinSet::new();
        for maker in 0..MAKERS {
            let (fleet, http) = (fleet.clone(), cluster.nodes[0].http);
            makers.spawn(async move {
                let mut connection = load::open(http).await?;
                for _ in 0..500 {
                    commit_on(&mut connection, &fleet.event(maker)).await?;
                }
                Ok::<_, BenchError>(())
            });
        }
        while let Some(made) = makers.join_next().await {
            cluster.check()?;
            made.expect("makers do not panic")?;
        }
    }
    Ok(())
}

/// Has an observer added by governance, and starts it with an empty folder.
async fn join(cluster: &mut Cluster, fleet: &Fleet, node: u64) -> Result<NodeProcess, BenchError> {
    let new = cluster.settle_more(node)?;
    let change = GovernanceChange::AddObserver {
        observer: Observer {
            node,
            account: id(&format!("node-{node}")),
            key: new.key,
            address: new.address.clone(),
        },
    };
    let proposal = id(&format!("join-{node}"));
    let action = GovernanceAction::Propose { proposal, change };
    let signed = fleet.sign_as_administrator(Action::Governance(action));
    commit(cluster, 0, &signed).await?;
    new.start()
}

/// Waits until a node follows, and adds up what it says meanwhile.
async fn follow(
    cluster: &mut Cluster,
    node: &mut NodeProcess,
    caught: &mut Caught,
) -> Result<(), BenchError> {
    let begun = Instant::now();
    let mut last = begun;
    while begun.elapsed() < WITHIN {
        node.check()?;
        cluster.check()?;
        // It may not listen yet.
        let status = node.status().await.ok();
        let now = Instant::now();
        let name = match &status {
            Some(status) => status.progress.phase.clone(),
            None => "starting".to_owned(),
        };
        if let Some(Progress {
            bytes_total: Some(bytes),
            ..
        }) = status.as_ref().map(|s| &s.progress)
        {
            caught.image_bytes = caught.image_bytes.max(*bytes);
        }
        if name == "following" {
            return Ok(());
        }
        *caught.phases_seconds.entry(name).or_default() += (now - last).as_secs_f64();
        last = now;
        sleep(LOOK_EVERY).await;
    }
    Err(BenchError::NotReady { within: WITHIN })
}

async fn caught(
    name: &str,
    cluster: &mut Cluster,
    mut node: NodeProcess,
    background: &Background,
) -> Result<(Caught, NodeProcess), BenchError> {
    let mut caught = Caught::default();
    let before = procfs::disk_use(&node.data)?.all_bytes();
    let (begun, committed) = (Instant::now(), background.committed());
    follow(cluster, &mut node, &mut caught).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let grown = procfs::disk_use(&node.data)?
        .all_bytes()
        .saturating_sub(before);
    let bytes = if caught.image_bytes > 0 {
        caught.image_bytes
    } else {
        grown
    };
    caught.seconds = seconds;
    caught.mb_per_second = bytes as f64 / MB / seconds;
    caught.load_per_second = (background.committed() - committed) as f64 / seconds;
    println!(
        "{name}: {seconds:.1} s, {:.1} MB/s (image of {:.0} MB), {:.0} transactions/s meanwhile; \
         {:?}",
        caught.mb_per_second,
        caught.image_bytes as f64 / MB,
        caught.load_per_second,
        caught.phases_seconds
    );
    Ok((caught, node))
}
