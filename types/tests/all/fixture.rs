//! A small chain, made by hand: blocks with transactions, receipts, events and a state, signed by
//! validators that change once.

use lamplighter_types::merkle::{History, ListTree, OtherLeaf, StateProof, history, list, sparse};
use lamplighter_types::proof::*;
use lamplighter_types::*;

/// The state, as a plain list of entries.
pub type State = Vec<(Vec<u8>, Vec<u8>)>;

/// Root of the entries whose digests share `depth` bits: the definition, without any cleverness.
pub fn sparse_root(state: &[(Hash, Hash)], depth: usize) -> Hash {
    match state {
        [] => sparse::EMPTY,
        [(key, value)] => sparse::leaf(key, value),
        _ => {
            let (right, left): (Vec<_>, Vec<_>) = state
                .iter()
                .partition(|(key, _)| sparse::branches_right(key, depth));
            sparse::node(
                &sparse_root(&left, depth + 1),
                &sparse_root(&right, depth + 1),
            )
        }
    }
}

pub fn digests(state: &State) -> Vec<(Hash, Hash)> {
    state
        .iter()
        .map(|(key, value)| (Hash::of(key), Hash::of(value)))
        .collect()
}

/// The path of `key`, made from the definition.
pub fn sparse_path(state: &State, key: &[u8]) -> StateProof {
    let key = Hash::of(key);
    let (mut entries, mut siblings) = (digests(state), Vec::new());
    while entries.len() > 1 {
        let depth = siblings.len();
        let side = sparse::branches_right(&key, depth);
        let (same, others): (Vec<_>, Vec<_>) = entries
            .iter()
            .partition(|(other, _)| sparse::branches_right(other, depth) == side);
        siblings.push(sparse_root(&others, depth + 1));
        entries = same;
    }
    let other = entries.first().filter(|(other, _)| *other != key);
    let other = other.map(|(key, value)| OtherLeaf {
        key: *key,
        value: *value,
    });
    StateProof { siblings, other }
}

pub struct TestBlock {
    pub certified: CertifiedHeader,
    pub transactions: Vec<SignedTransaction>,
    pub receipts: Vec<Vec<u8>>,
    pub events: Vec<Vec<u8>>,
    pub state: State,
    pub in_force: ValidatorSet,
}

pub struct TestChain {
    pub genesis: Genesis,
    pub blocks: Vec<TestBlock>,
    pub nodes: Vec<Vec<Hash>>,
    history: History,
}

pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub fn validators(nodes: &[u8]) -> ValidatorSet {
    let validator = |n: &u8| Validator {
        node: (*n).into(),
        account: Id::new(format!("validator-{n}")).unwrap(),
        key: secret(*n).public(),
        address: format!("10.0.0.{n}:7000"),
    };
    ValidatorSet {
        validators: nodes.iter().map(validator).collect(),
    }
}

pub fn genesis() -> Genesis {
    let id = |text: &str| text.parse::<Id>().unwrap();
    let administrator = Grant::founding(Role::Administrator, Scope::city());
    Genesis {
        version: GENESIS_VERSION,
        name: "Harbour City".to_owned(),
        created_ms: 1_790_000_000_000,
        validators: validators(&[1, 2, 3, 4]),
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("alice"),
            name: "Alice".to_owned(),
            key: secret(100).public(),
            grants: vec![administrator],
        }],
        policies: Policies::default(),
    }
}

pub fn transaction(sequence: u64, chain_id: &Hash) -> SignedTransaction {
    let transaction = Transaction {
        sender: "alice".parse().unwrap(),
        sequence,
        expires_ms: 1_790_000_060_000,
        action: Action::Users(UsersAction::Disable {
            account: "bob".parse().unwrap(),
        }),
    };
    let encoding = if sequence.is_multiple_of(2) {
        Encoding::Json
    } else {
        Encoding::Bincode
    };
    SignedTransaction::sign(&transaction, encoding, chain_id, &secret(100))
}

fn receipt(of: Hash) -> Vec<u8> {
    codec::encode(&Receipt {
        transaction: of,
        outcome: Outcome::Succeeded,
        notifications: vec![],
    })
}

pub fn event(sequence: u64) -> EventRecord {
    EventRecord {
        event: DeviceEvent {
            device: "lamp-1".parse().unwrap(),
            sequence,
            time_ms: 1_790_000_000_500,
            kind: "lamp-failure".to_owned(),
            severity: Severity::Major,
            alarm: AlarmChange::Raise,
            data: String::new(),
            signature: None,
        },
        gateway: "gw-1".parse().unwrap(),
        attested: false,
        received_ms: 1_790_000_000_900,
    }
}

/// Where the contracts keep a device.
pub fn device_key(device: &str) -> Vec<u8> {
    [&[0x10], device.as_bytes(), &[0]].concat()
}

pub fn device() -> Device {
    let id = |text: &str| text.parse::<Id>().unwrap();
    Device {
        device: id("lamp-1"),
        owner: id("city"),
        offered_to: None,
        model: "LX-200 \"Süd\"".to_owned(),
        hardware_class: "lx".to_owned(),
        district: Scope::new("north/harbour").unwrap(),
        gateway: Some(id("gw-1")),
        key: Some(secret(42).public()),
        tags: vec![Tag {
            name: "pole".to_owned(),
            value: "17".to_owned(),
        }],
        status: DeviceStatus::Active,
        registered_height: 0,
    }
}

impl TestChain {
    /// A chain of `length` blocks; the one at `change_at` replaces the validators 1 to
    /// 4 by 3 to 7.
    pub fn new(length: u64, change_at: Option<u64>) -> Self {
        let change = change_at.map(|height| (height, vec![3, 4, 5, 6, 7]));
        Self::with_changes(length, &change.into_iter().collect::<Vec<_>>())
    }

    /// A chain of `length` blocks with these changes of the validators, which are 1 to 4 at first.
    pub fn with_changes(length: u64, changes: &[(u64, Vec<u8>)]) -> Self {
        let genesis = genesis();
        let mut chain = Self {
            genesis,
            blocks: Vec::new(),
            nodes: Vec::new(),
            history: History::new(),
        };
        let (mut in_force, mut next) = (vec![1, 2, 3, 4], vec![1, 2, 3, 4]);
        for height in 0..length {
            if let Some((_, set)) = changes.iter().find(|(at, _)| *at == height) {
                next.clone_from(set);
            }
            chain.push(height, &in_force, &next);
            in_force = next.clone();
        }
        chain
    }

    fn push(&mut self, height: u64, in_force: &[u8], next: &[u8]) {
        let chain_id = self.genesis.chain_id();
        let transactions: Vec<_> = (0..height % 4)
            .map(|n| transaction(n + 1, &chain_id))
            .collect();
        let receipts: Vec<_> = transactions
            .iter()
            .map(|t| receipt(t.hash(&chain_id)))
            .collect();
        let events: Vec<_> = (0..height % 3).map(|n| codec::encode(&event(n))).collect();
        let mut state: State = (0..height * 2)
            .map(|n| (vec![1, n as u8], vec![n as u8; 3]))
            .collect();
        state.push((VALIDATOR_SET_KEY.to_vec(), codec::encode(&validators(next))));
        state.push((device_key("lamp-1"), codec::encode(&device())));
        let below = self.blocks.last().map(|b| &b.certified.header);
        let header = Header {
            version: HEADER_VERSION,
            chain_id,
            height,
            parent: below.map_or(Hash::ZERO, Header::hash),
            timestamp_ms: self.genesis.created_ms + height * 1_000,
            tx_root: list::block_root(transactions.iter().map(codec::encode)),
            receipt_root: list::block_root(&receipts),
            event_root: list::block_root(&events),
            state_root: sparse_root(&digests(&state), 0),
            history_root: self.history.root(),
            validators_hash: validators(in_force).hash(),
            batch: Hash::of(&height.to_le_bytes()),
            position: Hash::of(format!("position {height}").as_bytes()),
        };
        for node in self.history.append(&header.hash()) {
            let level = usize::from(node.level);
            self.nodes
                .resize(self.nodes.len().max(level + 1), Vec::new());
            assert_eq!(self.nodes[level].len() as u64, node.index);
            self.nodes[level].push(node.hash);
        }
        let certificate = certify(&header, in_force);
        let certified = CertifiedHeader {
            header,
            certificate,
        };
        self.blocks.push(TestBlock {
            certified,
            transactions,
            receipts,
            events,
            state,
            in_force: validators(in_force),
        });
    }

    /// The bundle of a record at `height` under the head `head`.
    pub fn bundle(&self, record: RecordProof, height: u64, head: u64) -> ProofBundle {
        let header = |height: u64| self.blocks[height as usize].certified.header.clone();
        let node =
            |level: u8, index: u64| Ok::<_, ()>(self.nodes[usize::from(level)][index as usize]);
        let ancestor = (height != head).then(|| Ancestor {
            header: header(height),
            path: history::inclusion_path(height, head, node).unwrap(),
        });
        let changed = |pair: &&[TestBlock]| {
            let hash = |b: &TestBlock| b.certified.header.validators_hash;
            hash(&pair[0]) != hash(&pair[1])
        };
        let changes = self.blocks[..=head as usize].windows(2).filter(changed);
        let set_changes = changes
            .map(|pair| SetChange {
                certified: pair[0].certified.clone(),
                in_force: pair[0].in_force.clone(),
                next: pair[1].in_force.clone(),
                path: sparse_path(&pair[0].state, VALIDATOR_SET_KEY),
            })
            .collect();
        let head = self.blocks[head as usize].certified.clone();
        ProofBundle {
            version: PROOF_VERSION,
            record,
            ancestor,
            head,
            set_changes,
        }
    }

    /// Proof of what the state at `height` has under `key`.
    pub fn state_record(&self, height: u64, key: &[u8]) -> RecordProof {
        let state = &self.blocks[height as usize].state;
        let found = state.iter().find(|(k, _)| k == key);
        RecordProof::State {
            key: HexBytes(key.to_vec()),
            value: found.map(|(_, value)| HexBytes(value.clone())),
            path: sparse_path(state, key),
        }
    }

    /// One proof of each kind that the block at `height` has.
    pub fn records(&self, height: u64) -> Vec<RecordProof> {
        let block = &self.blocks[height as usize];
        let envelopes: Vec<_> = block.transactions.iter().map(codec::encode).collect();
        let last = |items: &[Vec<u8>]| {
            let index = items.len().checked_sub(1)?;
            Some((index, ListTree::new(items).prove(index as u64)?))
        };
        let state = |key: &[u8]| self.state_record(height, key);
        let mut records = vec![
            state(&[1, 0]),
            state(VALIDATOR_SET_KEY),
            state(b"absent"),
            state(b"no"),
        ];
        records.extend(
            last(&envelopes).map(|(index, place)| RecordProof::Transaction {
                transaction: block.transactions[index].clone(),
                place,
            }),
        );
        records.extend(
            last(&block.receipts).map(|(index, place)| RecordProof::Receipt {
                receipt: HexBytes(block.receipts[index].clone()),
                place,
            }),
        );
        records.extend(
            last(&block.events).map(|(index, place)| RecordProof::Event {
                event: HexBytes(block.events[index].clone()),
                place,
            }),
        );
        records
    }
}

/// The certificate of all of `nodes`.
pub fn certify(header: &Header, nodes: &[u8]) -> Certificate {
    let hash = header.hash();
    let attest = |n: &u8| Attestation::sign(header.height, hash, &secret(*n));
    let attestations: Vec<_> = nodes.iter().map(attest).collect();
    Certificate::from_attestations(header.height, hash, &attestations)
}
