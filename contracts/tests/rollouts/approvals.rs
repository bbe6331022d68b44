//! Approvals count while they are alive, at each decision.

use lamplighter_contracts::firmware::{self, Standing};
use lamplighter_contracts::{governance, rollouts, users};
use lamplighter_types::*;

use crate::city::{
    ALL_THE_WAY, City, HOUR_MS, NORTH, canaries, gate, group, grouped, id, list, manifest, plan,
    scope, secret, whole_city,
};

const DAY_MS: u64 = 24 * HOUR_MS;

fn edit(city: &mut City, account: &str, change: impl Fn(&mut Account)) {
    let key = users::keys::account(&id(account));
    let mut record = city.overlay.get(&key).unwrap().unwrap();
    change(&mut record);
    city.overlay.put(&key, &record);
    city.overlay.commit();
}

fn set_revoked(city: &mut City, account: &str, revoked: bool) {
    let account = id(account);
    let key = users::keys::key(&secret(account.as_str()).public());
    city.overlay.put(&key, &KeyRecord { account, revoked });
    city.overlay.commit();
}

fn start(rollout: &str) -> RolloutsAction {
    RolloutsAction::Start {
        rollout: id(rollout),
    }
}

fn resume(rollout: &str) -> RolloutsAction {
    RolloutsAction::Resume {
        rollout: id(rollout),
    }
}

fn pause(rollout: &str) -> RolloutsAction {
    RolloutsAction::Pause {
        rollout: id(rollout),
        reason: String::new(),
    }
}

fn status(city: &City, release: &str) -> ReleaseStatus {
    let found = firmware::release(&city.overlay, &id(release));
    found.unwrap().unwrap().status
}

/// A thief of an approver's key approves; the key is revoked. His approval counts neither for the
/// release, nor at the start of a rollout that was approved before.
#[test]
fn the_approval_of_a_revoked_key_counts_no_more() {
    let mut city = City::with_lamps(1);
    let evil = manifest("r2");
    city.publish(&evil).unwrap();
    (1..=3).for_each(|node| drop(city.hold(node, &evil).unwrap()));
    city.approve_release("anna", &evil).unwrap();
    set_revoked(&mut city, "anna", true);
    city.approve_release("ben", &evil).unwrap();
    assert_eq!(status(&city, "r2"), ReleaseStatus::Signed);
    let spread = plan("x", "r2", whole_city());
    assert_eq!(city.plan("olga", &spread), Err("firmware.not_released"));

    // The theft is found after the release.
    set_revoked(&mut city, "anna", false);
    city.approve_release("anna", &evil).unwrap();
    assert_eq!(status(&city, "r2"), ReleaseStatus::Released);
    city.plan("olga", &spread).unwrap();
    city.approve("ben", &spread).unwrap();
    set_revoked(&mut city, "anna", true);
    assert_eq!(
        city.rollouts("olga", start("x")),
        Err("firmware.not_approved")
    );
    let next = plan("y", "r2", whole_city());
    assert_eq!(city.plan("olga", &next), Err("firmware.not_approved"));
}

/// The ways in which an approval dies, and how each is undone.
type Death = (&'static str, fn(&mut City), fn(&mut City));

const DEATHS: [Death; 3] = [
    (
        "disabled",
        |city| edit(city, "anna", |a| a.disabled = true),
        |city| edit(city, "anna", |a| a.disabled = false),
    ),
    (
        "no role",
        |city| edit(city, "anna", |a| a.grants.clear()),
        |city| {
            edit(city, "anna", |a| {
                a.grants = vec![Grant::founding(Role::Approver, Scope::city())];
            });
        },
    ),
    (
        "key revoked",
        |city| set_revoked(city, "anna", true),
        |city| set_revoked(city, "anna", false),
    ),
];

#[test]
fn start_and_resume_count_the_approvals_again() {
    for (name, kill, revive) in DEATHS {
        let mut city = City::with_lamps(1);
        // The release keeps its two approvals by others.
        edit(&mut city, "carl", |a| {
            a.grants = vec![Grant::founding(Role::Approver, Scope::city())];
        });
        city.approve_release("carl", &manifest("r1")).unwrap();
        let plan = plan("x", "r1", whole_city());
        city.plan("olga", &plan).unwrap();
        city.approve("anna", &plan).unwrap();
        kill(&mut city);
        let refused = Err("rollouts.not_approved");
        assert_eq!(city.rollouts("olga", start("x")), refused, "{name}");
        revive(&mut city);
        city.rollouts("olga", start("x")).unwrap();
        // One person may always stop.
        kill(&mut city);
        city.rollouts("olga", pause("x")).unwrap();
        assert_eq!(city.rollouts("olga", resume("x")), refused, "{name}");
        // Another approval will do.
        city.approve("ben", &plan).unwrap();
        city.rollouts("olga", resume("x")).unwrap();
    }
}

/// The ways in which people take the power of an approver.
fn taken(city: &City, account: &str) -> Vec<(&'static str, &'static str, Action)> {
    let name = || id(account);
    let key = city.account(account).keys[0].key;
    let propose = |changes| {
        Action::Governance(GovernanceAction::Propose {
            proposal: id("p"),
            changes,
        })
    };
    let revoke = GovernanceChange::Revoke {
        account: name(),
        role: Role::Approver,
        scope: Scope::city(),
    };
    let disable = GovernanceChange::Disable { account: name() };
    let users = |action| Action::Users(action);
    let revoke_key = UsersAction::RevokeKey {
        account: name(),
        key,
    };
    vec![
        ("key revoked", "sina", users(revoke_key)),
        (
            "disabled",
            "admin",
            users(UsersAction::Disable { account: name() }),
        ),
        ("disabled by several", "admin", propose(vec![disable])),
        ("no role", "admin", propose(vec![revoke])),
    ]
}

/// A city in which a rollout runs, of a release that anna, ben and carl approved.
fn running(by: &[&str]) -> City {
    let mut city = City::with_lamps(2);
    edit(&mut city, "carl", |a| {
        a.grants = vec![Grant::founding(Role::Approver, Scope::city())];
    });
    city.approve_release("carl", &manifest("r1")).unwrap();
    let plan = plan("x", "r1", whole_city());
    city.plan("olga", &plan).unwrap();
    for account in by {
        city.approve(account, &plan).unwrap();
    }
    city.rollouts("olga", start("x")).unwrap();
    city.block(1);
    city
}

fn paused(facts: &[Fact]) -> usize {
    let paused = |fact: &&Fact| matches!(fact, Fact::RolloutPaused { .. });
    facts.iter().filter(paused).count()
}

#[test]
fn a_running_rollout_pauses_when_its_approver_loses_the_power() {
    for at in 0..4 {
        let mut city = running(&["anna"]);
        let (name, who, action) = taken(&city, "anna").swap_remove(at);
        let facts = city.act(who, action).unwrap();
        assert_eq!(paused(&facts), 1, "{name}: {facts:?}");
        let rollout = city.rollout("x");
        assert_eq!(rollout.status, RolloutStatus::Paused, "{name}");
        assert!(rollout.reason.contains("of the plan"), "{}", rollout.reason);
        let refused = Err("rollouts.not_approved");
        assert_eq!(city.rollouts("olga", resume("x")), refused, "{name}");
        city.approve("ben", &rollout.plan).unwrap();
        city.rollouts("olga", resume("x")).unwrap();
    }
}

#[test]
fn a_running_rollout_continues_with_the_approvals_that_are_left() {
    for at in 0..4 {
        let mut city = running(&["anna"]);
        let plan = city.rollout("x").plan;
        city.rollouts("olga", pause("x")).unwrap();
        city.approve("ben", &plan).unwrap();
        city.rollouts("olga", resume("x")).unwrap();
        let (name, who, action) = taken(&city, "anna").swap_remove(at);
        assert_eq!(paused(&city.act(who, action).unwrap()), 0, "{name}");
        // Who has nothing to do with it pauses nothing either.
        let (name, who, action) = taken(&city, "nora").swap_remove(0);
        assert_eq!(paused(&city.act(who, action).unwrap()), 0, "{name}");
        assert_eq!(city.rollout("x").status, RolloutStatus::Running, "{name}");
    }
}

#[test]
fn a_running_rollout_pauses_when_its_release_loses_its_approvers() {
    for at in 0..4 {
        let mut city = running(&["anna"]);
        let (name, who, action) = taken(&city, "carl").swap_remove(at);
        assert_eq!(paused(&city.act(who, action).unwrap()), 0, "{name}");
        let (_, who, action) = taken(&city, "ben").swap_remove(0);
        assert_eq!(paused(&city.act(who, action).unwrap()), 1, "{name}");
        let rollout = city.rollout("x");
        assert_eq!(rollout.status, RolloutStatus::Paused, "{name}");
        let of_release = rollout.reason.contains("of the release");
        assert!(of_release, "{}", rollout.reason);
        let refused = Err("firmware.not_approved");
        assert_eq!(city.rollouts("olga", resume("x")), refused, "{name}");
    }
}

/// Time and the approver's own will end approvals for what begins, not for what has begun.
#[test]
fn a_running_rollout_outlives_the_age_of_its_approvals() {
    let mut city = running(&["anna"]);
    let running = |city: &City| {
        assert_eq!(city.rollout("x").status, RolloutStatus::Running);
    };
    let of_plan = RolloutsAction::WithdrawApproval { rollout: id("x") };
    let mut policies = governance::policies(&city.overlay).unwrap();
    policies.approvals.rollouts.expires_ms = HOUR_MS / 10;
    policies.approvals.releases.expires_ms = HOUR_MS / 10;
    city.overlay.put(&governance::keys::policies(), &policies);
    city.block(HOUR_MS / 5);
    running(&city);
    // Another approver of the release leaves: what is too old still counts.
    let (_, who, action) = taken(&city, "carl").swap_remove(0);
    assert_eq!(paused(&city.act(who, action).unwrap()), 0);
    running(&city);
    let (new_key, account) = (secret("anna's next"), city.account("anna"));
    let proof = city.possession(&new_key, "anna");
    let rotate = UsersAction::RotateKey {
        new_key: new_key.public(),
        proof,
    };
    city.act("anna", Action::Users(rotate)).unwrap();
    assert_ne!(city.account("anna").keys, account.keys);
    running(&city);
    city.rollouts("anna", of_plan).unwrap();
    running(&city);
}

#[test]
fn a_release_that_lost_its_approvals_is_not_rolled_out() {
    for (name, kill, revive) in DEATHS {
        let mut city = City::with_lamps(1);
        let one = plan("x", "r1", whole_city());
        kill(&mut city);
        let refused = Err("firmware.not_approved");
        assert_eq!(city.plan("olga", &one), refused, "{name}");
        revive(&mut city);
        city.plan("olga", &one).unwrap();
        kill(&mut city);
        assert_eq!(city.approve("ben", &one), refused, "{name}");
        revive(&mut city);
        city.approve("ben", &one).unwrap();
        kill(&mut city);
        assert_eq!(city.rollouts("olga", start("x")), refused, "{name}");
        revive(&mut city);
        city.rollouts("olga", start("x")).unwrap();
        city.rollouts("olga", pause("x")).unwrap();
        kill(&mut city);
        assert_eq!(city.rollouts("olga", resume("x")), refused, "{name}");
    }
}

/// Opening by hand is a decision as resuming is.
#[test]
fn a_group_opens_by_hand_only_with_the_approvals_of_plan_and_release() {
    let ready = |approver| {
        let mut city = City::with_lamps(2);
        let mut by_hand = gate(100, 1, 0);
        by_hand.next_by_hand = true;
        let rest = group(GroupMembers::Rest, gate(100, 1, 0));
        let plan = grouped("x", vec![group(canaries(&["lamp-0"]), by_hand), rest]);
        city.plan_groups("olga", &plan).unwrap();
        city.approve_groups(approver, &plan).unwrap();
        city.rollouts("olga", start("x")).unwrap();
        city.run_until_idle();
        city.walk("x", "lamp-0", &ALL_THE_WAY);
        city
    };
    let open = |city: &mut City| {
        let (rollout, group) = (id("x"), 1);
        city.rollouts("olga", RolloutsAction::OpenGroup { rollout, group })
    };
    for (name, kill, revive) in DEATHS {
        // The approval of ben for the plan lives, those of the release are too few.
        let mut city = ready("ben");
        kill(&mut city);
        assert_eq!(open(&mut city), Err("firmware.not_approved"), "{name}");
        revive(&mut city);
        open(&mut city).unwrap();
        let mut city = ready("anna");
        kill(&mut city);
        assert_eq!(open(&mut city), Err("rollouts.not_approved"), "{name}");
    }
    let mut city = ready("ben");
    edit(&mut city, "acme", |a| a.grants.clear());
    assert_eq!(open(&mut city), Err("firmware.vendor_elsewhere"));
    let mut city = ready("ben");
    let release = id("r1");
    city.firmware("anna", FirmwareAction::WithdrawApproval { release })
        .unwrap();
    assert_eq!(open(&mut city), Err("firmware.not_approved"));
    let mut city = ready("anna");
    let rollout = id("x");
    city.rollouts("anna", RolloutsAction::WithdrawApproval { rollout })
        .unwrap();
    assert_eq!(open(&mut city), Err("rollouts.not_approved"));
}

#[test]
fn approvals_expire_and_are_renewed() {
    let mut city = City::with_lamps(1);
    let one = plan("x", "r1", whole_city());
    city.block(15 * DAY_MS);
    city.plan("olga", &one).unwrap();
    city.approve("anna", &one).unwrap();
    city.block(15 * DAY_MS);
    assert_eq!(
        city.rollouts("olga", start("x")),
        Err("firmware.not_approved")
    );
    city.released_again("r1");
    city.rollouts("olga", start("x")).unwrap();
    city.rollouts("olga", pause("x")).unwrap();
    city.block(15 * DAY_MS);
    assert_eq!(
        city.rollouts("olga", resume("x")),
        Err("rollouts.not_approved")
    );
    city.approve("anna", &one).unwrap();
    city.rollouts("olga", resume("x")).unwrap();
}

#[test]
fn an_approval_is_withdrawn_by_its_approver() {
    let mut city = City::with_lamps(1);
    let one = plan("x", "r1", whole_city());
    city.plan("olga", &one).unwrap();
    city.approve("anna", &one).unwrap();
    let of_plan = || RolloutsAction::WithdrawApproval { rollout: id("x") };
    let of_release = || FirmwareAction::WithdrawApproval { release: id("r1") };
    assert_eq!(city.rollouts("ben", of_plan()), Err("rollouts.no_approval"));
    assert_eq!(
        city.firmware("olga", of_release()),
        Err("firmware.no_approval")
    );
    city.rollouts("anna", of_plan()).unwrap();
    assert_eq!(city.rollout("x").status, RolloutStatus::PendingApproval);
    city.approve("anna", &one).unwrap();
    city.firmware("ben", of_release()).unwrap();
    assert_eq!(
        city.rollouts("olga", start("x")),
        Err("firmware.not_approved")
    );
    city.approve_release("ben", &manifest("r1")).unwrap();
    city.rollouts("olga", start("x")).unwrap();
}

/// A puppet that was made an approver today counts when the policy's time is over.
#[test]
fn a_newcomer_counts_after_the_waiting_time() {
    let mut city = City::with_lamps(1);
    let mut policies = governance::policies(&city.overlay).unwrap();
    policies.newcomer_wait_ms = DAY_MS;
    city.overlay.put(&governance::keys::policies(), &policies);
    let now_ms = city.time_ms;
    edit(&mut city, "carl", |a| {
        a.grants = vec![Grant {
            role: Role::Approver,
            scope: Scope::city(),
            since_ms: now_ms,
        }];
    });
    let new = manifest("r2");
    city.publish(&new).unwrap();
    (1..=3).for_each(|node| drop(city.hold(node, &new).unwrap()));
    city.approve_release("carl", &new).unwrap();
    city.approve_release("anna", &new).unwrap();
    assert_eq!(status(&city, "r2"), ReleaseStatus::Signed);
    city.block(DAY_MS);
    city.approve_release("carl", &new).unwrap();
    assert_eq!(status(&city, "r2"), ReleaseStatus::Released);
}

/// After an error pause only approvals given since then count.
#[test]
fn an_error_pause_takes_fresh_approvals() {
    use DeploymentState::*;
    let mut city = City::with_lamps(2);
    let mut plan = plan("x", "r1", whole_city());
    plan.error_percent_max = 10;
    city.started(&plan);
    city.approve("ben", &plan).unwrap_err();
    city.walk("x", "lamp-0", &[Offered, Failed]);
    assert_eq!(city.rollout("x").status, RolloutStatus::PausedByErrors);
    assert_eq!(
        city.rollouts("olga", resume("x")),
        Err("rollouts.not_approved_again")
    );
    city.approve("ben", &plan).unwrap();
    edit(&mut city, "ben", |a| a.disabled = true);
    edit(&mut city, "carl", |a| {
        a.grants = vec![Grant::founding(Role::Approver, Scope::city())];
    });
    assert_eq!(
        city.rollouts("olga", resume("x")),
        Err("rollouts.not_approved_again")
    );
    city.approve_release("carl", &manifest("r1")).unwrap();
    city.approve("anna", &plan).unwrap();
    city.rollouts("olga", resume("x")).unwrap();
}

/// A vendor of one district, whoever made it one, reaches that district alone.
#[test]
fn a_release_is_for_the_districts_of_its_vendor() {
    let mut city = City::with_lamps(1);
    city.lamps(1..2, "south", true);
    edit(&mut city, "rival", |a| {
        a.grants = vec![Grant::founding(Role::Vendor, scope(NORTH))];
    });
    let of_rival = ReleaseManifest {
        vendor: id("rival"),
        ..manifest("r2")
    };
    city.released(&of_rival);
    let elsewhere = Err("firmware.vendor_elsewhere");
    let both = plan("a", "r2", list(&["lamp-0", "lamp-1"]));
    assert_eq!(city.plan("olga", &both), elsewhere);
    assert_eq!(city.plan("olga", &plan("b", "r2", whole_city())), elsewhere);
    let north = plan("c", "r2", list(&["lamp-0"]));
    city.plan("olga", &north).unwrap();
    city.approve("anna", &north).unwrap();
    edit(&mut city, "rival", |a| a.disabled = true);
    assert_eq!(city.rollouts("olga", start("c")), elsewhere);
    edit(&mut city, "rival", |a| a.disabled = false);
    city.rollouts("olga", start("c")).unwrap();
    // An operator of another district can't publish for it.
    edit(&mut city, "nora", |a| {
        a.grants = vec![Grant::founding(Role::Operator, scope("south"))];
    });
    let next = ReleaseManifest {
        release: id("r3"),
        ..of_rival
    };
    let release = SignedRelease::sign(&next, &secret("rival"));
    assert_eq!(
        city.firmware("nora", FirmwareAction::Publish { release }),
        Err("firmware.not_publisher")
    );
}

fn nothing(n: usize) -> ReleaseManifest {
    ReleaseManifest {
        artifact: Hash::of(format!("nothing {n}").as_bytes()),
        size_bytes: limits::ARTIFACT_BYTES_MAX,
        ..manifest(&format!("r{}", 100 + n))
    }
}

/// A vendor publishes manifests of nothing: its organization is stopped, the others are not, and
/// after the policy's time the state has none of them.
#[test]
fn open_releases_are_bounded_and_lapse() {
    let mut city = City::new();
    edit(&mut city, "rival", |a| a.organization = id("rivals"));
    let most = firmware::OPEN_RELEASES_PER_ORGANIZATION_MAX;
    let published = (0..64).filter(|n| city.publish(&nothing(*n)).is_ok());
    assert_eq!(published.count(), most);
    assert_eq!(city.publish(&nothing(64)), Err("firmware.too_many_open"));
    let of_rival = ReleaseManifest {
        vendor: id("rival"),
        ..manifest("r1")
    };
    city.released(&of_rival);
    // A withdrawn, a revoked and a released one make room.
    let withdraw = FirmwareAction::Withdraw {
        release: nothing(0).release,
    };
    city.firmware("acme", withdraw).unwrap();
    city.publish(&nothing(70)).unwrap();
    let revoke = FirmwareAction::Revoke {
        release: nothing(1).release,
        reason: String::new(),
    };
    city.firmware("sina", revoke).unwrap();
    city.released(&manifest("r2"));
    city.publish(&nothing(71)).unwrap();
    assert_eq!(city.publish(&nothing(72)), Err("firmware.too_many_open"));
    city.block(30 * DAY_MS);
    (1..=3).for_each(|node| drop(city.hold(node, &nothing(2)).unwrap()));
    assert_eq!(
        city.approve_release("anna", &nothing(2)),
        Err("firmware.lapsed")
    );
    let facts = city.publish(&nothing(73)).unwrap();
    let lapsed = |fact: &&Fact| matches!(fact, Fact::ReleaseLapsed { .. });
    assert_eq!(facts.iter().filter(lapsed).count(), most);
    let record = firmware::release(&city.overlay, &nothing(2).release);
    assert_eq!(record.unwrap(), None);
    let record = firmware::artifact(&city.overlay, &nothing(2).artifact, nothing(2).size_bytes);
    assert_eq!(record.unwrap(), None);
}

fn standing(city: &City, manifest: &ReleaseManifest) -> Standing {
    firmware::standing(&city.overlay, &manifest.artifact, city.time_ms).unwrap()
}

/// The bytes of a release are needed until nobody can install it; then they are kept for the time
/// of the policy. Another release with the same bytes keeps them.
#[test]
fn bytes_are_collected_when_no_release_needs_them() {
    let mut city = City::with_lamps(1);
    let one = manifest("r1");
    let (first, same) = (
        id("r1"),
        ReleaseManifest {
            release: id("r2"),
            expires_ms: Some(city.time_ms + 40 * DAY_MS),
            ..manifest("r1")
        },
    );
    assert_eq!(standing(&city, &one), Standing::Released);
    assert_eq!(standing(&city, &manifest("r9")), Standing::Unpublished);
    let revoke = FirmwareAction::Revoke {
        release: first,
        reason: String::new(),
    };
    city.publish(&same).unwrap();
    city.firmware("sina", revoke).unwrap();
    let organization = id("city");
    assert_eq!(
        standing(&city, &one),
        Standing::Unapproved {
            organization: organization.clone()
        }
    );
    city.approve_release("anna", &same).unwrap();
    city.approve_release("ben", &same).unwrap();
    assert_eq!(standing(&city, &one), Standing::Released);
    let ended = |collectable| Standing::Ended {
        organization: organization.clone(),
        was_released: true,
        collectable,
    };
    city.block(40 * DAY_MS);
    assert_eq!(standing(&city, &one), ended(false));
    city.block(30 * DAY_MS);
    assert_eq!(standing(&city, &one), ended(true));
    // A validator takes itself out before it removes the bytes; a new release needs them again.
    let drop_it = || FirmwareAction::DropArtifact {
        artifact: one.artifact,
        size_bytes: one.size_bytes,
    };
    city.firmware("validator-1", drop_it()).unwrap();
    assert_eq!(city.firmware("validator-1", drop_it()), Ok(vec![]));
    assert_eq!(
        city.firmware("olga", drop_it()),
        Err("firmware.not_validator")
    );
    let again = ReleaseManifest {
        release: id("r3"),
        ..manifest("r1")
    };
    city.publish(&again).unwrap();
    assert_eq!(
        city.approve_release("anna", &again),
        Err("firmware.not_held")
    );
    city.hold(4, &again).unwrap();
    city.approve_release("anna", &again).unwrap();
}

/// A rollout that has begun keeps the bytes of a revoked release.
#[test]
fn a_rollout_at_work_needs_its_artifact() {
    let mut city = City::with_lamps(1);
    city.started(&plan("x", "r1", whole_city()));
    let artifact = manifest("r1").artifact;
    let at_work = |city: &City| rollouts::artifacts_at_work(&city.overlay).unwrap();
    assert!(at_work(&city).contains(&artifact));
    city.walk("x", "lamp-0", &ALL_THE_WAY);
    assert!(at_work(&city).is_empty());
}
