//! The north side: transactions to the ledger and their receipts, work from it, over MQTT to one of
//! several nodes.

pub mod held;
pub mod link;
pub mod outbox;
#[cfg(test)]
mod tests;
