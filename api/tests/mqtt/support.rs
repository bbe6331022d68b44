//! A ledger in memory behind a running edge.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use lamplighter_api::mqtt::{
    Account, AccountKind, Admitted, Backend, Config, Edge, Listen, Login, LoginError, Publisher,
    Reach, Submission, SubmitError, SyncReason,
};
use lamplighter_tls::Identity;
use lamplighter_types::SecretKey;
use lamplighter_types::wire::Cursor;
use tokio::sync::Notify;

/// Longest that any step of a test may take; only a failing test gets there.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps what was submitted and answers as it is told.
#[derive(Default)]
pub struct Ledger {
    pub accounts: Mutex<BTreeMap<String, Account>>,
    pub revoked: Mutex<HashSet<String>>,
    pub taken: Mutex<Vec<(String, Bytes)>>,
    pub syncs: Mutex<Vec<(String, Option<Cursor>)>>,
    pub busy: AtomicBool,
    pub receipts: AtomicBool,
    pub offers: AtomicUsize,
    pub changed: Notify,
    pub publisher: OnceLock<Publisher>,
}

pub fn gateway(id: &str) -> Account {
    Account {
        id: id.to_owned(),
        kind: AccountKind::Gateway,
    }
}

pub fn user(id: &str, districts: &[&str]) -> Account {
    let districts: BTreeSet<String> = districts.iter().map(|d| (*d).to_owned()).collect();
    Account {
        id: id.to_owned(),
        kind: AccountKind::User(Reach::Districts(districts)),
    }
}

pub fn admin(id: &str) -> Account {
    Account {
        id: id.to_owned(),
        kind: AccountKind::User(Reach::All),
    }
}

/// The secret key of an account: its name, padded.
pub fn seed(id: &str) -> [u8; 32] {
    let mut seed = [7; 32];
    seed[..id.len()].copy_from_slice(id.as_bytes());
    seed
}

pub fn identity(id: &str) -> Identity {
    Identity::new(&SecretKey::from_seed(seed(id)), "localhost").unwrap()
}

pub fn public_key(id: &str) -> [u8; 32] {
    SecretKey::from_seed(seed(id)).public().0
}

/// The key that stands for an account that logs in with a token.
fn token_key(id: &str) -> [u8; 32] {
    seed(id).map(|byte| byte ^ 0x55)
}

pub fn token(id: &str) -> String {
    format!("token-of-{id}")
}

pub fn hash(payload: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (at, byte) in payload.iter().enumerate() {
        hash[at % 31] ^= byte.rotate_left((at / 31) as u32);
    }
    hash[31] = payload.len() as u8;
    hash
}

impl Ledger {
    pub fn add(&self, account: Account) {
        self.accounts
            .lock()
            .unwrap()
            .insert(account.id.clone(), account);
    }

    pub fn revoke(&self, id: &str) {
        self.revoked.lock().unwrap().insert(id.to_owned());
    }

    pub fn taken_by(&self, id: &str) -> Vec<Bytes> {
        let taken = self.taken.lock().unwrap();
        taken
            .iter()
            .filter(|(by, _)| by == id)
            .map(|(_, payload)| payload.clone())
            .collect()
    }

    /// Waits until something about the ledger holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn known(&self, id: &str) -> Option<Account> {
        if self.revoked.lock().unwrap().contains(id) {
            return None;
        }
        self.accounts.lock().unwrap().get(id).cloned()
    }
}

impl Backend for Ledger {
    fn account_of_key(&self, key: &[u8; 32]) -> Option<Account> {
        // The name of the account is in front of a token's key, and found by trying otherwise.
        let name: Vec<u8> = key
            .iter()
            .map(|b| b ^ 0x55)
            .take_while(|b| *b != 7)
            .collect();
        if let Some(account) = std::str::from_utf8(&name)
            .ok()
            .and_then(|name| self.known(name))
        {
            return Some(account);
        }
        const WITH_CERTIFICATE: [&str; 4] = ["gw-1", "gw-2", "ann", "root"];
        static KEYS: OnceLock<Vec<([u8; 32], &str)>> = OnceLock::new();
        let keys = KEYS.get_or_init(|| WITH_CERTIFICATE.map(|id| (public_key(id), id)).to_vec());
        self.known(keys.iter().find(|(known, _)| known == key)?.1)
    }

    fn verify_token(&self, account: &str, given: &[u8]) -> Result<Login, LoginError> {
        let short = format!("short-{}", token(account));
        let valid_for = (given == short.as_bytes()).then_some(Duration::from_millis(300));
        if valid_for.is_none() && given != token(account).as_bytes() {
            return Err(LoginError::Refused("wrong signature".to_owned()));
        }
        let unknown = || LoginError::Refused("unknown account".to_owned());
        let found = self.known(account).ok_or_else(unknown)?;
        Ok(Login {
            account: found,
            key: token_key(account),
            valid_for,
        })
    }

    fn identify(&self, submission: &Submission) -> Result<[u8; 32], SubmitError> {
        Ok(hash(&submission.payload))
    }

    fn submit(&self, submission: Submission) -> BoxFuture<'static, Result<Admitted, SubmitError>> {
        self.offers.fetch_add(1, Ordering::Relaxed);
        let Submission {
            account, payload, ..
        } = submission;
        let result = if self.busy.load(Ordering::Relaxed) {
            Err(SubmitError::Busy)
        } else if payload.starts_with(b"bad") {
            Err(SubmitError::Invalid(
                "the signature does not match".to_owned(),
            ))
        } else {
            self.taken
                .lock()
                .unwrap()
                .push((account.clone(), payload.clone()));
            Ok(Admitted {
                transaction: hash(&payload),
                receipt: None,
            })
        };
        self.changed.notify_waiters();
        let receipts = self.receipts.load(Ordering::Relaxed) && result.is_ok();
        let publisher = self.publisher.get().cloned().filter(|_| receipts);
        async move {
            if let Some(publisher) = publisher {
                let text = format!("receipt of {}", String::from_utf8_lossy(&payload));
                publisher
                    .publish_receipt(&account, hash(&payload), text.into())
                    .ok();
            }
            result
        }
        .boxed()
    }

    fn sync(&self, gateway: &str, why: SyncReason) -> BoxFuture<'static, Result<(), SubmitError>> {
        let since = match why {
            SyncReason::Listens => None,
            SyncReason::Asks { since, .. } => since,
        };
        self.syncs.lock().unwrap().push((gateway.to_owned(), since));
        self.changed.notify_waiters();
        let publisher = self.publisher.get().cloned();
        let gateway = gateway.to_owned();
        async move {
            if let Some(publisher) = publisher {
                let since = since.map_or("the start".to_owned(), |cursor| cursor.to_string());
                let text = format!("work since {since}");
                publisher.publish_work(&gateway, text.into()).ok();
            }
            Ok(())
        }
        .boxed()
    }
}

/// An edge with its ledger: `gw-1`, `gw-2`, `ann` (districts north and south), `root` (all
/// districts) and `eve` (no role).
pub struct World {
    pub edge: Edge,
    pub ledger: Arc<Ledger>,
    pub publisher: Publisher,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
}

pub fn world() -> World {
    world_with(|_| {})
}

pub fn world_with(change: impl FnOnce(&mut Config)) -> World {
    let ledger = Arc::new(Ledger::default());
    for account in [
        gateway("gw-1"),
        gateway("gw-2"),
        user("ann", &["north", "south"]),
        user("eve", &[]),
        admin("root"),
    ] {
        ledger.add(account);
    }
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config {
        listen: vec![
            Listen {
                address: local,
                tls: false,
            },
            Listen {
                address: local,
                tls: true,
            },
        ],
        identity: Some(identity("node")),
        connections_max: 1000,
        ..Config::default()
    };
    change(&mut config);
    let edge = Edge::start(config, Arc::<Ledger>::clone(&ledger)).unwrap();
    let publisher = edge.publisher();
    assert!(ledger.publisher.set(publisher.clone()).is_ok());
    let (plain, tls) = (edge.addresses()[0], edge.addresses()[1]);
    World {
        edge,
        ledger,
        publisher,
        plain,
        tls,
    }
}

impl World {
    /// A count of the edge.
    pub fn count(&self, name: &str) -> u64 {
        let all = self.edge.counters().all();
        all.into_iter().find(|(found, _)| *found == name).unwrap().1
    }

    /// Waits until a count of the edge holds.
    pub async fn until_count(&self, name: &str, holds: impl Fn(u64) -> bool) {
        eventually(&format!("count of {name}"), || holds(self.count(name))).await;
    }
}

/// Waits for something that nobody announces.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Certificate and key of an account, and the node's certificate, as files for other programs.
pub struct Files {
    pub dir: tempfile::TempDir,
}

impl Files {
    pub fn of(id: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Self { dir };
        let own = identity(id);
        std::fs::write(files.path("cert.pem"), pem("CERTIFICATE", &own.certificate)).unwrap();
        std::fs::write(
            files.path("key.pem"),
            pem("PRIVATE KEY", own.key.secret_der()),
        )
        .unwrap();
        let node = identity("node");
        std::fs::write(
            files.path("node.pem"),
            pem("CERTIFICATE", &node.certificate),
        )
        .unwrap();
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
