//! `node init`: the key, the configuration and the party file of a node.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lamplighter_node::{NodeConfig, key};
use lamplighter_types::{Id, SecretKey, Validator};
use serde_json::json;

use super::description::{Description, First, Founder};
use crate::changes::NewNode;
use crate::failure::Failure;
use crate::keys::write_new;
use crate::output::{emit, print, warn};
use crate::session::SessionArguments;

/// The file that a party sends to whoever makes the genesis file.
const PARTY: &str = "party.toml";

#[derive(Debug, Args)]
pub struct NodeInit {
    /// A new folder for key, configuration and data. What root makes in the folder of another user
    /// belongs to that user.
    dir: PathBuf,
    /// The node's id in the genesis file; never one that another node had.
    #[arg(long)]
    node: u64,
    /// Where the other nodes reach this one, host:port.
    #[arg(long)]
    address: String,
    /// The party's first administrator of the whole city. Its key is in ACCOUNT.key in the current
    /// folder, and is made unless it is there: it does not belong on the machine of the node.
    #[arg(long, value_name = "ACCOUNT")]
    administrator: Option<Id>,
    #[command(flatten)]
    ports: Ports,
}

#[derive(Debug, Args)]
pub struct Ports {
    /// The host that the node listens on.
    #[arg(long, default_value = "0.0.0.0")]
    host: std::net::IpAddr,
    /// The first of the ports: peers, HTTP, operator, MQTT, MQTT with TLS.
    #[arg(long, default_value_t = 7400)]
    first_port: u16,
}

/// Makes key, configuration and party file of a node.
pub fn node_init(init: NodeInit, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let NodeInit {
        dir,
        node,
        address,
        administrator,
        ports,
    } = init;
    if !Validator::is_address(&address) {
        let shown = address.escape_debug();
        let words = format!("the address \"{shown}\" is not of the form host:port");
        return Err(Failure::plain(words));
    }
    if address.rsplit(':').next() != Some(ports.first_port.to_string().as_str()) {
        warn(&format!(
            "the others use the address {address}, and the node listens on port {}: something \
             must forward that",
            ports.first_port
        ));
    }
    let genesis = session.genesis_option();
    let genesis = genesis.map_or_else(|| dir.join("genesis.json"), Path::to_owned);
    let (secret, config) = make_node(&dir, node, &ports, genesis)?;
    let founder = Founder::new(&secret, node, NewNode::account(node)?, address);
    let first = administrator
        .as_ref()
        .map(first_administrator)
        .transpose()?;
    let described = Description {
        validators: vec![founder],
        accounts: first.into_iter().collect(),
        ..Description::default()
    };
    let text = toml::to_string_pretty(&described).expect("descriptions have TOML forms");
    let party = dir.join(PARTY);
    write_new(&party, text.as_bytes())?;
    hand_over(&party, &dir)?;
    let public = secret.public();
    if session.output().json {
        print(&json!({ "key": public, "config": config, "party": party }));
        return Ok(ExitCode::SUCCESS);
    }
    emit(&format!("public key {public}"));
    emit(&format!("configuration {}", config.display()));
    emit(&format!(
        "party file {}: send it to whoever makes the genesis file; it has no secret",
        party.display()
    ));
    if let Some(account) = administrator {
        emit(&format!(
            "secret key of {account}: {account}.key, to be kept away from this machine"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The entry of an administrator of the whole city, whose key is made unless it is there.
fn first_administrator(account: &Id) -> Result<First, Failure> {
    let file = PathBuf::from(format!("{account}.key"));
    let secret = key::read_or_create(&file);
    let secret = secret.map_err(Failure::during("the administrator's key"))?;
    let grants = vec!["administrator".to_owned()];
    First::new(&secret, account.clone(), account.to_string(), grants)
}

/// Makes key and configuration of a node in its folder; returns the key and the path of the
/// configuration.
pub fn make_node(
    dir: &Path,
    node: u64,
    ports: &Ports,
    genesis: PathBuf,
) -> Result<(SecretKey, PathBuf), Failure> {
    let Ports { host, first_port } = *ports;
    // The genesis file may be made only after all nodes have their keys.
    let genesis = std::path::absolute(&genesis)
        .map_err(Failure::during(format!("finding {}", genesis.display())))?;
    make_folder(dir)?;
    let file = dir.join("node.key");
    let secret = key::read_or_create(&file).map_err(Failure::during("the node's key"))?;
    hand_over(&file, dir)?;
    let port = |step: u16| std::net::SocketAddr::from((host, first_port.saturating_add(step)));
    let local = std::net::Ipv4Addr::LOCALHOST;
    let config = NodeConfig {
        node,
        genesis,
        key: "node.key".into(),
        data_dir: "data".into(),
        peer_listen: port(0),
        http_listen: port(1),
        http: Default::default(),
        // Neither is for the public: metrics, and MQTT without TLS.
        admin_listen: (local, first_port.saturating_add(2)).into(),
        mqtt_listen: (local, first_port.saturating_add(3)).into(),
        mqtts_listen: Some(port(4)),
        mqtt_connect_s: 30,
        read_needs_token: true,
        heartbeat_ms: 60_000,
        clock_offset_max_ms: 30_000,
        disk: Default::default(),
        quotas: Default::default(),
        mqtt: Default::default(),
    };
    let text = toml::to_string_pretty(&config).expect("configurations have TOML forms");
    let path = dir.join("node.toml");
    write_new(&path, text.as_bytes())?;
    hand_over(&path, dir)?;
    Ok((secret, path))
}

/// Makes the node's folder; a new one belongs to the owner of the folder around it.
fn make_folder(dir: &Path) -> Result<(), Failure> {
    let is_new = !dir.exists();
    fs::create_dir_all(dir).map_err(Failure::during(format!("making {}", dir.display())))?;
    match dir.parent() {
        Some(around) if is_new && around.exists() => hand_over(dir, around),
        _ => Ok(()),
    }
}

/// Gives what root made to the owner of the folder that it is in: the service runs as that user,
/// and could not read a key of root.
fn hand_over(made: &Path, folder: &Path) -> Result<(), Failure> {
    let operation = || format!("setting the owner of {}", made.display());
    let owner = fs::metadata(made)
        .map_err(Failure::during(operation()))?
        .uid();
    let around = fs::metadata(folder).map_err(Failure::during(operation()))?;
    if owner != 0 || around.uid() == 0 {
        return Ok(());
    }
    chown(made, Some(around.uid()), Some(around.gid())).map_err(Failure::during(operation()))
}
