//! The clients: each has several transactions on its way at once, at nodes picked by chance, sends
//! the same bytes to another node when no answer comes, and reads what it and others wrote.

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
use crate::fleet::{self, SHARED_REGISTERS, Signed, Signer};
use crate::history::{Answer, History, Place, Read, Said, Seen, Write};

/// One attempt; then the same bytes go to another node.
const ATTEMPT: Duration = Duration::from_secs(4);
const CONNECT: Duration = Duration::from_millis(500);
/// After so long a client takes a transaction for unanswered and goes on.
const GIVE_UP: Duration = Duration::from_secs(20);
/// How long a transaction may be on its way: longer than a client waits, so that what is unanswered
/// may still happen.
const LIVES: Duration = Duration::from_secs(60);
/// Transactions of a client that may be asked for again.
const RECENT_MAX: usize = 256;
/// What nodes must never say; the first of it are kept.
const SURPRISES_MAX: usize = 10;

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    pub begun: Instant,
    pub history: Mutex<History>,
    /// Lanes begin nothing new when it is set.
    pub stop: AtomicBool,
    /// Successes so far.
    pub acknowledged: AtomicU64,
    pub nodes: usize,
    pub chain_id: Hash,
    /// The greatest height that any client was shown.
    height: AtomicU64,
    /// Transactions of which nothing definite was heard yet, with their place in the history.
    pub unanswered: Mutex<Vec<(usize, usize, Signed)>>,
    surprises: Mutex<(u64, Vec<String>)>,
}

/// Whether a node said that it failed inside: another one may do better, but no fault of this test
/// leads there.
fn failed_inside(error: &ClientError) -> bool {
    let error = match error {
        ClientError::Pending(pending) => pending.last.as_ref(),
        error => Some(error),
    };
    error
        .and_then(ClientError::problem)
        .is_some_and(|problem| problem.status == 500)
}

impl Shared {
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

    fn begin(&self, signed: &Signed) -> usize {
        let mut history = self.history();
        history.writes.push(Write {
            transaction: signed.hash,
            invoked_us: self.now_us(),
            expires_ms: signed.expires_ms,
            answers: Vec::new(),
        });
        history.writes.len() - 1
    }

    fn answer(&self, write: usize, said: Said) {
        let at_us = self.now_us();
        let mut history = self.history();
        let answers = &mut history.writes[write].answers;
        if let Said::Receipt(place) = &said {
            self.height.fetch_max(place.height, Ordering::Relaxed);
            let first = answers.is_empty();
            self.acknowledged
                .fetch_add(u64::from(first && place.succeeded), Ordering::Relaxed);
        }
        answers.push(Answer { at_us, said });
    }

    fn surprise(&self, error: &ClientError) {
        let mut surprises = self.surprises.lock().expect("nobody panics with the lock");
        surprises.0 += 1;
        if surprises.1.len() < SURPRISES_MAX {
            surprises.1.push(lamplighter_system::error_chain(error));
        }
    }

    /// Answers that are neither success, refusal nor the plea to try again.
    pub fn surprises(&self) -> (u64, Vec<String>) {
        let surprises = self.surprises.lock().expect("nobody panics with the lock");
        surprises.clone()
    }
}

/// One of the clients.
#[derive(Debug)]
pub struct Actor {
    number: usize,
    shared: Arc<Shared>,
    operator: Signer,
    gateway: Signer,
    /// The same nodes, each time with another one first.
    reach: Vec<Client>,
    /// Settled transactions with their place in the history.
    recent: Mutex<VecDeque<(usize, Signed)>>,
    organizations: Mutex<VecDeque<Id>>,
    /// For values and names that nobody else gives.
    unique: AtomicU64,
}

/// The answer to a read of one record.
#[derive(Deserialize)]
struct One<T> {
    record: T,
}

/// What of a device's events is compared.
#[derive(Deserialize)]
struct Events {
    cursor: EventCursor,
}

/// A client of the ledger with the node `first` asked before the others.
pub fn reach(
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

/// What an attempt came to.
enum Attempt {
    Settled(Said),
    /// Nobody knows.
    Open,
}

impl Actor {
    pub fn new(number: usize, shared: Arc<Shared>, genesis: &Genesis) -> Result<Self, ChaosError> {
        let operator = fleet::operator(number);
        let nodes = shared.nodes;
        let reach = (0..nodes)
            .map(|first| reach(genesis, &operator, first, nodes, ATTEMPT))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            number,
            shared,
            operator,
            gateway: fleet::gateway(number),
            reach,
            recent: Mutex::default(),
            organizations: Mutex::default(),
            unique: AtomicU64::new(0),
        })
    }

    fn somewhere(&self, rng: &mut StdRng) -> &Client {
        let client = &self.reach[rng.random_range(0..self.reach.len())];
        client.prefer(0);
        client
    }

    async fn attempt(&self, client: &Client, signed: &Signed) -> Attempt {
        match client
            .submit_signed(&signed.envelope, Wait::Committed)
            .await
        {
            Ok(submitted) => place(&submitted).map_or(Attempt::Open, |place| {
                Attempt::Settled(Said::Receipt(place))
            }),
            Err(error) => match error.problem() {
                Some(problem) if problem.status == 422 => {
                    Attempt::Settled(Said::Refused(problem.code.clone()))
                }
                _ if error.is_transient() && !failed_inside(&error) => Attempt::Open,
                _ => {
                    self.shared.surprise(&error);
                    Attempt::Open
                }
            },
        }
    }

    /// Sends the same bytes to one node after the other until it is known what became of them.
    async fn insist(&self, write: usize, signed: &Signed, rng: &mut StdRng) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < GIVE_UP {
            let client = self.somewhere(rng);
            if let Attempt::Settled(said) = self.attempt(client, signed).await {
                self.shared.answer(write, said);
                return true;
            }
        }
        false
    }

    /// Signs and sends an action; whether it is known what became of it.
    async fn submit(&self, signer: &Signer, action: Action, rng: &mut StdRng) -> bool {
        let signed = signer.sign(action, &self.shared.chain_id, LIVES).await;
        let write = self.shared.begin(&signed);
        let settled = self.insist(write, &signed, rng).await;
        signer.free(signed.sequence);
        if settled {
            let mut recent = self.recent.lock().expect("nobody panics with the lock");
            recent.push_back((write, signed));
            if recent.len() > RECENT_MAX {
                recent.pop_front();
            }
        } else {
            let mut open = self.shared.unanswered.lock().expect("no panic with it");
            open.push((self.number, write, signed));
        }
        settled
    }

    /// Asks for a transaction that is settled once more: its answer must be the same.
    async fn ask_again(&self, rng: &mut StdRng) {
        let picked = {
            let recent = self.recent.lock().expect("nobody panics with the lock");
            let picked = rng.random_range(0..recent.len().max(1));
            recent.get(picked).cloned()
        };
        let Some((write, signed)) = picked else {
            return;
        };
        let client = self.somewhere(rng);
        if let Attempt::Settled(said) = self.attempt(client, &signed).await {
            self.shared.answer(write, said);
        }
    }

    /// Reads something by a path and notes it.
    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        path: String,
        rng: &mut StdRng,
        seen: impl FnOnce(&T) -> Seen,
        none: Option<Seen>,
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
        let answer = self.somewhere(rng).get::<T>(&path).await;
        let at_us = self.shared.now_us();
        let (height, seen, value) = match answer {
            Ok(read) => (read.height, seen(&read.value), Some(read.value)),
            Err(error) if error.is_not_found() => (0, none?, None),
            Err(error) if error.is_transient() && !failed_inside(&error) => return None,
            Err(error) => {
                self.shared.surprise(&error);
                return None;
            }
        };
        self.shared.height.fetch_max(height, Ordering::Relaxed);
        self.shared.history().reads.push(Read {
            invoked_us,
            at_us,
            height,
            min_height,
            linearizable,
            seen,
        });
        value
    }

    async fn read_register(&self, name: &str, rng: &mut StdRng) -> Option<DesiredConfig> {
        let path = format!("/v1/config?model={name}");
        let register = name.to_owned();
        let seen = |one: &One<DesiredConfig>| Seen::Register {
            name: register,
            version: one.record.version,
            document: Hash::of(one.record.document.as_bytes()),
        };
        Some(self.read(path, rng, seen, None).await?.record)
    }

    async fn read_lamp(&self, device: &Id, rng: &mut StdRng) {
        let path = format!("/v1/devices/{device}/events?limit=1");
        let seen = |events: &Events| Seen::Device {
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
        let seen = |one: &One<Organization>| Seen::Organization(one.record.organization.clone());
        let none = Some(Seen::NoOrganization(name.clone()));
        self.read(path, rng, seen, none).await;
    }

    /// Reads a document and replaces it, if nobody else was faster.
    async fn replace(&self, name: &str, rng: &mut StdRng) {
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

    /// A document that clients share, or the client's own.
    fn some_register(&self, rng: &mut StdRng) -> String {
        match rng.random_range(0..=SHARED_REGISTERS) {
            SHARED_REGISTERS => fleet::own_register(self.number),
            number => fleet::shared_register(number),
        }
    }

    /// One thing after the other, until the run stops.
    async fn lane(self: Arc<Self>, lane: usize, mut rng: StdRng) {
        let lamp = fleet::lamp(self.number, lane);
        let mut next_event = 1;
        while !self.shared.stop.load(Ordering::Relaxed) {
            match rng.random_range(0..100) {
                0..4 => {
                    let name = self.some_register(&mut rng);
                    self.replace(&name, &mut rng).await;
                }
                4 => self.register_organization(&mut rng).await,
                5..8 => {
                    let name = self.some_register(&mut rng);
                    self.read_register(&name, &mut rng).await;
                }
                8..10 => self.read_lamp(&lamp, &mut rng).await,
                10 => self.read_organization(&mut rng).await,
                11..13 => self.ask_again(&mut rng).await,
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

/// Where a node says that a transaction is.
fn place(submitted: &Submitted) -> Option<Place> {
    let receipt = submitted.receipt.as_ref()?;
    Some(Place {
        height: submitted.height?,
        index: submitted.index?,
        receipt: codec::digest(receipt),
        succeeded: receipt.succeeded(),
    })
}

/// Starts all lanes of all clients.
pub fn start(actors: &[Arc<Actor>], lanes: usize, seed: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for actor in actors {
        for lane in 0..lanes {
            let number = (actor.number * fleet::LANES_MAX + lane) as u64;
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
            tasks.spawn(actor.clone().lane(lane, rng));
        }
    }
    tasks
}

/// Makes the ledger know gateways, lamps and documents, before the faults begin. Noted as every
/// other transaction is.
pub async fn prepare(
    actors: &[Arc<Actor>],
    lanes: usize,
    rng: &mut StdRng,
) -> Result<(), ChaosError> {
    let first = &actors[0];
    let administrator = fleet::administrator();
    for action in fleet::registrations(actors.len(), lanes) {
        if !first.submit(&administrator, action, rng).await {
            return Err(ChaosError::Setup("a registration was not answered".into()));
        }
    }
    let own = (0..actors.len()).map(fleet::own_register);
    let shared = (0..SHARED_REGISTERS).map(fleet::shared_register);
    for name in own.chain(shared) {
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

/// At the end, without faults: sends every other unanswered transaction that may still happen until
/// it is settled. The rest is left as it is: of what is in no block yet, the time at which the last
/// expires.
pub async fn settle(actors: &[Arc<Actor>], rng: &mut StdRng) -> u64 {
    let mut expires_ms = 0;
    let shared = &actors[0].shared;
    let open = std::mem::take(&mut *shared.unanswered.lock().expect("no panic with it"));
    for (at, (client, write, signed)) in open.into_iter().enumerate() {
        let actor = &actors[client];
        if at % 2 == 0 && actor.insist(write, &signed, rng).await {
            continue;
        }
        if actor
            .somewhere(rng)
            .transaction(&signed.hash)
            .await
            .is_err()
        {
            expires_ms = expires_ms.max(signed.expires_ms);
        }
    }
    expires_ms
}
