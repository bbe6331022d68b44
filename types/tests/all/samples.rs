//! One value of every wire and disk type, as JSON, one to a line, in `tests/samples/`.

use std::path::PathBuf;

use lamplighter_types::login::{ChallengeRequest, TokenRequest};
use lamplighter_types::merkle::{ListProof, StateProof};
use lamplighter_types::proof::RecordProof;
use lamplighter_types::wire::work::{WorkItem, WorkMessage};
use lamplighter_types::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub const FILES: [&str; 4] = ["actions", "facts", "records", "chain"];

pub struct Sample {
    pub kind: String,
    /// The value's JSON text.
    pub json: String,
}

pub fn path(folder: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder)
        .join(file)
}

pub fn of(file: &str) -> Vec<Sample> {
    let text = std::fs::read_to_string(path("samples", &format!("{file}.json"))).unwrap();
    let lines = text.lines().filter(|line| line.contains("\"type\""));
    lines.map(parse).collect()
}

fn parse(line: &str) -> Sample {
    let (kind, value) = line
        .split_once("\"value\": ")
        .expect("one sample to a line");
    let value = value
        .trim_end_matches(',')
        .strip_suffix('}')
        .expect("an object");
    let kind = kind.split('"').nth(3).expect("the type comes first");
    Sample {
        kind: kind.to_owned(),
        json: value.to_owned(),
    }
}

/// Something to be done with a sample of any type.
pub trait Visit {
    fn visit<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &str,
        value: &T,
        json: &str,
    );
}

/// Visits every sample of `file`.
pub fn each(file: &str, visitor: &mut impl Visit) {
    for sample in of(file) {
        dispatch(&sample, visitor);
    }
}

fn go<T>(sample: &Sample, visitor: &mut impl Visit)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let value: T = codec::decode_json(sample.json.as_bytes())
        .unwrap_or_else(|error| panic!("{}: {error:?} in {}", sample.kind, sample.json));
    visitor.visit(&sample.kind, &value, &sample.json);
}

macro_rules! dispatch {
    ($($kind:ident)*) => {
        fn dispatch(sample: &Sample, visitor: &mut impl Visit) {
            match &sample.kind[..] {
                $(stringify!($kind) => go::<$kind>(sample, visitor),)*
                other => panic!("no type is called {other}"),
            }
        }

        /// The types of which there have to be samples.
        pub const KINDS: &[&str] = &[$(stringify!($kind)),*];

        /// Decodes `bytes` as every type; whatever is decoded must have these bytes as its
        /// encoding.
        pub fn decode_as_each(bytes: &[u8]) {
            $(
                if let Ok(value) = codec::decode_stored::<$kind>(bytes) {
                    assert_eq!(codec::encode(&value), bytes, stringify!($kind));
                }
                let json = codec::decode_json::<$kind>(bytes);
                drop(json);
            )*
        }
    };
}

dispatch! {
    Action GovernanceChange ConfigTarget Selection Fact
    Organization Account KeyRecord ReplayWindow Device DeviceState RegistrantLink
    ReleaseManifest Release Artifact Rollout RolloutWork Deployment
    GroupedPlan RolloutGroups GuardedPlan InstallRules InstallRecord
    GroupStatus RevocationSweep DesiredConfig ReportedConfig
    AllowanceUse EventRecord EventCursor Alarm DeviceAlarms Policies Observer Proposal Protocol
    Role AccountKind DeviceStatus
    ReleaseStatus RolloutStatus DeploymentState SkipReason Severity AlarmChange
    Transaction SignedTransaction Encoding Header Block Outcome Receipt Notification ValidatorSet
    Attestation Certificate Genesis RecordProof ProofBundle ListProof StateProof
    WorkMessage WorkItem TokenRequest ChallengeRequest
}
