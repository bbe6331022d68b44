//! Keys of the state, decoded into names, with the record type of each: the form in which people
//! and programs read a proven key and value.
//!
//! The contracts make the keys (`keys.rs` of each contract); a test there shows that each is
//! decoded here into the parts of which it was made.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::codec::{self, CodecError};
use crate::record::*;
use crate::tables::Table;
use crate::{
    ConfigTarget, GroupedPlan, Hash, HexBytes, Id, InstallRules, PublicKey, Scope, ValidatorSet,
};

/// A deadline (Unix ms), the rollout and the device.
type Timer = (u64, Id, Id);

/// One line for each table: its parts in the order of the key, and the type of its records.
macro_rules! state_keys {
    ($($kind:ident $({ $($part:ident: $type:ty),+ })? => $record:ty,)+) => {
        /// The name that a key of the state stands for. In JSON it has `kind`, and `of` with the
        /// parts of the key.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case", tag = "kind", content = "of")]
        pub enum StateKey {
            $($kind $({ $($part: $type),+ })?,)+
        }

        impl StateKey {
            fn read(table: Table, reader: &mut KeyReader) -> Option<Self> {
                Some(match table {
                    $(Table::$kind => Self::$kind $({ $($part: KeyPart::read(reader)?),+ })?,)+
                })
            }

            /// Decodes the record that stands under this key.
            ///
            /// # Errors
            /// The bytes are not the encoding of such a record.
            pub fn record(&self, bytes: &[u8]) -> Result<Value, CodecError> {
                match self {
                    $(Self::$kind $({ $($part: _),+ })? => readable::<$record>(bytes),)+
                }
            }
        }

        const TABLES: &[Table] = &[$(Table::$kind),+];
    };
}

state_keys! {
    Organization { organization: Id } => Organization,
    Account { account: Id } => Account,
    Key { key: PublicKey } => KeyRecord,
    ReplayWindow { key: PublicKey } => ReplayWindow,
    Approver { account: Id } => Id,
    Administrator { account: Id } => Id,
    AllowanceUse { account: Id } => AllowanceUse,

    Device { device: Id } => Device,
    DeviceState { device: Id } => DeviceState,
    DeviceByGateway { gateway: Id, device: Id } => Id,
    DeviceByDistrict { district: Scope, device: Id } => Id,
    DeviceByOwner { owner: Id, device: Id } => Id,
    DeviceByKey { key: PublicKey } => Id,
    IotRegistry { key: HexBytes } => HexBytes,
    RegistrantLink { registrant: String } => RegistrantLink,

    Release { release: Id } => Release,
    Artifact { digest: Hash, size_bytes: u64 } => Artifact,
    ReleaseByArtifact { digest: Hash, release: Id } => Id,
    OpenRelease { organization: Id, release: Id } => Id,

    Rollout { rollout: Id } => Rollout,
    Deployment { rollout: Id, device: Id } => Deployment,
    DeploymentByDevice { device: Id, height: u64, rollout: Id } => Id,
    DeploymentTimer { deadline_ms: u64, rollout: Id, device: Id } => Timer,
    RunningRollout { rollout: Id } => (Id, RolloutWork),
    OpenPlan { organization: Id, rollout: Id } => Id,
    GroupedPlan { rollout: Id } => GroupedPlan,
    RolloutGroups { rollout: Id } => RolloutGroups,
    LateDevice { rollout: Id, device: Id } => Id,
    RolloutTimer { deadline_ms: u64, rollout: Id } => (u64, Id),
    ContinuousRollout { rollout: Id } => Id,
    RevocationSweep { release: Id } => RevocationSweep,
    InstallRules { rollout: Id } => InstallRules,
    InstallRecord { rollout: Id, device: Id } => InstallRecord,

    DesiredConfig { target: ConfigTarget } => DesiredConfig,
    ReportedConfig { device: Id } => ReportedConfig,

    EventCursor { device: Id } => EventCursor,
    Alarm { device: Id, sequence: u64 } => Alarm,
    DeviceAlarms { device: Id } => DeviceAlarms,

    ValidatorSet => ValidatorSet,
    Observer { node: u64 } => Observer,
    Policies => Policies,
    Proposal { proposal: Id } => Proposal,
    Protocol => Protocol,
    UsedNode { node: u64 } => Id,
    ProposalDeadline { deadline_ms: u64, proposal: Id } => Id,
}

fn readable<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<Value, CodecError> {
    let record: T = codec::decode(bytes)?;
    Ok(serde_json::to_value(record).expect("our types have JSON forms"))
}

impl StateKey {
    /// Decodes a key; `None` if this version of the program knows no such key.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (table, rest) = key.split_first()?;
        let table = TABLES.iter().find(|known| **known as u8 == *table)?;
        let mut reader = KeyReader(rest);
        let read = Self::read(*table, &mut reader)?;
        reader.0.is_empty().then_some(read)
    }
}

/// The name for people, e.g. `deployment of device lamp-1, rollout spring`.
impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = serde_json::to_value(self).expect("our types have JSON forms");
        let words = |name: &str| name.replace('_', " ");
        let kind = words(shown["kind"].as_str().unwrap_or_default());
        let parts = shown["of"].as_object().into_iter().flatten();
        let parts = parts.map(|(name, value)| match value {
            Value::String(text) => format!("{} {text}", words(name)),
            other => format!("{} {other}", words(name)),
        });
        let parts = parts.collect::<Vec<_>>().join(", ");
        // A single part that has the name of the kind is enough.
        match parts.strip_prefix(&kind) {
            Some(rest) if rest.starts_with(' ') => f.write_str(&parts),
            _ if parts.is_empty() => f.write_str(&kind),
            _ => write!(f, "{kind} of {parts}"),
        }
    }
}

/// Reads the parts of a key; it holds the rest. A name has one key: the absence of a record says
/// nothing if the same name has another key, under which it may be.
struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|taken| taken[0])
    }

    /// Text up to its zero byte; in it 0x01 0x01 stands for zero and 0x01 0x02 for 0x01.
    fn text(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                0 => return String::from_utf8(bytes).ok(),
                1 => bytes.push(self.byte()?.checked_sub(1).filter(|byte| *byte < 2)?),
                other => bytes.push(other),
            }
        }
    }
}

/// A type of which keys are made.
trait KeyPart: Sized {
    fn read(reader: &mut KeyReader) -> Option<Self>;
}

impl KeyPart for Id {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        Self::new(reader.text()?).ok()
    }
}

impl KeyPart for String {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        reader.text()
    }
}

impl KeyPart for u64 {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        Some(Self::from_be_bytes(reader.bytes(8)?.try_into().ok()?))
    }
}

impl KeyPart for Hash {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        Some(Self(reader.bytes(Self::LEN)?.try_into().ok()?))
    }
}

impl KeyPart for PublicKey {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        Some(Self(reader.bytes(Self::LEN)?.try_into().ok()?))
    }
}

/// The whole rest of a key.
impl KeyPart for HexBytes {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        let rest = reader.bytes(reader.0.len())?;
        Some(Self(rest.to_vec()))
    }
}

/// A text for each level, then an empty one.
impl KeyPart for Scope {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        let mut levels = Vec::new();
        loop {
            match reader.text()? {
                level if level.is_empty() => return Self::new(levels.join("/")).ok(),
                // Two levels in one text would be a second key of the same district.
                level if level.contains('/') => return None,
                level => levels.push(level),
            }
        }
    }
}

impl KeyPart for ConfigTarget {
    fn read(reader: &mut KeyReader) -> Option<Self> {
        Some(match reader.byte()? {
            0 => Self::Fleet,
            1 => Self::Model {
                model: reader.text()?,
            },
            2 => Self::District {
                district: Scope::new(reader.text()?).ok()?,
            },
            3 => Self::Device {
                device: Id::read(reader)?,
            },
            _ => return None,
        })
    }
}
