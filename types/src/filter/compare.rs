//! A filter on what is known about a device.

use std::cmp::Ordering;

use super::{Comparison, DeviceField, FieldValue, Filter, Operator};
use crate::record::ReportedConfig;
use crate::{Device, DeviceState};

/// What is known about a device. Parts that no comparison needs may be left out.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts<'a> {
    pub device: &'a Device,
    pub state: Option<&'a DeviceState>,
    pub config: Option<&'a ReportedConfig>,
    /// The kinds of the active alarms.
    pub alarms: &'a [String],
    /// Unix ms.
    pub last_seen_ms: Option<u64>,
    /// The time of the newest block, Unix ms.
    pub now_ms: u64,
}

impl Filter {
    /// Tells whether a device is one of those that the filter chooses.
    pub fn matches(&self, facts: &DeviceFacts<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(facts)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(facts)),
            Self::Comparison(comparison) => comparison.matches(facts),
        }
    }
}

impl Comparison {
    fn matches(&self, facts: &DeviceFacts<'_>) -> bool {
        match self.operator {
            Operator::Equal => self.is_equal(facts),
            Operator::NotEqual => !self.is_equal(facts),
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => {
                self.compares(facts)
            }
        }
    }

    fn is_equal(&self, facts: &DeviceFacts<'_>) -> bool {
        let DeviceFacts { device, state, .. } = facts;
        let value = &self.value;
        match &self.field {
            DeviceField::Device => is_text(value, Some(device.device.as_str())),
            DeviceField::Model => is_text(value, Some(&device.model)),
            DeviceField::HardwareClass => is_text(value, Some(&device.hardware_class)),
            DeviceField::District => {
                matches!(value, FieldValue::District(district) if district.covers(&device.district))
            }
            DeviceField::Tag(name) => {
                let tag = device.tags.iter().find(|tag| tag.name == *name);
                is_text(value, tag.map(|tag| tag.value.as_str()))
            }
            DeviceField::Owner => is_text(value, Some(device.owner.as_str())),
            DeviceField::Gateway => is_text(value, device.gateway.as_ref().map(|id| id.as_str())),
            DeviceField::Status => *value == FieldValue::Status(device.status),
            DeviceField::Version => match state.and_then(|state| state.version) {
                Some(version) => *value == FieldValue::Version(version),
                None => *value == FieldValue::Nothing,
            },
            DeviceField::Release => {
                let release = state.and_then(|state| state.release.as_ref());
                is_text(value, release.map(|id| id.as_str()))
            }
            DeviceField::Rollout => {
                let rollout = state.and_then(|state| state.active_rollout.as_ref());
                is_text(value, rollout.map(|id| id.as_str()))
            }
            DeviceField::Drifted => {
                *value == FieldValue::Flag(state.is_some_and(|state| state.drifted))
            }
            DeviceField::Config => match facts.config {
                Some(config) => *value == FieldValue::Hash(config.document),
                None => *value == FieldValue::Nothing,
            },
            DeviceField::ConfigApplied => {
                *value == FieldValue::Flag(facts.config.is_some_and(|config| config.applied))
            }
            DeviceField::Alarm => match value {
                FieldValue::Nothing => facts.alarms.is_empty(),
                value => facts.alarms.iter().any(|kind| is_text(value, Some(kind))),
            },
            DeviceField::LastSeen => false,
        }
    }

    /// A field without a value is neither less nor more than another.
    fn compares(&self, facts: &DeviceFacts<'_>) -> bool {
        let order = match (&self.field, &self.value) {
            (DeviceField::Version, FieldValue::Version(version)) => {
                let running = facts.state.and_then(|state| state.version);
                running.map(|running| running.cmp(version))
            }
            (DeviceField::LastSeen, value) => {
                let bound = value.time_ms(facts.now_ms);
                let seen = facts.last_seen_ms;
                seen.zip(bound).map(|(seen, bound)| seen.cmp(&bound))
            }
            _ => None,
        };
        order.is_some_and(|order| self.operator.holds(order))
    }
}

impl Operator {
    /// Tells whether two values in this order fit the operator.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

impl FieldValue {
    /// The time that it stands for; none for other values.
    pub fn time_ms(&self, now_ms: u64) -> Option<u64> {
        match self {
            Self::Time(ms) => Some(*ms),
            Self::Ago(ms) => Some(now_ms.saturating_sub(*ms)),
            _ => None,
        }
    }
}

fn is_text(value: &FieldValue, text: Option<&str>) -> bool {
    match (value, text) {
        (FieldValue::Text(wanted), Some(text)) => wanted == text,
        (FieldValue::Beginning(beginning), Some(text)) => text.starts_with(beginning),
        (FieldValue::Nothing, text) => text.is_none(),
        _ => false,
    }
}
