//! `key`, `genesis`, `node init`: the files that are made before anything runs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_node::{NodeConfig, key};
use lamplighter_system::{files, unix_ms};
use lamplighter_types::{
    GENESIS_VERSION, Genesis, GenesisAccount, Grant, Id, KeyPurpose, Policies, PublicKey, Role,
    Scope, Signature, Validator, ValidatorSet,
};
use serde::Deserialize;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, Output, emit, print};
use crate::session::{SessionArguments, read_genesis};

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a secret key in a new file that only its owner can read, and prints the public key.
    New { file: PathBuf },
    /// Prints the public key of a file.
    Show { file: PathBuf },
    /// Prints the proof of possession with which this key is registered. It needs the genesis file.
    Prove {
        file: PathBuf,
        /// The account or device that gets the key.
        #[arg(long = "for")]
        subject: Id,
        /// The account is that of a node, e.g. `node-5`.
        #[arg(long, conflicts_with = "device")]
        node: bool,
        /// It is a device.
        #[arg(long)]
        device: bool,
    },
}

/// A key that enters the ledger.
#[derive(Clone, Debug, Args)]
pub struct NewKey {
    #[arg(long = "public-key")]
    pub public_key: PublicKey,
    /// The key's proof of possession, as `key prove` prints it.
    #[arg(long)]
    pub proof: Signature,
}

pub fn key(command: KeyCommand, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let secret = match command {
        KeyCommand::New { file } => {
            let secret = key::generate().map_err(Failure::during("making a key"))?;
            key::write(&file, &secret).map_err(Failure::during("writing the key"))?;
            secret
        }
        KeyCommand::Show { file } => {
            key::read(&file).map_err(Failure::during("reading the key"))?
        }
        KeyCommand::Prove {
            file,
            subject,
            node,
            device,
        } => {
            let secret = key::read(&file).map_err(Failure::during("reading the key"))?;
            let purpose = match (node, device) {
                (true, _) => KeyPurpose::Node,
                (false, true) => KeyPurpose::Device,
                (false, false) => KeyPurpose::Account,
            };
            let chain_id = session.read_genesis()?.chain_id();
            let proof = secret.prove(purpose, &chain_id, &subject).to_string();
            session.output().answer(&json!({ "proof": proof }), &proof);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let public = secret.public().to_string();
    session.output().answer(&json!({ "key": public }), &public);
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Subcommand)]
pub enum GenesisCommand {
    /// Makes a genesis file from a description (TOML) of validators and first accounts.
    New(NewGenesis),
    /// Checks a genesis file and prints its chain id, to be compared by hand. Names faults, and
    /// settings that the founders may not have meant.
    Check { file: PathBuf },
}

#[derive(Debug, Args)]
pub struct NewGenesis {
    /// `name`, `organization`, `[[validators]]` (node, account, key, address), `[[accounts]]`
    /// (account, name, key, grants = ["operator@north/harbour"]), and, if
    /// wanted, a part of `[policies]`: what it leaves out is as by default.
    description: PathBuf,
    /// The genesis file to write; it must not exist.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    organization: Id,
    validators: Vec<Validator>,
    accounts: Vec<First>,
    /// The part of the policies that is not as by default.
    #[serde(default)]
    policies: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    account: Id,
    name: String,
    key: PublicKey,
    grants: Vec<String>,
}

/// Reads `role` or `role@district`.
pub fn grant(text: &str) -> Result<Grant, Failure> {
    let (role, scope) = text.split_once('@').unwrap_or((text, ""));
    let quoted = |what: &str, text: &str| format!("the {what} \"{}\"", text.escape_debug());
    let role: Role =
        serde_json::from_value(json!(role)).map_err(Failure::during(quoted("role", role)))?;
    let scope = Scope::new(scope).map_err(Failure::during(quoted("district", scope)))?;
    Ok(Grant::founding(role, scope))
}

fn read_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Failure> {
    let operation = || format!("reading {}", path.display());
    let text = files::read_text(path).map_err(Failure::during(operation()))?;
    toml::from_str(&text).map_err(Failure::during(operation()))
}

/// Writes a file that must not exist yet.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let shown = path.display();
    let made = fs::File::create_new(path);
    match made.and_then(|mut file| file.write_all(bytes)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::plain(format!("{shown} exists already")))
        }
        written => written.map_err(Failure::during(format!("writing {shown}"))),
    }
}

pub fn genesis(command: GenesisCommand, output: Output) -> Result<ExitCode, Failure> {
    let genesis = match command {
        GenesisCommand::Check { file } => read_genesis(&file)?,
        GenesisCommand::New(NewGenesis { description, out }) => {
            let genesis = from_description(read_toml(&description)?)?;
            genesis
                .check()
                .map_err(Failure::during("the description contradicts itself"))?;
            let bytes = serde_json::to_vec_pretty(&genesis).expect("our types have JSON forms");
            write_new(&out, &bytes)?;
            genesis
        }
    };
    let set = &genesis.validators;
    let warnings: Vec<_> = genesis.warnings().iter().map(ToString::to_string).collect();
    for warning in &warnings {
        output::warn(warning);
    }
    output.record(&json!({
        "chain_id": genesis.chain_id(), "name": genesis.name,
        "validators": set.validators.len(), "quorum": set.quorum(),
        "accounts": genesis.accounts.len(), "warnings": warnings.len(),
        "policies": genesis.policies,
    }));
    Ok(ExitCode::SUCCESS)
}

/// The policies of a description: what it leaves out is as by default.
fn policies_of(described: toml::Table) -> Result<Policies, Failure> {
    let toml::Value::Table(mut all) =
        toml::Value::try_from(Policies::default()).expect("policies have TOML forms")
    else {
        unreachable!("policies are a table")
    };
    overlay(&mut all, described);
    all.try_into().map_err(Failure::during("[policies]"))
}

/// Puts the values of `over` in place of those of `under`, table by table.
fn overlay(under: &mut toml::Table, over: toml::Table) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(name, value);
            }
        }
    }
}

fn from_description(description: Description) -> Result<Genesis, Failure> {
    let Description {
        name,
        organization,
        validators,
        accounts,
        policies,
    } = description;
    let accounts = accounts.into_iter().map(|first| {
        let First {
            account,
            name,
            key,
            grants,
        } = first;
        let grants = grants
            .iter()
            .map(|text| grant(text))
            .collect::<Result<_, _>>()?;
        Ok(GenesisAccount {
            account,
            name,
            key,
            grants,
        })
    });
    Ok(Genesis {
        version: GENESIS_VERSION,
        name,
        created_ms: unix_ms(),
        validators: ValidatorSet { validators },
        organization,
        accounts: accounts.collect::<Result<_, Failure>>()?,
        policies: policies_of(policies)?,
    })
}

#[derive(Debug, Args)]
pub struct NodeInit {
    /// A new folder for key, configuration and data.
    dir: PathBuf,
    /// The node's id in the genesis file; never one that another node had.
    #[arg(long)]
    node: u64,
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

/// Makes key and configuration of a node.
pub fn node_init(init: NodeInit, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let NodeInit { dir, node, ports } = init;
    let (public, path) = make_node(&dir, node, &ports, session.genesis_file()?)?;
    if session.output().json {
        print(&json!({ "key": public, "config": path }))
    } else {
        emit(&format!("public key {public}"));
        emit(&format!("configuration {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes key and configuration of a node in its folder; returns its public key and the path of the
/// configuration.
pub fn make_node(
    dir: &Path,
    node: u64,
    ports: &Ports,
    genesis: PathBuf,
) -> Result<(PublicKey, PathBuf), Failure> {
    let Ports { host, first_port } = *ports;
    // The genesis file may be made only after all nodes have their keys.
    let genesis = std::path::absolute(&genesis)
        .map_err(Failure::during(format!("finding {}", genesis.display())))?;
    fs::create_dir_all(dir).map_err(Failure::during(format!("making {}", dir.display())))?;
    let secret =
        key::read_or_create(&dir.join("node.key")).map_err(Failure::during("the node's key"))?;
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
    Ok((secret.public(), path))
}
