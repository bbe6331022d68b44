//! A small ledger made by hand, and the ways to lie about it.

mod orders;
mod world;

use std::time::Duration;

use lamplighter_client::TrustAnchor;
use lamplighter_contracts::{config, devices, firmware, rollouts, users};
use lamplighter_types::proof::TrustedSet;
use lamplighter_types::wire::work::{ProofSet, WorkItem, WorkMessage};
use lamplighter_types::{
    ConfigTarget, DeploymentState, DeviceStatus, Hash, KeyRecord, ReleaseStatus, Role, SecretKey,
    Version, codec,
};

use super::{ProvenState, VerifiedDeployment, VerifyError, configuration, deployment, device};
pub(crate) use world::{NOW_MS, World, id};

const AGE_MAX: Duration = Duration::from_secs(300);

fn prove(world: &World, message: &WorkMessage) -> Result<ProvenState, VerifyError> {
    let anchor = TrustAnchor::in_memory((&world.genesis).into());
    ProvenState::prove(message, &anchor, NOW_MS, AGE_MAX)
}

fn work() -> WorkItem {
    WorkItem::Deployment {
        rollout: id("r1"),
        device: id("lamp-1"),
    }
}

fn verify_deployment(world: &World) -> Result<VerifiedDeployment, VerifyError> {
    let state = prove(world, &world.message(vec![work()]))?;
    deployment(&state, &id("r1"), &id("lamp-1"), &id("gw"), NOW_MS)
}

#[test]
fn a_proven_assignment_is_taken() {
    let world = World::new();
    let VerifiedDeployment::Open(assignment) = verify_deployment(&world).unwrap() else {
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
    let ended = VerifiedDeployment::Ended {
        state: DeploymentState::Cancelled,
        height: world.height,
    };
    assert_eq!(verify_deployment(&world).unwrap(), ended);
}

/// Changes of the ledger's records, each with the error that must follow.
#[test]
fn a_release_that_is_not_valid_is_refused() {
    type Change = (&'static str, fn(&mut World), fn(&VerifyError) -> bool);
    let table: [Change; 12] = [
        (
            "not released",
            |w| {
                w.change(&firmware::keys::release(&id("fw-2")), |r| {
                    r.status = ReleaseStatus::Signed
                })
            },
            |d| matches!(d, VerifyError::Status { .. }),
        ),
        (
            "revoked",
            |w| {
                let key = firmware::keys::release(&id("fw-2"));
                w.change(&key, |r| r.status = ReleaseStatus::Revoked);
            },
            |d| matches!(d, VerifyError::Status { .. }),
        ),
        (
            "another manifest than the signed one",
            |w| {
                let key = firmware::keys::release(&id("fw-2"));
                w.change(&key, |r| r.manifest.artifact = Hash::of(b"evil"));
            },
            |d| matches!(d, VerifyError::Manifest(_)),
        ),
        (
            "a flipped bit in the signed manifest",
            |w| {
                w.change(&firmware::keys::release(&id("fw-2")), |r| {
                    r.signed.manifest.0[9] ^= 1
                })
            },
            |d| matches!(d, VerifyError::Signature(_)),
        ),
        (
            "signed by an unknown key",
            |w| w.sign_release(&SecretKey::from_seed([99; 32])),
            |d| matches!(d, VerifyError::Record(_)),
        ),
        (
            "the vendor's key was revoked",
            |w| {
                let key = users::keys::key(&w.vendor.public());
                w.change(&key, |k| k.revoked = true);
            },
            |d| matches!(d, VerifyError::VendorKey { .. }),
        ),
        (
            "the key is another account's",
            |w| {
                let key = users::keys::key(&w.vendor.public());
                w.change(&key, |k| k.account = id("mallory"));
            },
            |d| matches!(d, VerifyError::VendorKey { .. }),
        ),
        (
            "the vendor has lost its role",
            |w| w.change(&users::keys::account(&id("acme")), |a| a.grants.clear()),
            |d| matches!(d, VerifyError::Vendor(_)),
        ),
        (
            "other hardware",
            |w| {
                let key = devices::keys::device(&id("lamp-1"));
                w.change(&key, |d| d.hardware_class = "toaster".to_owned());
            },
            |d| matches!(d, VerifyError::HardwareClass { .. }),
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
                    VerifyError::SecurityCounter {
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
            |d| matches!(d, VerifyError::OtherGateway { .. }),
        ),
        (
            "a suspended device",
            |w| {
                let key = devices::keys::device(&id("lamp-1"));
                w.change(&key, |d| d.status = DeviceStatus::Suspended);
            },
            |d| matches!(d, VerifyError::NotActive(_)),
        ),
    ];
    for (name, change, expected) in table {
        let mut world = World::new();
        change(&mut world);
        let refused = verify_deployment(&world).unwrap_err();
        assert!(expected(&refused), "{name}: {refused:?}");
    }
}

#[test]
fn an_expired_release_is_refused_and_a_deprecated_one_continues() {
    let mut world = World::new();
    let vendor = world.vendor.clone();
    world.manifest.expires_ms = Some(NOW_MS - 1);
    world.sign_release(&vendor);
    assert!(matches!(
        verify_deployment(&world),
        Err(VerifyError::Expired(_))
    ));
    let mut world = World::new();
    let key = firmware::keys::release(&id("fw-2"));
    world.change(&key, |release| release.status = ReleaseStatus::Deprecated);
    assert!(matches!(
        verify_deployment(&world),
        Ok(VerifiedDeployment::Open(_))
    ));
    // A Thing that installs already continues.
    let mut world = World::new();
    world.change(&key, |release| release.status = ReleaseStatus::Revoked);
    world.change(&rollouts::keys::deployment(&id("r1"), &id("lamp-1")), |d| {
        d.state = DeploymentState::Installing;
    });
    assert!(matches!(
        verify_deployment(&world),
        Ok(VerifiedDeployment::Open(_))
    ));
}

/// Each part of a proof, changed on the way.
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
            matches!(prove(&world, &message), Err(VerifyError::Work(_))),
            "{name}"
        );
    }
    let stranger = World::with_seed(7);
    assert!(matches!(prove(&stranger, &good), Err(VerifyError::Work(_))));
}

#[test]
fn an_old_state_is_refused_even_under_a_new_head() {
    let mut world = World::new();
    world.time_ms = NOW_MS - 301_000;
    assert!(matches!(
        verify_deployment(&world),
        Err(VerifyError::Stale { .. })
    ));
    world.time_ms = NOW_MS - 299_000;
    verify_deployment(&world).unwrap();
}

#[test]
fn a_state_from_the_future_is_not_recent() {
    let mut world = World::new();
    world.time_ms = NOW_MS + 61_000;
    assert!(matches!(
        verify_deployment(&world),
        Err(VerifyError::Future { .. })
    ));
    world.time_ms = NOW_MS + 60_000;
    verify_deployment(&world).unwrap();
}

#[test]
fn a_missing_proof_is_no_proof_of_absence() {
    let world = World::new();
    let message = world.message(vec![work()]);
    for omitted in 0..message.proofs.records.len() {
        let mut less = message.clone();
        less.proofs.records.remove(omitted);
        let state = prove(&world, &less).unwrap();
        let result = deployment(&state, &id("r1"), &id("lamp-1"), &id("gw"), NOW_MS);
        assert!(
            matches!(result, Err(VerifyError::Record(_))),
            "{omitted}: {result:?}"
        );
    }
    let mut absent = World::new();
    absent.remove(&rollouts::keys::deployment(&id("r1"), &id("lamp-1")));
    assert!(matches!(
        verify_deployment(&absent),
        Err(VerifyError::Absent { .. })
    ));
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
    assert!(matches!(merged, Err(VerifyError::Record(_))));
}

#[test]
fn a_device_of_another_gateway_is_proven_absent() {
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
fn messages_have_limits_and_a_receiver() {
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
    let mut newer = message;
    newer.version += 1;
    assert!(WorkMessage::from_json(&newer.to_json(), &id("gw")).is_err());
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

/// Validators that were replaced certify nothing for a gateway that has seen their successors,
/// whatever height and time they sign.
#[test]
fn work_of_replaced_validators_is_refused() {
    let world = World::new();
    let message = world.message(vec![work()]);
    prove(&world, &message).unwrap();
    let mut successors = world.genesis.validators.clone();
    for (validator, n) in successors.validators.iter_mut().zip(1..) {
        validator.key = SecretKey::from_seed([100 + n; 32]).public();
    }
    let height = message.proofs.heads[0].certified.header.height;
    for (at, lacks_changes) in [(height - 1, true), (height, false), (height + 9, false)] {
        let anchor = TrustAnchor::in_memory(TrustedSet {
            height: at,
            set: successors.clone(),
            ..TrustedSet::from(&world.genesis)
        });
        let refused = ProvenState::prove(&message, &anchor, NOW_MS, AGE_MAX).unwrap_err();
        // Only then the changes since are worth asking for.
        assert_eq!(refused.lacks_changes(), lacks_changes, "{refused:?}");
        assert_eq!(anchor.current().height, at);
    }
}

/// Sets the documents of the fleet and the device, of which one has a limit. Returns their keys.
fn moved_limit(world: &mut World, is_of_fleet: bool) -> (Vec<u8>, Vec<u8>) {
    let lamp = id("lamp-1");
    let (fleet, device) = (ConfigTarget::Fleet, ConfigTarget::Device { device: lamp });
    let (limited, other) = (r#"{"limit":5}"#, r#"{"dim":40}"#);
    let (of_fleet, of_device) = match is_of_fleet {
        true => (limited, other),
        false => (other, limited),
    };
    world.set_document(&fleet, of_fleet);
    world.set_document(&device, of_device);
    let key = |target| config::keys::desired(target).as_bytes().to_vec();
    (key(&fleet), key(&device))
}

/// The records of a set, but that under a key as another set has it.
fn mixed(set: &ProofSet, other: &ProofSet, key: &[u8]) -> ProofSet {
    let (rest, one) = (set.select(|of| of != key), other.select(|of| of == key));
    let bundles = |set: &ProofSet| {
        let bundles = (0..set.records.len()).filter_map(|at| set.bundle(at));
        bundles.collect::<Vec<_>>()
    };
    ProofSet::from_bundles([bundles(&rest), bundles(&one)].concat())
}

/// A node that mixes the records of two blocks, both recent, makes the gateway believe in nothing
/// that was never in force.
#[test]
fn records_of_two_blocks_are_no_work() {
    let mut world = World::new();
    let item = WorkItem::Config {
        device: id("lamp-1"),
    };
    let (_, device) = moved_limit(&mut world, true);
    let before = world.message(vec![item.clone(), work()]);
    world.height += 1;
    moved_limit(&mut world, false);
    let release = firmware::keys::release(&id("fw-2"));
    world.change(&release, |release| release.status = ReleaseStatus::Revoked);
    let after = world.message(vec![item, work()]);
    prove(&world, &before).unwrap();
    prove(&world, &after).unwrap();
    for key in [&device[..], release.as_bytes()] {
        let proofs = mixed(&after.proofs, &before.proofs, key);
        let message = WorkMessage {
            proofs,
            ..after.clone()
        };
        let refused = prove(&world, &message).unwrap_err();
        assert!(
            matches!(refused, VerifyError::SeveralBlocks(..)),
            "{refused}"
        );
    }
}
