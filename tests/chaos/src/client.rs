//! The clients. Each has several transactions in flight, at random nodes. It sends the same bytes
//! to another node when no answer comes, and reads records that it and others wrote.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lamplighter_client::{Client, ClientConfig, ClientError, Submitted, Wait};
use lamplighter_types::{
    Action, DesiredConfig, EventCursor, Genesis, Hash, Id, Organization, codec,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::cluster::url;
use crate::error::ChaosError;
use crate::fleet::{self, SHARED_REGISTERS, Signer, TrackedTransaction};
use crate::history::{
    History, ReadRecord, ReadResult, ReceiptPosition, SubmitAnswer, TimedAnswer, WriteRecord,
};

/// Time for one attempt; then the same bytes go to another node.
const ATTEMPT: Duration = Duration::from_secs(4);
const CONNECT: Duration = Duration::from_millis(500);
/// Time after which a client counts a transaction as unanswered.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Lifetime of a transaction: longer than a client waits, so that an unanswered one may still be
/// executed.
const TRANSACTION_LIFETIME: Duration = Duration::from_secs(60);
/// Answered transactions of a client that may be submitted again.
const RECENT_MAX: usize = 256;
/// Unexpected answers of nodes that are kept.
const UNEXPECTED_MAX: usize = 10;

/// The state that all clients share.
#[derive(Debug)]
pub struct ClientsState {
    pub begun: Instant,
    pub history: Mutex<History>,
    /// Lanes start nothing new once it is set.
    pub stop: AtomicBool,
    /// Transactions that succeeded so far.
    pub acknowledged: AtomicU64,
    pub nodes: usize,
    pub chain_id: Hash,
    /// The greatest height that any client has read.
    height: AtomicU64,
    /// Transactions without a definite answer, with client and index in the history.
    pub unanswered: Mutex<Vec<(usize, usize, TrackedTransaction)>>,
    surprises: Mutex<(u64, Vec<String>)>,
}

/// True if a node answered with an internal error: another node may succeed, but no fault of this
/// test may cause it.
fn is_internal_error(error: &ClientError) -> bool {
    let error = match error {
        ClientError::Pending(pending) => pending.last.as_deref(),
        error => Some(error),
    };
    error
        .and_then(ClientError::problem)
        .is_some_and(|problem| problem.status == 500)
}

impl ClientsState {
    pub fn new(nodes: usize, genesis: &Genesis) -> Self {
        Self {
            begun: Instant::now(),
            history: Mutex::default(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            nodes,
            chain_id: genesis.chain_id(),
            height: AtomicU64::new(0),
            unanswered: Mutex::default(),
            surprises: Mutex::default(),
        }
    }

    pub fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    pub fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().expect("nobody panics with the lock")
    }

    fn record_write(&self, signed: &TrackedTransaction) -> usize {
        let mut history = self.history();
        history.writes.push(WriteRecord {
            transaction: signed.hash,
            invoked_us: self.now_us(),
            expires_ms: signed.expires_ms,
            answers: Vec::new(),
        });
        history.writes.len() - 1
    }

    fn record_answer(&self, write: usize, answer: SubmitAnswer) {
        let at_us = self.now_us();
        let mut history = self.history();
        let answers = &mut history.writes[write].answers;
        if let SubmitAnswer::Receipt(place) = &answer {
            self.height.fetch_max(place.height, Ordering::Relaxed);
            let first = answers.is_empty();
            self.acknowledged
                .fetch_add(u64::from(first && place.succeeded), Ordering::Relaxed);
        }
        answers.push(TimedAnswer { at_us, answer });
    }

    fn record_unexpected(&self, error: &ClientError) {
        let mut surprises = self.surprises.lock().expect("nobody panics with the lock");
        surprises.0 += 1;
        if surprises.1.len() < UNEXPECTED_MAX {
            surprises.1.push(lamplighter_system::error_chain(error));
        }
    }

    /// Unexpected answers: neither success, refusal nor a request to try again.
    pub fn surprises(&self) -> (u64, Vec<String>) {
        let surprises = self.surprises.lock().expect("nobody panics with the lock");
        surprises.clone()
    }
}

/// One of the clients.
#[derive(Debug)]
pub struct ChaosClient {
    number: usize,
    pub shared: Arc<ClientsState>,
    operator: Signer,
    gateway: Signer,
    /// Clients of all nodes, each with another node first.
    node_clients: Vec<Client>,
    /// Answered transactions with their index in the history.
    recent: Mutex<VecDeque<(usize, TrackedTransaction)>>,
    organizations: Mutex<VecDeque<Id>>,
    /// Counter for unique values and names.
    unique: AtomicU64,
}

/// The answer to a read of one record.
#[derive(Deserialize)]
struct SingleRecord<T> {
    record: T,
}

/// The compared part of a device's events.
#[derive(Deserialize)]
struct EventPage {
    cursor: EventCursor,
}

/// A client of the ledger with the node `first` asked before the others.
pub fn client_for(
    genesis: &Genesis,
    signer: &Signer,
    first: usize,
    nodes: usize,
    deadline: Duration,
) -> Result<Client, ChaosError> {
    let urls = (0..nodes).map(|step| url((first + step) % nodes)).collect();
    let mut config = ClientConfig::new(urls)
        .with_genesis(genesis.clone())
        .with_key(signer.account.clone(), signer.secret.clone());
    config.deadline = deadline;
    config.connect_timeout = CONNECT;
    Client::new(config).map_err(ChaosError::client("setting up a client"))
}

/// The outcome of an attempt.
enum Attempt {
    Answered(SubmitAnswer),
    /// The transaction may or may not be executed.
    Unknown,
}

impl ChaosClient {
    pub fn new(
        number: usize,
        shared: Arc<ClientsState>,
        genesis: &Genesis,
    ) -> Result<Self, ChaosError> {
        let operator = fleet::operator(number);
        let nodes = shared.nodes;
        let node_clients = (0..nodes)
            .map(|first| client_for(genesis, &operator, first, nodes, ATTEMPT))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            number,
            shared,
            operator,
            gateway: fleet::gateway(number),
            node_clients,
            recent: Mutex::default(),
            organizations: Mutex::default(),
            unique: AtomicU64::new(0),
        })
    }

    fn random_node(&self, rng: &mut StdRng) -> &Client {
        let client = &self.node_clients[rng.random_range(0..self.node_clients.len())];
        client.prefer(0);
        client
    }

    async fn attempt(&self, client: &Client, signed: &TrackedTransaction) -> Attempt {
        match client
            .submit_signed(&signed.envelope, Wait::Committed)
            .await
        {
            Ok(submitted) => place(&submitted).map_or(Attempt::Unknown, |place| {
                Attempt::Answered(SubmitAnswer::Receipt(place))
            }),
            Err(error) => match error.problem() {
                Some(problem) if problem.status == 422 => {
                    Attempt::Answered(SubmitAnswer::Refused(problem.code.clone()))
                }
                _ if error.is_transient() && !is_internal_error(&error) => Attempt::Unknown,
                _ => {
                    self.shared.record_unexpected(&error);
                    Attempt::Unknown
                }
            },
        }
    }

    /// Sends the same bytes to one node after the other until there is a definite answer.
    async fn submit_until_answered(
        &self,
        write: usize,
        signed: &TrackedTransaction,
        rng: &mut StdRng,
    ) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < ANSWER_WITHIN {
            let client = self.random_node(rng);
            if let Attempt::Answered(answer) = self.attempt(client, signed).await {
                self.shared.record_answer(write, answer);
                return true;
            }
        }
        false
    }

    /// Signs and sends an action; true if there is a definite answer.
    pub async fn submit(&self, signer: &Signer, action: Action, rng: &mut StdRng) -> bool {
        let signed = signer
            .sign(action, &self.shared.chain_id, TRANSACTION_LIFETIME)
            .await;
        let write = self.shared.record_write(&signed);
        let answered = self.submit_until_answered(write, &signed, rng).await;
        signer.release(signed.sequence);
        if answered {
            let mut recent = self.recent.lock().expect("nobody panics with the lock");
            recent.push_back((write, signed));
            if recent.len() > RECENT_MAX {
                recent.pop_front();
            }
        } else {
            let mut open = self.shared.unanswered.lock().expect("no panic with it");
            open.push((self.number, write, signed));
        }
        answered
    }

    /// Submits an answered transaction once more: the answer must be the same.
    async fn resubmit_recent(&self, rng: &mut StdRng) {
        let picked = {
            let recent = self.recent.lock().expect("nobody panics with the lock");
            let picked = rng.random_range(0..recent.len().max(1));
            recent.get(picked).cloned()
        };
        let Some((write, signed)) = picked else {
            return;
        };
        let client = self.random_node(rng);
        if let Attempt::Answered(answer) = self.attempt(client, &signed).await {
            self.shared.record_answer(write, answer);
        }
    }

    /// Reads a resource by its path and records the read.
    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        path: String,
        rng: &mut StdRng,
        seen: impl FnOnce(&T) -> ReadResult,
        none: Option<ReadResult>,
    ) -> Option<T> {
        let linearizable = rng.random_bool(0.5);
        let known = self.shared.height.load(Ordering::Relaxed);
        let min_height = if rng.random_bool(0.3) { known } else { 0 };
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut path = format!("{path}{mark}min_height={min_height}");
        if linearizable {
            path.push_str("&linearizable=true");
        }
        let invoked_us = self.shared.now_us();
        let answer = self.random_node(rng).get::<T>(&path).await;
        let at_us = self.shared.now_us();
        let (height, seen, value) = match answer {
            Ok(read) => (read.height, seen(&read.value), Some(read.value)),
            Err(error) if error.is_not_found() => (0, none?, None),
            Err(error) if error.is_transient() && !is_internal_error(&error) => return None,
            Err(error) => {
                self.shared.record_unexpected(&error);
                return None;
            }
        };
        self.shared.height.fetch_max(height, Ordering::Relaxed);
        self.shared.history().reads.push(ReadRecord {
            invoked_us,
            at_us,
            height,
            min_height,
            linearizable,
            result: seen,
        });
        value
    }

    async fn read_register(&self, name: &str, rng: &mut StdRng) -> Option<DesiredConfig> {
        let path = format!("/v1/config?model={name}");
        let register = name.to_owned();
        let seen = |one: &SingleRecord<DesiredConfig>| ReadResult::Register {
            name: register,
            version: one.record.version,
            document: Hash::of(one.record.document.as_bytes()),
        };
        Some(self.read(path, rng, seen, None).await?.record)
    }

    async fn read_lamp(&self, device: &Id, rng: &mut StdRng) {
        let path = format!("/v1/devices/{device}/events?limit=1");
        let seen = |events: &EventPage| ReadResult::Device {
            device: device.clone(),
            count: events.cursor.count,
            highest: events.cursor.highest,
        };
        self.read(path, rng, seen, None).await;
    }

    async fn read_organization(&self, rng: &mut StdRng) {
        let picked = {
            let names = self.organizations.lock().expect("no panic with the lock");
            names.get(rng.random_range(0..names.len().max(1))).cloned()
        };
        let Some(name) = picked else { return };
        let path = format!("/v1/organizations/{name}");
        let seen = |one: &SingleRecord<Organization>| {
            ReadResult::Organization(one.record.organization.clone())
        };
        let none = Some(ReadResult::NoOrganization(name.clone()));
        self.read(path, rng, seen, none).await;
    }

    /// Reads a document and replaces it, unless another client was faster.
    async fn replace_document(&self, name: &str, rng: &mut StdRng) {
        let Some(current) = self.read_register(name, rng).await else {
            return;
        };
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let value = format!("{}-{unique}", self.number);
        let action = fleet::set(name, &value, current.version);
        self.submit(&self.operator, action, rng).await;
    }

    async fn register_organization(&self, rng: &mut StdRng) {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let name = fleet::id(&format!("org-{}-{unique}", self.number));
        let action = fleet::register_organization(&name);
        {
            let mut names = self.organizations.lock().expect("no panic with the lock");
            names.push_back(name);
            if names.len() > RECENT_MAX {
                names.pop_front();
            }
        }
        self.submit(&self.operator, action, rng).await;
    }

    /// A shared document, or the one of this client.
    fn random_register(&self, rng: &mut StdRng) -> String {
        match rng.random_range(0..=SHARED_REGISTERS) {
            SHARED_REGISTERS => fleet::client_register(self.number),
            number => fleet::shared_register(number),
        }
    }

    /// Runs one random operation after the other, until the run stops.
    async fn lane(self: Arc<Self>, lane: usize, mut rng: StdRng) {
        let lamp = fleet::lamp(self.number, lane);
        let mut next_event = 1;
        while !self.shared.stop.load(Ordering::Relaxed) {
            match rng.random_range(0..100) {
                0..4 => {
                    let name = self.random_register(&mut rng);
                    self.replace_document(&name, &mut rng).await;
                }
                4 => self.register_organization(&mut rng).await,
                5..8 => {
                    let name = self.random_register(&mut rng);
                    self.read_register(&name, &mut rng).await;
                }
                8..10 => self.read_lamp(&lamp, &mut rng).await,
                10 => self.read_organization(&mut rng).await,
                11..13 => self.resubmit_recent(&mut rng).await,
                _ => {
                    let count = if rng.random_bool(0.1) { 5 } else { 1 };
                    let action = fleet::append(&lamp, next_event, count);
                    next_event += count;
                    self.submit(&self.gateway, action, &mut rng).await;
                }
            }
        }
    }
}

/// The position of a transaction, by a node's answer.
fn place(submitted: &Submitted) -> Option<ReceiptPosition> {
    let receipt = submitted.receipt.as_ref()?;
    Some(ReceiptPosition {
        height: submitted.height?,
        index: submitted.index?,
        receipt: codec::digest(receipt),
        succeeded: receipt.succeeded(),
    })
}

/// Starts all lanes of all clients.
pub fn start(clients: &[Arc<ChaosClient>], lanes: usize, seed: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for client in clients {
        for lane in 0..lanes {
            let number = (client.number * fleet::LANES_MAX + lane) as u64;
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
            tasks.spawn(client.clone().lane(lane, rng));
        }
    }
    tasks
}

/// Registers gateways, lamps and documents before the faults begin. These transactions are recorded
/// like all others.
pub async fn prepare(
    clients: &[Arc<ChaosClient>],
    lanes: usize,
    rng: &mut StdRng,
) -> Result<(), ChaosError> {
    let first = &clients[0];
    let administrator = fleet::administrator();
    for action in fleet::registrations(&first.shared.chain_id, clients.len(), lanes) {
        if !first.submit(&administrator, action, rng).await {
            return Err(ChaosError::Setup("a registration was not answered".into()));
        }
    }
    let client_registers = (0..clients.len()).map(fleet::client_register);
    let shared = (0..SHARED_REGISTERS).map(fleet::shared_register);
    for name in client_registers.chain(shared) {
        let action = fleet::set(&name, "first", 0);
        if !first.submit(&administrator, action, rng).await {
            return Err(ChaosError::Setup("a document was not answered".into()));
        }
    }
    let succeeded = first.shared.acknowledged.load(Ordering::Relaxed);
    let sent = first.shared.history().writes.len() as u64;
    if succeeded == sent {
        Ok(())
    } else {
        Err(ChaosError::Setup(format!(
            "only {succeeded} of {sent} registrations succeeded"
        )))
    }
}

/// Resolves unanswered transactions at the end, without faults. Every other one is sent until it is
/// answered; the rest stays unanswered. Returns the expiry of the last one that is in no block yet.
pub async fn resolve_unanswered(clients: &[Arc<ChaosClient>], rng: &mut StdRng) -> u64 {
    let mut expires_ms = 0;
    let shared = &clients[0].shared;
    let open = std::mem::take(&mut *shared.unanswered.lock().expect("no panic with it"));
    for (at, (client, write, signed)) in open.into_iter().enumerate() {
        let client = &clients[client];
        if at % 2 == 0 && client.submit_until_answered(write, &signed, rng).await {
            continue;
        }
        let found = client.random_node(rng).transaction(signed.hash).await;
        if found.is_err() {
            expires_ms = expires_ms.max(signed.expires_ms);
        }
    }
    expires_ms
}
