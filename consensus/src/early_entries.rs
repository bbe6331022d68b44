//! Entries that a node does not acknowledge yet, because its state machine does not let it.

use crate::error::ServeError;
use crate::message::AppendRequest;
use crate::state_machine::StateMachine;
use crate::type_config::{EntryPayload, ProposedBatch};
use crate::types::{LogId, NodeId};

/// Cuts a request before the first batch that this node may not acknowledge yet. Returns the last
/// entry that stays, if any is cut.
///
/// # Errors
/// [`ServeError::NotYet`] if no entry stays.
pub(crate) fn keep_acknowledged(
    machine: &dyn StateMachine,
    from: NodeId,
    request: &mut AppendRequest,
) -> Result<Option<LogId>, ServeError> {
    let early = request
        .entries
        .iter()
        .position(|entry| match &entry.payload {
            EntryPayload::Normal(ProposedBatch(batch)) => {
                let early = !machine.may_acknowledge(batch);
                // Only of its own proposals: an entry names any leader of an earlier term.
                if early && entry.log_id.leader_id == request.vote.leader_id {
                    machine.on_early_batch(from, batch);
                }
                early
            }
            _ => false,
        });
    let Some(early) = early else {
        return Ok(None);
    };
    request.entries.truncate(early);
    let last = request.entries.last().map(|entry| entry.log_id);
    last.map(Some).ok_or(ServeError::NotYet)
}
