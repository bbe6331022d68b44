//! A ledger's state machine for the tests of this crate.

mod audit;
mod cost;

use std::sync::Arc;

use async_trait::async_trait;
use lamplighter_consensus::Committed;
use lamplighter_state::tree::Tree;
use lamplighter_store::{Kv, MemoryKv};
use lamplighter_types::{
    Action, Encoding, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Id, Policies, Role, Scope,
    SecretKey, SignedTransaction, Transaction, UsersAction, Validator, ValidatorSet,
};
use tokio::sync::watch;

use crate::alarms::Alarms;
use crate::apply::state_machine::LedgerStateMachine;
use crate::blocking::Blocking;
use crate::chain::Chain;
use crate::clock::SystemClock;
use crate::clock_comparison::ClockComparison;
use crate::config::MempoolLimits;
use crate::message::{PeerAnswer, PeerError, PeerGossip, PeerRequest, Peers};
use crate::order::sequencer::Batch;
use crate::start::create_genesis_block;
use crate::submit::mempool::Mempool;
use crate::submit::resolver::TicketResolver;

pub const START_MS: u64 = 1_800_000_000_000;

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

/// A city of so many validators; the key of node n is [`secret`] n.
pub fn genesis(nodes: u8) -> Genesis {
    let validator = |node: u8| Validator {
        node: node.into(),
        account: id(&format!("node-{node}")),
        key: secret(node).public(),
        address: format!("127.0.0.1:{}", 9000 + u16::from(node)),
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: START_MS,
        validators: ValidatorSet {
            validators: (1..=nodes).map(validator).collect(),
        },
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".into(),
            key: secret(200).public(),
            grants: vec![Grant {
                role: Role::Administrator,
                scope: Scope::city(),
                since_ms: 0,
            }],
        }],
        policies: Policies::default(),
    }
}

struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn request(&self, node: u64, _: PeerRequest) -> Result<PeerAnswer, PeerError> {
        Err(PeerError::Unreachable(node))
    }

    fn broadcast(&self, _: PeerGossip) {}

    fn connected(&self) -> Vec<u64> {
        Vec::new()
    }
}

/// The state machine of node 1, without consensus and peers.
pub fn machine(kv: &MemoryKv, nodes: u8) -> LedgerStateMachine {
    machine_of(Arc::new(kv.clone()), genesis(nodes))
}

/// The state machine of node 1 of any city over any store.
pub fn machine_of(kv: Arc<dyn Kv>, genesis: Genesis) -> LedgerStateMachine {
    machine_with(kv, genesis, Tree::new())
}

/// The same, with its state in an empty tree.
pub fn machine_with(kv: Arc<dyn Kv>, genesis: Genesis, empty: Tree) -> LedgerStateMachine {
    let head = create_genesis_block(&kv, &genesis, empty).unwrap();
    let chain = Arc::new(Chain::new(kv, genesis, head).unwrap());
    let mempool = Arc::new(Mempool::new(MempoolLimits::default()));
    let clock = Arc::new(SystemClock);
    LedgerStateMachine {
        resolver: TicketResolver::new(chain.clone(), mempool.clone()),
        mempool,
        blocking: Blocking::Inline,
        alarms: Arc::new(Alarms::new(clock.clone())),
        clocks: Arc::new(ClockComparison::new(
            1,
            30_000,
            clock,
            chain.clone(),
            Arc::new(NoPeers),
        )),
        chain,
        installation: watch::Sender::new(None),
    }
}

impl LedgerStateMachine {
    /// An entry with the registration of an organization.
    pub fn register(&self, name: &str, timestamp_ms: u64) -> Committed {
        let transaction = Transaction {
            sender: id("admin"),
            sequence: self.chain.head().height + 1,
            expires_ms: START_MS + 600_000,
            action: Action::Users(UsersAction::RegisterOrganization {
                organization: id(name),
                name: name.to_owned(),
            }),
        };
        let chain_id = self.chain.chain_id();
        let signed =
            SignedTransaction::sign(&transaction, Encoding::Bincode, &chain_id, &secret(200));
        let batch = Batch {
            parent: self.chain.last_batch(),
            timestamp_ms,
            transactions: vec![signed],
        };
        self.entry(batch.encode())
    }

    pub fn entry(&self, batch: Vec<u8>) -> Committed {
        let log_index = self.chain.head().height + 1;
        Committed {
            log_index,
            term: 1,
            marker: format!("entry {log_index}").into_bytes(),
            batch: Some(batch.into()),
        }
    }
}
