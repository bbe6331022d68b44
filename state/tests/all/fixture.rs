//! A chain in a store, written block by block as a node does it.

use std::sync::Arc;

use lamplighter_state::tables;
use lamplighter_state::tree::{FetchedPages, LeafChanges, Tree};
use lamplighter_state::{Changes, StateError, prove, set_path};
use lamplighter_store::{Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::merkle::{History, list};
use lamplighter_types::proof::VALIDATOR_SET_KEY;
use lamplighter_types::*;

pub struct TestChain {
    pub kv: Arc<MemoryKv>,
    pub genesis: Genesis,
    pub tree: Tree,
    pub history: History,
    pub headers: Vec<Header>,
    in_force: ValidatorSet,
}

/// The contents of a block.
#[derive(Default)]
pub struct Content {
    pub transactions: Vec<Arc<Verified<Transaction>>>,
    pub receipts: Vec<Arc<Receipt>>,
    pub events: Vec<EventRecord>,
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub next: Option<ValidatorSet>,
}

pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub fn id(text: &str) -> Id {
    text.parse().unwrap()
}

pub fn validators(nodes: std::ops::RangeInclusive<u8>) -> ValidatorSet {
    let validator = |n: u8| Validator {
        node: n.into(),
        account: id(&format!("validator-{n}")),
        key: secret(n).public(),
        address: format!("10.0.0.{n}:7000"),
    };
    ValidatorSet {
        validators: nodes.map(validator).collect(),
    }
}

impl TestChain {
    pub fn new() -> Self {
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "Harbour City".to_owned(),
            created_ms: 1_790_000_000_000,
            validators: validators(1..=4),
            organization: id("city"),
            accounts: Vec::new(),
            policies: Policies::default(),
        };
        let mut chain = Self {
            kv: Arc::new(MemoryKv::new()),
            in_force: genesis.validators.clone(),
            genesis,
            tree: Tree::default(),
            history: History::new(),
            headers: Vec::new(),
        };
        chain.push(Content {
            next: Some(validators(1..=4)),
            ..Content::default()
        });
        chain
    }

    /// Writes the next block.
    pub fn push(&mut self, mut content: Content) {
        let height = self.headers.len() as u64;
        if let Some(next) = &content.next {
            content
                .writes
                .push((VALIDATOR_SET_KEY.to_vec(), Some(codec::encode(next))));
        }
        let stored = |(key, value): (Vec<u8>, Option<Vec<u8>>)| (key, value.map(Into::into));
        let changes = Changes {
            writes: content.writes.drain(..).map(stored).collect(),
            events: content.events.clone(),
        };
        let leaves = LeafChanges::of(&changes);
        let updated = self.tree.update(&leaves, FetchedPages::default());
        let state_root = updated.unwrap();
        let header = Header {
            version: HEADER_VERSION,
            chain_id: self.genesis.chain_id(),
            height,
            parent: self.headers.last().map_or(Hash::ZERO, Header::hash),
            timestamp_ms: self.genesis.created_ms + height * 1_000,
            tx_root: list::block_root(
                content
                    .transactions
                    .iter()
                    .map(|t| codec::encode(&**t.envelope())),
            ),
            receipt_root: list::block_root(content.receipts.iter().map(|r| codec::encode(&**r))),
            event_root: list::block_root(content.events.iter().map(codec::encode)),
            state_root,
            history_root: self.history.root(),
            validators_hash: self.in_force.hash(),
            batch: Hash::of(&height.to_le_bytes()),
            position: Hash::of(format!("position {height}").as_bytes()),
        };
        let mut batch = WriteBatch::new();
        let Content {
            transactions,
            receipts,
            events,
            ..
        } = &content;
        tables::put_block(&mut batch, &header, transactions, receipts, events);
        tables::put_changes(&mut batch, &changes);
        tables::put_history(&mut batch, &self.history.append(&header.hash()));
        if let Some(next) = content.next {
            let path = self.tree.prove(VALIDATOR_SET_KEY).unwrap();
            tables::put_validators(&mut batch, height, &next, &path);
            self.certify_into(&mut batch, &header);
            self.in_force = next;
        }
        self.headers.push(header);
        self.kv.write(batch, Durability::Synced).unwrap();
        set_path::extend(&*self.kv).unwrap();
    }

    fn certify_into(&self, batch: &mut WriteBatch, header: &Header) {
        let nodes = self
            .in_force
            .validators
            .iter()
            .map(|v| secret(v.node as u8));
        let hash = header.hash();
        let attest = |secret: SecretKey| Attestation::sign(header.height, hash, &secret);
        let attestations: Vec<_> = nodes.map(attest).collect();
        let certificate = Certificate::from_attestations(header.height, hash, &attestations);
        tables::put_certificate(batch, &certificate);
    }

    /// Certifies the newest block.
    pub fn certify(&mut self) {
        let mut batch = WriteBatch::new();
        self.certify_into(&mut batch, self.headers.last().unwrap());
        self.kv.write(batch, Durability::Synced).unwrap();
    }

    pub fn height(&self) -> u64 {
        self.headers.len() as u64 - 1
    }

    /// Makes the bundle under the newest certificate and verifies it.
    pub fn proven(&self, record: proof::RecordProof, height: u64) -> Result<Proven, StateError> {
        let certified = tables::newest_certified(&*self.kv, 0)?.unwrap();
        let bundle = prove::bundle(&*self.kv, record, height, certified, 0)?;
        assert_eq!(ProofBundle::from_bytes(&bundle.to_bytes()).unwrap(), bundle);
        assert_eq!(ProofBundle::from_json(&bundle.to_json()).unwrap(), bundle);
        Ok(bundle.verify(&self.genesis).unwrap())
    }
}

pub fn transaction(sequence: u64, chain_id: &Hash) -> Arc<Verified<Transaction>> {
    let transaction = Transaction {
        sender: id("alice"),
        sequence,
        expires_ms: 1_790_000_060_000,
        action: Action::Users(UsersAction::Disable { account: id("bob") }),
    };
    let signed = SignedTransaction::sign(&transaction, Encoding::Bincode, chain_id, &secret(100));
    Arc::new(signed.verify(chain_id).unwrap())
}

pub fn receipt(of: Hash, notifications: Vec<Notification>) -> Arc<Receipt> {
    Arc::new(Receipt {
        transaction: of,
        outcome: Outcome::Succeeded,
        notifications,
    })
}

pub fn about(device: &str, fact: Fact) -> Notification {
    let place = Place {
        device: id(device),
        district: Scope::city(),
        gateway: None,
    };
    Notification {
        place: Some(place),
        fact,
    }
}

pub fn event(device: &str, sequence: u64) -> EventRecord {
    EventRecord {
        event: DeviceEvent {
            device: id(device),
            sequence,
            time_ms: sequence,
            kind: "lamp-failure".to_owned(),
            severity: Severity::Major,
            alarm: AlarmChange::None,
            data: String::new(),
            signature: None,
        },
        gateway: id("gw-1"),
        attested: false,
        received_ms: sequence + 1,
    }
}
