//! `node join`: from an empty machine to a node that follows, or validates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lamplighter_node::{BootstrapPeers, Handle, Node, NodeConfig, Phase, key};
use lamplighter_types::{GovernanceChange, Hash, KeyPurpose, PublicKey, Signature, Validator};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, sleep};

use crate::changes::NewNode;
use crate::failure::Failure;
use crate::founding::{Ports, make_node};
use crate::output::emit;
use crate::run::{self, Run};
use crate::session::{SessionArguments, asking};

/// The pause between two reads of the node's place in the chain.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The file in the node's folder that keeps the request.
const REQUEST: &str = "join.json";

#[derive(Debug, Args)]
pub struct Join {
    /// The folder for key, configuration and data; new, or one that an earlier `join` made.
    dir: PathBuf,
    /// Where the other nodes reach this one, host:port.
    #[arg(long)]
    address: Option<String>,
    /// The node becomes a validator; until it has caught up it is an observer.
    #[arg(long)]
    validator: bool,
    #[command(flatten)]
    ports: Ports,
    /// Prepares everything and prints the proposal, but does not start the node.
    #[arg(long)]
    prepare_only: bool,
    /// Ends when the node has joined; else it keeps running.
    #[arg(long)]
    until_joined: bool,
    /// Ends when standard input does, so that it does not outlive the process that started it.
    #[arg(long)]
    until_stdin_ends: bool,
    /// Logs as JSON.
    #[arg(long)]
    json_logs: bool,
}

/// The answer of a node to a question for the nodes.
#[derive(Deserialize)]
struct NodeList {
    validators: Vec<Validator>,
    next_node: u64,
}

#[derive(Deserialize)]
struct Status {
    chain_id: Hash,
    height: u64,
}

/// The node that wants to join; kept, so that `join` can be run again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    node: u64,
    public_key: PublicKey,
    /// The key's proof of possession.
    proof: Signature,
    address: String,
}

impl Request {
    fn new_node(&self) -> NewNode {
        NewNode {
            node: self.node,
            public_key: self.public_key,
            proof: self.proof,
            address: self.address.clone(),
        }
    }

    /// Prints the commands for the administrators.
    fn print_proposal(&self, proposal: &str, kind: &str, change: &GovernanceChange) {
        let Self {
            node,
            public_key,
            proof,
            address,
        } = self;
        let digest = GovernanceChange::digest(std::slice::from_ref(change));
        emit("One administrator proposes, and others approve, as many as the policy says:");
        emit(&format!(
            "  lamplighter governance propose {proposal}-{node} {kind} --node {node} \
             --public-key {public_key} --proof {proof} --address {address}"
        ));
        emit(&format!(
            "  lamplighter governance approve {proposal}-{node} --digest {digest}"
        ));
    }
}

pub async fn join(join: Join, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let config = join.dir.join("node.toml");
    let request = if config.exists() {
        read_request(&join.dir)?
    } else {
        prepare(&join, session).await?
    };
    emit(&format!(
        "node {}, public key {}, reached at {}",
        request.node, request.public_key, request.address
    ));
    request.print_proposal("join", "add-observer", &request.new_node().observer()?);
    if join.prepare_only {
        return Ok(ExitCode::SUCCESS);
    }
    let run = Run {
        config: config.clone(),
        until_stdin_ends: join.until_stdin_ends,
        json_logs: join.json_logs,
    };
    let stop = run::begin(&run)?;
    let config = NodeConfig::read(&config).map_err(Failure::during("reading the configuration"))?;
    let node = Node::start(config)
        .await
        .map_err(Failure::during("starting the node"))?;
    let joined = joined(&join, &request, node.handle.clone());
    let until_joined = join.until_joined;
    run::serve(node, stop, async move {
        joined.await?;
        if !until_joined {
            std::future::pending::<()>().await;
        }
        Ok(())
    })
    .await
}

fn read_request(dir: &Path) -> Result<Request, Failure> {
    let path = dir.join(REQUEST);
    let operation = || format!("reading {}", path.display());
    let bytes = fs::read(&path).map_err(Failure::during(operation()))?;
    serde_json::from_slice(&bytes).map_err(Failure::during(operation()))
}

/// Asks the ledger for what a new node needs, and makes its files.
async fn prepare(join: &Join, session: &SessionArguments) -> Result<Request, Failure> {
    let address = join.address.clone().ok_or_else(|| {
        Failure::plain("say where the other nodes reach this one: --address host:port")
    })?;
    let genesis = session.read_genesis()?;
    let asked = session.open()?;
    let status: Status = asked.client.get("/v1/status").await.map_err(asking)?.value;
    if status.chain_id != genesis.chain_id() {
        return Err(Failure::plain(format!(
            "the node is of chain {}, the genesis file of {}",
            status.chain_id,
            genesis.chain_id()
        )));
    }
    let nodes: NodeList = asked.client.get("/v1/nodes").await.map_err(asking)?.value;
    let node = nodes.next_node;
    fs::create_dir_all(&join.dir)
        .map_err(Failure::during(format!("making {}", join.dir.display())))?;
    let first = BootstrapPeers {
        height: status.height,
        validators: nodes.validators,
    };
    first
        .write(&join.dir.join("data"))
        .map_err(Failure::during("noting the first peers"))?;
    let secret = key::read_or_create(&join.dir.join("node.key"))
        .map_err(Failure::during("the node's key"))?;
    let account = NewNode::account(node)?;
    let request = Request {
        node,
        public_key: secret.public(),
        proof: secret.prove(KeyPurpose::Node, &genesis.chain_id(), &account),
        address,
    };
    let text = serde_json::to_vec_pretty(&request).expect("our types have JSON forms");
    let path = join.dir.join(REQUEST);
    fs::write(&path, text).map_err(Failure::during(format!("writing {}", path.display())))?;
    make_node(&join.dir, node, &join.ports, session.genesis_file()?)?;
    Ok(request)
}

/// Prints the progress until the node has its role.
fn joined(
    join: &Join,
    request: &Request,
    handle: Handle,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let (validator, request) = (join.validator, request.clone());
    async move {
        let reading = || Failure::during("reading the ledger");
        emit(
            "waiting until the ledger names this node; its progress is in the log and in `status`",
        );
        until(|| Ok(is_named(&handle, &request.public_key) && is_following(&handle))).await?;
        let height = handle.head().height;
        emit(&format!(
            "node {} follows the ledger, at block {height}",
            request.node
        ));
        if !validator {
            return Ok(());
        }
        let set = handle.watch_membership().borrow().named.validators.clone();
        if set.by_key(&request.public_key).is_none() {
            let change = request.new_node().validator()?;
            request.print_proposal("promote", "add-validator", &change);
        }
        let signed = || {
            let signed = handle.newest_signed_by(&request.public_key);
            signed.map_err(reading())
        };
        until(|| Ok(signed()?.is_some())).await?;
        let height = signed()?.unwrap_or(0);
        emit(&format!(
            "node {} validates: a certificate of block {height} has its signature",
            request.node
        ));
        Ok(())
    }
}

async fn until(reached: impl Fn() -> Result<bool, Failure>) -> Result<(), Failure> {
    while !reached()? {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn is_named(handle: &Handle, key: &PublicKey) -> bool {
    handle.watch_membership().borrow().node_of(key).is_some()
}

fn is_following(handle: &Handle) -> bool {
    handle.watch_progress().borrow().phase == Phase::Following
}
