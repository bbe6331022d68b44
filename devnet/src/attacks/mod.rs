//! What must be refused, tried from outside, each with the words of the refusal.

use crate::DevnetError;
use crate::feed::Observer;
use crate::journal::Journal;
use crate::network::Devnet;

/// Tries everything.
///
/// # Errors
/// An attack could not even be tried; whether each was refused is in the journal.
pub async fn run(
    _devnet: &mut Devnet,
    _observer: &Observer,
    _journal: &mut Journal,
) -> Result<(), DevnetError> {
    Ok(())
}
