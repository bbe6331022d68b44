//! The open work of a gateway in the ledger, with the proof of every record that the gateway will
//! act on.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_contracts::{config, devices, firmware, rollouts, users};
use lamplighter_ledger::Handle;
use lamplighter_state::{StateError, View};
use lamplighter_types::wire::Cursor;
use lamplighter_types::wire::work::{
    DeviceMark, DevicesDigest, DevicesDigester, DevicesHeld, ProofSet, RangeDigest, WORK_BYTES_MAX,
    WORK_ITEMS_MAX, WORK_RECORDS_MAX, WORK_SET_CHANGES_MAX, WORK_VERSION, WorkItem, WorkMessage,
};
use lamplighter_types::{ConfigTarget, Device, Id};

/// Devices of one gateway that are read: more than a mesh can carry.
pub(super) const DEVICES_MAX: usize = 10_000;
/// Devices read at a time, a few records each.
const PAGE: usize = 500;
/// Longest wait for the certificate of the proofs.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The part of a gateway's work that is read.
#[derive(Clone)]
pub enum WorkSelection {
    /// Its devices, and all that is open for them.
    All,
    /// Deployments at work, and configuration that is not reported.
    Open,
    /// Where the ledger differs from what the gateway holds.
    Difference(Arc<DevicesHeld>),
}

/// A position in the list of a gateway's devices.
#[derive(Clone, Debug, Default)]
pub struct DevicePosition {
    after: Option<Id>,
    seen: usize,
}

/// The position of the first page.
pub fn begin(selection: &WorkSelection) -> Option<DevicePosition> {
    let after = match selection {
        WorkSelection::All | WorkSelection::Open => None,
        WorkSelection::Difference(held) => held.after.clone(),
    };
    Some(DevicePosition { after, seen: 0 })
}

/// The selected work of the devices after a position, and the position of the next page. Reads on a
/// thread that may wait for the disk.
pub async fn page(
    handle: &Handle,
    gateway: &Id,
    selection: &WorkSelection,
    at: DevicePosition,
) -> Result<(Vec<WorkItem>, Option<DevicePosition>), StateError> {
    let (gateway, selection) = (gateway.clone(), selection.clone());
    read(handle, move |view| {
        read_page(view, &gateway, &selection, at)
    })
    .await
}

/// Reads the newest state on a thread that may wait for the disk.
pub async fn read<T: Send + 'static>(
    handle: &Handle,
    read: impl FnOnce(&View) -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    let handle = handle.clone();
    let read = tokio::task::spawn_blocking(move || {
        let (view, _) = handle.view()?;
        read(&view)
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

fn read_page(
    view: &View,
    gateway: &Id,
    selection: &WorkSelection,
    at: DevicePosition,
) -> Result<(Vec<WorkItem>, Option<DevicePosition>), StateError> {
    let mut devices = devices::by_gateway(view, gateway, at.after.as_ref(), PAGE)?;
    let mut next = match devices.last() {
        Some(last) if devices.len() == PAGE => Some(last.device.clone()),
        _ => None,
    };
    let mut items = Vec::new();
    if let WorkSelection::Difference(held) = selection {
        let end = held.until.clone();
        if end.is_some() && (next.is_none() || next >= end) {
            devices.retain(|device| Some(&device.device) <= end.as_ref());
            next = None;
        }
        items.extend(differing(&devices, held, at.after.as_ref(), next.as_ref()));
    } else {
        if matches!(selection, WorkSelection::All) {
            items.extend(devices.iter().map(device_item));
        }
        for device in &devices {
            items.extend(of_device(view, device)?);
        }
    }
    let seen = at.seen + devices.len();
    if next.is_some() && seen >= DEVICES_MAX {
        tracing::warn!(%gateway, seen, "a gateway has more devices than are read for it");
        next = None;
    }
    let next = next.map(|after| DevicePosition {
        after: Some(after),
        seen,
    });
    Ok((items, next))
}

/// The devices of a range that are read for a digest.
pub struct DigestProgress {
    after: Option<Id>,
    digester: DevicesDigester,
    seen: usize,
}

impl DigestProgress {
    pub fn begin(range: &RangeDigest) -> Self {
        Self {
            after: range.after.clone(),
            digester: DevicesDigester::default(),
            seen: 0,
        }
    }

    /// The number of the devices read so far, and their digest.
    pub fn finish(&self) -> (u32, DevicesDigest) {
        self.digester.finish()
    }

    /// Reads the next page of the gateway's devices up to `until`; true if there are more.
    pub fn read_page(
        &mut self,
        view: &View,
        gateway: &Id,
        until: Option<&Id>,
    ) -> Result<bool, StateError> {
        let devices = devices::by_gateway(view, gateway, self.after.as_ref(), PAGE)?;
        let is_last = devices.len() < PAGE;
        self.seen += devices.len();
        for device in devices {
            if until.is_some_and(|until| device.device > *until) {
                return Ok(false);
            }
            self.digester.add(&device.device, &DeviceMark::of(&device));
            self.after = Some(device.device);
        }
        Ok(!is_last && self.seen < DEVICES_MAX)
    }
}

/// True if an item that was sent still waits for a report of the gateway.
pub fn is_open(view: &View, gateway: &Id, item: &WorkItem) -> Result<bool, StateError> {
    let (WorkItem::Deployment { device, .. } | WorkItem::Config { device }) = item else {
        return Ok(false);
    };
    let Some(device) = devices::device(view, device)? else {
        return Ok(false);
    };
    Ok(device.gateway.as_ref() == Some(gateway) && of_device(view, &device)?.contains(item))
}

fn device_item(device: &Device) -> WorkItem {
    let device = device.device.clone();
    WorkItem::Device { device }
}

/// Devices that the gateway does not hold as they are, and devices that it holds and that are not
/// assigned to it, among the names after `after` up to `until`.
fn differing(
    devices: &[Device],
    held: &DevicesHeld,
    after: Option<&Id>,
    until: Option<&Id>,
) -> Vec<WorkItem> {
    let assigned: BTreeSet<_> = devices.iter().map(|device| &device.device).collect();
    let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
    let end = until.map_or(Bound::Unbounded, Bound::Included);
    let removed = held.devices.range((begin, end)).map(|(name, _)| name);
    let removed = removed.filter(|name| !assigned.contains(name));
    let changed = devices
        .iter()
        .filter(|device| held.devices.get(&device.device) != Some(&DeviceMark::of(device)));
    removed
        .map(|name| WorkItem::Device {
            device: name.clone(),
        })
        .chain(changed.map(device_item))
        .collect()
}

/// The open work of one device: its deployment, and its configuration if it differs.
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
        WorkItem::Range { .. } => {}
        WorkItem::Device { device } => keys.push(bytes(devices::keys::device(device))),
        WorkItem::Deployment { rollout, device } => {
            keys.push(bytes(rollouts::keys::deployment(rollout, device)));
            let deployment = rollouts::deployment(view, rollout, device)?;
            let Some(deployment) = deployment.filter(|d| !d.state.is_end()) else {
                return Ok(keys);
            };
            keys.push(bytes(devices::keys::device(device)));
            keys.push(bytes(devices::keys::state(device)));
            keys.push(bytes(rollouts::keys::install_rules(rollout)));
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

/// The targets whose documents make up a device's configuration.
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

/// The JSON of a message; `None` if it has too much in it.
pub fn to_payload(message: &WorkMessage) -> Option<Bytes> {
    let json = message.to_json();
    let fits = json.len() <= WORK_BYTES_MAX
        && message.items.len() <= WORK_ITEMS_MAX
        && message.proofs.records.len() <= WORK_RECORDS_MAX;
    fits.then(|| json.into())
}

/// A message of items, with the proofs of all records that their reader needs.
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
    let changes = WORK_SET_CHANGES_MAX;
    let bundles = if wanted.is_empty() {
        Vec::new()
    } else {
        let proved = handle.prove_states(wanted, changes, CERTIFICATE_TIMEOUT);
        proved.await?
    };
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
