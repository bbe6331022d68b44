//! Proof bundles, made from the tables and the tree under a certified head.
//!
//! A bundle needs a record proof and a certified header at the height of the record's block or
//! above it, since a higher header certifies the lower ones. Blocks, receipts and events can be
//! proven at any time. The tree has the newest state only, so the caller excludes writers while it
//! reads the head's height and calls [`state`]; then it waits until a header at that height or
//! above is certified and calls [`bundle`].

use lamplighter_store::KvView;
use lamplighter_types::limits::{PROOF_BYTES_MAX, SET_CHANGES_MAX};
use lamplighter_types::merkle::{ListTree, history};
use lamplighter_types::proof::{
    Ancestor, CertifiedHeader, HeaderProof, PROOF_VERSION, ProofBundle, RecordProof, SetChange,
    VALIDATOR_SET_KEY,
};
use lamplighter_types::{Hash, Header, HexBytes, codec};

use crate::tree::Tree;
use crate::{StateError, tables};

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
    let value = store.get(lamplighter_store::Cf::State, key)?;
    Ok(RecordProof::State {
        key: HexBytes(key.to_vec()),
        value: value.map(|value| HexBytes(value.to_vec())),
        path: tree.prove(key),
    })
}

/// The bundle of a record of the block at `height` under the certified header at `certified`, which
/// is not below it.
///
/// # Errors
/// A header, certificate or history node is missing; a certificate of a block that changed the
/// validators is missing; the bundle would be too large.
pub fn bundle(
    store: &dyn KvView,
    record: RecordProof,
    height: u64,
    certified: u64,
) -> Result<ProofBundle, StateError> {
    let HeaderProof {
        ancestor,
        head,
        set_changes,
    } = header_proof(store, height, certified)?;
    let bundle = ProofBundle {
        version: PROOF_VERSION,
        record,
        ancestor,
        head,
        set_changes,
    };
    let size = bundle.to_bytes().len();
    check_limit("the size of a proof in bytes", size, PROOF_BYTES_MAX)?;
    Ok(bundle)
}

/// Proof of the newest validator set that a certified block made. It can be given at once, because
/// no other header has to be certified first. `None` if the set of the genesis file is in force.
///
/// # Errors
/// Those of [`bundle`].
pub fn validators(store: &dyn KvView, certified: u64) -> Result<Option<ProofBundle>, StateError> {
    let changes = tables::set_changes(store, 1..certified.saturating_add(1), SET_CHANGES_MAX)?;
    let Some((height, set, path)) = changes.into_iter().next_back() else {
        return Ok(None);
    };
    let record = RecordProof::State {
        key: HexBytes(VALIDATOR_SET_KEY.to_vec()),
        value: Some(HexBytes(codec::encode(&set))),
        path,
    };
    bundle(store, record, height, certified).map(Some)
}

/// Proof that the header at `height` is on the ledger, under the certified header at `certified`,
/// which is not below it.
///
/// # Errors
/// Those of [`bundle`], except for the size.
pub fn header_proof(
    store: &dyn KvView,
    height: u64,
    certified: u64,
) -> Result<HeaderProof, StateError> {
    let ancestor = if height == certified {
        None
    } else {
        Some(ancestor(store, height, certified)?)
    };
    Ok(HeaderProof {
        ancestor,
        head: certified_header(store, certified)?,
        set_changes: set_changes(store, certified)?,
    })
}

/// The header at `height` with its certificate.
///
/// # Errors
/// One of them is missing.
pub fn certified_header(store: &dyn KvView, height: u64) -> Result<CertifiedHeader, StateError> {
    let certificate = tables::certificate(store, height)?;
    let missing = || StateError::Missing {
        what: format!("the certificate at height {height}"),
    };
    Ok(CertifiedHeader {
        header: header(store, height)?,
        certificate: certificate.ok_or_else(missing)?,
    })
}

/// The changes of the validator set below the header at `height`, each with its certificate.
///
/// # Errors
/// A certificate is missing, or there are more than a bundle may have.
pub fn set_changes(store: &dyn KvView, height: u64) -> Result<Vec<SetChange>, StateError> {
    let changes = tables::set_changes(store, 1..height, SET_CHANGES_MAX + 1)?;
    check_limit("changes of validators", changes.len(), SET_CHANGES_MAX)?;
    let changes = changes.into_iter().map(|(height, next, path)| {
        Ok(SetChange {
            certified: certified_header(store, height)?,
            next,
            path,
        })
    });
    changes.collect()
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
