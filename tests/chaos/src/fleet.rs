//! The accounts of the clients, their keys and sequence numbers, and the actions that they sign.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use lamplighter_system::unix_ms;
use lamplighter_types::limits::{LIST_ITEMS_MAX, REPLAY_WINDOW};
use lamplighter_types::{
    Action, AlarmChange, ConfigAction, ConfigTarget, DeviceEvent, DevicesAction, Encoding,
    EventsAction, GenesisAccount, Grant, Hash, Id, KeyPurpose, NewDevice, Role, Scope, SecretKey,
    Severity, SignedTransaction, Transaction, UsersAction,
};
use tokio::sync::Notify;

/// Sequence numbers in flight, counted from the oldest one: the replay window, less the lag of
/// another node's view of it.
const IN_FLIGHT_MAX: u64 = REPLAY_WINDOW - 24;
/// Documents that all clients replace in turn.
pub const SHARED_REGISTERS: usize = 8;
/// Lamps of a client: one for each transaction in flight.
pub const LANES_MAX: usize = 128;

pub fn id(text: &str) -> Id {
    Id::new(text).expect("names of this test are ids")
}

/// An account with its key and sequence numbers.
#[derive(Debug)]
pub struct Signer {
    pub account: Id,
    pub secret: SecretKey,
    numbers: Mutex<SequenceNumbers>,
    released: Notify,
}

/// Sequence numbers of a key.
#[derive(Debug, Default)]
struct SequenceNumbers {
    last: u64,
    in_flight: BTreeSet<u64>,
}

impl Signer {
    /// A signer whose key is derived from its name; the ledger is removed after the run.
    pub fn new(name: &str) -> Self {
        Self {
            account: id(name),
            secret: SecretKey::from_seed(Hash::of(name.as_bytes()).0),
            numbers: Mutex::default(),
            released: Notify::new(),
        }
    }

    fn try_reserve(&self) -> Option<u64> {
        let mut numbers = self.numbers.lock().expect("nobody panics with the lock");
        let next = numbers.last + 1;
        let oldest = numbers.in_flight.first().copied().unwrap_or(next);
        if next - oldest >= IN_FLIGHT_MAX {
            return None;
        }
        numbers.last = next;
        numbers.in_flight.insert(next);
        Some(next)
    }

    /// Reserves the next number, once the window has room.
    async fn reserve(&self) -> u64 {
        loop {
            let released = self.released.notified();
            if let Some(number) = self.try_reserve() {
                return number;
            }
            released.await;
        }
    }

    /// Releases a number whose transaction is answered, or unanswered for good.
    pub fn release(&self, number: u64) {
        let mut numbers = self.numbers.lock().expect("nobody panics with the lock");
        numbers.in_flight.remove(&number);
        drop(numbers);
        self.released.notify_waiters();
    }

    /// Signs an action with the next number, which must be released afterwards.
    pub async fn sign(
        &self,
        action: Action,
        chain_id: &Hash,
        lifetime: Duration,
    ) -> TrackedTransaction {
        let sequence = self.reserve().await;
        let expires_ms = unix_ms() + lifetime.as_millis() as u64;
        let transaction = Transaction {
            sender: self.account.clone(),
            sequence,
            expires_ms,
            action,
        };
        let envelope =
            SignedTransaction::sign(&transaction, Encoding::Bincode, chain_id, &self.secret);
        TrackedTransaction {
            hash: envelope.hash(chain_id),
            envelope,
            sequence,
            expires_ms,
        }
    }
}

/// A signed transaction with the fields that the history needs.
#[derive(Clone, Debug)]
pub struct TrackedTransaction {
    pub envelope: SignedTransaction,
    pub hash: Hash,
    pub sequence: u64,
    pub expires_ms: u64,
}

/// The account that registers gateways and lamps.
pub fn administrator() -> Signer {
    Signer::new("administrator")
}

/// The accounts that admit a hostile observer.
pub fn governors() -> [Signer; 2] {
    [Signer::new("governor-1"), Signer::new("governor-2")]
}

pub fn operator(client: usize) -> Signer {
    Signer::new(&format!("operator-{client:02}"))
}

pub fn gateway(client: usize) -> Signer {
    Signer::new(&format!("gateway-{client:02}"))
}

pub fn lamp(client: usize, lane: usize) -> Id {
    id(&format!("lamp-{client:02}-{lane:03}"))
}

/// The document that only this client replaces.
pub fn client_register(client: usize) -> String {
    format!("own-{client:02}")
}

pub fn shared_register(number: usize) -> String {
    format!("shared-{number}")
}

/// The accounts of the genesis document, with all roles that the clients need.
pub fn accounts(clients: usize) -> Vec<GenesisAccount> {
    let signers = (0..clients).map(operator);
    let signers = signers.chain([administrator()]).chain(governors());
    let grant = |role| Grant::founding(role, Scope::city());
    signers
        .map(|signer| GenesisAccount {
            account: signer.account.clone(),
            name: signer.account.to_string(),
            key: signer.secret.public(),
            grants: vec![grant(Role::Administrator), grant(Role::Operator)],
        })
        .collect()
}

/// The actions that register gateways and lamps, in this order.
pub fn registrations(chain_id: &Hash, clients: usize, lanes: usize) -> Vec<Action> {
    let gateways = (0..clients).map(|client| {
        let Signer {
            account, secret, ..
        } = gateway(client);
        Action::Users(UsersAction::RegisterGateway {
            proof: secret.prove(KeyPurpose::Account, chain_id, &account),
            account,
            organization: organization(),
            district: Scope::city(),
            key: secret.public(),
        })
    });
    let lamps: Vec<NewDevice> = (0..clients)
        .flat_map(|client| (0..lanes).map(move |lane| new_lamp(client, lane)))
        .collect();
    let lists = lamps.chunks(LIST_ITEMS_MAX).map(|devices| {
        let devices = devices.to_vec();
        Action::Devices(DevicesAction::Register { devices })
    });
    gateways.chain(lists.collect::<Vec<_>>()).collect()
}

pub fn organization() -> Id {
    id("city")
}

fn new_lamp(client: usize, lane: usize) -> NewDevice {
    NewDevice {
        device: lamp(client, lane),
        owner: organization(),
        model: "Lamp of the test".to_owned(),
        hardware_class: "test-lamp-v1".to_owned(),
        district: Scope::city(),
        gateway: Some(gateway(client).account),
        key: None,
        proof: None,
        tags: Vec::new(),
    }
}

/// `count` events of a lamp, from the number `first` on.
pub fn append(device: &Id, first: u64, count: u64) -> Action {
    let event = |sequence| DeviceEvent {
        device: device.clone(),
        sequence,
        time_ms: unix_ms(),
        kind: "lightStateChange".to_owned(),
        severity: Severity::Warning,
        alarm: AlarmChange::None,
        data: r#"{"level":80}"#.to_owned(),
        signature: None,
    };
    let events = (first..first + count).map(event).collect();
    Action::Events(EventsAction::Append { events })
}

/// Replaces a document. The text is in the canonical form of the ledger.
pub fn set(register: &str, value: &str, replaces_version: u64) -> Action {
    Action::Config(ConfigAction::SetDesired {
        target: ConfigTarget::Model {
            model: register.to_owned(),
        },
        document: format!(r#"{{"value":"{value}"}}"#),
        replaces_version,
    })
}

pub fn register_organization(name: &Id) -> Action {
    Action::Users(UsersAction::RegisterOrganization {
        organization: name.clone(),
        name: format!("Organization {name}"),
    })
}
