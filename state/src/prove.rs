//! Proof bundles, made from the tables and the tree under a certified head.
//!
//! A bundle needs a record proof and a certified header at the height of the record's block or
//! above it, since a higher header certifies the lower ones. Blocks, receipts and events can be
//! proven at any time. The tree has the newest state only, so the caller excludes writers while it
//! reads the head's height, takes a view of the store and begins proofs in the tree. It reads the
//! disk afterwards, with [`complete_state`]; then it waits until a header at that height or above
//! is certified and calls [`bundle`].

use lamplighter_store::KvView;
use lamplighter_types::limits::{PROOF_BYTES_MAX, SET_CHANGES_MAX, SET_PATH_MAX};
use lamplighter_types::merkle::{ListTree, history};
use lamplighter_types::proof::{
    Ancestor, CertifiedHeader, HeaderProof, PROOF_VERSION, ProofBundle, RecordProof, SetPath,
};
use lamplighter_types::{Certificate, Hash, Header, HexBytes};

use crate::tree::{BegunProof, Tree};
use crate::{StateError, set_path, tables};

/// Proof of transaction `index` of the block at `height`; `None` if there is none.
pub fn transaction(
    store: &dyn KvView,
    height: u64,
    index: u32,
) -> Result<Option<RecordProof>, StateError> {
    let Some(transaction) = tables::transaction(store, height, index)? else {
        return Ok(None);
    };
    let items = tables::encoded_transactions(store, height)?;
    let place = ListTree::new(&items).prove(index.into());
    Ok(place.map(|place| RecordProof::Transaction { transaction, place }))
}

/// Proof of receipt `index` of the block at `height`; `None` if there is none.
pub fn receipt(
    store: &dyn KvView,
    height: u64,
    index: u32,
) -> Result<Option<RecordProof>, StateError> {
    let mut items = tables::encoded_receipts(store, height)?;
    let place = ListTree::new(&items).prove(index.into());
    Ok(place.map(|place| RecordProof::Receipt {
        receipt: HexBytes(items.swap_remove(index as usize)),
        place,
    }))
}

/// Proof of event `index` of the block at `height`; `None` if there is none.
pub fn event(
    store: &dyn KvView,
    height: u64,
    index: u32,
) -> Result<Option<RecordProof>, StateError> {
    let mut items = tables::encoded_events(store, height)?;
    let place = ListTree::new(&items).prove(index.into());
    Ok(place.map(|place| RecordProof::Event {
        event: HexBytes(items.swap_remove(index as usize)),
        place,
    }))
}

/// Proof of the record under `key`, or of its absence, in the newest state: `store` and `tree`
/// belong to the same block. The module has the order of calls.
pub fn state(store: &dyn KvView, tree: &Tree, key: &[u8]) -> Result<RecordProof, StateError> {
    complete_state(store, key, tree.begin_proof(key)?)
}

/// The same of a proof that was begun in the tree of the block that `store` shows.
///
/// # Errors
/// As [`BegunProof::complete`].
pub fn complete_state(
    store: &dyn KvView,
    key: &[u8],
    begun: BegunProof,
) -> Result<RecordProof, StateError> {
    let value = store.get(lamplighter_store::Cf::State, key)?;
    Ok(RecordProof::State {
        key: HexBytes(key.to_vec()),
        value: value.map(|value| HexBytes(value.to_vec())),
        path: begun.complete()?,
    })
}

/// The bundle of a record of the block at `height` under the certified header at `certified`, which
/// is not below it, for a verifier with the validator set of the height `trusted`; 0 is the genesis
/// file.
///
/// # Errors
/// A header, certificate or history node is missing; a certificate of a block that changed the
/// validators is missing; no path of changes is short enough; the bundle would be too large.
pub fn bundle(
    store: &dyn KvView,
    record: RecordProof,
    height: u64,
    certified: u64,
    trusted: u64,
) -> Result<ProofBundle, StateError> {
    let proof = header_proof(store, height, certified, trusted)?;
    let bundle = with_record(record, proof);
    let size = bundle.to_bytes().len();
    check_limit("the size of a proof in bytes", size, PROOF_BYTES_MAX)?;
    Ok(bundle)
}

/// The bundle of a record in the block of a header proof.
pub fn with_record(record: RecordProof, proof: HeaderProof) -> ProofBundle {
    let HeaderProof {
        ancestor,
        head,
        set_changes,
    } = proof;
    ProofBundle {
        version: PROOF_VERSION,
        record,
        ancestor,
        head,
        set_changes,
    }
}

/// Changes that lead a verifier on from the validator set of the height `trusted`, of all that are
/// certified up to `certified`. They can be given at once, because no other header has to be
/// certified first.
///
/// # Errors
/// Those of [`bundle`], except for the size.
pub fn set_path(store: &dyn KvView, trusted: u64, certified: u64) -> Result<SetPath, StateError> {
    let below = certified.saturating_add(1);
    let path = set_path::find(store, trusted, below, SET_PATH_MAX)?;
    Ok(SetPath {
        version: PROOF_VERSION,
        set_changes: set_path::changes(store, &path.heights)?,
        more: !path.complete,
    })
}

/// Proof that the header at `height` is on the ledger, under the certified header at `certified`,
/// which is not below it, for a verifier with the validator set of the height `trusted`.
///
/// # Errors
/// Those of [`bundle`], except for the size.
pub fn header_proof(
    store: &dyn KvView,
    height: u64,
    certified: u64,
    trusted: u64,
) -> Result<HeaderProof, StateError> {
    let path = set_path::find(store, trusted, certified, SET_CHANGES_MAX)?;
    if !path.complete {
        return Err(StateError::ManyChanges { trusted });
    }
    header_proof_over(store, height, certified, &path.heights)
}

/// The same proof with the newest changes alone, at most `limit`: for a verifier that keeps the
/// validators it has seen.
///
/// # Errors
/// Those of [`bundle`], except for the size.
pub fn recent_header_proof(
    store: &dyn KvView,
    height: u64,
    certified: u64,
    limit: usize,
) -> Result<HeaderProof, StateError> {
    let heights = set_path::newest(store, certified, limit)?;
    header_proof_over(store, height, certified, &heights)
}

fn header_proof_over(
    store: &dyn KvView,
    height: u64,
    certified: u64,
    changes: &[u64],
) -> Result<HeaderProof, StateError> {
    let ancestor = if height == certified {
        None
    } else {
        Some(ancestor(store, height, certified)?)
    };
    Ok(HeaderProof {
        ancestor,
        head: certified_header(store, certified)?,
        set_changes: set_path::changes(store, changes)?,
    })
}

/// The header at `height` with its certificate.
///
/// # Errors
/// One of them is missing.
pub fn certified_header(store: &dyn KvView, height: u64) -> Result<CertifiedHeader, StateError> {
    Ok(CertifiedHeader {
        header: header(store, height)?,
        certificate: certificate(store, height)?,
    })
}

pub(crate) fn certificate(store: &dyn KvView, height: u64) -> Result<Certificate, StateError> {
    let certificate = tables::certificate(store, height)?;
    certificate.ok_or_else(|| StateError::Missing {
        what: format!("the certificate at height {height}"),
    })
}

/// Proof that the history under the header at `new` begins with the one under the header at `old`
/// ([`verify_consistency`](lamplighter_types::merkle::list::verify_consistency) checks it).
pub fn consistency(store: &dyn KvView, old: u64, new: u64) -> Result<Vec<Hash>, StateError> {
    history::consistency_path(old, new, |level, index| {
        tables::history_node(store, level, index)
    })
}

fn ancestor(store: &dyn KvView, height: u64, head: u64) -> Result<Ancestor, StateError> {
    let node = |level, index| tables::history_node(store, level, index);
    Ok(Ancestor {
        header: header(store, height)?,
        path: history::inclusion_path(height, head, node)?,
    })
}

fn header(store: &dyn KvView, height: u64) -> Result<Header, StateError> {
    tables::header(store, height)?.ok_or_else(|| StateError::Missing {
        what: format!("the header at height {height}"),
    })
}

fn check_limit(what: &'static str, got: usize, limit: usize) -> Result<(), StateError> {
    if got <= limit {
        Ok(())
    } else {
        Err(StateError::Mismatch {
            what,
            expected: format!("at most {limit}"),
            got: got.to_string(),
        })
    }
}
