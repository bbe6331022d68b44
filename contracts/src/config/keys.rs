//! State keys of configuration.

use lamplighter_state::Key;
use lamplighter_types::{ConfigTarget, DesiredConfig, Id, ReportedConfig};

use crate::tables::Table;

pub fn all_desired() -> Key<DesiredConfig> {
    Key::table(Table::DesiredConfig as u8)
}

pub fn desired(target: &ConfigTarget) -> Key<DesiredConfig> {
    let table = all_desired();
    match target {
        ConfigTarget::Fleet => table.byte(0),
        ConfigTarget::Model { model } => table.byte(1).text(model),
        ConfigTarget::District { district } => table.byte(2).text(district.as_str()),
        ConfigTarget::Device { device } => table.byte(3).id(device),
    }
}

pub fn reported(device: &Id) -> Key<ReportedConfig> {
    Key::table(Table::ReportedConfig as u8).id(device)
}
