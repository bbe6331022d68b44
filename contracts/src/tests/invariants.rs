//! Whatever people send, in whatever order, records and indexes agree and the city can be governed.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_state::{Key, Overlay};
use lamplighter_types::*;
use proptest::prelude::*;
use proptest::sample::select;

use super::city::{act, genesis, id, installed, node_proof, proof, scope, secret};
use crate::{Reader, devices, events, governance, users};

const PEOPLE: [&str; 5] = ["ada", "ben", "olga", "p-1", "p-2"];
const GATEWAYS: [&str; 2] = ["gw-1", "gw-2"];
const LAMPS: [&str; 3] = ["lamp-1", "lamp-2", "lamp-3"];
const DISTRICTS: [&str; 4] = ["", "north", "north/harbour", "south"];
const ALL_MAX: usize = 10_000;

fn person() -> impl Strategy<Value = Id> {
    select(PEOPLE.as_slice()).prop_map(id)
}

fn anybody() -> impl Strategy<Value = Id> {
    let names: Vec<_> = PEOPLE
        .into_iter()
        .chain(GATEWAYS)
        .chain(["node-1", "node-2"])
        .collect();
    select(names).prop_map(id)
}

fn gateway() -> impl Strategy<Value = Id> {
    select(GATEWAYS.as_slice()).prop_map(id)
}

fn lamp() -> impl Strategy<Value = Id> {
    select(LAMPS.as_slice()).prop_map(id)
}

fn district() -> impl Strategy<Value = Scope> {
    select(DISTRICTS.as_slice()).prop_map(scope)
}

fn organization() -> impl Strategy<Value = Id> {
    select(["city", "harbour"].as_slice()).prop_map(id)
}

fn key() -> impl Strategy<Value = PublicKey> {
    key_name().prop_map(|name| secret(&name).public())
}

fn key_name() -> impl Strategy<Value = String> {
    (0..12_u8).prop_map(|n| format!("key-{n}"))
}

fn role() -> impl Strategy<Value = Role> {
    select([Role::Administrator, Role::Operator].as_slice())
}

fn users_action() -> impl Strategy<Value = UsersAction> {
    let name = || "N".to_owned();
    prop_oneof![
        organization().prop_map(move |organization| {
            UsersAction::RegisterOrganization {
                organization,
                name: name(),
            }
        }),
        (person(), organization(), key_name()).prop_map(move |(account, organization, key)| {
            UsersAction::RegisterUser {
                proof: proof(&key, account.as_str()),
                key: secret(&key).public(),
                account,
                organization,
                name: name(),
            }
        }),
        (gateway(), organization(), district(), key_name()).prop_map(
            |(account, organization, district, key)| UsersAction::RegisterGateway {
                proof: proof(&key, account.as_str()),
                key: secret(&key).public(),
                account,
                organization,
                district,
            }
        ),
        (anybody(), role(), district()).prop_map(|(account, role, scope)| UsersAction::Grant {
            account,
            role,
            scope
        }),
        (anybody(), role(), district()).prop_map(|(account, role, scope)| UsersAction::Revoke {
            account,
            role,
            scope
        }),
        (anybody(), key()).prop_map(|(account, key)| UsersAction::RevokeKey { account, key }),
        anybody().prop_map(|account| UsersAction::RevokeKey {
            key: secret(account.as_str()).public(),
            account,
        }),
        anybody().prop_map(|account| UsersAction::Disable { account }),
        // A proof for the wrong account is refused; for the right one the key is added.
        (anybody(), key_name()).prop_map(|(account, key)| UsersAction::AddKey {
            proof: proof(&key, account.as_str()),
            key: secret(&key).public(),
            label: "spare".to_owned(),
        }),
    ]
}

fn new_device() -> impl Strategy<Value = NewDevice> {
    let parts = (
        lamp(),
        organization(),
        district(),
        prop::option::of(gateway()),
        prop::option::of((0..12_u8).prop_map(|n| format!("key-{n}"))),
    );
    let prove = |name: &str, device: &Id| {
        secret(name).prove(KeyPurpose::Device, &genesis().chain_id(), device)
    };
    parts.prop_map(move |(device, owner, district, gateway, key)| NewDevice {
        proof: key.as_deref().map(|name| prove(name, &device)),
        device,
        owner,
        model: "lamp".to_owned(),
        hardware_class: "lamp-v2".to_owned(),
        district,
        gateway,
        key: key.map(|name| secret(&name).public()),
        tags: Vec::new(),
    })
}

fn devices_action() -> impl Strategy<Value = DevicesAction> {
    let reason = || "because".to_owned();
    prop_oneof![
        prop::collection::vec(new_device(), 1..3)
            .prop_map(|devices| DevicesAction::Register { devices }),
        (lamp(), prop::option::of(gateway()))
            .prop_map(|(device, gateway)| DevicesAction::AssignGateway { device, gateway }),
        (lamp(), organization())
            .prop_map(|(device, to)| DevicesAction::OfferTransfer { device, to }),
        lamp().prop_map(|device| DevicesAction::AcceptTransfer { device }),
        lamp().prop_map(|device| DevicesAction::WithdrawTransfer { device }),
        lamp().prop_map(move |device| DevicesAction::Suspend {
            device,
            reason: reason()
        }),
        lamp().prop_map(|device| DevicesAction::Resume { device }),
        lamp().prop_map(move |device| DevicesAction::Decommission {
            device,
            reason: reason()
        }),
    ]
}

fn event(sequences: std::ops::Range<u64>) -> impl Strategy<Value = DeviceEvent> {
    let change = select([AlarmChange::None, AlarmChange::Raise, AlarmChange::Clear].as_slice());
    let parts = (lamp(), sequences, select(["x-a", "x-b"].as_slice()), change);
    parts.prop_map(|(device, sequence, kind, alarm)| DeviceEvent {
        device,
        sequence,
        time_ms: 0,
        kind: kind.to_owned(),
        severity: Severity::Minor,
        alarm,
        data: String::new(),
        signature: None,
    })
}

fn events_action() -> impl Strategy<Value = EventsAction> {
    let alarm = || (lamp(), 1..9_u64).prop_map(|(device, sequence)| AlarmId { device, sequence });
    prop_oneof![
        3 => prop::collection::vec(event(1..30), 1..4)
            .prop_map(|events| EventsAction::Append { events }),
        1 => alarm().prop_map(|alarm| EventsAction::Clear { alarm, comment: String::new() }),
        1 => alarm().prop_map(|alarm| EventsAction::Acknowledge { alarm, comment: String::new() }),
    ]
}

/// A step of a person or gateway with the right to it, by which alarms are raised and cleared.
fn alarm_step() -> impl Strategy<Value = (Id, Action)> {
    let step = prop_oneof![
        event(1..9).prop_map(|event| {
            let gateway = if event.device == id("lamp-1") {
                "gw-1"
            } else {
                "gw-2"
            };
            (
                gateway,
                EventsAction::Append {
                    events: vec![event],
                },
            )
        }),
        events_action().prop_map(|action| ("olga", action)),
    ];
    step.prop_map(|(sender, action)| (id(sender), Action::Events(action)))
}

/// A change of accounts, as a proposal makes it.
fn account_change() -> impl Strategy<Value = GovernanceChange> {
    let any_role = select([Role::Administrator, Role::Approver, Role::Operator].as_slice());
    prop_oneof![
        (anybody(), any_role.clone(), district()).prop_map(|(account, role, scope)| {
            GovernanceChange::Grant {
                account,
                role,
                scope,
            }
        }),
        (anybody(), any_role, district()).prop_map(|(account, role, scope)| {
            GovernanceChange::Revoke {
                account,
                role,
                scope,
            }
        }),
        anybody().prop_map(|account| GovernanceChange::Disable { account }),
        anybody().prop_map(|account| GovernanceChange::Enable { account }),
        (anybody(), key_name()).prop_map(|(account, key)| GovernanceChange::Recover {
            proof: proof(&key, account.as_str()),
            new_key: secret(&key).public(),
            account,
        }),
    ]
}

fn governance_action() -> impl Strategy<Value = GovernanceAction> {
    let address = || "localhost:7000".to_owned();
    let node = || (1..4_u64, anybody(), key_name());
    let change = prop_oneof![
        node().prop_map(move |(node, account, key)| GovernanceChange::AddValidator {
            proof: node_proof(&key, account.as_str()),
            validator: Validator {
                node,
                account,
                key: secret(&key).public(),
                address: address()
            }
        }),
        (1..4_u64).prop_map(|node| GovernanceChange::RemoveValidator { node }),
        node().prop_map(move |(node, account, key)| GovernanceChange::AddObserver {
            proof: node_proof(&key, account.as_str()),
            observer: Observer {
                node,
                account,
                key: secret(&key).public(),
                address: address()
            }
        }),
        (1..4_u64).prop_map(|node| GovernanceChange::RemoveObserver { node }),
        account_change(),
        account_change(),
    ];
    let changes = prop::collection::vec(change, 1..3);
    (0..1_000_u32, changes).prop_map(|(n, changes)| GovernanceAction::Propose {
        proposal: id(&format!("proposal-{n}")),
        changes,
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => users_action().prop_map(Action::Users),
        3 => devices_action().prop_map(Action::Devices),
        2 => events_action().prop_map(Action::Events),
        1 => governance_action().prop_map(Action::Governance),
    ]
}

/// The records of a table by the rest of their keys' bytes.
fn table<T: serde::de::DeserializeOwned>(overlay: &Overlay, prefix: &Key<T>) -> Vec<(Vec<u8>, T)> {
    let found = Reader::scan(overlay, prefix, None, ALL_MAX).unwrap();
    found
        .into_iter()
        .map(|(key, record)| (key.as_bytes().to_vec(), record))
        .collect()
}

fn keys_of(overlay: &Overlay, prefix: &Key<Id>) -> BTreeSet<Vec<u8>> {
    table(overlay, prefix)
        .into_iter()
        .map(|(key, _)| key)
        .collect()
}

fn accounts_agree(overlay: &Overlay) {
    let accounts = users::accounts(overlay, None, ALL_MAX).unwrap();
    let listed = |prefix| {
        let listed = table(overlay, &prefix);
        listed
            .into_iter()
            .map(|(_, name)| name)
            .collect::<BTreeSet<_>>()
    };
    let holders = |role| {
        let able = |a: &&Account| !a.disabled && !a.keys.is_empty();
        let holds = |a: &&Account| able(a) && a.has_role(role, &Scope::city());
        let holders = accounts.iter().filter(holds);
        holders.map(|a| a.account.clone()).collect::<BTreeSet<_>>()
    };
    let administrators = holders(Role::Administrator);
    assert_eq!(administrators, listed(users::keys::administrators()));
    assert_eq!(holders(Role::Approver), listed(users::keys::approvers()));
    assert!(
        !administrators.is_empty(),
        "no account administers the city"
    );
    let mut live = BTreeMap::new();
    for account in &accounts {
        for AccountKey { key, label: _ } in &account.keys {
            assert!(live.insert(*key, &account.account).is_none(), "{key} twice");
            let record = overlay.get(&users::keys::key(key)).unwrap().unwrap();
            assert_eq!((&record.account, record.revoked), (&account.account, false));
        }
    }
}

fn devices_agree(overlay: &Overlay) {
    use devices::keys;
    let mut expected: [BTreeSet<Vec<u8>>; 4] = Default::default();
    for device in devices::devices(overlay, None, ALL_MAX).unwrap() {
        let name = &device.device;
        let [gateways, districts, owners, by_key] = &mut expected;
        gateways.extend(
            device
                .gateway
                .map(|g| keys::by_gateway(&g, name).as_bytes().to_vec()),
        );
        districts.insert(
            keys::by_district(&device.district, name)
                .as_bytes()
                .to_vec(),
        );
        owners.insert(keys::by_owner(&device.owner, name).as_bytes().to_vec());
        by_key.extend(device.key.map(|key| keys::by_key(&key).as_bytes().to_vec()));
        assert!(devices::state(overlay, name).unwrap().is_some());
        if device.status == DeviceStatus::Decommissioned {
            assert_eq!(device.offered_to, None);
        }
    }
    let any = id("a");
    let tables = [
        keys::by_gateway(&any, &any),
        keys::by_district(&Scope::city(), &any),
        keys::by_owner(&any, &any),
        keys::by_key(&secret("a").public()),
    ];
    for (expected, sample) in expected.into_iter().zip(tables) {
        let whole = Key::table(sample.as_bytes()[0]);
        assert_eq!(expected, keys_of(overlay, &whole));
    }
}

fn alarms_agree(overlay: &Overlay) {
    let mut open = BTreeSet::new();
    for lamp in LAMPS {
        let mut active = BTreeSet::new();
        for alarm in events::alarms(overlay, &id(lamp), None, ALL_MAX).unwrap() {
            if alarm.cleared_ms.is_none() {
                assert!(
                    active.insert(alarm.kind.clone()),
                    "two active alarms of one kind"
                );
            }
            if alarm.cleared_ms.is_none() || alarm.acknowledged.is_none() {
                open.insert(alarm.alarm);
            }
        }
    }
    let listed = events::open_alarms(overlay, None, ALL_MAX).unwrap();
    assert_eq!(open, listed.into_iter().map(|alarm| alarm.alarm).collect());
}

fn nodes_agree(overlay: &Overlay) {
    let set = governance::validator_set(overlay).unwrap().validators;
    assert!(!set.is_empty());
    assert!(set.windows(2).all(|pair| pair[0].node < pair[1].node));
    for Validator {
        node,
        account,
        key,
        address: _,
    } in set
    {
        let holder = users::account_of_key(overlay, &key).unwrap().unwrap();
        assert_eq!((&holder.account, holder.disabled), (&account, false));
        assert_eq!(governance::used_node(overlay, node).unwrap(), Some(account));
        assert!(governance::observer(overlay, node).unwrap().is_none());
    }
}

/// A city in which something can happen: an organization more, gateways and lamps.
fn furnished() -> Overlay {
    let mut overlay = installed();
    let harbour = UsersAction::RegisterOrganization {
        organization: id("harbour"),
        name: "Harbour".to_owned(),
    };
    act(&mut overlay, "ada", Action::Users(harbour)).unwrap();
    for gateway in GATEWAYS {
        let action = UsersAction::RegisterGateway {
            account: id(gateway),
            organization: id("city"),
            district: Scope::city(),
            key: secret(gateway).public(),
            proof: proof(gateway, gateway),
        };
        act(&mut overlay, "ada", Action::Users(action)).unwrap();
    }
    let lamp = |name: &str, gateway: &str| NewDevice {
        device: id(name),
        owner: id("city"),
        model: "lamp".to_owned(),
        hardware_class: "lamp-v2".to_owned(),
        district: scope("north"),
        gateway: Some(id(gateway)),
        key: None,
        proof: None,
        tags: Vec::new(),
    };
    let devices = vec![lamp("lamp-1", "gw-1"), lamp("lamp-2", "gw-2")];
    act(
        &mut overlay,
        "olga",
        Action::Devices(DevicesAction::Register { devices }),
    )
    .unwrap();
    overlay
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn records_and_indexes_agree_after_any_actions(
        steps in prop::collection::vec(
            prop_oneof![2 => (anybody(), action()), 1 => alarm_step()],
            1..100,
        )
    ) {
        let mut overlay = furnished();
        for (sender, action) in steps {
            if users::account(&overlay, &sender).unwrap().is_some_and(|a| !a.disabled) {
                let _ = act(&mut overlay, sender.as_str(), action);
            }
        }
        accounts_agree(&overlay);
        devices_agree(&overlay);
        alarms_agree(&overlay);
        nodes_agree(&overlay);
    }
}
