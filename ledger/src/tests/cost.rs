//! Counts the instructions of a transaction and of an event between batch and rows, under
//! Valgrind's callgrind, and compares them with the counts on record: a time says little on a busy
//! machine, a count says the same everywhere.
//!
//! Counted are reading the batch, verification, execution, roots, tree and rows. Writing the rows
//! to the store is not, but their number and bytes are on record too. The counts are those of the
//! development profile, in which the tests are built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fmt, fs, hint};

use lamplighter_consensus::{Committed, StateMachine};
use lamplighter_state::tables;
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Op, Scan, StoreError, WriteBatch,
};
use lamplighter_types::{
    Action, AlarmChange, DeviceEvent, DevicesAction, Encoding, EventsAction, Grant, Id, KeyPurpose,
    NewDevice, Outcome, Receipt, Role, Scope, SecretKey, Severity, SignedTransaction, Transaction,
    UsersAction,
};

use super::{START_MS, genesis, id, machine_of, secret};
use crate::apply::state_machine::LedgerStateMachine;
use crate::order::sequencer::Batch;

/// Names the load of the process that Valgrind watches.
const LOAD: &str = "LAMPLIGHTER_COUNTED_LOAD";
/// Puts the counts on record instead of comparing them.
const UPDATE: &str = "UPDATE_COSTS";
const RECORD: &str = "src/tests/costs.txt";
const HEADING: &str = "\
# What each costs between its batch and its rows, in the development profile: see cost.rs.
# UPDATE_COSTS=1 cargo nextest run --workspace --lib -E 'test(costs_no_more_than)'
";
/// Growth in percent beyond which a figure fails.
const GROWTH_MAX: u64 = 10;

const GATEWAYS: u8 = 8;
const LAMPS: u64 = 100;

/// A load: so many blocks of so many transactions with so many events each.
pub struct Load {
    pub name: &'static str,
    pub blocks: u64,
    pub transactions: u64,
    pub events: u64,
    /// The transactions are in the mempool when the block comes, as on the node that their clients
    /// sent them to.
    pub known: bool,
}

const LOADS: [Load; 3] = [
    Load {
        name: "transaction",
        blocks: 4,
        transactions: 40,
        events: 1,
        known: false,
    },
    Load {
        name: "known-transaction",
        blocks: 4,
        transactions: 40,
        events: 1,
        known: true,
    },
    Load {
        name: "event-of-a-hundred",
        blocks: 2,
        transactions: 4,
        events: LAMPS,
        known: false,
    },
];

impl Load {
    /// Transactions with one event, or events.
    fn count(&self) -> u64 {
        self.blocks * self.transactions * self.events
    }
}

/// What one transaction or event of a load costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    instructions: u64,
    /// Rows of a hundred.
    rows: u64,
    /// Bytes of keys and values.
    bytes: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            instructions,
            rows,
            bytes,
        } = self;
        write!(
            f,
            "{instructions} instructions, {rows} rows in 100, {bytes} bytes"
        )
    }
}

impl Cost {
    fn figures(&self) -> [(&'static str, u64); 3] {
        [
            ("instructions", self.instructions),
            ("rows", self.rows),
            ("bytes", self.bytes),
        ]
    }
}

/// The store in memory with a count of what is written to it.
struct CountingKv {
    kv: MemoryKv,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl KvView for CountingKv {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<bytes::Bytes>, StoreError> {
        self.kv.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.kv.scan(cf, range, direction)
    }
}

impl Kv for CountingKv {
    // Callgrind does not count in this function: the name is in its options.
    #[inline(never)]
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        self.rows.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let bytes = batch.ops().iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, .. } => key.len(),
            Op::DeleteRange { .. } => 0,
        });
        let bytes = bytes.sum::<usize>() as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // No call in the last place: it would take the place of this function, and be counted.
        hint::black_box(self.kv.write(batch, durability))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.kv.sync()
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        self.kv.view()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.kv.checkpoint(dir)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        self.kv.read_checkpoint(dir)
    }
}

/// Gateways with their lamps, and a node. Everything is fixed: keys, names, times.
pub struct Fleet {
    kv: Arc<CountingKv>,
    pub machine: LedgerStateMachine,
    /// Transactions of each key.
    sequences: BTreeMap<u8, u64>,
    /// Events of each lamp.
    events: BTreeMap<(u8, u64), u64>,
}

fn account(gateway: u8) -> Id {
    id(&format!("gateway-{gateway:02}"))
}

fn lamp(gateway: u8, lamp: u64) -> Id {
    id(&format!("lamp-{gateway:02}-{lamp:02}"))
}

/// The numbers of the keys: those below are of validators.
const FIRST_GATEWAY: u8 = 100;
const ADMINISTRATOR: u8 = 200;

impl Fleet {
    pub fn new() -> Self {
        let kv = Arc::new(CountingKv {
            kv: MemoryKv::new(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let mut genesis = genesis(4);
        genesis.accounts[0].grants.push(Grant {
            role: Role::Operator,
            scope: Scope::city(),
            since_ms: 0,
        });
        let mut fleet = Self {
            machine: machine_of(kv.clone(), genesis),
            kv,
            sequences: BTreeMap::new(),
            events: BTreeMap::new(),
        };
        let registrations: Vec<_> = (0..GATEWAYS)
            .flat_map(|gateway| fleet.registrations(gateway))
            .collect();
        fleet.apply(registrations);
        fleet
    }

    fn sign(&mut self, sender: Id, key: u8, action: Action) -> SignedTransaction {
        let sequence = self.sequences.entry(key).or_default();
        *sequence += 1;
        let transaction = Transaction {
            sender,
            sequence: *sequence,
            expires_ms: START_MS + 600_000,
            action,
        };
        let chain_id = self.machine.chain.chain_id();
        SignedTransaction::sign(&transaction, Encoding::Bincode, &chain_id, &secret(key))
    }

    fn registrations(&mut self, gateway: u8) -> [SignedTransaction; 2] {
        let (chain_id, key): (_, SecretKey) = (
            self.machine.chain.chain_id(),
            secret(FIRST_GATEWAY + gateway),
        );
        let device = |number| NewDevice {
            device: lamp(gateway, number),
            owner: id("city"),
            model: "Lamp".to_owned(),
            hardware_class: "lamp-v1".to_owned(),
            district: Scope::new("north/harbour").unwrap(),
            gateway: Some(account(gateway)),
            key: None,
            proof: None,
            tags: Vec::new(),
        };
        let actions = [
            Action::Users(UsersAction::RegisterGateway {
                account: account(gateway),
                organization: id("city"),
                district: Scope::city(),
                key: key.public(),
                proof: key.prove(KeyPurpose::Account, &chain_id, &account(gateway)),
            }),
            Action::Devices(DevicesAction::Register {
                devices: (0..LAMPS).map(device).collect(),
            }),
        ];
        actions.map(|action| self.sign(id("admin"), ADMINISTRATOR, action))
    }

    fn event(&mut self, gateway: u8, number: u64) -> DeviceEvent {
        let sequence = self.events.entry((gateway, number)).or_default();
        *sequence += 1;
        DeviceEvent {
            device: lamp(gateway, number),
            sequence: *sequence,
            time_ms: START_MS,
            kind: "lightStateChange".to_owned(),
            severity: Severity::Warning,
            alarm: AlarmChange::None,
            data: r#"{"level":80}"#.to_owned(),
            signature: None,
        }
    }

    /// The transactions of one block.
    pub fn transactions(&mut self, load: &Load) -> Vec<SignedTransaction> {
        let transaction = |number: u64| {
            let gateway = (number % u64::from(GATEWAYS)) as u8;
            let first = number / u64::from(GATEWAYS);
            let events = (first..first + load.events).map(|n| self.event(gateway, n % LAMPS));
            let events = events.collect();
            let action = Action::Events(EventsAction::Append { events });
            self.sign(account(gateway), FIRST_GATEWAY + gateway, action)
        };
        (0..load.transactions).map(transaction).collect()
    }

    fn entry(&self, transactions: Vec<SignedTransaction>) -> Committed {
        let batch = Batch {
            parent: self.machine.chain.last_batch(),
            timestamp_ms: START_MS + 1,
            transactions,
        };
        self.machine.entry(batch.encode())
    }

    /// Makes one block, in which all succeed, and returns the number of its events.
    pub fn apply(&self, transactions: Vec<SignedTransaction>) -> u64 {
        let count = transactions.len();
        let before = self.machine.chain.head().height;
        let entry = self.entry(transactions);
        apply_counted(&self.machine, entry);
        let height = self.machine.chain.head().height;
        assert_eq!(height, before + 1);
        let store = self.machine.chain.store();
        let receipts = tables::receipts(&*store, height).unwrap();
        let succeeded = |receipt: &Receipt| receipt.outcome == Outcome::Succeeded;
        assert_eq!(receipts.len(), count);
        assert!(receipts.iter().all(succeeded), "{receipts:?}");
        tables::events(&*store, height).unwrap().len() as u64
    }

    fn receive(&self, transactions: &[SignedTransaction]) {
        let chain_id = self.machine.chain.chain_id();
        for signed in SignedTransaction::verify_all(transactions.to_vec(), &chain_id) {
            self.machine.mempool.add(Arc::new(signed.unwrap())).unwrap();
        }
    }

    /// Applies the blocks of a load; returns rows and bytes of all.
    fn run(&mut self, load: &Load) -> [u64; 2] {
        let written = |kv: &CountingKv| [&kv.rows, &kv.bytes].map(|n| n.load(Ordering::Relaxed));
        let before = written(&self.kv);
        for _ in 0..load.blocks {
            let transactions = self.transactions(load);
            if load.known {
                self.receive(&transactions);
            }
            let events = self.apply(transactions);
            assert_eq!(events, load.transactions * load.events);
        }
        let after = written(&self.kv);
        [after[0] - before[0], after[1] - before[1]]
    }
}

/// Callgrind counts in this function: the name is in its options.
#[inline(never)]
fn apply_counted(machine: &LedgerStateMachine, entry: Committed) {
    machine.apply(vec![entry]).unwrap();
}

/// Runs the load that the environment names, as the process that Valgrind watches. The fleet is
/// registered before anything counts: the difference of two runs is what the load costs.
fn run_named(name: &str) {
    let mut fleet = Fleet::new();
    if let Some(load) = LOADS.iter().find(|load| load.name == name) {
        let [rows, bytes] = fleet.run(load);
        println!("rows={rows} bytes={bytes}");
    }
}

/// Runs a load in a process of its own under Valgrind; returns instructions, rows and bytes.
fn watch(name: &str, dir: &Path) -> [u64; 3] {
    let out = dir.join(name);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=*cost*apply_counted*")
        .arg("--toggle-collect=*cost*CountingKv*Kv*write*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", TEST])
        .env(LOAD, name)
        .output()
        .expect("valgrind is installed by `scripts/setup --test`");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name}: {stdout}{stderr}");
    let counted = fs::read_to_string(&out).unwrap();
    [
        number_after(&counted, "totals: "),
        number_after(&stdout, "rows="),
        number_after(&stdout, "bytes="),
    ]
}

fn number_after(text: &str, label: &str) -> u64 {
    let (_, rest) = text.split_once(label).unwrap_or(("", "0"));
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().unwrap()
}

fn measure() -> Vec<(&'static str, Cost)> {
    let dir = tempfile::tempdir().unwrap();
    let [registered, ..] = watch("none", dir.path());
    assert!(
        registered > 0,
        "callgrind counted nothing: was a function renamed?"
    );
    let cost = |load: &Load| {
        let [instructions, rows, bytes] = watch(load.name, dir.path());
        let cost = Cost {
            instructions: (instructions - registered) / load.count(),
            rows: rows * 100 / load.count(),
            bytes: bytes / load.count(),
        };
        (load.name, cost)
    };
    LOADS.iter().map(cost).collect()
}

fn record() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORD)
}

fn read_record() -> BTreeMap<String, Cost> {
    let text = fs::read_to_string(record()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let cost = |line: &str| {
        let (name, cost) = line.split_once(": ").unwrap();
        let figure = |unit| {
            let (before, _) = cost.split_once(unit).unwrap();
            before.rsplit(", ").next().unwrap().parse().unwrap()
        };
        let cost = Cost {
            instructions: figure(" instructions"),
            rows: figure(" rows in 100"),
            bytes: figure(" bytes"),
        };
        (name.to_owned(), cost)
    };
    lines.map(cost).collect()
}

/// The path of the test below, for the process that Valgrind watches.
const TEST: &str = "tests::cost::a_transaction_costs_no_more_than_is_on_record";

#[test]
fn a_transaction_costs_no_more_than_is_on_record() {
    if let Ok(name) = env::var(LOAD) {
        return run_named(&name);
    }
    let measured = measure();
    let lines = measured
        .iter()
        .map(|(name, cost)| format!("{name}: {cost}\n"));
    let text = lines.collect::<String>();
    if env::var_os(UPDATE).is_some() {
        fs::write(record(), [HEADING, &text].concat()).unwrap();
        return;
    }
    let recorded = read_record();
    for (name, cost) in measured {
        let (cost, recorded) = (cost.figures(), recorded[name].figures());
        for ((figure, now), (_, then)) in cost.into_iter().zip(recorded) {
            assert!(
                now * 100 <= then * (100 + GROWTH_MAX),
                "{figure} of {name}: {now}, on record are {then}. What it is worth decides whether \
                 to renew the record ({UPDATE}=1). Now:\n{text}"
            );
        }
    }
}
