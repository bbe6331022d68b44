use std::sync::Arc;

use lamplighter_contracts::devices;
use lamplighter_state::Overlay;
use lamplighter_store::{Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::{
    Account, AccountKind, Device, DeviceState, DeviceStatus, Header, Notification, Outcome,
    Receipt, Release, ReleaseManifest, ReleaseStatus, Scope, SecretKey, SignedRelease,
    ValidatorSet,
};

use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn device() -> Device {
    Device {
        device: id("lamp-1"),
        owner: id("city"),
        offered_to: None,
        model: "Lamp".to_owned(),
        hardware_class: "class".to_owned(),
        district: "north".parse().unwrap(),
        gateway: Some(id("gw")),
        key: None,
        tags: Vec::new(),
        status: DeviceStatus::Active,
        registered_height: 1,
    }
}

fn release() -> Release {
    let manifest = ReleaseManifest {
        release: id("r-1"),
        vendor: id("vendor"),
        version: "1.0.0".parse().unwrap(),
        artifact: Hash([1; 32]),
        size_bytes: 1,
        hardware_classes: vec!["class".to_owned()],
        security_counter: 1,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    };
    let signed = SignedRelease::sign(&manifest, &SecretKey::from_seed([1; 32]));
    Release {
        manifest_digest: signed.manifest_digest(),
        manifest,
        signed,
        status: ReleaseStatus::Released,
        author: id("vendor"),
        organization: id("acme"),
        approvals: Vec::new(),
        reason: String::new(),
        published_height: 1,
        published_ms: 1,
        released_ms: Some(2),
        ended_ms: None,
    }
}

fn header() -> Header {
    let validators = Vec::new();
    Header {
        version: 2,
        chain_id: Hash::ZERO,
        height: 0,
        parent: Hash::ZERO,
        timestamp_ms: 1,
        tx_root: Hash::ZERO,
        receipt_root: Hash::ZERO,
        event_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: Hash::ZERO,
        validators_hash: ValidatorSet { validators }.hash(),
        batch: Hash::ZERO,
        position: Hash::ZERO,
    }
}

fn receipt(number: u8, facts: impl IntoIterator<Item = Fact>) -> Arc<Receipt> {
    let notifications = facts.into_iter().map(Notification::city).collect();
    Arc::new(Receipt {
        transaction: Hash([number; 32]),
        outcome: Outcome::Succeeded,
        notifications,
    })
}

/// A device that runs an approved release whose deployment is in the state no more.
fn state() -> View {
    let kv = Arc::new(MemoryKv::new());
    let mut overlay = Overlay::new(View::new(kv.clone()));
    overlay.put(&devices::keys::device(&id("lamp-1")), &device());
    overlay.put(&firmware::keys::release(&id("r-1")), &release());
    let by_gateway = devices::keys::by_gateway(&id("gw"), &id("lamp-1"));
    overlay.put(&by_gateway, &id("lamp-1"));
    overlay.commit();
    let mut batch = WriteBatch::new();
    tables::put_changes(&mut batch, &overlay.into_changes());
    let approved = Fact::ReleaseApproved {
        release: id("r-1"),
        by: id("approver"),
    };
    tables::put_block(&mut batch, &header(), &[], &[receipt(1, [approved])], &[]);
    kv.write(batch, Durability::Unsynced).unwrap();
    View::new(kv)
}

/// An exposure names no decision of a record that its route refuses to the account.
#[test]
fn decisions_that_the_account_may_not_read_are_left_out() {
    let view = state();
    let gateway = Rights::of(&Account {
        account: id("gw"),
        kind: AccountKind::Gateway,
        organization: id("city"),
        name: String::new(),
        district: Scope::city(),
        keys: Vec::new(),
        grants: Vec::new(),
        disabled: false,
        registered_height: 0,
    });
    let state = DeviceState {
        version: Some("1.0.0".parse().unwrap()),
        release: Some(id("r-1")),
        digest: None,
        security_counter: 1,
        report_counter: 1,
        drifted: false,
        active_rollout: None,
        confirmed: Vec::new(),
        key_rotations: 0,
    };
    for (rights, expected) in [(gateway, 0), (Rights::everything(), 1)] {
        let rights = rights.at(&view);
        assert!(rights.allows(&Record::Device(&device())).unwrap());
        let readable = rights.allows(&Record::ReleaseNamed(&id("r-1"))).unwrap();
        assert_eq!(readable, expected == 1);
        let found = SearchedDevice {
            device: device(),
            state: Some(state.clone()),
            config: None,
            alarms: Vec::new(),
            last_seen: None,
        };
        let mut sources = Sources::new(&view, &rights);
        let row = sources.of_release(found, &id("r-1")).unwrap();
        assert_eq!(row.decisions.len(), expected, "{row:?}");
        assert_eq!(row.proofs.len(), 1 + expected, "{row:?}");
    }
}

/// Whoever pauses and resumes a rollout often hides nobody's decision; what was not read is told.
#[test]
fn many_changes_do_not_hide_the_decisions_before_them() {
    let rollout = id("o-1");
    let subject = Subject::Rollout(rollout.clone());
    let approved = Fact::RolloutApproved {
        rollout: rollout.clone(),
        by: id("approver"),
    };
    let resumed = Fact::RolloutResumed { rollout };
    let pauses = 2 * CHANGES_AT_ONCE as u64;
    let kv = Arc::new(MemoryKv::new());
    for height in 0..=pauses {
        let fact = if height == 0 { &approved } else { &resumed };
        let header = Header { height, ..header() };
        let mut batch = WriteBatch::new();
        tables::put_block(&mut batch, &header, &[], &[receipt(1, [fact.clone()])], &[]);
        kv.write(batch, Durability::Unsynced).unwrap();
    }
    let view = View::new(kv);
    let all = pauses as usize + 1;
    for (limit, approvals, is_cut) in [(all + 1, 1, false), (all, 1, false), (all - 1, 0, true)] {
        let decided = Decided::read(&view, &subject, limit).unwrap();
        assert_eq!(decided.in_force(None).len(), approvals, "{limit}");
        assert_eq!(decided.is_cut, is_cut, "{limit}");
    }
}
