//! The chain: its head, history, certificates, and what this node attested.

use lamplighter_store::{Direction, KeyRange, KvView, WriteBatch};
use lamplighter_types::merkle::History;
use lamplighter_types::merkle::history::HistoryNode;
use lamplighter_types::{Certificate, Hash};

use super::keys::{
    ATTESTED, CERTIFICATES, HEAD, HISTORY, INSTALLING, MARKER, POSITION, last_number,
};
use super::row;
use super::validators::set_changes;
use crate::StateError;

/// Height of the newest block; `None` before the genesis block.
pub fn head_height(store: &dyn KvView) -> Result<Option<u64>, StateError> {
    row::get(store, HEAD, &HEAD.only())
}

/// Adds the marker of the last entry that consensus applied, in the encoding of consensus.
pub fn put_marker(batch: &mut WriteBatch, marker: &[u8]) {
    row::put(batch, MARKER, MARKER.only(), &marker.to_vec());
}

/// The marker of the last entry that consensus applied.
pub fn marker(store: &dyn KvView) -> Result<Option<Vec<u8>>, StateError> {
    row::get(store, MARKER, &MARKER.only())
}

/// Adds the marker of the entry that carried the newest block's batch: the header has its digest.
pub fn put_position(batch: &mut WriteBatch, marker: &[u8]) {
    row::put(batch, POSITION, POSITION.only(), &marker.to_vec());
}

/// The marker of the entry that carried the newest block's batch; none before the first.
pub fn position(store: &dyn KvView) -> Result<Option<Vec<u8>>, StateError> {
    row::get(store, POSITION, &POSITION.only())
}

/// Records that the image in this directory is being installed, or that none is any more.
pub fn put_installing(batch: &mut WriteBatch, image: Option<&str>) {
    row::put(batch, INSTALLING, INSTALLING.only(), &image);
}

/// The directory of an image whose installation was begun and not finished. The other tables must
/// not be used then.
pub fn installing(store: &dyn KvView) -> Result<Option<String>, StateError> {
    let image = row::get::<Option<String>>(store, INSTALLING, &INSTALLING.only())?;
    Ok(image.flatten())
}

/// Adds the nodes that [`History::append`] completed.
pub fn put_history(batch: &mut WriteBatch, nodes: &[HistoryNode]) {
    for node in nodes {
        let key = HISTORY.node(node.level, node.index);
        row::put(batch, HISTORY, key, &node.hash);
    }
}

/// A node of the history, for [`lamplighter_types::merkle::history`].
///
/// # Errors
/// It was never put.
pub fn history_node(store: &dyn KvView, level: u8, index: u64) -> Result<Hash, StateError> {
    let node = row::get(store, HISTORY, &HISTORY.node(level, index))?;
    node.ok_or_else(|| StateError::Missing {
        what: format!("the history node {index} of level {level}"),
    })
}

/// Number of nodes of the history.
pub fn count_history_nodes(store: &dyn KvView) -> Result<u64, StateError> {
    row::count(store, HISTORY)
}

/// The history of the first `size` headers.
///
/// # Errors
/// A node is missing.
pub fn load_history(store: &dyn KvView, size: u64) -> Result<History, StateError> {
    History::load(size, |level, index| history_node(store, level, index))
}

/// Adds a certificate.
pub fn put_certificate(batch: &mut WriteBatch, certificate: &Certificate) {
    let key = CERTIFICATES.height(certificate.height);
    row::put(batch, CERTIFICATES, key, certificate);
}

/// The certificate on the header at `height` itself; a later one certifies it too.
pub fn certificate(store: &dyn KvView, height: u64) -> Result<Option<Certificate>, StateError> {
    row::get(store, CERTIFICATES, &CERTIFICATES.height(height))
}

/// Height of the newest certificate that can be proven from the genesis file up: below it every
/// header that changes the validators has a certificate of its own, since no set after it can
/// certify it. The caller knows that already for the headers up to `proven`, which may be 0.
pub fn newest_certified(store: &dyn KvView, proven: u64) -> Result<Option<u64>, StateError> {
    let Some(newest) = last_certificate(store, u64::MAX)? else {
        return Ok(None);
    };
    for change in set_changes(store, proven.saturating_add(1)..newest)? {
        let (height, ..) = change?;
        if certificate(store, height)?.is_none() {
            return last_certificate(store, height);
        }
    }
    Ok(Some(newest))
}

/// Height of the last certificate below a height.
fn last_certificate(store: &dyn KvView, below: u64) -> Result<Option<u64>, StateError> {
    let newest = certificates_below(store, below)?.next().transpose()?;
    Ok(newest.map(|(height, _)| height))
}

/// The certificates up to a height, from there downwards.
pub fn certificates_up_to(
    store: &dyn KvView,
    height: u64,
) -> Result<impl Iterator<Item = Result<(u64, Certificate), StateError>>, StateError> {
    certificates_below(store, height.saturating_add(1))
}

fn certificates_below(
    store: &dyn KvView,
    below: u64,
) -> Result<impl Iterator<Item = Result<(u64, Certificate), StateError>>, StateError> {
    let mut range = row::whole(CERTIFICATES);
    range.end = Some(CERTIFICATES.height(below).into());
    let found = row::scan::<Certificate>(store, CERTIFICATES, range, Direction::Backward)?;
    // The height in the key counts, not the one in the record: in an image another node wrote it.
    Ok(found.map(|row| {
        let (key, certificate) = row?;
        let height = row::read_key(CERTIFICATES, &key, last_number(&key))?;
        Ok((height, certificate))
    }))
}

/// Records the header that this node is about to sign at `height`. The caller syncs it before the
/// signature leaves the node.
pub fn put_attested(batch: &mut WriteBatch, height: u64, header: &Hash) {
    row::put(batch, ATTESTED, ATTESTED.height(height), header);
}

/// The highest header that this node recorded before signing.
pub fn last_attested(store: &dyn KvView) -> Result<Option<(u64, Hash)>, StateError> {
    let range = row::whole(ATTESTED);
    let mut found = row::scan::<Hash>(store, ATTESTED, range, Direction::Backward)?;
    let Some((key, header)) = found.next().transpose()? else {
        return Ok(None);
    };
    let height = row::read_key(ATTESTED, &key, last_number(&key))?;
    Ok(Some((height, header)))
}

/// The header that this node recorded before signing at `height`.
pub fn attested(store: &dyn KvView, height: u64) -> Result<Option<Hash>, StateError> {
    row::get(store, ATTESTED, &ATTESTED.height(height))
}

/// Drops the recorded headers below `height`. The highest one must stay: it forbids a second header
/// at its height.
pub fn prune_attested(batch: &mut WriteBatch, height: u64) {
    let range = KeyRange::between(ATTESTED.height(0), ATTESTED.height(height));
    batch.delete_range(ATTESTED.cf, range);
}
