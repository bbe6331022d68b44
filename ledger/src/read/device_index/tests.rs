use std::sync::Arc;

use lamplighter_consensus::StateMachine;
use lamplighter_state::tables::DeviceTerm;
use lamplighter_store::{KeyRange, KvView, MemoryKv};
use lamplighter_types::{
    Action, DevicesAction, Encoding, Grant, NewDevice, Role, Scope, SignedTransaction, Tag,
    Transaction,
};

use super::*;
use crate::apply::state_machine::LedgerStateMachine;
use crate::order::sequencer::Batch;
use crate::tests::{START_MS, genesis, id, machine_of, secret};

fn act(machine: &LedgerStateMachine, action: DevicesAction) {
    let height = machine.chain.head().height;
    let transaction = Transaction {
        sender: id("admin"),
        sequence: height + 1,
        expires_ms: START_MS + 600_000,
        action: Action::Devices(action),
    };
    let chain_id = machine.chain.chain_id();
    let signed = SignedTransaction::sign(&transaction, Encoding::Json, &chain_id, &secret(200));
    let batch = Batch {
        parent: machine.chain.last_batch(),
        timestamp_ms: START_MS + 1_000 * (height + 1),
        transactions: vec![signed],
    };
    machine.apply(vec![machine.entry(batch.encode())]).unwrap();
    assert_eq!(machine.chain.head().height, height + 1);
}

fn tag(value: &str) -> Tag {
    Tag {
        name: "pole".to_owned(),
        value: value.to_owned(),
    }
}

/// Lamps in blocks of their own; two are tagged anew and one suspended.
fn city(kv: &MemoryKv) -> LedgerStateMachine {
    let mut genesis = genesis(4);
    genesis.accounts[0].grants.push(Grant {
        role: Role::Operator,
        scope: Scope::city(),
        since_ms: 0,
    });
    let machine = machine_of(Arc::new(kv.clone()), genesis);
    for number in 0..6 {
        let device = NewDevice {
            device: id(&format!("lamp-{number}")),
            owner: id("city"),
            model: "Lamp".to_owned(),
            hardware_class: "lamp-v1".to_owned(),
            district: Scope::new("north/harbour").unwrap(),
            gateway: None,
            key: None,
            proof: None,
            tags: vec![tag("1")],
        };
        let devices = vec![device];
        act(&machine, DevicesAction::Register { devices });
    }
    for number in [2, 4] {
        let device = id(&format!("lamp-{number}"));
        let tags = vec![tag("2")];
        act(&machine, DevicesAction::Tag { device, tags });
    }
    let (device, reason) = (id("lamp-5"), "storm".to_owned());
    act(&machine, DevicesAction::Suspend { device, reason });
    machine
}

fn rows(kv: &MemoryKv) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let rows = kv.scan(Cf::Index, KeyRange::all(), Direction::Forward);
    rows.unwrap().map(Result::unwrap).collect()
}

fn with(kv: &MemoryKv, term: &DeviceTerm) -> Vec<String> {
    let found = tables::devices_with(kv, term, None).unwrap();
    found.map(|id| id.unwrap().to_string()).collect()
}

#[test]
fn blocks_keep_the_index_of_devices() {
    let kv = MemoryKv::new();
    let machine = city(&kv);
    let tagged = |value: &str| with(&kv, &DeviceTerm::Tag("pole".into(), value.into()));
    assert_eq!(tagged("1"), ["lamp-0", "lamp-1", "lamp-3", "lamp-5"]);
    assert_eq!(tagged("2"), ["lamp-2", "lamp-4"]);
    assert_eq!(with(&kv, &DeviceTerm::Suspended), ["lamp-5"]);
    for district in ["north", "north/harbour"] {
        let term = DeviceTerm::District(district.parse().unwrap());
        assert_eq!(with(&kv, &term).len(), 6, "{district}");
    }
    assert_eq!(with(&kv, &DeviceTerm::Model("Lam".into())), [""; 0]);
    // What people do comes not from the device.
    let seen = tables::last_seen(&kv, &[id("lamp-1"), id("lamp-5"), id("lamp-9")]).unwrap();
    let times: Vec<_> = seen
        .iter()
        .map(|seen| seen.map(|seen| seen.time_ms))
        .collect();
    assert_eq!(
        times,
        [Some(START_MS + 2_000), Some(START_MS + 6_000), None]
    );
    let head = machine.chain.head().height;
    assert_eq!(tables::devices_indexed(&kv).unwrap(), Some(head));
}

/// A store that is older than the index, one to which an older program added blocks, and one in
/// which the making of the index was interrupted.
#[test]
fn the_index_is_made_where_it_is_not_that_of_the_newest_block() {
    let kv = MemoryKv::new();
    let head = city(&kv).chain.head().height;
    let complete_rows = rows(&kv);
    type Change = fn(&mut WriteBatch);
    let changes: [Change; 3] = [
        |batch| {
            for prefix in ["q", "h", "m"] {
                batch.delete_range(Cf::Index, KeyRange::prefix(prefix));
            }
        },
        |batch| {
            // The blocks since are neither in the terms nor in the times.
            tables::put_devices_indexed(batch, 5);
            batch.delete(Cf::Index, "hlamp-5");
            batch.put(Cf::Index, "qs\0\0\0\0lamp-1", "");
        },
        |batch| {
            tables::remove_device_terms(batch);
            batch.put(Cf::Index, "qs\0\0\0\0lamp-1", "");
        },
    ];
    for change in changes {
        let mut batch = WriteBatch::new();
        change(&mut batch);
        kv.write(batch, Durability::Unsynced).unwrap();
        assert_ne!(rows(&kv), complete_rows);
        complete(&kv, head).unwrap();
        assert_eq!(rows(&kv), complete_rows);
    }
}
