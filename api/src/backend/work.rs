//! What a gateway has to do, with the proof of every record that it will act on.

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter_contracts::{config, devices, firmware, rollouts, users};
use lamplighter_ledger::Handle;
use lamplighter_state::{StateError, View};
use lamplighter_types::work::{
    ProofSet, WORK_BYTES_MAX, WORK_ITEMS_MAX, WORK_RECORDS_MAX, WORK_VERSION, WorkItem, WorkMessage,
};
use lamplighter_types::{ConfigTarget, Device, Id};

use crate::mqtt::Publisher;

/// Devices of one gateway that are looked at: more than a mesh can carry.
const DEVICES_MAX: usize = 10_000;
/// Devices read at a time.
const PAGE: usize = 500;
/// For the certificate of the proofs.
const CERTIFIED_WITHIN: Duration = Duration::from_secs(10);
/// Items that fit one message as a rule; a message that is still too long is halved.
const ITEMS_PER_MESSAGE: usize = 8;

/// Everything that is open for a gateway: its devices, deployments at work, configuration that is
/// not reported.
pub fn open(handle: &Handle, gateway: &Id) -> Result<BTreeSet<WorkItem>, StateError> {
    let (view, _) = handle.view()?;
    let mut items = BTreeSet::new();
    let mut after: Option<Id> = None;
    while items.len() < DEVICES_MAX {
        let page = devices::by_gateway(&view, gateway, after.as_ref(), PAGE)?;
        for device in &page {
            items.insert(WorkItem::Device {
                device: device.device.clone(),
            });
            items.extend(of_device(&view, device)?);
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.device.clone()),
            _ => break,
        }
    }
    Ok(items)
}

/// What is open for one device.
pub fn of_device(view: &View, device: &Device) -> Result<Vec<WorkItem>, StateError> {
    let mut items = Vec::new();
    let id = &device.device;
    let state = devices::state(view, id)?;
    if let Some(rollout) = state.and_then(|state| state.active_rollout) {
        items.push(WorkItem::Deployment {
            rollout,
            device: id.clone(),
        });
    }
    let (document, hash) = config::effective(view, device)?;
    let reported = config::reported(view, id)?;
    // A document that could not be applied is not sent again until it changes.
    if document != "{}" && reported.is_none_or(|r| r.document != hash) {
        items.push(WorkItem::Config { device: id.clone() });
    }
    Ok(items)
}

/// The keys of the records that an item's reader needs.
fn keys(view: &View, item: &WorkItem) -> Result<Vec<Vec<u8>>, StateError> {
    let mut keys = Vec::new();
    match item {
        WorkItem::Device { device } => keys.push(bytes(devices::keys::device(device))),
        WorkItem::Deployment { rollout, device } => {
            keys.push(bytes(rollouts::keys::deployment(rollout, device)));
            let found = rollouts::deployment(view, rollout, device)?;
            let Some(deployment) = found.filter(|d| !d.state.is_end()) else {
                return Ok(keys);
            };
            keys.push(bytes(devices::keys::device(device)));
            keys.push(bytes(devices::keys::state(device)));
            keys.push(bytes(firmware::keys::release(&deployment.release)));
            if let Some(release) = firmware::release(view, &deployment.release)? {
                keys.push(bytes(users::keys::account(&release.manifest.vendor)));
                keys.push(bytes(users::keys::key(&release.signed.key)));
            }
        }
        WorkItem::Config { device } => {
            keys.push(bytes(devices::keys::device(device)));
            keys.push(bytes(config::keys::reported(device)));
            if let Some(device) = devices::device(view, device)? {
                let targets = targets(device);
                keys.extend(targets.iter().map(|t| bytes(config::keys::desired(t))));
            }
        }
    }
    Ok(keys)
}

/// Whose documents make up a device's configuration.
fn targets(device: Device) -> Vec<ConfigTarget> {
    let mut targets = vec![
        ConfigTarget::Fleet,
        ConfigTarget::Model {
            model: device.model.clone(),
        },
    ];
    let districts = device.district.ancestry().into_iter();
    targets.extend(districts.map(|district| ConfigTarget::District { district }));
    targets.push(ConfigTarget::Device {
        device: device.device,
    });
    targets
}

fn bytes<T>(key: lamplighter_state::Key<T>) -> Vec<u8> {
    key.as_bytes().to_vec()
}

/// Sends items in as many messages as they need. What does not get through is sent again later.
pub async fn send(handle: &Handle, publisher: &Publisher, gateway: &Id, items: BTreeSet<WorkItem>) {
    let items: Vec<_> = items.into_iter().collect();
    let mut waiting: Vec<Vec<WorkItem>> = items
        .chunks(ITEMS_PER_MESSAGE)
        .rev()
        .map(<[_]>::to_vec)
        .collect();
    while let Some(part) = waiting.pop() {
        let count = part.len();
        let message = match message(handle, gateway, part.clone()).await {
            Ok(message) => message,
            Err(error) => {
                let error = crate::http::chain(&*error);
                tracing::warn!(error, %gateway, "work can't be proven yet");
                return;
            }
        };
        let json = message.to_json();
        let fits = json.len() <= WORK_BYTES_MAX
            && count <= WORK_ITEMS_MAX
            && message.proofs.records.len() <= WORK_RECORDS_MAX;
        if !fits && count > 1 {
            waiting.push(part[count / 2..].to_vec());
            waiting.push(part[..count / 2].to_vec());
            continue;
        }
        if let Err(error) = publisher.publish_work(gateway.as_str(), json.into()) {
            if !error.is_nobody_there() {
                tracing::warn!(%error, %gateway, "work was not delivered");
            }
            return;
        }
    }
}

async fn message(
    handle: &Handle,
    gateway: &Id,
    items: Vec<WorkItem>,
) -> Result<WorkMessage, Box<dyn std::error::Error + Send + Sync>> {
    let (view, head) = handle.view()?;
    let mut wanted = BTreeSet::new();
    for item in &items {
        wanted.extend(keys(&view, item)?);
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    let bundles = handle.prove_states(&wanted, CERTIFIED_WITHIN).await?;
    let proofs = ProofSet::from_bundles(bundles);
    let cursor = format!("{}.{}", head.height, u32::MAX);
    Ok(WorkMessage {
        version: WORK_VERSION,
        gateway: gateway.clone(),
        cursor,
        items,
        proofs,
    })
}
