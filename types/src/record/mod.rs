//! The records that contracts keep: the values of the state, and the event records beside it.

mod allowance;
mod config;
mod devices;
mod events;
mod firmware;
mod governance;
mod groups;
mod guards;
mod policies;
mod retention;
mod rollouts;
mod users;

pub use allowance::*;
pub use config::*;
pub use devices::*;
pub use events::*;
pub use firmware::*;
pub use governance::*;
pub use groups::*;
pub use guards::*;
pub use policies::*;
pub use retention::*;
pub use rollouts::*;
pub use users::*;
