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

    fn claim(&self, chain: &[u8], node: u64) -> Result<StoreId, OriginError> {
        demand_data(&self.key(), &self.data())?;
        claim(
            &self.key(),
            &self.data(),
            &self.store(),
            Hash::of(chain),
            node,
        )
    }
}

fn known(certified: Option<u64>) -> Known {
    Known {
        key: SecretKey::from_seed([7; 32]).public(),
        node: Some(NODE),
        certified,
    }
}

fn introduction(store: u8, signed: Option<u64>) -> Bytes {
    let store = StoreId([store; 16]);
    Introduction { store, signed }.encode()
}

#[test]
fn a_key_stays_with_its_data_directory() {
    let site = Site::new();
    let id = site.claim(b"chain", NODE).unwrap();
    assert_eq!(site.claim(b"chain", NODE).unwrap(), id);
    assert!(matches!(
        site.claim(b"other chain", NODE),
        Err(OriginError::OtherNode { was: NODE, .. })
    ));
    fs::remove_dir_all(site.data()).unwrap();
    let refused = site.claim(b"chain", NODE).unwrap_err();
    assert!(refused.to_string().contains("node join"), "{refused}");
    assert!(
        !site.data().exists(),
        "nothing is made for a key that is refused"
    );
    // A new one in its place is not the old one.
    fs::create_dir(site.data()).unwrap();
    drop(site.store());
    assert!(matches!(
        site.claim(b"chain", NODE),
        Err(OriginError::Wiped { .. })
    ));
}

#[test]
fn a_mark_that_can_not_be_read_is_told() {
    let site = Site::new();
    fs::write(mark_path(&site.key()), "{").unwrap();
    assert!(matches!(
        site.claim(b"chain", NODE),
        Err(OriginError::Malformed { .. })
    ));
}

#[test]
fn a_peer_is_known_by_the_directory_that_it_came_with_first() {
    let site = Site::new();
    let kv = site.store();
    let fresh = |store| judge(&kv, &known(None), &introduction(store, None));
    // All are new when a cluster starts, also when they are started again before the first block.
    assert_eq!(fresh(1), Ok(()));
    assert_eq!(fresh(1), Ok(()));
    let refused = fresh(2).unwrap_err();
    assert!(refused.starts_with(REFUSAL), "{refused}");
    assert!(refused.contains("node join"), "{refused}");
    assert!(refused.contains("(node 3)"), "{refused}");
    drop(kv);
    let kv = site.store();
    assert!(judge(&kv, &known(None), &introduction(2, None)).is_err());
    assert_eq!(judge(&kv, &known(None), &introduction(1, Some(9))), Ok(()));
}

#[test]
fn who_signed_and_does_not_know_it_is_refused() {
    let site = Site::new();
    let kv = site.store();
    let says = |signed, certified| judge(&kv, &known(certified), &introduction(1, signed));
    assert!(says(None, Some(5)).is_err());
    assert!(says(Some(1_000), Some(5_000)).is_err());
    // It was refused, so nothing is remembered of it.
    assert_eq!(says(Some(1_000), Some(1_001)), Ok(()));
    assert_eq!(says(Some(1_000), None), Ok(()));
    assert!(judge(&kv, &known(None), b"hello").is_err());
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
async fn one_validator_alone_does_not_send_a_node_away() {
    let set = four();
    let refusals = Refusals::default();
    let reason = format!("{REFUSAL}{REMEDY}");
    // Twice the same one, a stranger, and another reason.
    refusals.note(&set, key(1), &reason);
    refusals.note(&set, key(1), &reason);
    refusals.note(&set, key(9), &reason);
    refusals.note(&set, key(2), "it is of another chain");
    assert!(refusals.for_good.borrow().is_none());
    refusals.note(&set, key(3), &reason);
    assert_eq!(refusals.for_good().await, reason);
}

#[test]
fn a_refusal_is_told_until_its_validator_takes_the_node() {
    let set = four();
    let refusals = Refusals::default();
    let told = refusals.told();
    let count = || {
        let text = told.borrow().clone();
        text.map(|text| text.split(' ').next().unwrap().to_owned())
    };
    let reason = format!("{REFUSAL}{REMEDY}");
    refusals.note(&set, key(1), &reason);
    refusals.take_back(&set, &[key(2), key(9)]);
    assert_eq!(count().as_deref(), Some("1"));
    refusals.take_back(&set, &[key(1), key(2)]);
    assert_eq!(count(), None);
    // One that was taken back does not count with one that comes later.
    refusals.note(&set, key(2), &reason);
    assert!(refusals.for_good.borrow().is_none());
    assert_eq!(count().as_deref(), Some("1"));
    refusals.note(&set, key(3), &reason);
    refusals.take_back(&set, &[key(2)]);
    assert_eq!(count().as_deref(), Some("1"));
}
