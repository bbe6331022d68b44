use std::fs;

use lamplighter_rocks::{Options, RocksKv};
use lamplighter_types::{Id, SecretKey, Validator};
use tempfile::TempDir;

use super::*;

const NODE: u64 = 3;

struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder }
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("node.key")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn store(&self) -> RocksKv {
        RocksKv::open(&self.data().join("db"), Options::default()).unwrap()
    }

    fn claim(&self, chain: &[u8], node: u64) -> Result<StoreId, StoreIdentityError> {
        require_data(&self.key(), &self.data())?;
        claim(
            &self.key(),
            &self.data(),
            &self.store(),
            Hash::of(chain),
            node,
        )
    }
}

fn peer(certified: Option<u64>) -> PeerRecord {
    PeerRecord {
        key: SecretKey::from_seed([7; 32]).public(),
        node: Some(NODE),
        certified,
    }
}

fn greeting(store: u8, signed: Option<u64>) -> Bytes {
    let store = StoreId([store; 16]);
    NodeGreeting { store, signed }.encode()
}

#[test]
fn a_key_stays_with_its_data_directory() {
    let site = Site::new();
    let id = site.claim(b"chain", NODE).unwrap();
    assert_eq!(site.claim(b"chain", NODE).unwrap(), id);
    assert!(matches!(
        site.claim(b"other chain", NODE),
        Err(StoreIdentityError::OtherNode { was: NODE, .. })
    ));
    fs::remove_dir_all(site.data()).unwrap();
    let refused = site.claim(b"chain", NODE).unwrap_err();
    assert!(refused.to_string().contains("node join"), "{refused}");
    assert!(
        !site.data().exists(),
        "no file is created for a key that is refused"
    );
    // A new directory in its place is not the old one.
    fs::create_dir(site.data()).unwrap();
    drop(site.store());
    assert!(matches!(
        site.claim(b"chain", NODE),
        Err(StoreIdentityError::Wiped { .. })
    ));
}

#[test]
fn a_mark_that_can_not_be_read_is_an_error() {
    let site = Site::new();
    fs::write(mark_path(&site.key()), "{").unwrap();
    assert!(matches!(
        site.claim(b"chain", NODE),
        Err(StoreIdentityError::Malformed { .. })
    ));
}

#[test]
fn a_peer_is_accepted_with_its_first_directory_only() {
    let site = Site::new();
    let kv = site.store();
    let fresh = |store| verify_greeting(&kv, &peer(None), &greeting(store, None));
    // All are new when a cluster starts, also when it restarts before the first block.
    assert_eq!(fresh(1), Ok(()));
    assert_eq!(fresh(1), Ok(()));
    let refused = fresh(2).unwrap_err();
    assert!(refused.starts_with(REFUSAL), "{refused}");
    assert!(refused.contains("node join"), "{refused}");
    assert!(refused.contains("(node 3)"), "{refused}");
    drop(kv);
    let kv = site.store();
    assert!(verify_greeting(&kv, &peer(None), &greeting(2, None)).is_err());
    assert_eq!(
        verify_greeting(&kv, &peer(None), &greeting(1, Some(9))),
        Ok(())
    );
}

#[test]
fn a_peer_that_lost_its_signatures_is_refused() {
    let site = Site::new();
    let kv = site.store();
    let verify = |signed, certified| verify_greeting(&kv, &peer(certified), &greeting(1, signed));
    assert!(verify(None, Some(5)).is_err());
    assert!(verify(Some(1_000), Some(5_000)).is_err());
    // It was refused, so its store is not recorded.
    assert_eq!(verify(Some(1_000), Some(1_001)), Ok(()));
    // No number of a peer overflows.
    assert_eq!(verify(Some(u64::MAX), Some(5_000)), Ok(()));
    assert_eq!(verify(Some(1_000), None), Ok(()));
    assert!(verify_greeting(&kv, &peer(None), b"hello").is_err());
}

fn key(n: u8) -> PublicKey {
    SecretKey::from_seed([n; 32]).public()
}

fn four() -> ValidatorSet {
    let validator = |n: u8| Validator {
        node: n.into(),
        account: Id::new(format!("node-{n}")).unwrap(),
        key: key(n),
        address: String::new(),
    };
    ValidatorSet {
        validators: (1..=4).map(validator).collect(),
    }
}

#[tokio::test]
async fn a_single_validator_does_not_refuse_a_node_permanently() {
    let set = four();
    let refusals = IdentityRefusals::default();
    let reason = format!("{REFUSAL}{REMEDY}");
    // Twice the same one, a stranger, and another reason.
    refusals.record(&set, key(1), &reason);
    refusals.record(&set, key(1), &reason);
    refusals.record(&set, key(9), &reason);
    refusals.record(&set, key(2), "it is of another chain");
    assert!(refusals.permanent.borrow().is_none());
    refusals.record(&set, key(3), &reason);
    assert_eq!(refusals.permanent().await, reason);
}

#[test]
fn a_refusal_is_reported_until_its_validator_accepts_the_node() {
    let set = four();
    let refusals = IdentityRefusals::default();
    let summary = refusals.watch_summary();
    let count = || {
        let text = summary.borrow().clone();
        text.map(|text| text.split(' ').next().unwrap().to_owned())
    };
    let reason = format!("{REFUSAL}{REMEDY}");
    refusals.record(&set, key(1), &reason);
    refusals.retract(&set, &[key(2), key(9)]);
    assert_eq!(count().as_deref(), Some("1"));
    refusals.retract(&set, &[key(1), key(2)]);
    assert_eq!(count(), None);
    // A retracted refusal does not count with a new one.
    refusals.record(&set, key(2), &reason);
    assert!(refusals.permanent.borrow().is_none());
    assert_eq!(count().as_deref(), Some("1"));
    refusals.record(&set, key(3), &reason);
    refusals.retract(&set, &[key(2)]);
    assert_eq!(count().as_deref(), Some("1"));
}
