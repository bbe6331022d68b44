//! The HTTP interface, one file per resource.

mod problem;
mod transactions;

use lamplighter_ledger::Handle;

/// What every handler gets.
#[derive(Clone)]
pub struct App {
    pub handle: Handle,
}
