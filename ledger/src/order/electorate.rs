//! The voters that the ledger explains to consensus.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_consensus::{Electorate, EvidenceArchive};
use lamplighter_contracts::governance;
use lamplighter_state::{StateError, tables};
use lamplighter_types::limits::SET_CHANGES_MAX;
use lamplighter_types::{PublicKey, SecretKey, Signature, ValidatorSet};
use tokio::sync::watch;

use crate::chain::Chain;
use crate::evidence::EvidenceStore;
use crate::peers::validator_discovery::AnnouncedValidators;

/// The electorate of a node: the voters of its membership, and while its chain is behind the
/// validators that it learned with their proof.
pub(crate) struct LedgerElectorate {
    pub chain: Arc<Chain>,
    pub announced: watch::Receiver<Option<AnnouncedValidators>>,
    pub secret: SecretKey,
    pub evidence: Arc<EvidenceStore>,
}

fn nodes(set: &ValidatorSet) -> BTreeSet<u64> {
    set.validators.iter().map(|v| v.node).collect()
}

impl LedgerElectorate {
    /// The announced validators, while this node's chain does not reach them.
    fn announced<T>(&self, read: impl FnOnce(&AnnouncedValidators) -> T) -> Option<T> {
        let head = self.chain.head().height;
        let announced = self.announced.borrow();
        announced
            .as_ref()
            .filter(|announced| head < announced.height)
            .map(read)
    }

    fn key_of(&self, node: u64) -> Option<PublicKey> {
        let membership = self.chain.watch_membership();
        let named = {
            let membership = membership.borrow();
            let voter = membership.voters.by_node(node).map(|v| v.key);
            membership.key_of(node).or(voter)
        };
        named.or_else(|| {
            self.announced(|announced| announced.validators.by_node(node).map(|v| v.key))
                .flatten()
        })
    }

    /// The height of the newest certified change that named this set; 0 for the genesis.
    fn certified_place(&self, voters: &BTreeSet<u64>) -> Result<Option<u64>, StateError> {
        let (store, certified) = (self.chain.store(), self.chain.certified_height());
        let changes = tables::set_changes_before(&*store, u64::MAX)?;
        for change in changes.take(SET_CHANGES_MAX) {
            let (height, set, _) = change?;
            if nodes(&set) == *voters
                && (height <= certified || tables::certificate(&*store, height)?.is_some())
            {
                return Ok(Some(height));
            }
        }
        let genesis = nodes(&self.chain.genesis().validators);
        Ok((genesis == *voters).then_some(0))
    }
}

impl Electorate for LedgerElectorate {
    fn chain_id(&self) -> [u8; 32] {
        self.chain.chain_id().0
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).0
    }

    fn verify(&self, node: u64, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = self.key_of(node);
        key.is_some_and(|key| key.verify(message, &Signature(*signature)).is_ok())
    }

    fn has_key(&self, node: u64) -> bool {
        self.key_of(node).is_some()
    }

    fn electors(&self) -> Vec<BTreeSet<u64>> {
        let voters = nodes(&self.chain.watch_membership().borrow().voters);
        let announced = self.announced(|announced| nodes(&announced.validators));
        std::iter::once(voters).chain(announced).collect()
    }

    fn explains(&self, voters: &BTreeSet<u64>) -> Option<u64> {
        let announced = self.announced(|announced| {
            (nodes(&announced.validators) == *voters).then_some(announced.height)
        });
        let certified = || match self.certified_place(voters) {
            Ok(place) => place,
            Err(error) => {
                tracing::error!(%error, "the sets of validators can't be read");
                None
            }
        };
        announced.flatten().or_else(certified)
    }

    fn names(&self, node: u64) -> bool {
        let known = self
            .chain
            .watch_membership()
            .borrow()
            .key_of(node)
            .is_some();
        let used = || match governance::used_node(&self.chain.live_view(), node) {
            Ok(account) => account.is_some(),
            Err(error) => {
                tracing::error!(%error, node, "the nodes of the ledger can't be read");
                false
            }
        };
        known || self.key_of(node).is_some() || used()
    }

    fn is_excluded(&self, node: u64) -> bool {
        self.evidence.is_excluded(node)
    }

    fn evidence(&self) -> Option<Arc<dyn EvidenceArchive>> {
        Some(self.evidence.clone())
    }
}
