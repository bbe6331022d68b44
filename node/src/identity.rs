//! Checks that the configuration, the key, the data directory and the genesis file belong together.
//! Each mismatch is reported with both sides by name, before the node connects to any other.

use std::path::PathBuf;

use lamplighter_ledger::Membership;
use lamplighter_state::{StateError, tables};
use lamplighter_store::Kv;
use lamplighter_types::{Genesis, Hash, PublicKey};

use crate::config::NodeConfig;

/// Two things that do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "the data in {} are of chain {found}, and the genesis file {} begins chain {expected} \
         ({name:?})",
        data.display(), genesis.display()
    )]
    OtherChain {
        data: PathBuf,
        found: Hash,
        genesis: PathBuf,
        expected: Hash,
        name: String,
    },
    #[error(
        "the key in {} is that of node {owner}, and the configuration says node = {node}",
        file.display()
    )]
    OtherNode {
        file: PathBuf,
        owner: u64,
        node: u64,
    },
    #[error(
        "node {node} of chain {chain} has the key {known}, and {} has {key}: the key is of no node \
         there. Either the file is another node's, or the genesis file another city's",
        file.display()
    )]
    OtherKey {
        file: PathBuf,
        node: u64,
        chain: Hash,
        known: PublicKey,
        key: PublicKey,
    },
    #[error("looking at the data directory")]
    State(#[from] StateError),
}

/// Compares an opened store with the genesis file. An empty store belongs to any chain.
pub(crate) fn check_chain(
    config: &NodeConfig,
    genesis: &Genesis,
    kv: &dyn Kv,
) -> Result<(), Box<IdentityError>> {
    let Some(height) = tables::head_height(kv).map_err(IdentityError::from)? else {
        return Ok(());
    };
    let header = tables::header(kv, height).map_err(IdentityError::from)?;
    let expected = genesis.chain_id();
    match header.filter(|header| header.chain_id != expected) {
        Some(header) => Err(Box::new(IdentityError::OtherChain {
            data: config.data_dir.clone(),
            found: header.chain_id,
            genesis: config.genesis.clone(),
            expected,
            name: genesis.name.clone(),
        })),
        // Damage is reported when the chain is opened.
        None => Ok(()),
    }
}

/// Compares the key with the validators of the genesis file.
pub(crate) fn check_founder(
    config: &NodeConfig,
    genesis: &Genesis,
    key: PublicKey,
) -> Result<(), Box<IdentityError>> {
    let set = &genesis.validators;
    let owner = set.by_key(&key).map(|validator| validator.node);
    let known = set.by_node(config.node).map(|validator| validator.key);
    check(config, genesis.chain_id(), key, owner, known)
}

/// Compares the key with the nodes that the chain names.
pub(crate) fn check_member(
    config: &NodeConfig,
    chain: Hash,
    membership: &Membership,
    key: PublicKey,
) -> Result<(), Box<IdentityError>> {
    let (owner, known) = (membership.node_of(&key), membership.key_of(config.node));
    check(config, chain, key, owner, known)
}

/// `owner` is the node that has this key, `known` the key of the configured node. A node that is
/// not added yet has neither.
fn check(
    config: &NodeConfig,
    chain: Hash,
    key: PublicKey,
    owner: Option<u64>,
    known: Option<PublicKey>,
) -> Result<(), Box<IdentityError>> {
    let (node, file) = (config.node, config.key.clone());
    match (owner, known) {
        (Some(owner), _) if owner != node => {
            Err(Box::new(IdentityError::OtherNode { file, owner, node }))
        }
        (None, Some(known)) => Err(Box::new(IdentityError::OtherKey {
            file,
            node,
            chain,
            known,
            key,
        })),
        _ => Ok(()),
    }
}
