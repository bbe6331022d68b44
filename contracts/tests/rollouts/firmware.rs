use lamplighter_contracts::firmware;
use lamplighter_types::*;

use crate::city::{ALL_THE_WAY, City, id, list, manifest, plan, secret};

fn signed(manifest: &ReleaseManifest, by: &str) -> FirmwareAction {
    FirmwareAction::Publish {
        release: SignedRelease::sign(manifest, &secret(by)),
    }
}

fn status(city: &City, release: &str) -> ReleaseStatus {
    firmware::release(&city.overlay, &id(release))
        .unwrap()
        .unwrap()
        .status
}

#[test]
fn two_people_who_are_neither_author_nor_vendor_release() {
    let mut city = City::new();
    let manifest = manifest("r1");
    // An operator publishes what the vendor has signed; that operator is an approver too.
    city.firmware("ben", signed(&manifest, "acme")).unwrap();
    (1..=3).for_each(|node| drop(city.hold(node, &manifest).unwrap()));
    assert_eq!(
        city.approve_release("ben", &manifest),
        Err("firmware.own_release")
    );
    assert_eq!(
        city.approve_release("acme", &manifest),
        Err("firmware.own_release")
    );
    assert_eq!(city.approve_release("olga", &manifest), Err("forbidden"));
    assert_eq!(
        city.approve_release("carl", &manifest),
        Err("forbidden"),
        "of one district only"
    );
    let facts = city.approve_release("anna", &manifest).unwrap();
    assert_eq!(
        facts,
        [Fact::ReleaseApproved {
            release: id("r1"),
            by: id("anna")
        }]
    );
    assert_eq!(
        city.approve_release("anna", &manifest),
        Err("firmware.approved")
    );
    assert_eq!(
        status(&city, "r1"),
        ReleaseStatus::Signed,
        "one person is not enough"
    );
    let grant = GovernanceChange::Grant {
        account: id("carl"),
        role: Role::Approver,
        scope: Scope::city(),
    };
    let propose = GovernanceAction::Propose {
        proposal: id("carl"),
        changes: vec![grant],
    };
    city.act("admin", Action::Governance(propose)).unwrap();
    let facts = city.approve_release("carl", &manifest).unwrap();
    assert_eq!(facts[1], Fact::ReleaseReleased { release: id("r1") });
    let facts = city.approve_release("carl", &manifest).unwrap();
    assert_eq!(facts.len(), 1, "an approval is renewed, nothing else");
}

#[test]
fn approving_names_the_exact_manifest() {
    let mut city = City::new();
    let manifest = manifest("r1");
    city.publish(&manifest).unwrap();
    (1..=3).for_each(|node| drop(city.hold(node, &manifest).unwrap()));
    let (release, other) = (id("r1"), Hash::of(b"another one"));
    let action = FirmwareAction::Approve {
        release,
        manifest: other,
    };
    assert_eq!(
        city.firmware("anna", action),
        Err("firmware.other_manifest")
    );
    let action = FirmwareAction::Approve {
        release: id("r9"),
        manifest: other,
    };
    assert_eq!(
        city.firmware("anna", action),
        Err("firmware.unknown_release")
    );
}

#[test]
fn only_a_registered_key_in_use_of_the_vendor_publishes() {
    let mut city = City::new();
    let good = manifest("r1");
    let publish = |city: &mut City, by| city.firmware("acme", signed(&good, by));
    assert_eq!(
        publish(&mut city, "nobody"),
        Err("firmware.foreign_key"),
        "unregistered"
    );
    assert_eq!(publish(&mut city, "rival"), Err("firmware.foreign_key"));
    let mut forged = SignedRelease::sign(&good, &secret("rival"));
    forged.key = secret("acme").public();
    let forged = FirmwareAction::Publish { release: forged };
    assert_eq!(city.firmware("acme", forged), Err("firmware.signature"));
    assert_eq!(
        city.firmware("rival", signed(&good, "acme")),
        Err("firmware.not_publisher")
    );
    assert_eq!(
        city.firmware("gw-1", signed(&good, "acme")),
        Err("firmware.not_publisher")
    );

    let no_role = ReleaseManifest {
        vendor: id("olga"),
        ..good.clone()
    };
    assert_eq!(
        city.firmware("olga", signed(&no_role, "olga")),
        Err("firmware.not_vendor")
    );
    let unknown = ReleaseManifest {
        vendor: id("nobody"),
        ..good.clone()
    };
    assert_eq!(
        city.firmware("olga", signed(&unknown, "nobody")),
        Err("firmware.unknown_vendor")
    );

    publish(&mut city, "acme").unwrap();
    assert_eq!(publish(&mut city, "acme"), Err("firmware.exists"));
}

#[test]
fn a_revoked_vendor_key_neither_publishes_nor_is_approved() {
    let mut city = City::new();
    let before = manifest("r1");
    city.publish(&before).unwrap();
    (1..=3).for_each(|node| drop(city.hold(node, &before).unwrap()));
    city.approve_release("anna", &before).unwrap();
    let revoke = UsersAction::RevokeKey {
        account: id("acme"),
        key: secret("acme").public(),
    };
    city.act("admin", Action::Users(revoke)).unwrap();
    assert_eq!(
        city.approve_release("ben", &before),
        Err("firmware.key_revoked")
    );
    let after = signed(&manifest("r2"), "acme");
    assert_eq!(city.firmware("olga", after), Err("firmware.key_revoked"));
}

#[test]
fn shapes_are_checked_before_anything_else() {
    let mut city = City::new();
    let mut refused = |change: fn(&mut ReleaseManifest), code| {
        let mut manifest = manifest("r1");
        change(&mut manifest);
        assert_eq!(city.firmware("acme", signed(&manifest, "acme")), Err(code));
    };
    refused(|m| m.size_bytes = 0, "firmware.size");
    refused(
        |m| m.size_bytes = limits::ARTIFACT_BYTES_MAX + 1,
        "firmware.size",
    );
    refused(|m| m.hardware_classes.clear(), "shape.empty");
    refused(|m| m.hardware_classes.push(String::new()), "shape.empty");
    refused(
        |m| m.hardware_classes.push("acme-lamp-v2".to_owned()),
        "shape.repeated",
    );
    refused(
        |m| m.hardware_classes = vec!["x".to_owned(); 33],
        "shape.too_long",
    );
    refused(
        |m| m.security_counter = 1 << 32,
        "firmware.security_counter",
    );
    refused(
        |m| m.depends_on.push(id("r1")),
        "firmware.depends_on_itself",
    );
    refused(
        |m| m.depends_on.push(id("r7")),
        "firmware.unknown_dependency",
    );
    refused(
        |m| m.depends_on = vec![id("r7"), id("r7")],
        "shape.repeated",
    );
    refused(|m| m.expires_ms = Some(1), "firmware.expired");
    let mut release = SignedRelease::sign(&manifest("r1"), &secret("acme"));
    release.manifest.0.push(0);
    let trailing = FirmwareAction::Publish { release };
    assert_eq!(city.firmware("acme", trailing), Err("firmware.manifest"));
}

#[test]
fn a_quorum_of_validators_holds_the_bytes_before_anybody_can_approve() {
    let mut city = City::new();
    let good = manifest("r1");
    assert_eq!(city.hold(1, &good), Err("firmware.unknown_artifact"));
    city.publish(&good).unwrap();
    city.hold(1, &good).unwrap();
    let facts = city.hold(4, &good).unwrap();
    let held = Fact::ArtifactHeld {
        artifact: good.artifact,
        node: 4,
        holders: 2,
    };
    assert_eq!(facts, [held]);
    assert_eq!(city.hold(4, &good), Ok(vec![]), "said again, counted once");
    assert_eq!(
        city.approve_release("anna", &good),
        Err("firmware.not_held")
    );
    let hold = |size_bytes| FirmwareAction::HoldArtifact {
        artifact: good.artifact,
        size_bytes,
    };
    assert_eq!(
        city.firmware("validator-2", hold(999)),
        Err("firmware.unknown_artifact")
    );
    assert_eq!(city.firmware("validator-2", hold(0)), Err("firmware.size"));
    assert_eq!(
        city.firmware("olga", hold(1000)),
        Err("firmware.not_validator")
    );
    assert_eq!(
        city.firmware("gw-1", hold(1000)),
        Err("firmware.not_validator")
    );
    city.hold(2, &good).unwrap();
    city.approve_release("anna", &good).unwrap();
}

/// Another vendor publishes the digest with another size, before or after: neither the publication
/// nor the holders of the right one are touched.
#[test]
fn a_wrong_size_of_another_vendor_changes_nothing() {
    let mut city = City::new();
    let good = manifest("r1");
    let wrong = |release: &str| ReleaseManifest {
        vendor: id("rival"),
        size_bytes: 5,
        artifact: good.artifact,
        ..manifest(release)
    };
    city.publish(&wrong("r2")).unwrap();
    city.publish(&good).unwrap();
    (2..=3).for_each(|node| drop(city.hold(node, &good).unwrap()));
    city.publish(&wrong("r3")).unwrap();
    city.hold(4, &good).unwrap();
    city.approve_release("anna", &good).unwrap();
    // A quorum holds it: no manifest can claim another size any more.
    assert_eq!(city.publish(&wrong("r4")), Err("firmware.size_mismatch"));
    assert_eq!(
        city.approve_release("anna", &wrong("r2")),
        Err("firmware.not_held")
    );
}

/// A vendor that was wrong takes the release back, and publishes it again under the same name.
#[test]
fn a_wrong_announcement_is_corrected() {
    let mut city = City::new();
    let good = manifest("r1");
    let mut wrong = good.clone();
    wrong.size_bytes = 5;
    city.publish(&wrong).unwrap();
    assert_eq!(city.publish(&good), Err("firmware.exists"));
    let withdraw = || FirmwareAction::Withdraw { release: id("r1") };
    assert_eq!(
        city.firmware("rival", withdraw()),
        Err("firmware.not_in_charge")
    );
    let facts = city.firmware("acme", withdraw()).unwrap();
    assert_eq!(facts, [Fact::ReleaseWithdrawn { release: id("r1") }]);
    assert_eq!(
        firmware::artifact(&city.overlay, &wrong.artifact, 5).unwrap(),
        None,
        "the wrong record is gone"
    );
    city.released(&good);
    assert_eq!(
        city.firmware("acme", withdraw()),
        Err("firmware.not_pending")
    );
}

#[test]
fn a_deprecated_release_gets_no_new_rollout_and_the_old_ones_continue() {
    let mut city = City::with_lamps(2);
    city.started(&plan("first", "r1", list(&["lamp-0"])));
    let deprecate = || FirmwareAction::Deprecate {
        release: id("r1"),
        reason: "old".to_owned(),
    };
    assert_eq!(
        city.firmware("nora", deprecate()),
        Err("firmware.not_in_charge")
    );
    city.firmware("olga", deprecate()).unwrap();
    assert_eq!(
        city.firmware("olga", deprecate()),
        Err("firmware.not_released")
    );
    let next = plan("second", "r1", list(&["lamp-1"]));
    assert_eq!(city.plan("olga", &next), Err("firmware.not_released"));
    city.walk("first", "lamp-0", &ALL_THE_WAY);
    assert_eq!(city.rollout("first").status, RolloutStatus::Finished);
}

#[test]
fn revoking_recalls_what_is_not_yet_installing() {
    use DeploymentState::*;
    let mut city = City::with_lamps(3);
    city.started(&plan("all", "r1", list(&["lamp-0", "lamp-1", "lamp-2"])));
    city.walk("all", "lamp-1", &[Offered, Downloading, Downloaded]);
    city.walk(
        "all",
        "lamp-2",
        &[Offered, Downloading, Downloaded, Installing],
    );
    let revoke = || FirmwareAction::Revoke {
        release: id("r1"),
        reason: "bad".to_owned(),
    };
    assert_eq!(
        city.firmware("olga", revoke()),
        Err("firmware.not_in_charge")
    );
    assert_eq!(
        city.firmware("rival", revoke()),
        Err("firmware.not_in_charge")
    );
    let facts = city.firmware("sina", revoke()).unwrap();
    assert!(facts.contains(&Fact::ReleaseRevoked {
        release: id("r1"),
        reason: "bad".to_owned()
    }));
    assert_eq!(city.firmware("acme", revoke()), Err("firmware.revoked"));
    assert_eq!(city.rollout("all").status, RolloutStatus::Stopping);
    city.run_until_idle();
    let states = ["lamp-0", "lamp-1", "lamp-2"].map(|lamp| city.state_of("all", lamp));
    assert_eq!(states, [Cancelled, Cancelled, Installing]);
    city.walk("all", "lamp-2", &[Trial, Confirmed]);
    assert_eq!(city.rollout("all").status, RolloutStatus::Stopped);
    assert_eq!(
        city.plan("olga", &plan("b", "r1", list(&["lamp-0"]))),
        Err("firmware.not_released")
    );
}
