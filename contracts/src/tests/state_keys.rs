//! Every key that the contracts make is read back as what it was made from: auditors decode proven
//! keys with [`StateKey`] alone.

use lamplighter_state::Key;
use lamplighter_types::tables::Table;
use lamplighter_types::*;

use super::city::{id, scope, secret};
use crate::{config, devices, events, firmware, governance, rollouts, users};

/// Keys with what they name.
#[derive(Default)]
struct Keys(Vec<(Vec<u8>, StateKey)>);

impl Keys {
    fn is<T>(&mut self, key: Key<T>, named: StateKey) {
        self.0.push((key.as_bytes().to_vec(), named));
    }
}

fn of_people(keys: &mut Keys) {
    use users::keys as k;
    let (account, key) = (id("ada"), secret("ada").public());
    let organization = id("city");
    keys.is(
        k::organization(&organization),
        StateKey::Organization { organization },
    );
    let named = account.clone();
    keys.is(k::account(&account), StateKey::Account { account: named });
    keys.is(k::key(&key), StateKey::Key { key });
    keys.is(k::replay_window(&key), StateKey::ReplayWindow { key });
    let named = account.clone();
    keys.is(k::approver(&account), StateKey::Approver { account: named });
    keys.is(
        k::administrator(&account),
        StateKey::Administrator { account },
    );
    let account = id("ada");
    keys.is(
        crate::allowance::usage_key(&account),
        StateKey::AllowanceUse { account },
    );
}

fn of_devices(keys: &mut Keys) {
    use devices::keys as k;
    let (device, gateway, owner) = (id("lamp-1"), id("gw-1"), id("city"));
    let named = || id("lamp-1");
    keys.is(k::device(&device), StateKey::Device { device: named() });
    keys.is(k::state(&device), StateKey::DeviceState { device: named() });
    let by = StateKey::DeviceByGateway {
        gateway: gateway.clone(),
        device: named(),
    };
    keys.is(k::by_gateway(&gateway, &device), by);
    for district in ["", "north", "north/harbour"] {
        let by = StateKey::DeviceByDistrict {
            district: scope(district),
            device: named(),
        };
        keys.is(k::by_district(&scope(district), &device), by);
    }
    let by = StateKey::DeviceByOwner {
        owner: owner.clone(),
        device: named(),
    };
    keys.is(k::by_owner(&owner, &device), by);
    let key = secret("lamp-1").public();
    keys.is(k::by_key(&key), StateKey::DeviceByKey { key });
    let original = b"thing/7\x00\x01".to_vec();
    let named = StateKey::IotRegistry {
        key: original.clone().into(),
    };
    keys.is(k::iotregistry(&original), named);
    for registrant in ["", "Registrant \u{0}\u{1}\u{2} ü"] {
        let named = StateKey::RegistrantLink {
            registrant: registrant.to_owned(),
        };
        keys.is(k::registrant_link(registrant), named);
    }
}

fn of_rollouts(keys: &mut Keys) {
    use rollouts::keys as k;
    let (rollout, device) = (id("spring"), id("lamp-1"));
    let named = || (id("spring"), id("lamp-1"));
    let (release, digest) = (id("lamp-2.0.0"), Hash([1; 32]));
    keys.is(
        firmware::keys::release(&release),
        StateKey::Release { release },
    );
    let size_bytes = 1 << 20;
    keys.is(
        firmware::keys::artifact(&digest, size_bytes),
        StateKey::Artifact { digest, size_bytes },
    );
    let release = id("lamp-2.0.0");
    keys.is(
        firmware::keys::release_of(&digest, &release),
        StateKey::ReleaseByArtifact { digest, release },
    );
    let (organization, release) = (id("city"), id("lamp-2.0.0"));
    keys.is(
        firmware::keys::open_release(&organization, &release),
        StateKey::OpenRelease {
            organization,
            release,
        },
    );
    let organization = id("city");
    let named_one = StateKey::OpenPlan {
        organization: organization.clone(),
        rollout: rollout.clone(),
    };
    keys.is(k::open_plan(&organization, &rollout), named_one);
    let (of, to) = named();
    keys.is(k::rollout(&rollout), StateKey::Rollout { rollout: of });
    let (of, _) = named();
    let named_one = StateKey::Deployment {
        rollout: of,
        device: to,
    };
    keys.is(k::deployment(&rollout, &device), named_one);
    let (of, to) = named();
    let by = StateKey::DeploymentByDevice {
        device: to,
        height: 1 << 40,
        rollout: of,
    };
    keys.is(k::device_rollout(&device, 1 << 40, &rollout), by);
    let (of, to) = named();
    let timer = StateKey::DeploymentTimer {
        deadline_ms: u64::MAX,
        rollout: of,
        device: to,
    };
    keys.is(k::timer(u64::MAX, &rollout, &device), timer);
    let (rollout_key, of) = (k::work(&rollout), rollout);
    keys.is(rollout_key, StateKey::RunningRollout { rollout: of });
    of_groups(keys);
}

fn of_groups(keys: &mut Keys) {
    use rollouts::keys as k;
    let (name, device) = (id("spring"), id("lamp-1"));
    let rollout = || id("spring");
    let named = StateKey::GroupedPlan { rollout: rollout() };
    keys.is(k::grouped_plan(&name), named);
    let named = StateKey::RolloutGroups { rollout: rollout() };
    keys.is(k::groups(&name), named);
    let late = k::late_device(&name, &device);
    let rollout_of = rollout();
    keys.is(
        late,
        StateKey::LateDevice {
            rollout: rollout_of,
            device,
        },
    );
    let timer = StateKey::RolloutTimer {
        deadline_ms: u64::MAX,
        rollout: rollout(),
    };
    keys.is(k::rollout_timer(u64::MAX, &name), timer);
    let named = StateKey::ContinuousRollout { rollout: rollout() };
    keys.is(k::continuous_one(&name), named);
    let release = id("lamp-2.0.0");
    let key = k::revocation_sweep(&release);
    keys.is(key, StateKey::RevocationSweep { release });
    let named = StateKey::InstallRules { rollout: rollout() };
    keys.is(k::install_rules(&name), named);
    let named = StateKey::InstallRecord {
        rollout: rollout(),
        device: id("lamp-1"),
    };
    keys.is(k::install_record(&name, &id("lamp-1")), named);
}

fn of_events_and_config(keys: &mut Keys) {
    let device = || id("lamp-1");
    let targets = [
        ConfigTarget::Fleet,
        ConfigTarget::Model {
            model: "LX \u{1}200".to_owned(),
        },
        ConfigTarget::District {
            district: scope("north/harbour"),
        },
        ConfigTarget::District {
            district: scope(""),
        },
        ConfigTarget::Device { device: device() },
    ];
    for target in targets {
        let key = config::keys::desired(&target);
        keys.is(key, StateKey::DesiredConfig { target });
    }
    let key = config::keys::reported(&device());
    keys.is(key, StateKey::ReportedConfig { device: device() });
    let key = events::keys::cursor(&device());
    keys.is(key, StateKey::EventCursor { device: device() });
    let sequence = 258;
    let alarm = AlarmId {
        device: device(),
        sequence,
    };
    let device = device();
    let named = StateKey::Alarm {
        device: device.clone(),
        sequence,
    };
    keys.is(events::keys::alarm(&alarm), named);
    keys.is(
        events::keys::device_alarms(&device),
        StateKey::DeviceAlarms { device },
    );
}

fn of_governance(keys: &mut Keys) {
    use governance::keys as k;
    keys.is(k::validator_set(), StateKey::ValidatorSet);
    keys.is(k::observer(7), StateKey::Observer { node: 7 });
    keys.is(k::policies(), StateKey::Policies);
    let proposal = id("add-node-5");
    keys.is(k::proposal(&proposal), StateKey::Proposal { proposal });
    keys.is(k::protocol(), StateKey::Protocol);
    let (proposal, deadline_ms) = (id("p-1"), 1_800_000_000_000);
    keys.is(
        k::proposal_deadline(deadline_ms, &proposal),
        StateKey::ProposalDeadline {
            deadline_ms,
            proposal,
        },
    );
    keys.is(k::used_node(7), StateKey::UsedNode { node: 7 });
}

#[test]
fn every_key_is_read_back_as_what_it_was_made_from() {
    let mut keys = Keys::default();
    of_people(&mut keys);
    of_devices(&mut keys);
    of_rollouts(&mut keys);
    of_events_and_config(&mut keys);
    of_governance(&mut keys);
    let mut tables: Vec<u8> = keys.0.iter().map(|(key, _)| key[0]).collect();
    tables.dedup();
    tables.sort_unstable();
    tables.dedup();
    assert_eq!(tables.len(), 45, "a key of each table");
    assert!(tables.contains(&(Table::UsedNode as u8)));
    for (key, named) in keys.0 {
        let text = key.escape_ascii();
        assert_eq!(StateKey::parse(&key), Some(named.clone()), "{text}");
        // A key of IOTRegistry has no end of its own.
        if matches!(named, StateKey::IotRegistry { .. }) {
            continue;
        }
        assert_eq!(StateKey::parse(&[&key[..], &[0]].concat()), None, "{text}");
        let cut = StateKey::parse(&key[..key.len() - 1]);
        assert_eq!(cut, None, "{text}");
    }
}

/// A name has one key: if another one were read as the same name, the absence of a record under it
/// would be proven while the record is there.
#[test]
fn no_name_has_two_keys() {
    let mut keys = Keys::default();
    of_people(&mut keys);
    of_devices(&mut keys);
    of_rollouts(&mut keys);
    of_events_and_config(&mut keys);
    of_governance(&mut keys);
    let mut readable = 0;
    for (key, named) in &keys.0 {
        for at in 0..=key.len() {
            for byte in 0..=255 {
                let (before, after) = key.split_at(at);
                let inserted = [before, &[byte], after].concat();
                let mut changed = key.clone();
                if let Some(old) = changed.get_mut(at) {
                    *old = byte;
                }
                let doubled = after.split_first().map(|(_, rest)| {
                    let pair = [before, &[1, byte], rest];
                    pair.concat()
                });
                let removed = [before, after.get(1..).unwrap_or_default()].concat();
                for other in [Some(inserted), Some(changed), doubled, Some(removed)] {
                    let other = other.filter(|other| other != key);
                    let read = other.as_ref().and_then(|other| StateKey::parse(other));
                    readable += usize::from(read.is_some());
                    assert_ne!(read.as_ref(), Some(named), "{other:?} and {key:?}");
                }
            }
        }
    }
    assert!(readable > 1_000, "{readable} other keys are readable");
}

#[test]
fn a_key_is_shown_in_words() {
    let text = |key: StateKey| key.to_string();
    let deployment = StateKey::Deployment {
        rollout: id("spring"),
        device: id("lamp-1"),
    };
    assert_eq!(
        text(deployment),
        "deployment of device lamp-1, rollout spring"
    );
    let device = || id("lamp-1");
    assert_eq!(text(StateKey::Device { device: device() }), "device lamp-1");
    let state = StateKey::DeviceState { device: device() };
    assert_eq!(text(state), "device state of device lamp-1");
    assert_eq!(text(StateKey::Policies), "policies");
    let fleet = StateKey::DesiredConfig {
        target: ConfigTarget::Fleet,
    };
    assert_eq!(text(fleet), "desired config of target fleet");
}
