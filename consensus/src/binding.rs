//! Appends are bound to the leader's log: the sender signs, the receiver checks, before openraft
//! sees an entry.

use crate::NodeId;
use crate::election::SignatureBytes;
use crate::electorate::Electorate;
use crate::error::ServeError;
use crate::evidence::LINKS_MAX;
use crate::log::{LogDigest, LogStore};
use crate::message::{AppendBinding, AppendRequest};
use crate::statement::{LeaderStatement, signed_bytes};
use crate::types::LogId;

/// The binding of an append that this node sends as leader; none if its log no longer has the
/// entries, which openraft then replaces by a snapshot.
///
/// The signed digest is that of this node's own log, see `statement`.
pub(crate) async fn bind(
    log: &LogStore,
    electorate: &dyn Electorate,
    request: &AppendRequest,
    last: LogId,
) -> Option<AppendBinding> {
    let prev_digest = match request.prev_log_id {
        Some(prev) => log.digest(prev).await.ok()??,
        None => LogDigest::EMPTY,
    };
    let digest = log.digest(last).await.ok()??;
    let leader = request.vote.leader_id;
    let chain_id = electorate.chain_id();
    let message = signed_bytes(&chain_id, leader.term, leader.node_id, last.index, &digest);
    Some(AppendBinding {
        prev_digest,
        signature: SignatureBytes(electorate.sign(&message)),
    })
}

/// Checks that the leader signed exactly these entries, and that they continue this node's log:
/// wherever both have the same log id they have the same digest. The statement is kept with the
/// last entry.
///
/// A log id that this node does not have, or of which it has another term, is openraft's to decide
/// about: that is how logs of honest leaders differ. A difference under the same log id means that
/// a leader sent two contents, and nothing is appended to either.
///
/// The caller serializes appends: the log does not change between this check and openraft.
pub(crate) async fn check(
    log: &LogStore,
    electorate: &dyn Electorate,
    from: NodeId,
    request: &AppendRequest,
    binding: Option<AppendBinding>,
) -> Result<(), ServeError> {
    let Some(last) = request.entries.last().map(|entry| entry.log_id) else {
        return Ok(());
    };
    let invalid = |reason: &str| ServeError::Invalid {
        from,
        reason: reason.to_owned(),
    };
    if request.entries.len() > LINKS_MAX {
        return Err(invalid("more entries than evidence can have"));
    }
    let binding = binding.ok_or_else(|| invalid("entries without a signature"))?;
    let mut digest = binding.prev_digest;
    match request.prev_log_id {
        Some(prev) => compare(log, from, prev, digest).await?,
        None if digest != LogDigest::EMPTY => return Err(invalid("a digest before the log")),
        None => {}
    }
    for entry in &request.entries {
        digest = digest.after(entry);
        compare(log, from, entry.log_id, digest).await?;
    }
    let leader = request.vote.leader_id;
    let statement = LeaderStatement {
        term: leader.term,
        leader: leader.node_id,
        index: last.index,
        digest,
        signature: binding.signature,
    };
    let message = statement.message(&electorate.chain_id());
    if !electorate.verify(leader.node_id, &message, &statement.signature.0) {
        return Err(invalid("a signature that does not fit the entries"));
    }
    log.receive(statement);
    Ok(())
}

async fn compare(
    log: &LogStore,
    from: NodeId,
    log_id: LogId,
    digest: LogDigest,
) -> Result<(), ServeError> {
    let local = log.digest(log_id).await;
    let local = local.map_err(|error| ServeError::Failed(error.to_string()))?;
    if local.is_some_and(|local| local != digest) {
        let index = log_id.index;
        return Err(ServeError::OtherLog { from, index });
    }
    Ok(())
}
