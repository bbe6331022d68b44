//! Comparing the rows with the ledger before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_client::DeviceFilter;
use lamplighter_types::{
    Account, AccountKind, Device, DeviceStatus, Id, NewDevice, PublicKey, Role, Tag,
};

use super::{Problem, Row};
use crate::describe::place;
use crate::failure::Failure;
use crate::output::name;
use crate::session::{Session, asking};

/// Rows whose devices are asked for one by one; for more of them all devices are listed, as for
/// keys of new devices, since no node is asked for a key.
const ASKED_ONE_BY_ONE: usize = 64;
/// Devices of one page.
const PAGE: u32 = 1_000;

/// The rows, sorted by what is to be done with them.
pub struct Comparison {
    pub new: Vec<Row>,
    /// The number of devices registered with the same content.
    pub same: usize,
    /// The number of devices registered with another content, which were to be left alone.
    pub different: usize,
    pub problems: Vec<Problem>,
}

/// The ledger's records of the rows' devices and keys.
#[derive(Default)]
struct LedgerRecords {
    devices: BTreeMap<Id, Device>,
    /// Keys of the file that other devices have.
    keys: BTreeMap<PublicKey, Id>,
}

pub async fn compare(
    session: &Session,
    rows: Vec<Row>,
    skip_existing: bool,
) -> Result<Comparison, Failure> {
    let records = records(session, &rows).await?;
    let mut comparison = Comparison {
        new: Vec::new(),
        same: 0,
        different: 0,
        problems: Vec::new(),
    };
    for row in rows {
        match records.devices.get(&row.device.device) {
            None => match row.device.key.and_then(|key| records.keys.get(&key)) {
                None => comparison.new.push(row),
                Some(other) => comparison
                    .problems
                    .push(row.problem(format!("the device {other} has the same key"))),
            },
            Some(there) => match differences(&row.device, there).as_slice() {
                [] => comparison.same += 1,
                _ if skip_existing => comparison.different += 1,
                all => comparison.problems.push(row.problem(format!(
                    "it is registered with another content: {}",
                    all.join(", ")
                ))),
            },
        }
    }
    let rules = rules(session, &comparison.new).await?;
    comparison.problems.extend(rules);
    Ok(comparison)
}

async fn records(session: &Session, rows: &[Row]) -> Result<LedgerRecords, Failure> {
    let mut records = LedgerRecords::default();
    if rows.len() <= ASKED_ONE_BY_ONE {
        for row in rows {
            let device = &row.device.device;
            if let Some(read) = found(session.client.device(device).await)? {
                records.devices.insert(device.clone(), read);
            }
        }
        let is_new = |row: &Row| !records.devices.contains_key(&row.device.device);
        if !rows
            .iter()
            .any(|row| row.device.key.is_some() && is_new(row))
        {
            return Ok(records);
        }
    }
    let names: BTreeSet<_> = rows.iter().map(|row| &row.device.device).collect();
    let keys: BTreeSet<_> = rows.iter().filter_map(|row| row.device.key).collect();
    let mut after: Option<String> = None;
    loop {
        let all = DeviceFilter::default();
        let page = session.client.devices(&all, after.as_deref(), PAGE).await;
        let page = page.map_err(asking)?.value;
        for device in page.items {
            if let Some(key) = device.key.filter(|key| keys.contains(key)) {
                records.keys.insert(key, device.device.clone());
            }
            if names.contains(&device.device) {
                records.devices.insert(device.device.clone(), device);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(records);
        }
    }
}

/// A record, if there is one.
fn found<T>(
    read: Result<lamplighter_client::Read<T>, lamplighter_client::ClientError>,
) -> Result<Option<T>, Failure> {
    match read {
        Ok(read) => Ok(Some(read.value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(asking(error)),
    }
}

/// In what a device of the file differs from the one that is registered.
fn differences(new: &NewDevice, there: &Device) -> Vec<String> {
    let NewDevice {
        device: _,
        owner,
        model,
        hardware_class,
        district,
        gateway,
        key,
        // It shows that the key may be registered, and is not kept.
        proof: _,
        tags,
    } = new;
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let text = |value: &dyn std::fmt::Display| Some(value.to_string());
    let all = [
        ("owner", text(owner), text(&there.owner)),
        ("model", text(model), text(&there.model)),
        (
            "hardware_class",
            text(hardware_class),
            text(&there.hardware_class),
        ),
        ("district", text(district), text(&there.district)),
        (
            "gateway",
            gateway.as_ref().map(Id::to_string),
            there.gateway.as_ref().map(Id::to_string),
        ),
        (
            "key",
            key.as_ref().map(PublicKey::to_string),
            there.key.as_ref().map(PublicKey::to_string),
        ),
        (
            "tags",
            text(&tag_words(tags)),
            text(&tag_words(&there.tags)),
        ),
    ];
    let mut differences: Vec<_> = all
        .iter()
        .filter(|(_, new, there)| new != there)
        .map(|(field, new, there)| format!("{field} {} (here {})", shown(there), shown(new)))
        .collect();
    if there.status == DeviceStatus::Decommissioned {
        differences.push(format!("status {}", name(&there.status)));
    }
    differences
}

/// Tags in the order in which the ledger keeps them.
fn tag_words(tags: &[Tag]) -> String {
    let mut tags = tags.to_vec();
    tags.sort();
    let words = tags.iter().map(|tag| format!("{}={}", tag.name, tag.value));
    words.collect::<Vec<_>>().join(" ")
}

/// Rows that the ledger would refuse: there is no such owner or gateway, or the district is not the
/// sender's.
async fn rules(session: &Session, new: &[Row]) -> Result<Vec<Problem>, Failure> {
    let (account, _) = session.account()?;
    let sender = found(session.client.user(account).await)?;
    let mut owners = BTreeMap::new();
    let mut gateways = BTreeMap::new();
    let mut problems = Vec::new();
    for row in new {
        let NewDevice {
            owner,
            gateway,
            district,
            ..
        } = &row.device;
        let operates = sender
            .as_ref()
            .is_some_and(|sender| sender.has_role(Role::Operator, district));
        if !operates {
            let of = place(district);
            problems.push(row.problem(format!("{account} is not Operator of {of}")));
        }
        if !owners.contains_key(owner) {
            let organization = found(session.client.organization(owner).await)?;
            owners.insert(owner.clone(), organization.is_some());
        }
        if !owners[owner] {
            problems.push(row.problem(format!("there is no organization {owner}")));
        }
        let Some(gateway) = gateway else { continue };
        if !gateways.contains_key(gateway) {
            let record = match session.client.user(gateway).await {
                // Operators read the gateways of their districts: it is none of them.
                Err(error) if error.is_outside_rights() => None,
                answered => found(answered)?,
            };
            gateways.insert(gateway.clone(), record);
        }
        if let Some(wrong) = wrong_gateway(gateways[gateway].as_ref(), &row.device) {
            problems.push(row.problem(format!("{gateway} {wrong}")));
        }
    }
    Ok(problems)
}

/// The reason why a gateway cannot get a device.
fn wrong_gateway(record: Option<&Account>, device: &NewDevice) -> Option<String> {
    match record {
        Some(record) if record.kind == AccountKind::Gateway && !record.disabled => {
            let covers = record.district.covers(&device.district);
            (!covers).then(|| format!("is the gateway of {}", place(&record.district)))
        }
        _ => Some("is no gateway, or is disabled".to_owned()),
    }
}
