//! A node of the ledger that is an attacker: it has a node's key, speaks the protocol of the nodes,
//! and does one thing after the other that no honest node does.
//!
//! `peer` is its side of the network, with what it learns there; `attack` has what it sends. The
//! attacks of `devnet up` and the program `hostile` of the chaos tests run it.

mod attack;
mod peer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_net::NetConfig;
use lamplighter_node::{PEER_PROTOCOL, key};
use lamplighter_system::error_chain;
use lamplighter_types::Genesis;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::DevnetError;
use peer::HostilePeer;
pub use peer::StoreGreeting;

/// The time in which it connects.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// The time in which it disconnects in order.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(1);

/// What a hostile node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Attack {
    /// Heartbeats of a leader that nobody elected.
    Lead,
    /// An entry that makes it the only voter.
    Membership,
    /// Its own entry in place of one that was just sent.
    Truncate,
    /// A previous entry and a commit that lie behind.
    Rewind,
    /// The highest term in every answer.
    AnswerMax,
    /// A certified block of an absurd height.
    Height,
    /// The attestations of others under other heights.
    Frame,
    /// An image of half a TiB.
    Flood,
    /// A batch for most, and another entry with the same log id for one.
    Fork,
    /// Stands for election again and again, and is silent when it wins.
    Stand,
}

/// Every attack.
pub const ATTACKS: [Attack; 10] = [
    Attack::Lead,
    Attack::Membership,
    Attack::Truncate,
    Attack::Rewind,
    Attack::AnswerMax,
    Attack::Height,
    Attack::Frame,
    Attack::Flood,
    Attack::Fork,
    Attack::Stand,
];

impl Attack {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lead => "lead",
            Self::Membership => "membership",
            Self::Truncate => "truncate",
            Self::Rewind => "rewind",
            Self::AnswerMax => "answer max",
            Self::Height => "height",
            Self::Frame => "frame",
            Self::Flood => "flood",
            Self::Fork => "fork",
            Self::Stand => "stand",
        }
    }
}

/// Options of the program `hostile`.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "hostile")]
pub struct HostileOptions {
    #[arg(long)]
    pub genesis: PathBuf,
    #[arg(long)]
    pub key: PathBuf,
    #[arg(long)]
    pub node: u64,
    #[arg(long)]
    pub listen: SocketAddr,
    #[arg(long)]
    pub attack: Attack,
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// The greeting of the node whose machine it has; otherwise it has a store of its own.
    #[arg(skip)]
    pub greeting: Option<StoreGreeting>,
}

/// What came of an attack.
#[derive(Clone, Debug)]
pub struct AttackSummary {
    /// Nodes that were connected.
    pub reached: usize,
    /// Messages of the attack, requests that were refused, and those that were not.
    pub sent: u64,
    pub refused: u64,
    pub obeyed: u64,
    /// The first reasons of refusals.
    pub reasons: Vec<String>,
    /// The greetings of its peers, by their keys.
    pub greetings: BTreeMap<[u8; 32], StoreGreeting>,
}

/// Connects to the validators and attacks them.
///
/// # Errors
/// Genesis or key cannot be read, or the address is in use.
pub async fn run(options: &HostileOptions) -> Result<AttackSummary, DevnetError> {
    let bytes = std::fs::read(&options.genesis);
    let bytes = bytes.map_err(DevnetError::file("reading", &options.genesis))?;
    let genesis: Genesis = serde_json::from_slice(&bytes)
        .map_err(|error| DevnetError::Unexpected(format!("no genesis document: {error}")))?;
    let secret = key::read(&options.key)?;
    let chain_id = genesis.chain_id();
    let peer = HostilePeer::new(options, &genesis, secret.clone());
    let (_list, allowed) = watch::channel(peer.allow_list(&genesis));
    let config = NetConfig {
        secret: secret.seed().into(),
        listen: options.listen,
        chain_id: chain_id.0,
        protocol: PEER_PROTOCOL,
        dials_all: false,
        limits: Default::default(),
    };
    let network = lamplighter_net::Network::start(config, allowed, peer.clone()).await;
    let network = network.map_err(|error| {
        DevnetError::Unexpected(format!("a hostile node: {}", error_chain(&error)))
    })?;
    let mut connected = network.connected();
    let validators = peer.keys.len();
    let all = connected.wait_for(|connected| connected.len() >= validators);
    // With fewer of them it attacks those.
    let _ = tokio::time::timeout(CONNECTED_WITHIN, all).await;
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let reached = network.connected().borrow().len();
    let attack = attack::run(options.attack, &peer, &network, until);
    // A request may still wait for its answer.
    let _ = tokio::time::timeout_at(until, attack).await;
    let _ = tokio::time::timeout(SHUTDOWN_WITHIN, network.shutdown()).await;
    Ok(peer.summary(reached))
}
