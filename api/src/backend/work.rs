//! What a gateway has to do, with the proof of every record that it will act on.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_contracts::{config, devices, firmware, rollouts, users};
use lamplighter_ledger::Handle;
use lamplighter_state::{StateError, View};
use lamplighter_types::wire::Cursor;
use lamplighter_types::work::{
    DeviceMark, DevicesHeld, ProofSet, WORK_BYTES_MAX, WORK_ITEMS_MAX, WORK_RECORDS_MAX,
    WORK_VERSION, WorkItem, WorkMessage,
};
use lamplighter_types::{ConfigTarget, Device, Id};

/// Devices of one gateway that are looked at: more than a mesh can carry.
pub(super) const DEVICES_MAX: usize = 10_000;
/// Devices read at a time, a few records each.
const PAGE: usize = 500;
/// For the certificate of the proofs.
const CERTIFIED_WITHIN: Duration = Duration::from_secs(10);

/// What is looked for among the devices of a gateway.
#[derive(Clone)]
pub enum Wanted {
    /// Its devices, and all that is open for them.
    All,
    /// What is open: deployments at work, configuration that is not reported.
    Open,
    /// Where the ledger differs from what the gateway holds, and what is open.
    Difference(Arc<DevicesHeld>),
}

/// A place in the list of a gateway's devices.
#[derive(Clone, Debug, Default)]
pub struct Place {
    after: Option<Id>,
    seen: usize,
}

/// Where looking begins.
pub fn begin(wanted: &Wanted) -> Option<Place> {
    let after = match wanted {
        Wanted::All | Wanted::Open => None,
        Wanted::Difference(held) => held.after.clone(),
    };
    Some(Place { after, seen: 0 })
}

/// What is wanted of the devices after a place, and where to go on. Reads on a thread where it may
/// wait for the disk.
pub async fn page(
    handle: &Handle,
    gateway: &Id,
    wanted: &Wanted,
    at: Place,
) -> Result<(Vec<WorkItem>, Option<Place>), StateError> {
    let (handle, gateway, wanted) = (handle.clone(), gateway.clone(), wanted.clone());
    let read = tokio::task::spawn_blocking(move || {
        let (view, _) = handle.view()?;
        look(&view, &gateway, &wanted, at)
    });
    match read.await {
        Ok(read) => read,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending, and all that waits with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn look(
    view: &View,
    gateway: &Id,
    wanted: &Wanted,
    at: Place,
) -> Result<(Vec<WorkItem>, Option<Place>), StateError> {
    let mut devices = devices::by_gateway(view, gateway, at.after.as_ref(), PAGE)?;
    let mut next = match devices.last() {
        Some(last) if devices.len() == PAGE => Some(last.device.clone()),
        _ => None,
    };
    let mut items = Vec::new();
    if let Wanted::Difference(held) = wanted {
        let end = held.until.clone();
        if end.is_some() && (next.is_none() || next >= end) {
            devices.retain(|device| Some(&device.device) <= end.as_ref());
            next = None;
        }
        items.extend(differing(&devices, held, at.after.as_ref(), next.as_ref()));
    } else if matches!(wanted, Wanted::All) {
        items.extend(devices.iter().map(device_item));
    }
    for device in &devices {
        items.extend(of_device(view, device)?);
    }
    let seen = at.seen + devices.len();
    if next.is_some() && seen >= DEVICES_MAX {
        tracing::warn!(%gateway, seen, "a gateway has more devices than it is told of");
        next = None;
    }
    let next = next.map(|after| Place {
        after: Some(after),
        seen,
    });
    Ok((items, next))
}

fn device_item(device: &Device) -> WorkItem {
    let device = device.device.clone();
    WorkItem::Device { device }
}

/// Devices that the gateway does not hold as they are, and those that it holds and that are not its
/// own, among the names after `after` up to `until`.
fn differing(
    devices: &[Device],
    held: &DevicesHeld,
    after: Option<&Id>,
    until: Option<&Id>,
) -> Vec<WorkItem> {
    let own: BTreeSet<_> = devices.iter().map(|device| &device.device).collect();
    let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
    let end = until.map_or(Bound::Unbounded, Bound::Included);
    let gone = held.devices.range((begin, end)).map(|(name, _)| name);
    let gone = gone.filter(|name| !own.contains(name));
    let changed = devices
        .iter()
        .filter(|device| held.devices.get(&device.device) != Some(&DeviceMark::of(device)));
    gone.map(|name| WorkItem::Device {
        device: name.clone(),
    })
    .chain(changed.map(device_item))
    .collect()
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

/// The JSON of a message, unless it has too much in it.
pub fn fitting(message: &WorkMessage) -> Option<Bytes> {
    let json = message.to_json();
    let fits = json.len() <= WORK_BYTES_MAX
        && message.items.len() <= WORK_ITEMS_MAX
        && message.proofs.records.len() <= WORK_RECORDS_MAX;
    fits.then(|| json.into())
}

/// Items with the proofs of all that their reader needs.
pub async fn message(
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
    let cursor = Cursor::end_of(head.height);
    Ok(WorkMessage {
        version: WORK_VERSION,
        gateway: gateway.clone(),
        cursor,
        items,
        proofs,
    })
}
