use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_contracts::refusal;
use lamplighter_contracts::{BlockContext, config, devices, execute, genesis};
use lamplighter_state::{Changes, Overlay, View};
use lamplighter_store::{Cf, Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::{
    Encoding, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash, Id, Outcome, Policies,
    PublicKey, Role, Scope, SignedTransaction, Transaction, Validator, ValidatorSet,
};

use super::fill::{self, Filler, secret, sign};
use super::parse::{Detail, Line};
use super::show;
use lamplighter_contracts::ContractError;

const START_MS: u64 = 1_800_000_000_000;
const BLOCK_MS: u64 = 1_000;
const EXPIRES_AFTER_MS: i64 = 60_000;

/// A ledger of one node, without consensus, and the people who use it.
pub struct World {
    kv: Arc<MemoryKv>,
    genesis: Genesis,
    height: u64,
    time_ms: u64,
    /// ms to the next block.
    step_ms: u64,
    keys: BTreeMap<String, String>,
    sequences: BTreeMap<PublicKey, u64>,
    next_sequence: Option<u64>,
    next_expires: Option<i64>,
    last: Option<SignedTransaction>,
    labels: BTreeMap<String, String>,
    detail: Detail,
    /// How often the next transaction is sent.
    times: u64,
    changes: Vec<Changes>,
}

fn id(name: &str) -> Id {
    Id::new(name).expect("names in scripts are ids")
}

fn first_account(name: &str, role: Role) -> GenesisAccount {
    GenesisAccount {
        account: id(name),
        name: name.to_uppercase(),
        key: secret(name).public(),
        grants: vec![Grant::founding(role, Scope::city())],
    }
}

/// The genesis file of all scripts.
pub fn genesis() -> Genesis {
    let validator = |node: u64| Validator {
        node,
        account: id(&format!("node-{node}")),
        key: secret(&format!("node-{node}")).public(),
        address: format!("node-{node}.example:7000"),
    };
    let people = [
        ("ada", Role::Administrator),
        ("ben", Role::Administrator),
        ("cyd", Role::Administrator),
        ("dan", Role::Administrator),
        ("olga", Role::Operator),
        ("amir", Role::Approver),
        ("anna", Role::Approver),
        ("sam", Role::Security),
        ("acme", Role::Vendor),
    ];
    Genesis {
        version: GENESIS_VERSION,
        name: "Harbour City".to_owned(),
        created_ms: START_MS,
        validators: ValidatorSet {
            validators: (1..=4).map(validator).collect(),
        },
        organization: id("city"),
        accounts: people
            .map(|(name, role)| first_account(name, role))
            .to_vec(),
        policies: Policies::default(),
    }
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            kv: Arc::new(MemoryKv::new()),
            genesis: genesis(),
            height: 0,
            time_ms: START_MS,
            step_ms: BLOCK_MS,
            keys: BTreeMap::new(),
            sequences: BTreeMap::new(),
            next_sequence: None,
            next_expires: None,
            last: None,
            labels: BTreeMap::new(),
            detail: Detail::Loud,
            times: 1,
            changes: Vec::new(),
        };
        let mut overlay = Overlay::new(world.view());
        genesis::install(&mut overlay, &world.genesis).expect("a sound genesis file");
        world.store(overlay.into_changes());
        world
    }

    pub fn view(&self) -> View {
        View::new(self.kv.clone())
    }

    pub fn chain_id(&self) -> Hash {
        self.genesis.chain_id()
    }

    /// Every change so far, block by block.
    pub fn into_changes(self) -> Vec<Changes> {
        self.changes
    }

    /// Executes a line; returns its output, in indented lines.
    pub fn step(&mut self, line: Line) -> String {
        let lines = match line {
            Line::Comment => Vec::new(),
            Line::Key { account, key } => {
                self.keys.insert(account, key);
                Vec::new()
            }
            Line::Sequence(sequence) => {
                self.next_sequence = Some(sequence);
                Vec::new()
            }
            Line::Expires(ms) => {
                self.next_expires = Some(ms);
                Vec::new()
            }
            Line::Time(ms) => {
                self.step_ms = ms;
                Vec::new()
            }
            Line::Detail(detail) => {
                self.detail = detail;
                Vec::new()
            }
            Line::Times(times) => {
                self.times = times;
                Vec::new()
            }
            Line::Blocks(n) => (0..n).flat_map(|_| self.block(None)).collect(),
            Line::Again => {
                let last = self.last.clone().expect("a transaction to repeat");
                self.block(Some(last))
            }
            Line::Send {
                sender,
                key,
                devices,
                action,
            } => {
                let times = std::mem::replace(&mut self.times, 1);
                let send = |round| {
                    let action = fill::numbered(&action, "{k}", round);
                    let signed = self.sign(&sender, key.clone(), &devices, action);
                    self.last = Some(signed.clone());
                    self.block(Some(signed))
                };
                show::joined((1..=times).map(send).collect())
            }
            Line::Effective(device) => self.effective(&device),
            Line::Query { function, argument } => {
                match devices::iotregistry_query(&self.view(), &function, &argument) {
                    Ok(reply) => vec![reply],
                    Err(error) => vec![error.to_string()],
                }
            }
        };
        let lines = lines
            .iter()
            .map(|line| format!("  {}\n", show::shorten(line, &self.labels)));
        lines.collect()
    }

    fn effective(&self, device: &str) -> Vec<String> {
        let device = devices::device(&self.view(), &id(device))
            .unwrap()
            .expect("a device");
        let (document, hash) = config::effective(&self.view(), &device).unwrap();
        vec![document, hash.to_string()]
    }

    fn sign(
        &mut self,
        sender: &str,
        key: Option<String>,
        devices: &[String],
        action: serde_json::Value,
    ) -> SignedTransaction {
        let key = key.or_else(|| self.keys.get(sender).cloned());
        let key = key.unwrap_or_else(|| sender.to_owned());
        let secret = secret(&key);
        self.labels
            .insert(secret.public().to_string(), format!("$key:{key}"));
        let (time_ms, chain_id) = (self.time_ms + self.step_ms, self.chain_id());
        let mut filler = Filler {
            view: &self.view(),
            chain_id,
            time_ms,
            sender,
            labels: &mut self.labels,
        };
        let filled = filler.fill(action);
        let mut action =
            serde_json::from_value(filled.clone()).unwrap_or_else(|e| panic!("{e}: {filled}"));
        sign(&mut action, devices, &chain_id);
        let sequence = self.next_sequence.take().unwrap_or_else(|| {
            let next = self.sequences.entry(secret.public()).or_insert(0);
            *next += 1;
            *next
        });
        let expires = self.next_expires.take().unwrap_or(EXPIRES_AFTER_MS);
        let expires_ms = time_ms.checked_add_signed(expires).expect("a time");
        let transaction = Transaction {
            sender: id(sender),
            sequence,
            expires_ms,
            action,
        };
        SignedTransaction::sign(&transaction, Encoding::Json, &chain_id, &secret)
    }

    /// Makes a block of at most one transaction.
    fn block(&mut self, transaction: Option<SignedTransaction>) -> Vec<String> {
        self.height += 1;
        self.time_ms += std::mem::replace(&mut self.step_ms, BLOCK_MS);
        let chain_id = self.chain_id();
        let block = BlockContext {
            chain_id,
            height: self.height,
            time_ms: self.time_ms,
        };
        let mut overlay = Overlay::new(self.view());
        let by_time = execute::begin_block(&mut overlay, &block).expect("a readable state");
        let mut lines = match self.detail {
            Detail::Counts => show::notification_counts(&by_time),
            Detail::Loud | Detail::Quiet => by_time
                .iter()
                .map(|n| format!("by time {}", show::notification(n)))
                .collect(),
        };
        if let Some(signed) = transaction {
            let verified = signed.verify(&chain_id).expect("signed for this chain");
            match execute::execute(&mut overlay, &block, &verified).expect("a readable state") {
                Err(error) => lines.push(format!("not admitted {}: {error}", error.code())),
                Ok(receipt) => {
                    lines.push(match receipt.outcome {
                        Outcome::Succeeded => "succeeded".to_owned(),
                        Outcome::Failed { code, fields } => {
                            format!("failed {code}: {}", refusal::message(&code, &fields))
                        }
                    });
                    match self.detail {
                        Detail::Counts => {
                            lines.extend(show::notification_counts(&receipt.notifications));
                        }
                        Detail::Loud | Detail::Quiet => {
                            lines.extend(receipt.notifications.iter().map(show::notification));
                        }
                    }
                }
            }
        }
        let changes = overlay.into_changes();
        match self.detail {
            Detail::Loud => lines.extend(show::changes(&changes)),
            Detail::Counts => lines.extend(show::change_counts(&changes)),
            Detail::Quiet => {}
        }
        self.store(changes);
        lines
    }

    fn store(&mut self, changes: Changes) {
        let mut batch = WriteBatch::new();
        for (key, value) in changes.writes.clone() {
            match value {
                Some(value) => batch.put(Cf::State, key, value),
                None => batch.delete(Cf::State, key),
            }
        }
        self.kv.write(batch, Durability::Unsynced).expect("memory");
        self.changes.push(changes);
    }
}
