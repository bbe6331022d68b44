//! The path of reports from the spool to the ledger: which of them are signed as one transaction,
//! when a transaction is sent again, and what its receipt means. No IO: [`Submitter`] gets inputs
//! and returns [`SubmitCommand`]s, and reads the spool.

mod batching;
mod deferral;
mod receipt;
mod submitter;
#[cfg(test)]
pub(crate) mod tests;

pub use batching::{ReportBatch, next_batch};
pub use deferral::DeferredReports;
pub use receipt::{ReceiptOutcome, Rejection, ResolvedReport};
pub use submitter::{Signer, SubmitCommand, Submitter};
