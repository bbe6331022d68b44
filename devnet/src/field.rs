//! The process of one mesh: simulated Things, each with its own socket. Each line on standard input
//! is a command to a Thing in JSON; the reply is a line on standard output.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_node::key;
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::proof::TrustedSet;
use lamplighter_types::{AlarmChange, Genesis, Hash, Id, PublicKey, Severity, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::thing::{
    Factory, NewEvent, Psk, SelfTest, Socket, Thing, ThingConfig, ThingError, ThingMesh, VendorKeys,
};
use lamplighter_system::error_chain;

use crate::DevnetError;

/// Longest line of standard input: an event with its data.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// The configuration file of a mesh (TOML).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshConfig {
    /// The ledger that signed reports are for.
    pub chain_id: Hash,
    /// The gateway's CoAP address.
    pub gateway: SocketAddr,
    /// The genesis file, from whose validators on the Things check orders; without it they check
    /// the vendors' signatures alone.
    #[serde(default)]
    pub genesis: Option<PathBuf>,
    /// Keys of vendors that the Things trust.
    pub vendor_keys: Vec<PublicKey>,
    /// The folder of the Things' directories.
    pub data_dir: PathBuf,
    /// The image in slot A at the first boot.
    pub factory_image: PathBuf,
    pub factory_version: Version,
    pub factory_security_counter: u64,
    pub hardware_class: String,
    /// Duration of a boot in ms.
    pub boot_time_ms: u64,
    pub things: Vec<ThingEntry>,
}

/// One Thing of a mesh.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThingEntry {
    pub device: Id,
    /// File with its secret key.
    pub key: PathBuf,
    /// Key of its sessions over DTLS, hexadecimal; without one it speaks plain CoAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk: Option<String>,
}

/// A command of the owner to a Thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum ThingCommand {
    /// Emit an event; the reply is its number.
    Raise {
        device: Id,
        kind: String,
        severity: Severity,
        alarm: AlarmChange,
        data: String,
    },
    /// Read the status; the reply is a [`ThingStatus`].
    Status { device: Id },
    /// Read the active slot; the reply has its bytes as hexadecimal digits.
    Image { device: Id },
    /// Flip one bit of the next block that arrives.
    CorruptNextBlock { device: Id },
    /// Choose the self-test of new images: `passes`, `fails`, `never_comes_back`.
    SelfTest { device: Id, outcome: String },
    /// Turn the Thing off and on again.
    PowerCycle { device: Id },
    /// Replace the key; the reply is the new one.
    RotateKey { device: Id },
}

/// The status of a Thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThingStatus {
    pub slot: String,
    pub digest: Hash,
    pub version: Version,
    pub boots: u64,
    pub security_counter: u64,
    pub held_bytes: u64,
    pub configuration: Option<Hash>,
}

/// The reply to a [`ThingCommand`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThingReply {
    Done(Value),
    Refused(String),
}

/// The process of a mesh failed.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    #[error("the configuration {} is not usable", path.display())]
    Malformed {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[error("the genesis file {} is not usable", path.display())]
    Genesis { path: PathBuf, source: CodecError },
    #[error("a file of the mesh")]
    File(#[from] DevnetError),
    #[error("the key of {0} for DTLS is not hexadecimal")]
    Psk(Id),
    #[error("a Thing")]
    Thing(#[from] ThingError),
    #[error("talking to the owner")]
    Owner(#[source] std::io::Error),
}

/// Boots the Things of a mesh and serves their owner until standard input ends.
pub async fn run(path: &Path) -> Result<(), FieldError> {
    let text = fs::read_to_string(path).map_err(DevnetError::file("reading", path))?;
    let config: MeshConfig = toml::from_str(&text).map_err(|source| FieldError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    let mesh = ThingMesh::spawn(things(&config)?).await?;
    tracing::info!(things = config.things.len(), gateway = %config.gateway, "the mesh is up");
    let mut input = BufReader::new(tokio::io::stdin());
    let mut output = tokio::io::stdout();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await;
        if read.map_err(FieldError::Owner)? == 0 {
            break;
        }
        let answer = match serde_json::from_slice(&line) {
            Ok(command) => handle_command(&mesh, command).await,
            Err(error) => ThingReply::Refused(error.to_string()),
        };
        let mut text = serde_json::to_vec(&answer).expect("our types have JSON forms");
        text.push(b'\n');
        output.write_all(&text).await.map_err(FieldError::Owner)?;
        output.flush().await.map_err(FieldError::Owner)?;
    }
    mesh.kill().await;
    Ok(())
}

/// The validators of a genesis file.
fn trusted_set(path: &Path) -> Result<TrustedSet, FieldError> {
    let bytes = fs::read(path).map_err(DevnetError::file("reading", path))?;
    let genesis: Genesis = codec::decode_json(&bytes).map_err(|source| FieldError::Genesis {
        path: path.to_owned(),
        source,
    })?;
    Ok((&genesis).into())
}

fn things(config: &MeshConfig) -> Result<Vec<ThingConfig>, FieldError> {
    let image = fs::read(&config.factory_image)
        .map_err(DevnetError::file("reading", &config.factory_image))?;
    let factory = Factory {
        image,
        version: config.factory_version,
        security_counter: config.factory_security_counter,
    };
    let verifier = Arc::new(VendorKeys(config.vendor_keys.clone()));
    let ledger = config.genesis.as_deref().map(trusted_set).transpose()?;
    let configs = config.things.iter().map(|entry| {
        let secret = key::read(&entry.key).map_err(DevnetError::from)?;
        let mut thing = ThingConfig::new(
            entry.device.clone(),
            &config.hardware_class,
            secret,
            config.chain_id,
            config.data_dir.join(entry.device.as_str()),
            config.gateway,
            verifier.clone(),
            factory.clone(),
        );
        thing.boot_time = Duration::from_millis(config.boot_time_ms);
        thing.ledger = ledger.clone();
        let any = match config.gateway {
            SocketAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        thing.socket = match &entry.psk {
            None => Socket::Udp(any),
            Some(psk) => {
                let key = hex::decode(psk).map_err(|_| FieldError::Psk(entry.device.clone()))?;
                let identity = entry.device.to_string();
                Socket::Secure(any, config.gateway, Psk { identity, key })
            }
        };
        Ok(thing)
    });
    configs.collect()
}

async fn handle_command(mesh: &ThingMesh, command: ThingCommand) -> ThingReply {
    let device = match &command {
        ThingCommand::Raise { device, .. }
        | ThingCommand::Status { device }
        | ThingCommand::Image { device }
        | ThingCommand::CorruptNextBlock { device }
        | ThingCommand::SelfTest { device, .. }
        | ThingCommand::PowerCycle { device }
        | ThingCommand::RotateKey { device } => device.clone(),
    };
    let Some(thing) = mesh.get(&device) else {
        return ThingReply::Refused(format!("{device} is not of this mesh"));
    };
    match execute(thing, command).await {
        Ok(value) => ThingReply::Done(value),
        Err(error) => ThingReply::Refused(error_chain(&error)),
    }
}

async fn execute(thing: &Thing, command: ThingCommand) -> Result<Value, ThingError> {
    match command {
        ThingCommand::Raise {
            device: _,
            kind,
            severity,
            alarm,
            data,
        } => {
            let event = NewEvent {
                kind,
                severity,
                alarm,
                data,
            };
            Ok(json!(thing.raise(event).await?))
        }
        ThingCommand::Status { device: _ } => Ok(json!(status(thing).await?)),
        ThingCommand::Image { device: _ } => Ok(json!(hex::encode(thing.active_image().await?))),
        ThingCommand::CorruptNextBlock { device: _ } => {
            thing.corrupt_next_block().await?;
            Ok(Value::Null)
        }
        ThingCommand::SelfTest { device: _, outcome } => {
            thing.set_self_test(match outcome.as_str() {
                "fails" => SelfTest::Fails,
                "never_comes_back" => SelfTest::NeverComesBack,
                _ => SelfTest::Passes,
            });
            Ok(Value::Null)
        }
        ThingCommand::PowerCycle { device: _ } => {
            thing.power_cycle();
            Ok(Value::Null)
        }
        ThingCommand::RotateKey { device: _ } => Ok(json!(thing.rotate_key().await?)),
    }
}

async fn status(thing: &Thing) -> Result<ThingStatus, ThingError> {
    let status = thing.status().await?;
    Ok(ThingStatus {
        slot: status.slot.name().to_owned(),
        digest: status.digest,
        version: status.version,
        boots: status.boots,
        security_counter: status.floor,
        held_bytes: status.held_bytes,
        configuration: status.configuration,
    })
}
