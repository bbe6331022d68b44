//! The checks of another node's image before it is installed.
//!
//! From the genesis file upwards: each change of the validators is certified by those before it;
//! the newest header is certified; the state has that header's state root; each header is the
//! parent of the next; the bodies of every block have the roots in its
//! header; the tree over the headers, the places of the transactions, the validators and the newest
//! certificate are those of these blocks; the position of consensus is the one whose digest is in
//! the certified header. Nothing else in an image is installed (see `snapshot`): not its indexes,
//! not its other certificates, not the entry that its sender applied last.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use lamplighter_state::tables::SetChangeRow;
use lamplighter_state::tree::Tree;
use lamplighter_state::{StateError, View, prove, set_path, tables};
use lamplighter_store::{Kv, KvView, StoreError};
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::limits::PROOF_BYTES_MAX;
use lamplighter_types::merkle::{History, list};
use lamplighter_types::proof::{
    CertifiedHeader, HeaderProof, ProofError, TrustedSet, VALIDATOR_SET_KEY,
};
use lamplighter_types::{CertificateError, Genesis, Hash, Header};

use crate::chain::{Head, named_nodes};

/// The file of an image that proves its header; no store has a file of that name.
pub(crate) const PROOF_FILE: &str = "header-proof";

/// Why an image is not installed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the proof of its header is malformed")]
    Proof(#[source] CodecError),
    #[error("its header is not certified")]
    Uncertified(#[source] ProofError),
    #[error("its newest certificate does not hold")]
    Certificate(#[source] CertificateError),
    #[error("it is not whole, or not what its header says")]
    State(#[from] StateError),
    #[error("{what} at height {height} is not what the certified header says")]
    Contents { what: &'static str, height: u64 },
    #[error("it has another block than this node at height {height}")]
    Contradiction { height: u64 },
}

impl From<StoreError> for ImageError {
    fn from(error: StoreError) -> Self {
        Self::State(error.into())
    }
}

fn read_proof(dir: &Path) -> Result<HeaderProof, ImageError> {
    let path = dir.join(PROOF_FILE);
    // The file comes from another node, and may be as large as an image.
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = PROOF_BYTES_MAX as u64 + 1;
        fs::File::open(&path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(StoreError::io("read the proof of an image", &path))?;
    HeaderProof::from_bytes(&bytes).map_err(ImageError::Proof)
}

/// Checks an image and returns it with its head, whose tree is made in an empty one.
pub(crate) fn check(
    kv: &dyn Kv,
    dir: &Path,
    genesis: &Genesis,
    tree: Tree,
) -> Result<(Arc<dyn KvView>, Head), ImageError> {
    let proof = read_proof(dir)?;
    let image = kv.read_checkpoint(dir)?;
    let trusted = check_set_changes(&*image, genesis, proof.head.header.height)?;
    let header = proof.verify(&trusted).map_err(ImageError::Uncertified)?;
    // Before anything of the size that the sender chose is read.
    if tables::head_height(&*image)? != Some(header.height)
        || tables::header(&*image, header.height)?.as_ref() != Some(header)
    {
        return Err(ImageError::Contents {
            what: "the newest header",
            height: header.height,
        });
    }
    let head = load_head(image.clone(), &genesis.chain_id(), tree)?;
    check_blocks(&*image, &head)?;
    check_certificate(&*image, &head)?;
    check_position(&*image, &head)?;
    Ok((image, head))
}

/// Checks the changes of the validators below a height that have a certificate in the image, from
/// the genesis file up to the first that has none, and returns the set that they lead to. This node
/// would serve and build on every one of them, so none is skipped. A change at the height itself is
/// certified by the set before it.
fn check_set_changes(
    image: &dyn KvView,
    genesis: &Genesis,
    below: u64,
) -> Result<TrustedSet, ImageError> {
    let mut trusted = TrustedSet::from(genesis);
    for change in tables::set_changes(image, 1..below)? {
        let (height, ..) = change?;
        if tables::certificate(image, height)?.is_none() {
            break;
        }
        let changes = set_path::changes(image, &[height])?;
        let in_force = changes.iter().all(|c| c.in_force == trusted.set);
        if !in_force {
            let what = "the set in force";
            return Err(ImageError::Contents { what, height });
        }
        trusted = trusted.advance(&changes).map_err(ImageError::Uncertified)?;
    }
    Ok(trusted)
}

/// Reads the head from a store, its state into an empty tree, and checks its base: the chain, the
/// state tree's root.
///
/// # Errors
/// Another chain's data; a state that does not have the root in its header.
pub(crate) fn load_head(
    store: Arc<dyn KvView>,
    chain_id: &Hash,
    empty: Tree,
) -> Result<Head, StateError> {
    let height = tables::head_height(&*store)?.ok_or_else(|| StateError::Missing {
        what: "the head".to_owned(),
    })?;
    let header = tables::header(&*store, height)?.ok_or_else(|| StateError::Missing {
        what: format!("the header {height}"),
    })?;
    if header.chain_id != *chain_id {
        return Err(StateError::Mismatch {
            what: "the chain of the data directory",
            expected: chain_id.to_string(),
            got: header.chain_id.to_string(),
        });
    }
    let tree = empty.load(&*store)?;
    if tree.root() != header.state_root {
        return Err(StateError::Mismatch {
            what: "the root of the stored state",
            expected: header.state_root.to_string(),
            got: tree.root().to_string(),
        });
    }
    let history: History = tables::load_history(&*store, height.saturating_add(1))?;
    let view = View::new(store);
    let validators = named_nodes(&view)?.validators;
    let hash = header.hash();
    Ok(Head {
        header,
        hash,
        tree,
        history,
        validators,
    })
}

/// Checks every block up to the head, in one pass over the image's blocks.
fn check_blocks(image: &dyn KvView, head: &Head) -> Result<(), ImageError> {
    let mut history = History::new();
    let mut parent = Hash::ZERO;
    let (mut transactions, mut nodes) = (0, 0);
    let mut changes = tables::set_changes(image, 1..u64::MAX)?.peekable();
    let mut in_force = tables::validators_at(image, 0)?.hash();
    for height in 0..=head.header.height {
        let wrong = |what| ImageError::Contents { what, height };
        let header = tables::header(image, height)?.ok_or(wrong("the header"))?;
        if header.height != height || header.parent != parent {
            return Err(wrong("the header"));
        }
        if header.validators_hash != in_force {
            return Err(wrong("who validates"));
        }
        // A row that does not decode is an error at once.
        let is_here = |row: &Result<SetChangeRow, _>| row.as_ref().map_or(true, |r| r.0 == height);
        if let Some(row) = changes.next_if(is_here) {
            let (_, next, path) = row?;
            let value = codec::encode(&next);
            path.verify_value(VALIDATOR_SET_KEY, &value, &header.state_root)
                .map_err(|_| wrong("who validates from here on"))?;
            let before = std::mem::replace(&mut in_force, next.hash());
            if before == in_force {
                return Err(wrong("a change of the validators"));
            }
        }
        transactions += check_bodies(image, &header)?;
        parent = header.hash();
        for node in history.append(&parent) {
            nodes += 1;
            if tables::history_node(image, node.level, node.index)? != node.hash {
                return Err(wrong("the history"));
            }
        }
    }
    let wrong = |what| ImageError::Contents {
        what,
        height: head.header.height,
    };
    if parent != head.hash {
        return Err(wrong("the chain of headers"));
    }
    if tables::count_places(image)? != transactions {
        return Err(wrong("the number of transactions"));
    }
    if tables::count_history_nodes(image)? != nodes {
        return Err(wrong("the size of the history"));
    }
    if changes.next().is_some() || in_force != head.validators.hash() {
        return Err(wrong("who validates next"));
    }
    Ok(())
}

/// Checks the bodies of a block and returns the number of its transactions.
fn check_bodies(image: &dyn KvView, header: &Header) -> Result<u64, ImageError> {
    let height = header.height;
    let wrong = |what| ImageError::Contents { what, height };
    let transactions = tables::encoded_transactions(image, height)?;
    if list::block_root(&transactions) != header.tx_root {
        return Err(wrong("a transaction"));
    }
    if list::block_root(tables::encoded_receipts(image, height)?) != header.receipt_root {
        return Err(wrong("a receipt"));
    }
    if list::block_root(tables::encoded_events(image, height)?) != header.event_root {
        return Err(wrong("an event"));
    }
    let block = tables::block(image, height)?.ok_or(wrong("the header"))?;
    for (transaction, index) in block.transactions.iter().zip(0u32..) {
        let place = tables::transaction_place(image, &transaction.hash(&header.chain_id))?;
        if place != Some((height, index)) {
            return Err(wrong("the place of a transaction"));
        }
    }
    Ok(transactions.len() as u64)
}

/// Checks the newest certificate in the image, which this node would serve and build on. Its header
/// and the validators were checked.
fn check_certificate(image: &dyn KvView, head: &Head) -> Result<(), ImageError> {
    let Some(height) = tables::newest_certified(image, 0)? else {
        return Ok(());
    };
    if height > head.header.height {
        let what = "the newest certificate";
        return Err(ImageError::Contents { what, height });
    }
    let CertifiedHeader {
        header,
        certificate,
    } = prove::certified_header(image, height)?;
    if certificate.height != height || certificate.header != header.hash() {
        let what = "the newest certificate";
        return Err(ImageError::Contents { what, height });
    }
    let set = tables::validators_at(image, height)?;
    certificate.verify(&set).map_err(ImageError::Certificate)
}

/// Checks the position of consensus, by which the receiver continues with the log. The membership
/// in it needs no other reason than the certificate: no honest validator computes this header from
/// a log with another one.
fn check_position(image: &dyn KvView, head: &Head) -> Result<(), ImageError> {
    let position = tables::position(image)?;
    let digest = position.map_or(Hash::ZERO, |marker| Hash::of(&marker));
    if digest == head.header.position {
        return Ok(());
    }
    Err(ImageError::Contents {
        what: "the position in the log",
        height: head.header.height,
    })
}
