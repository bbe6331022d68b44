//! The actions of transactions, by contract. [`protocol`](crate::protocol) says how they grow.

mod config;
mod devices;
mod events;
mod firmware;
mod governance;
mod groups;
mod guards;
mod rollouts;
mod users;

pub use config::*;
pub use devices::*;
pub use events::*;
pub use firmware::*;
pub use governance::*;
pub use groups::*;
pub use guards::*;
pub use rollouts::*;
pub use users::*;

use serde::{Deserialize, Serialize};

/// The action of a transaction, by contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Action {
    Users(UsersAction),
    Devices(DevicesAction),
    Firmware(FirmwareAction),
    Rollouts(RolloutsAction),
    Config(ConfigAction),
    Events(EventsAction),
    Governance(GovernanceAction),
}
