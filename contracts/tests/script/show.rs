//! State keys and records as text.

use std::collections::BTreeMap;

use lamplighter_contracts::rollouts::keys::Timer;
use lamplighter_contracts::tables::Table;
use lamplighter_state::Changes;
use lamplighter_types::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use Part::{Bytes, Digest, Number, Text};
use Table as T;

/// A part of a key.
enum Part {
    Text,
    Number,
    /// 32 bytes.
    Digest,
    /// All that is left.
    Bytes,
}

type Show = fn(&[u8]) -> String;

fn record<R: Serialize + DeserializeOwned>(bytes: &[u8]) -> String {
    let value: R = codec::decode(bytes).expect("a record of its table");
    serde_json::to_string(&value).expect("records have a JSON form")
}

/// The parts of a table's keys, and how its records are shown.
fn layout(table: u8) -> (&'static str, &'static [Part], Show) {
    let tables: &[(Table, &str, &[Part], Show)] = &[
        (
            T::Organization,
            "organization",
            &[Text],
            record::<Organization>,
        ),
        (T::Account, "account", &[Text], record::<Account>),
        (T::Key, "key", &[Digest], record::<KeyRecord>),
        (
            T::ReplayWindow,
            "replay_window",
            &[Digest],
            record::<ReplayWindow>,
        ),
        (T::Approver, "approver", &[Text], record::<Id>),
        (T::Administrator, "administrator", &[Text], record::<Id>),
        (
            T::AllowanceUse,
            "allowance_use",
            &[Text],
            record::<AllowanceUse>,
        ),
        (T::Device, "device", &[Text], record::<Device>),
        (
            T::DeviceState,
            "device_state",
            &[Text],
            record::<DeviceState>,
        ),
        (
            T::DeviceByGateway,
            "device_by_gateway",
            &[Text, Text],
            record::<Id>,
        ),
        (
            T::DeviceByDistrict,
            "device_by_district",
            &[Bytes],
            record::<Id>,
        ),
        (
            T::DeviceByOwner,
            "device_by_owner",
            &[Text, Text],
            record::<Id>,
        ),
        (T::DeviceByKey, "device_by_key", &[Digest], record::<Id>),
        (T::IotRegistry, "iotregistry", &[Bytes], record::<HexBytes>),
        (
            T::RegistrantLink,
            "registrant_link",
            &[Text],
            record::<RegistrantLink>,
        ),
        (T::Release, "release", &[Text], record::<Release>),
        (
            T::Artifact,
            "artifact",
            &[Digest, Number],
            record::<Artifact>,
        ),
        (
            T::ReleaseByArtifact,
            "release_by_artifact",
            &[Digest, Text],
            record::<Id>,
        ),
        (T::OpenRelease, "open_release", &[Text, Text], record::<Id>),
        (T::OpenPlan, "open_plan", &[Text, Text], record::<Id>),
        (
            T::GroupedPlan,
            "grouped_plan",
            &[Text],
            record::<GroupedPlan>,
        ),
        (
            T::RolloutGroups,
            "rollout_groups",
            &[Text],
            record::<RolloutGroups>,
        ),
        (
            T::InstallRules,
            "install_rules",
            &[Text],
            record::<InstallRules>,
        ),
        (
            T::InstallRecord,
            "install_record",
            &[Text, Text],
            record::<InstallRecord>,
        ),
        (T::LateDevice, "late_device", &[Text, Text], record::<Id>),
        (
            T::RolloutTimer,
            "rollout_timer",
            &[Number, Text],
            record::<(u64, Id)>,
        ),
        (
            T::ContinuousRollout,
            "continuous_rollout",
            &[Text],
            record::<Id>,
        ),
        (
            T::RevocationSweep,
            "revocation_sweep",
            &[Text],
            record::<RevocationSweep>,
        ),
        (T::Rollout, "rollout", &[Text], record::<Rollout>),
        (
            T::Deployment,
            "deployment",
            &[Text, Text],
            record::<Deployment>,
        ),
        (
            T::DeploymentByDevice,
            "deployment_by_device",
            &[Text, Number, Text],
            record::<Id>,
        ),
        (
            T::DeploymentTimer,
            "deployment_timer",
            &[Number, Text, Text],
            record::<Timer>,
        ),
        (
            T::RunningRollout,
            "running_rollout",
            &[Text],
            record::<(Id, RolloutWork)>,
        ),
        (
            T::DesiredConfig,
            "desired_config",
            &[Bytes],
            record::<DesiredConfig>,
        ),
        (
            T::ReportedConfig,
            "reported_config",
            &[Text],
            record::<ReportedConfig>,
        ),
        (
            T::EventCursor,
            "event_cursor",
            &[Text],
            record::<EventCursor>,
        ),
        (T::Alarm, "alarm", &[Text, Number], record::<Alarm>),
        (
            T::DeviceAlarms,
            "device_alarms",
            &[Text],
            record::<DeviceAlarms>,
        ),
        (
            T::ValidatorSet,
            "validator_set",
            &[],
            record::<ValidatorSet>,
        ),
        (T::Observer, "observer", &[Number], record::<Observer>),
        (T::Policies, "policies", &[], record::<Policies>),
        (T::Proposal, "proposal", &[Text], record::<Proposal>),
        (
            T::ProposalDeadline,
            "proposal_deadline",
            &[Number, Text],
            record::<Id>,
        ),
        (T::Protocol, "protocol", &[], record::<Protocol>),
        (T::UsedNode, "used_node", &[Number], record::<Id>),
    ];
    let found = tables.iter().find(|(known, ..)| *known as u8 == table);
    let (_, name, parts, show) =
        found.unwrap_or_else(|| panic!("table {table:#04x} is not in the list of this test"));
    (name, parts, *show)
}

fn key_text(mut key: &[u8], parts: &[Part]) -> String {
    let mut texts = Vec::new();
    for part in parts {
        let (head, rest) = match part {
            Part::Text => {
                let end = key
                    .iter()
                    .position(|b| *b == 0)
                    .expect("text ends with a zero byte");
                (key[..end].escape_ascii().to_string(), &key[end + 1..])
            }
            Part::Number => {
                let (number, rest) = key.split_first_chunk().expect("eight bytes");
                (u64::from_be_bytes(*number).to_string(), rest)
            }
            Part::Digest => {
                let (digest, rest) = key.split_first_chunk().expect("32 bytes");
                (Hash(*digest).to_string(), rest)
            }
            Part::Bytes => (key.escape_ascii().to_string(), &key[key.len()..]),
        };
        texts.push(head);
        key = rest;
    }
    assert!(
        key.is_empty(),
        "a key is longer than the parts of its table"
    );
    texts.join(" ")
}

/// Checks that a reader of a proof decodes the same key and record.
fn check_readable(key: &[u8], value: Option<&[u8]>, show: Show) {
    let named = StateKey::parse(key).expect("auditors can read every key");
    let Some(value) = value else { return };
    let read = named.record(value).expect("and every record");
    let shown: serde_json::Value = serde_json::from_str(&show(value)).expect("JSON");
    assert_eq!(read, shown, "{named}");
}

/// The events and changed records of a block, one a line.
pub fn changes(changes: &Changes) -> Vec<String> {
    let mut lines = Vec::new();
    for event in &changes.events {
        lines.push(format!(
            "event {}",
            serde_json::to_string(event).expect("JSON")
        ));
    }
    for (key, value) in &changes.writes {
        let (name, parts, show) = layout(key[0]);
        check_readable(key, value.as_deref(), show);
        if key[0] == Table::ReplayWindow as u8 {
            continue;
        }
        let key = key_text(&key[1..], parts);
        lines.push(match value {
            Some(value) => format!("set {name} {key} {}", show(value)),
            None => format!("delete {name} {key}"),
        });
    }
    lines
}

/// The number of notifications of each kind.
pub fn notification_counts(notifications: &[Notification]) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for notification in notifications {
        *counts.entry(notification.fact.kind()).or_insert(0_usize) += 1;
    }
    let lines = counts.iter().map(|(kind, n)| format!("told {n} {kind}"));
    lines.collect()
}

/// The number of records of each table that were written or deleted.
pub fn change_counts(changes: &Changes) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for (key, value) in &changes.writes {
        let (name, _, show) = layout(key[0]);
        check_readable(key, value.as_deref(), show);
        if key[0] != Table::ReplayWindow as u8 {
            let verb = if value.is_some() { "set" } else { "delete" };
            *counts.entry((name, verb)).or_insert(0_usize) += 1;
        }
    }
    let lines = counts
        .iter()
        .map(|((name, verb), n)| format!("{verb} {n} {name}"));
    lines.collect()
}

/// The outcomes of several transactions; equal ones in a row are shown once.
pub fn joined(outcomes: Vec<Vec<String>>) -> Vec<String> {
    let mut lines = Vec::new();
    for equal in outcomes.chunk_by(|one, next| one == next) {
        if equal.len() > 1 {
            lines.push(format!("{} times", equal.len()));
        }
        lines.extend_from_slice(&equal[0]);
    }
    lines
}

/// A notification as a line of text.
pub fn notification(notification: &Notification) -> String {
    let fact = serde_json::to_string(&notification.fact).expect("JSON");
    match &notification.place {
        None => format!("told {fact}"),
        Some(Place {
            device,
            district,
            gateway,
        }) => {
            let gateway = gateway.as_ref().map_or("no gateway", Id::as_str);
            format!("told {fact} of {device} in {district:?} at {gateway}")
        }
    }
}

/// Long hexadecimal texts get their names, or are cut to eight digits.
pub fn shorten(line: &str, labels: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let run = &rest[start..];
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let length = run.find(|c| !is_digit(c)).unwrap_or(run.len());
        text.push_str(&rest[..start]);
        let digits = &run[..length.max(1)];
        match labels.get(digits) {
            Some(label) => text.push_str(label),
            None if digits.len() >= 48 => {
                text.push_str(&digits[..8]);
                text.push('~');
            }
            None => text.push_str(digits),
        }
        rest = &run[digits.len()..];
    }
    text.push_str(rest);
    text
}
