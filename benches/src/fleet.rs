//! The senders of the load: 64 gateways, each with a key and 100 lamps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_system::unix_ms;
use lamplighter_types::limits::LIST_ITEMS_MAX;
use lamplighter_types::{
    Action, AlarmChange, DeviceEvent, DevicesAction, Encoding, EventsAction, Hash, Id, KeyPurpose,
    NewDevice, Scope, SecretKey, Severity, SignedTransaction, Transaction, UsersAction,
};

/// Keys under which transactions are signed.
pub const GATEWAYS: usize = 64;
/// Events in one batch, one of each lamp of the gateway.
pub const EVENTS_PER_BATCH: usize = 100;
/// Lifetime of a transaction.
const EXPIRES_AFTER: Duration = Duration::from_secs(600);

/// The organization of all accounts and devices.
pub fn organization() -> Id {
    id("city")
}

/// The account that registers the gateways and lamps.
pub fn administrator() -> Id {
    id("admin")
}

/// The administrator's key. It needs no protection: the ledger is removed after the measurement.
pub fn administrator_key() -> SecretKey {
    key_of("admin")
}

pub fn id(text: &str) -> Id {
    Id::new(text).expect("names of the benchmark are ids")
}

/// The key of an account, made of its name.
pub fn key_of(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

struct Lamp {
    device: Id,
    /// The last sequence number of its events.
    sequence: AtomicU64,
}

struct Gateway {
    account: Id,
    secret: SecretKey,
    /// The last sequence number of its transactions.
    sequence: AtomicU64,
    lamps: Vec<Lamp>,
}

/// Devices that one transaction registers.
pub const DEVICES_PER_LIST: u64 = LIST_ITEMS_MAX as u64;

/// A list of devices that never send.
pub fn additional_devices(list: u64) -> Vec<NewDevice> {
    let device = |number| NewDevice {
        device: id(&format!("pole-{list}-{number}")),
        owner: organization(),
        model: "Benchmark lamp".to_owned(),
        hardware_class: "bench-lamp-v1".to_owned(),
        district: Scope::city(),
        gateway: None,
        key: None,
        proof: None,
        tags: Vec::new(),
    };
    (0..DEVICES_PER_LIST).map(device).collect()
}

/// All senders of one ledger.
pub struct Fleet {
    pub chain_id: Hash,
    /// The last sequence number of the administrator.
    administrator_sequence: AtomicU64,
    gateways: Vec<Gateway>,
}

impl Gateway {
    fn new(number: usize) -> Self {
        let lamp = |lamp| Lamp {
            device: id(&format!("lamp-{number:02}-{lamp:02}")),
            sequence: AtomicU64::new(0),
        };
        let name = format!("gateway-{number:02}");
        Self {
            account: id(&name),
            secret: key_of(&name),
            sequence: AtomicU64::new(0),
            lamps: (0..EVENTS_PER_BATCH).map(lamp).collect(),
        }
    }
}

impl Lamp {
    fn event(&self) -> DeviceEvent {
        DeviceEvent {
            device: self.device.clone(),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            time_ms: unix_ms(),
            kind: "lightStateChange".to_owned(),
            severity: Severity::Warning,
            alarm: AlarmChange::None,
            data: r#"{"level":80}"#.to_owned(),
            signature: None,
        }
    }
}

impl Fleet {
    pub fn new(chain_id: Hash) -> Self {
        Self {
            chain_id,
            administrator_sequence: AtomicU64::new(0),
            gateways: (0..GATEWAYS).map(Gateway::new).collect(),
        }
    }

    /// The transactions that register all senders, to be sent in this order.
    pub fn registrations(&self) -> Vec<SignedTransaction> {
        let gateways = self.gateways.iter().map(|gateway| {
            Action::Users(UsersAction::RegisterGateway {
                account: gateway.account.clone(),
                organization: organization(),
                district: Scope::city(),
                key: gateway.secret.public(),
                proof: gateway
                    .secret
                    .prove(KeyPurpose::Account, &self.chain_id, &gateway.account),
            })
        });
        let devices: Vec<_> = self.gateways.iter().flat_map(new_devices).collect();
        let lists = devices.chunks(LIST_ITEMS_MAX).map(|list| {
            Action::Devices(DevicesAction::Register {
                devices: list.to_vec(),
            })
        });
        gateways
            .chain(lists)
            .map(|action| self.sign_as_administrator(action))
            .collect()
    }

    /// The administrator's next transaction.
    pub fn sign_as_administrator(&self, action: Action) -> SignedTransaction {
        let number = self.administrator_sequence.fetch_add(1, Ordering::Relaxed) + 1;
        self.sign(&administrator(), &administrator_key(), number, action)
    }

    /// One event of the client's lamp. Clients share gateways, but not lamps, so that the events of
    /// a lamp are in order.
    pub fn event(&self, client: usize) -> SignedTransaction {
        let gateway = self.gateway_of(client);
        let lamp = &gateway.lamps[client / GATEWAYS % EVENTS_PER_BATCH];
        self.append(gateway, vec![lamp.event()])
    }

    /// Transactions with one event each, of different lamps of the client's gateway.
    pub fn events(&self, client: usize, count: usize) -> Vec<SignedTransaction> {
        let gateway = self.gateway_of(client);
        let lamps = gateway.lamps.iter().take(count);
        lamps
            .map(|lamp| self.append(gateway, vec![lamp.event()]))
            .collect()
    }

    /// One event of each lamp of the client's gateway.
    pub fn batch(&self, client: usize) -> SignedTransaction {
        let gateway = self.gateway_of(client);
        self.append(gateway, gateway.lamps.iter().map(Lamp::event).collect())
    }

    fn gateway_of(&self, client: usize) -> &Gateway {
        &self.gateways[client % GATEWAYS]
    }

    fn append(&self, gateway: &Gateway, events: Vec<DeviceEvent>) -> SignedTransaction {
        let sequence = gateway.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let action = Action::Events(EventsAction::Append { events });
        self.sign(&gateway.account, &gateway.secret, sequence, action)
    }

    /// The account and key of a gateway.
    pub fn gateway(&self, number: usize) -> (&Id, &SecretKey) {
        let gateway = self.gateway_of(number);
        (&gateway.account, &gateway.secret)
    }

    /// Signs an action of any account; the caller counts its sequence numbers.
    pub fn sign(
        &self,
        sender: &Id,
        secret: &SecretKey,
        sequence: u64,
        action: Action,
    ) -> SignedTransaction {
        let transaction = Transaction {
            sender: sender.clone(),
            sequence,
            expires_ms: unix_ms() + EXPIRES_AFTER.as_millis() as u64,
            action,
        };
        SignedTransaction::sign(&transaction, Encoding::Bincode, &self.chain_id, secret)
    }
}

fn new_devices(gateway: &Gateway) -> impl Iterator<Item = NewDevice> {
    gateway.lamps.iter().map(|lamp| NewDevice {
        device: lamp.device.clone(),
        owner: organization(),
        model: "Benchmark lamp".to_owned(),
        hardware_class: "bench-lamp-v1".to_owned(),
        district: Scope::city(),
        gateway: Some(gateway.account.clone()),
        key: None,
        proof: None,
        tags: Vec::new(),
    })
}
