//! The records of found devices.

use lamplighter_contracts::{config, devices, events};
use lamplighter_state::tables::{self, LastSeen};
use lamplighter_state::{Key, StateError};
use lamplighter_types::filter::{DeviceFacts, DeviceField, Filter};
use lamplighter_types::{Device, DeviceState, Id, ReportedConfig};

use super::Search;

/// The records beside the device itself that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub state: bool,
    pub config: bool,
    pub alarms: bool,
    pub last_seen: bool,
}

impl Needs {
    /// All records.
    pub const ALL: Self = Self {
        state: true,
        config: true,
        alarms: true,
        last_seen: true,
    };

    fn with(mut self, filter: &Filter) -> Self {
        for comparison in filter.comparisons() {
            match comparison.field {
                DeviceField::Version
                | DeviceField::Release
                | DeviceField::Rollout
                | DeviceField::Drifted => self.state = true,
                DeviceField::Config | DeviceField::ConfigApplied => self.config = true,
                DeviceField::Alarm => self.alarms = true,
                DeviceField::LastSeen => self.last_seen = true,
                DeviceField::Device
                | DeviceField::Model
                | DeviceField::HardwareClass
                | DeviceField::District
                | DeviceField::Tag(_)
                | DeviceField::Owner
                | DeviceField::Gateway
                | DeviceField::Status => {}
            }
        }
        self
    }
}

/// A device with the records that were wanted.
#[derive(Clone, Debug)]
pub struct SearchedDevice {
    pub device: Device,
    pub state: Option<DeviceState>,
    pub config: Option<ReportedConfig>,
    /// The kinds of the active alarms.
    pub alarms: Vec<String>,
    pub last_seen: Option<LastSeen>,
}

impl SearchedDevice {
    pub fn facts(&self, now_ms: u64) -> DeviceFacts<'_> {
        DeviceFacts {
            device: &self.device,
            state: self.state.as_ref(),
            config: self.config.as_ref(),
            alarms: &self.alarms,
            last_seen_ms: self.last_seen.map(|seen| seen.time_ms),
            now_ms,
        }
    }
}

/// Reads the records of devices, each kind together.
pub(super) fn read(search: &Search<'_>, ids: &[Id]) -> Result<Vec<SearchedDevice>, StateError> {
    let view = search.view;
    let needs = match search.filter {
        Some(filter) => search.needs.with(filter),
        None => search.needs,
    };
    let found = devices::many(view, ids)?;
    let states = records(search, needs.state, ids, devices::keys::state)?;
    let configs = records(search, needs.config, ids, config::keys::reported)?;
    let alarms = records(search, needs.alarms, ids, events::keys::device_alarms)?;
    let seen = match needs.last_seen {
        true => tables::last_seen(&**view.store(), ids)?,
        false => vec![None; ids.len()],
    };
    let rest = states.into_iter().zip(configs).zip(alarms).zip(seen);
    let device = |(device, (((state, config), alarms), last_seen)): (Option<Device>, _)| {
        let alarms: Option<lamplighter_types::DeviceAlarms> = alarms;
        let kinds = alarms.map(|alarms| alarms.kinds).unwrap_or_default();
        let active = kinds.into_iter().filter(|kind| kind.active.is_some());
        Some(SearchedDevice {
            device: device?,
            state,
            config,
            alarms: active.map(|kind| kind.kind).collect(),
            last_seen,
        })
    };
    Ok(found.into_iter().zip(rest).filter_map(device).collect())
}

fn records<T: serde::de::DeserializeOwned>(
    search: &Search<'_>,
    is_wanted: bool,
    ids: &[Id],
    key: impl Fn(&Id) -> Key<T>,
) -> Result<Vec<Option<T>>, StateError> {
    if !is_wanted {
        return Ok(ids.iter().map(|_| None).collect());
    }
    let keys: Vec<_> = ids.iter().map(key).collect();
    search.view.get_many(&keys)
}
