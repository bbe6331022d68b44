//! A small ledger by hand, and every way to lie about it.

mod world;

use std::time::Duration;

use lamplighter_contracts::{config, devices, firmware, rollouts, users};
use lamplighter_types::work::{WorkItem, WorkMessage};
use lamplighter_types::{
    ConfigTarget, DeploymentState, DeviceStatus, Hash, KeyRecord, ReleaseStatus, Role, SecretKey,
    Version, codec,
};

use super::{Distrust, Judged, ProvenState, configuration, deployment, device};
pub(crate) use world::{NOW_MS, World, id};

const AGE_MAX: Duration = Duration::from_secs(300);

fn prove(world: &World, message: &WorkMessage) -> Result<ProvenState, Distrust> {
    ProvenState::prove(message, &world.genesis, NOW_MS, AGE_MAX)
}

fn work() -> WorkItem {
    WorkItem::Deployment {
        rollout: id("r1"),
        device: id("lamp-1"),
    }
}

fn judge(world: &World) -> Result<Judged, Distrust> {
    let state = prove(world, &world.message(vec![work()]))?;
    deployment(&state, &id("r1"), &id("lamp-1"), &id("gw"), NOW_MS)
}

#[test]
fn a_proven_assignment_is_taken() {
    let world = World::new();
    let Judged::Open(assignment) = judge(&world).unwrap() else {
        panic!("it is open")
    };
    assert_eq!(assignment.manifest.release, id("fw-2"));
    assert_eq!(
        (assignment.height, assignment.report_counter),
        (world.height, 41)
    );
    let mut world = World::new();
    world.change(&rollouts::keys::deployment(&id("r1"), &id("lamp-1")), |d| {
        d.state = DeploymentState::Cancelled;
    });
    let ended = Judged::Ended {
        state: DeploymentState::Cancelled,
        height: world.height,
    };
    assert_eq!(judge(&world).unwrap(), ended);
}

/// Changes of what the ledger says, each with what must be refused.
#[test]
fn a_release_that_does_not_hold_is_refused() {
    type Change = (&'static str, fn(&mut World), fn(&Distrust) -> bool);
    let table: [Change; 12] = [
        (
            "not released",
            |w| {
                w.change(&firmware::keys::release(&id("fw-2")), |r| {
                    r.status = ReleaseStatus::Signed
                })
            },
            |d| matches!(d, Distrust::Status { .. }),
        ),
        (
            "revoked",
            |w| {
                let key = firmware::keys::release(&id("fw-2"));
                w.change(&key, |r| r.status = ReleaseStatus::Revoked);
            },
            |d| matches!(d, Distrust::Status { .. }),
        ),
        (
            "another manifest than the signed one",
            |w| {
                let key = firmware::keys::release(&id("fw-2"));
                w.change(&key, |r| r.manifest.artifact = Hash::of(b"evil"));
            },
            |d| matches!(d, Distrust::Manifest(_)),
        ),
        (
            "a flipped bit in the signed manifest",
            |w| {
                w.change(&firmware::keys::release(&id("fw-2")), |r| {
                    r.signed.manifest.0[9] ^= 1
                })
            },
            |d| matches!(d, Distrust::Signature(_)),
        ),
        (
            "signed by nobody's key",
            |w| w.sign_release(&SecretKey::from_seed([99; 32])),
            |d| matches!(d, Distrust::Record(_)),
        ),
        (
            "the vendor's key was revoked",
            |w| {
                let key = users::keys::key(&w.vendor.public());
                w.change(&key, |k| k.revoked = true);
            },
            |d| matches!(d, Distrust::VendorKey { .. }),
        ),
        (
            "the key is another account's",
            |w| {
                let key = users::keys::key(&w.vendor.public());
                w.change(&key, |k| k.account = id("mallory"));
            },
            |d| matches!(d, Distrust::VendorKey { .. }),
        ),
        (
            "the vendor has lost its role",
            |w| w.change(&users::keys::account(&id("acme")), |a| a.grants.clear()),
            |d| matches!(d, Distrust::Vendor(_)),
        ),
        (
            "other hardware",
            |w| {
                let key = devices::keys::device(&id("lamp-1"));
                w.change(&key, |d| d.hardware_class = "toaster".to_owned());
            },
            |d| matches!(d, Distrust::HardwareClass { .. }),
        ),
        (
            "below the security counter",
            |w| {
                w.change(&devices::keys::state(&id("lamp-1")), |s| {
                    s.security_counter = 9
                })
            },
            |d| {
                matches!(
                    d,
                    Distrust::SecurityCounter {
                        counter: 2,
                        floor: 9
                    }
                )
            },
        ),
        (
            "another gateway's device",
            |w| {
                let key = devices::keys::device(&id("lamp-1"));
                w.change(&key, |d| d.gateway = Some(id("gw-2")));
            },
            |d| matches!(d, Distrust::NotOurs { .. }),
        ),
        (
            "a suspended device",
            |w| {
                let key = devices::keys::device(&id("lamp-1"));
                w.change(&key, |d| d.status = DeviceStatus::Suspended);
            },
            |d| matches!(d, Distrust::NotActive(_)),
        ),
    ];
    for (name, change, expected) in table {
        let mut world = World::new();
        change(&mut world);
        let refused = judge(&world).unwrap_err();
        assert!(expected(&refused), "{name}: {refused:?}");
    }
}

#[test]
fn an_expired_release_is_refused_and_a_deprecated_one_goes_on() {
    let mut world = World::new();
    let vendor = world.vendor.clone();
    world.manifest.expires_ms = Some(NOW_MS - 1);
    world.sign_release(&vendor);
    assert!(matches!(judge(&world), Err(Distrust::Expired(_))));
    let mut world = World::new();
    let key = firmware::keys::release(&id("fw-2"));
    world.change(&key, |release| release.status = ReleaseStatus::Deprecated);
    assert!(matches!(judge(&world), Ok(Judged::Open(_))));
    // What a Thing installs already it goes on with.
    let mut world = World::new();
    world.change(&key, |release| release.status = ReleaseStatus::Revoked);
    world.change(&rollouts::keys::deployment(&id("r1"), &id("lamp-1")), |d| {
        d.state = DeploymentState::Installing;
    });
    assert!(matches!(judge(&world), Ok(Judged::Open(_))));
}

/// Each field of what carries the proof, changed on the way.
#[test]
fn a_tampered_proof_is_refused() {
    type Change = (&'static str, fn(&mut WorkMessage));
    let table: [Change; 12] = [
        ("height", |m| m.proofs.heads[0].certified.header.height += 1),
        ("time", |m| {
            m.proofs.heads[0].certified.header.timestamp_ms += 1
        }),
        ("state root", |m| {
            m.proofs.heads[0].certified.header.state_root.0[0] ^= 1
        }),
        ("chain", |m| {
            m.proofs.heads[0].certified.header.chain_id.0[0] ^= 1
        }),
        ("parent", |m| {
            m.proofs.heads[0].certified.header.parent.0[0] ^= 1
        }),
        ("validators", |m| {
            m.proofs.heads[0].certified.header.validators_hash.0[0] ^= 1
        }),
        ("a signature", |m| {
            m.proofs.heads[0].certified.certificate.signatures[1]
                .signature
                .0[5] ^= 1
        }),
        ("a signature less", |m| {
            m.proofs.heads[0]
                .certified
                .certificate
                .signatures
                .truncate(2)
        }),
        ("a signature twice", |m| {
            let signatures = &mut m.proofs.heads[0].certified.certificate.signatures;
            signatures[1] = signatures[0].clone();
        }),
        ("a value", |m| {
            let record = &mut m.proofs.records[0].record;
            if let lamplighter_types::proof::RecordProof::State {
                value: Some(value), ..
            } = record
            {
                value.0[3] ^= 1;
            }
        }),
        ("a path", |m| {
            let record = &mut m.proofs.records[1].record;
            if let lamplighter_types::proof::RecordProof::State { path, .. } = record {
                path.siblings[0].0[3] ^= 1;
            }
        }),
        ("a record that names no head", |m| {
            m.proofs.records[0].head = 7
        }),
    ];
    let world = World::new();
    let good = world.message(vec![work()]);
    prove(&world, &good).unwrap();
    for (name, change) in table {
        let mut message = good.clone();
        change(&mut message);
        assert!(
            matches!(prove(&world, &message), Err(Distrust::Work(_))),
            "{name}"
        );
    }
    let stranger = World::with_seed(7);
    assert!(matches!(prove(&stranger, &good), Err(Distrust::Work(_))));
}

#[test]
fn an_old_state_is_not_believed_even_under_a_fresh_head() {
    let mut world = World::new();
    world.time_ms = NOW_MS - 301_000;
    assert!(matches!(judge(&world), Err(Distrust::Stale { .. })));
    world.time_ms = NOW_MS - 299_000;
    judge(&world).unwrap();
}

#[test]
fn what_is_not_proven_is_not_assumed() {
    let world = World::new();
    let message = world.message(vec![work()]);
    for left_out in 0..message.proofs.records.len() {
        let mut less = message.clone();
        less.proofs.records.remove(left_out);
        let state = prove(&world, &less).unwrap();
        let judged = deployment(&state, &id("r1"), &id("lamp-1"), &id("gw"), NOW_MS);
        assert!(
            matches!(judged, Err(Distrust::Record(_))),
            "{left_out}: {judged:?}"
        );
    }
    let mut absent = World::new();
    absent.remove(&rollouts::keys::deployment(&id("r1"), &id("lamp-1")));
    assert!(matches!(judge(&absent), Err(Distrust::Absent { .. })));
}

#[test]
fn the_configuration_is_merged_from_proven_parts() {
    let mut world = World::new();
    let fleet = ConfigTarget::Fleet;
    world.set_document(&fleet, r#"{"dim":50,"night":{"from":22}}"#);
    world.set_document(
        &ConfigTarget::Device {
            device: id("lamp-1"),
        },
        r#"{"dim":30}"#,
    );
    let item = WorkItem::Config {
        device: id("lamp-1"),
    };
    let message = world.message(vec![item]);
    let state = prove(&world, &message).unwrap();
    let desired = configuration(&state, &id("lamp-1"), &id("gw")).unwrap();
    assert_eq!(desired.document, r#"{"dim":30,"night":{"from":22}}"#);
    assert_eq!(desired.hash, Hash::of(desired.document.as_bytes()));
    assert_eq!(desired.reported, None);
    // A node that leaves a part out can't pass the rest off as the whole.
    let fleet = config::keys::desired(&fleet);
    let mut less = message.clone();
    less.proofs.records.retain(|shared| match &shared.record {
        lamplighter_types::proof::RecordProof::State { key, .. } => key.0 != fleet.as_bytes(),
        _ => true,
    });
    let state = prove(&world, &less).unwrap();
    let merged = configuration(&state, &id("lamp-1"), &id("gw"));
    assert!(matches!(merged, Err(Distrust::Record(_))));
}

#[test]
fn a_device_that_went_elsewhere_is_proven_gone() {
    let mut world = World::new();
    let item = WorkItem::Device {
        device: id("lamp-1"),
    };
    let state = prove(&world, &world.message(vec![item.clone()])).unwrap();
    let (found, height) = device(&state, &id("lamp-1"), &id("gw")).unwrap();
    assert_eq!(
        (found.unwrap().device, height),
        (id("lamp-1"), world.height)
    );
    world.change(&devices::keys::device(&id("lamp-1")), |d| d.gateway = None);
    let state = prove(&world, &world.message(vec![item.clone()])).unwrap();
    assert_eq!(device(&state, &id("lamp-1"), &id("gw")).unwrap().0, None);
    world.remove(&devices::keys::device(&id("lamp-1")));
    let state = prove(&world, &world.message(vec![item])).unwrap();
    assert_eq!(device(&state, &id("lamp-1"), &id("gw")).unwrap().0, None);
}

#[test]
fn messages_are_bounded_and_for_us() {
    let world = World::new();
    let message = world.message(vec![work()]);
    let json = message.to_json();
    assert_eq!(WorkMessage::from_json(&json, &id("gw")).unwrap(), message);
    assert!(WorkMessage::from_json(&json, &id("gw-2")).is_err());
    assert!(WorkMessage::from_json(&json[1..], &id("gw")).is_err());
    assert!(WorkMessage::from_json(&vec![b' '; 300_000], &id("gw")).is_err());
    let mut many = message.clone();
    many.items = vec![work(); 257];
    assert!(WorkMessage::from_json(&many.to_json(), &id("gw")).is_err());
    let mut later = message;
    later.version = 2;
    assert!(WorkMessage::from_json(&later.to_json(), &id("gw")).is_err());
}

#[test]
fn the_world_is_what_the_contracts_write() {
    let world = World::new();
    let key = users::keys::key(&world.vendor.public());
    let owner: KeyRecord = codec::decode(&world.records[key.as_bytes()]).unwrap();
    assert_eq!(owner.account, id("acme"));
    assert_eq!(
        world.manifest.version,
        Version {
            major: 2,
            minor: 0,
            patch: 0
        }
    );
    assert!(world.account("acme").has_role_somewhere(Role::Vendor));
}
