//! The nodes that this one talks to: those that the ledger names, and while the chain is behind,
//! the validators that are announced for a later height.

use lamplighter_ledger::{AnnouncedValidators, Handle, HeadInfo, Membership};
use lamplighter_net::{AllowList, AllowedPeer, NodeKey};
use lamplighter_types::{PublicKey, ValidatorSet};
use tokio::sync::watch;

/// Looks nodes up by id and by key. Clones follow the same ledger.
#[derive(Clone)]
pub(crate) struct PeerDirectory {
    membership: watch::Receiver<Membership>,
    announced: watch::Receiver<Option<AnnouncedValidators>>,
    head: watch::Receiver<HeadInfo>,
    /// The height of the chain when the allow-list was last built.
    listed_at: u64,
}

impl PeerDirectory {
    pub fn new(ledger: &Handle) -> Self {
        Self {
            membership: ledger.watch_membership(),
            announced: ledger.watch_announced_validators(),
            head: ledger.watch_head(),
            listed_at: 0,
        }
    }

    /// The key of a node.
    pub fn key_of(&self, node: u64) -> Option<NodeKey> {
        let key = self.find(
            |membership| membership.key_of(node),
            |announced| announced.by_node(node).map(|validator| validator.key),
        )?;
        Some(NodeKey(key.0))
    }

    /// The node with a key.
    pub fn node_of(&self, key: NodeKey) -> Option<u64> {
        let key = PublicKey(key.0);
        self.find(
            |membership| membership.node_of(&key),
            |announced| announced.by_key(&key).map(|validator| validator.node),
        )
    }

    /// The validators that the ledger names.
    pub fn validators(&self) -> ValidatorSet {
        (*self.membership.borrow().named.validators).clone()
    }

    fn find<T>(
        &self,
        on_chain: impl FnOnce(&Membership) -> Option<T>,
        announced: impl FnOnce(&ValidatorSet) -> Option<T>,
    ) -> Option<T> {
        let found = on_chain(&self.membership.borrow());
        found.or_else(|| {
            let height = self.head.borrow().height;
            let upcoming = self.announced.borrow();
            let upcoming = upcoming
                .as_ref()
                .filter(|upcoming| height < upcoming.height)?;
            announced(&upcoming.validators)
        })
    }

    /// Waits until the allow-list may have changed; `false` when the ledger has ended.
    pub async fn changed(&mut self) -> bool {
        let ends = self
            .announced
            .borrow()
            .as_ref()
            .map(|upcoming| upcoming.height);
        let listed_at = Some(self.listed_at);
        tokio::select! {
            changed = self.membership.changed() => changed.is_ok(),
            changed = self.announced.changed() => changed.is_ok(),
            // From this height on the chain itself names the validators.
            reached = self.head.wait_for(|head| Some(head.height) >= ends),
                if listed_at < ends => reached.is_ok(),
        }
    }

    /// The allow-list for the network.
    pub fn allow_list(&mut self) -> AllowList {
        let membership = self.membership.borrow_and_update();
        let announced = self.announced.borrow_and_update();
        self.listed_at = self.head.borrow().height;
        let announced = announced.iter().filter(|set| self.listed_at < set.height);
        let announced = announced.flat_map(|set| &set.validators.validators);
        let unnamed = announced.filter(|validator| membership.node_of(&validator.key).is_none());
        let unnamed = unnamed.map(|v| (v.key, v.address.as_str()));
        let named = membership.all().map(|(_, key, address)| (key, address));
        let peers = named.chain(unnamed).map(|(key, address)| AllowedPeer {
            key: NodeKey(key.0),
            address: (!address.is_empty()).then(|| address.to_owned()),
        });
        AllowList(peers.collect())
    }
}
