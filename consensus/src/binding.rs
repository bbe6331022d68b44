//! Appends are bound to the leader's log: the sender signs, the receiver checks, before openraft
//! sees an entry.
//!
//! Each entry comes with the signature of the leader that *made* it, which every node keeps with
//! the entry and passes on. So a later leader can't change what an earlier one made: it would need
//! the key of that one. Two contents under one log id are then two signatures of one leader.

use crate::NodeId;
use crate::election::SignatureBytes;
use crate::electorate::Electorate;
use crate::error::ServeError;
use crate::evidence::LINKS_MAX;
use crate::log::{AuthoredEntry, LogDigest, LogStore};
use crate::message::{AppendBinding, AppendRequest};
use crate::statement::{LeaderStatement, SignedStatements};
use crate::types::{LeaderId, LogId};

const NO_SIGNATURE: SignatureBytes = SignatureBytes([0; 64]);

impl AppendBinding {
    /// The binding of entries that follow `prev_digest`, whatever they are, signed with the key of
    /// the request's leader. `known` has the signatures of other nodes' entries, by their place in
    /// the request.
    pub fn signed(
        request: &AppendRequest,
        prev_digest: LogDigest,
        known: &[SignatureBytes],
        chain_id: &[u8; 32],
        sign: impl Fn(&[u8]) -> [u8; 64],
    ) -> Self {
        let leader = request.vote.leader_id;
        let mut digest = prev_digest;
        let mut entries = Vec::with_capacity(request.entries.len());
        for (at, entry) in request.entries.iter().enumerate() {
            digest = digest.after(entry);
            let is_local = entry.log_id.leader_id.node_id == leader.node_id;
            entries.push(AuthoredEntry {
                log_id: entry.log_id,
                digest,
                author: known.get(at).copied().filter(|_| !is_local),
            });
        }
        bound(leader.node_id, leader.term, prev_digest, &entries, |m| {
            SignatureBytes(sign(&m.message(chain_id)))
        })
    }
}

/// Signs what leads from one digest to that of the last entry.
fn bound(
    node: NodeId,
    term: u64,
    prev_digest: LogDigest,
    entries: &[AuthoredEntry],
    sign: impl Fn(&LeaderStatement) -> SignatureBytes,
) -> AppendBinding {
    let signature = |term: u64, entry: &AuthoredEntry| {
        sign(&LeaderStatement {
            term,
            leader: node,
            index: entry.log_id.index,
            digest: entry.digest,
            signature: NO_SIGNATURE,
        })
    };
    let author = |entry: &AuthoredEntry| match entry.author {
        Some(author) => author,
        // This node made it: what others made came with a signature.
        None if entry.log_id.leader_id.node_id == node => {
            signature(entry.log_id.leader_id.term, entry)
        }
        None => NO_SIGNATURE,
    };
    AppendBinding {
        prev_digest,
        authors: entries.iter().map(author).collect(),
        signature: entries
            .last()
            .map_or(NO_SIGNATURE, |last| signature(term, last)),
    }
}

/// The binding of an append that this node sends as leader; none if its log no longer has the
/// entries, which openraft then replaces by a snapshot.
///
/// The signed digest is that of this node's own log, see `statement`.
pub(crate) async fn bind(
    log: &LogStore,
    electorate: &dyn Electorate,
    signed: &SignedStatements,
    request: &AppendRequest,
    last: LogId,
) -> Option<AppendBinding> {
    let prev_digest = match request.prev_log_id {
        Some(prev) => log.digest(prev).await.ok()??,
        None => LogDigest::EMPTY,
    };
    let first = request.entries.first()?.log_id.index;
    let entries = log.authored(first, last.index).await.ok()?;
    let sent = request.entries.iter().map(|entry| entry.log_id);
    if !entries.iter().map(|entry| entry.log_id).eq(sent) {
        return None;
    }
    let leader = request.vote.leader_id;
    let chain_id = electorate.chain_id();
    let sign = |statement: &LeaderStatement| electorate.sign(&statement.message(&chain_id));
    let bound = bound(
        leader.node_id,
        leader.term,
        prev_digest,
        &entries,
        |statement| signed.sign(statement, sign),
    );
    Some(bound)
}

/// Checks that the leader signed exactly these entries, that those that made them did, and that
/// they continue this node's log: wherever both have the same log id they have the same digest. The
/// statements are kept with the entries.
///
/// A log id that this node does not have, or of which it has another term, is openraft's to decide
/// about: that is how logs of honest leaders differ. A difference under the same log id means that
/// a leader sent two contents, and nothing is appended to either. Nor is a content taken again that
/// this node dropped, see `dropped`.
///
/// The caller serializes appends: the log does not change between this check and openraft.
pub(crate) async fn check(
    log: &LogStore,
    electorate: &dyn Electorate,
    (from, local): (NodeId, NodeId),
    request: &AppendRequest,
    binding: Option<AppendBinding>,
) -> Result<(), ServeError> {
    if request.entries.is_empty() {
        return Ok(());
    }
    let invalid = |reason: &str| ServeError::Invalid {
        from,
        reason: reason.to_owned(),
    };
    if request.entries.len() > LINKS_MAX {
        return Err(invalid("more entries than evidence can have"));
    }
    let binding = binding.ok_or_else(|| invalid("entries without a signature"))?;
    if binding.authors.len() != request.entries.len() {
        return Err(invalid("not one signature for each entry"));
    }
    let (statement, made) = compare_all(log, from, request, &binding).await?;
    let message = statement.message(&electorate.chain_id());
    if !electorate.verify(statement.leader, &message, &statement.signature.0) {
        return Err(invalid("a signature that does not fit the entries"));
    }
    for author in &made {
        if *author != statement && !is_made(electorate, local, author) {
            return Err(invalid("an entry that its leader did not sign"));
        }
    }
    for author in made.into_iter().filter(|author| *author != statement) {
        log.receive(author);
    }
    log.receive(statement);
    Ok(())
}

/// The statement of the leader that sends, and those about the entries that this node does not
/// have. What is committed is compared elsewhere, and left out.
async fn compare_all(
    log: &LogStore,
    from: NodeId,
    request: &AppendRequest,
    binding: &AppendBinding,
) -> Result<(LeaderStatement, Vec<LeaderStatement>), ServeError> {
    let mut digest = binding.prev_digest;
    match request.prev_log_id {
        Some(prev) => {
            compare(log, from, prev, digest).await?;
        }
        None if digest != LogDigest::EMPTY => {
            let reason = "a digest before the log".to_owned();
            return Err(ServeError::Invalid { from, reason });
        }
        None => {}
    }
    let committed = log.committed().max(log.purged());
    let committed = committed.map(|log_id| log_id.index);
    let mut made = Vec::new();
    let mut index = 0;
    for (entry, signature) in request.entries.iter().zip(&binding.authors) {
        digest = digest.after(entry);
        let LogId { leader_id, .. } = entry.log_id;
        index = entry.log_id.index;
        // The entry of the bootstrap has no leader: the ledger explains it.
        let bootstrap = index == 0 && leader_id == LeaderId::default();
        let known = compare(log, from, entry.log_id, digest).await?;
        if !known && !bootstrap && Some(index) > committed {
            made.push(LeaderStatement {
                term: leader_id.term,
                leader: leader_id.node_id,
                index,
                digest,
                signature: *signature,
            });
        }
    }
    let leader = request.vote.leader_id;
    let statement = LeaderStatement {
        term: leader.term,
        leader: leader.node_id,
        index,
        digest,
        signature: binding.signature,
    };
    Ok((statement, made))
}

/// True if a statement about an entry is of the leader that made the entry.
///
/// A node that catches up does not know the keys of leaders that came and went meanwhile. Their
/// entries are certified long since, and it takes them as they come; nodes that know the keys, the
/// voters among them, are not deceived. This node itself always knows what it has signed: it must
/// not sign another content of its own later.
fn is_made(electorate: &dyn Electorate, local: NodeId, author: &LeaderStatement) -> bool {
    let message = author.message(&electorate.chain_id());
    if author.leader == local {
        return electorate.sign(&message) == author.signature.0;
    }
    !electorate.has_key(author.leader)
        || electorate.verify(author.leader, &message, &author.signature.0)
}

/// True if the log has the entry with this digest, false if it has none or one of another leader.
async fn compare(
    log: &LogStore,
    from: NodeId,
    log_id: LogId,
    digest: LogDigest,
) -> Result<bool, ServeError> {
    let local = log.digest(log_id).await;
    let local = local.map_err(|error| ServeError::Failed(error.to_string()))?;
    let index = log_id.index;
    if local.is_some_and(|local| local != digest) || log.dropped().is_dead(index, digest) {
        return Err(ServeError::OtherLog { from, index });
    }
    Ok(local.is_some())
}
