//! Whatever people, gateways and Things do in whatever order: no illegal step, and the books agree.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_contracts::rollouts::{self, keys, transitions};
use lamplighter_contracts::{Reader, devices, firmware, governance, users};
use lamplighter_types::*;
use proptest::prelude::*;

use crate::city::{
    City, HOUR_MS, NORTH, canaries, gate, group, grouped, id, lamp, list, manifest, plan, secret,
};

const LAMPS: [&str; 4] = ["lamp-0", "lamp-1", "lamp-2", "lamp-3"];
const ROLLOUTS: [&str; 2] = ["x", "y"];
const REPORTED: [DeploymentState; 12] = [
    DeploymentState::Offered,
    DeploymentState::Downloading,
    DeploymentState::Downloaded,
    DeploymentState::Installing,
    DeploymentState::Staged,
    DeploymentState::Trial,
    DeploymentState::Confirmed,
    DeploymentState::Reverted,
    DeploymentState::Failed,
    DeploymentState::Rejected,
    DeploymentState::NotNeeded,
    DeploymentState::Assigned,
];

#[derive(Clone, Debug)]
enum Operation {
    Report {
        rollout: usize,
        lamp: usize,
        to: usize,
        signed: bool,
    },
    /// The step that leads on, so that deployments get somewhere.
    Advance {
        rollout: usize,
        lamp: usize,
    },
    Postpone {
        rollout: usize,
        lamp: usize,
        minutes: u64,
    },
    Wait {
        minutes: u64,
    },
    Start {
        rollout: usize,
    },
    Pause {
        rollout: usize,
    },
    Resume {
        rollout: usize,
    },
    Approve {
        rollout: usize,
        approver: usize,
    },
    Cancel {
        rollout: usize,
    },
    Revoke {
        release: usize,
    },
    /// Takes an approval of the plan back.
    WithdrawPlan {
        rollout: usize,
        approver: usize,
    },
    /// Approves the release, or takes the approval back.
    OfRelease {
        release: usize,
        approver: usize,
        withdraw: bool,
    },
    /// Takes power from an approver, or returns it.
    Power {
        approver: usize,
        power: Power,
        has: bool,
    },
    Age {
        days: u64,
    },
    Suspend {
        lamp: usize,
    },
    Decommission {
        lamp: usize,
    },
    OpenGroup {
        rollout: usize,
        group: u32,
    },
    /// Registers one more device, late for a rollout that is continuous.
    Register {
        number: usize,
    },
}

const APPROVERS: [&str; 2] = ["anna", "ben"];

/// What an approval lives by.
#[derive(Clone, Copy, Debug)]
enum Power {
    Account,
    Role,
    Key,
}

fn set_power(city: &mut City, name: &str, power: Power, has: bool) {
    let account_key = users::keys::account(&id(name));
    let mut account = city.overlay.get(&account_key).unwrap().unwrap();
    match power {
        Power::Account => account.disabled = !has,
        Power::Role => {
            account.grants.retain(|grant| grant.role != Role::Approver);
            if has {
                account
                    .grants
                    .push(Grant::founding(Role::Approver, Scope::city()));
            }
        }
        Power::Key => {
            if account.keys.is_empty() {
                account.keys = vec![AccountKey::first(secret(name).public())];
            }
            let record = KeyRecord {
                account: id(name),
                revoked: !has,
            };
            let key = users::keys::key(&secret(name).public());
            city.overlay.put(&key, &record);
        }
    }
    city.overlay.put(&account_key, &account);
    city.overlay.commit();
}

/// Takes power from an approver as people do; refused if too few would be left.
fn take_power(city: &mut City, name: &str, power: Power) -> Vec<Fact> {
    let account = id(name);
    let key = city.account(name).keys.first().map(|key| key.key);
    let (who, action) = match (power, key) {
        (Power::Key, Some(key)) => {
            let action = UsersAction::RevokeKey { account, key };
            ("sina", Action::Users(action))
        }
        (Power::Role, _) => {
            let (role, scope) = (Role::Approver, Scope::city());
            let revoke = GovernanceChange::Revoke {
                account,
                role,
                scope,
            };
            let action = GovernanceAction::Propose {
                proposal: id("p"),
                changes: vec![revoke],
            };
            ("admin", Action::Governance(action))
        }
        _ => ("admin", Action::Users(UsersAction::Disable { account })),
    };
    city.act(who, action).unwrap_or_default()
}

/// A rollout pauses if what an approver lost leaves too few approvals, whatever their age, and in
/// no other case.
fn pauses_without_approvals(city: &City, before: &[(Id, RolloutStatus)], name: &str) {
    let policies = governance::policies(&city.overlay).unwrap().approvals;
    for (rollout, before) in before {
        let rollout = city.rollout(rollout.as_str());
        if *before != RolloutStatus::Running {
            assert_eq!(rollout.status, *before);
            continue;
        }
        let release = firmware::release(&city.overlay, &rollout.plan.release);
        let release = release.unwrap().unwrap();
        let lost = |approvals: &[Approval], policy: ApprovalPolicy| {
            let approved = approvals.iter().any(|a| a.account.as_str() == name);
            let left = living(city, approvals, u64::MAX / 2);
            approved && left < usize::from(policy.approvals)
        };
        let lost = lost(&rollout.approvals, policies.rollouts)
            || lost(&release.approvals, policies.releases);
        let expected = match lost {
            true => RolloutStatus::Paused,
            false => RolloutStatus::Running,
        };
        assert_eq!(rollout.status, expected);
    }
}

/// The approvals that count for the whole city, written out once more.
fn living(city: &City, approvals: &[Approval], expires_ms: u64) -> usize {
    let lives = |approval: &&Approval| {
        let reader = &city.overlay;
        let account = users::keys::account(&approval.account);
        let account = reader.get(&account).unwrap().unwrap();
        let key = reader.get(&users::keys::key(&approval.key)).unwrap();
        !account.disabled
            && account.has_role(Role::Approver, &Scope::city())
            && key.is_some_and(|key| !key.revoked && key.account == approval.account)
            && city.time_ms < approval.at_ms + expires_ms
    };
    let accounts = approvals.iter().filter(lives).map(|a| &a.account);
    accounts.collect::<BTreeSet<_>>().len()
}

/// What begins or goes on has the approvals that the policy asks for.
fn approved(city: &City, facts: &[Fact]) {
    let policies = governance::policies(&city.overlay).unwrap().approvals;
    for fact in facts {
        let (Fact::RolloutStarted { rollout } | Fact::RolloutResumed { rollout }) = fact else {
            continue;
        };
        let rollout = city.rollout(rollout.as_str());
        // Its errors paused it again at once, which ends its approvals.
        if rollout.status == RolloutStatus::PausedByErrors {
            continue;
        }
        let of_plan = living(city, &rollout.approvals, policies.rollouts.expires_ms);
        assert!(of_plan >= usize::from(policies.rollouts.approvals));
        let release = firmware::release(&city.overlay, &rollout.plan.release);
        let release = release.unwrap().unwrap();
        let of_release = living(city, &release.approvals, policies.releases.expires_ms);
        assert!(of_release >= usize::from(policies.releases.approvals));
        assert!(
            !release
                .approvals
                .iter()
                .any(|a| a.account == release.author)
        );
    }
}

fn power_operation() -> impl Strategy<Value = Operation> {
    let (rollout, approver) = (0..ROLLOUTS.len(), 0..APPROVERS.len());
    let power = prop_oneof![Just(Power::Account), Just(Power::Role), Just(Power::Key)];
    prop_oneof![
        1 => (rollout, approver.clone())
            .prop_map(|(rollout, approver)| Operation::WithdrawPlan { rollout, approver }),
        4 => (1..3usize, approver.clone(), prop::bool::weighted(0.2))
            .prop_map(|(release, approver, withdraw)| {
                Operation::OfRelease { release, approver, withdraw }
            }),
        4 => (approver, power, prop::bool::weighted(0.7))
            .prop_map(|(approver, power, has)| Operation::Power { approver, power, has }),
        1 => (1..40u64).prop_map(|days| Operation::Age { days }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let (rollout, lamp) = (0..ROLLOUTS.len(), 0..LAMPS.len());
    let both = (rollout.clone(), lamp.clone());
    prop_oneof![
        6 => (both.clone(), 0..REPORTED.len(), any::<bool>())
            .prop_map(|((rollout, lamp), to, signed)| {
                Operation::Report { rollout, lamp, to, signed }
            }),
        24 => both.clone().prop_map(|(rollout, lamp)| Operation::Advance { rollout, lamp }),
        2 => (both, 0..200u64)
            .prop_map(|((rollout, lamp), minutes)| Operation::Postpone { rollout, lamp, minutes }),
        5 => (0..90u64).prop_map(|minutes| Operation::Wait { minutes }),
        4 => rollout.clone().prop_map(|rollout| Operation::Start { rollout }),
        1 => rollout.clone().prop_map(|rollout| Operation::Pause { rollout }),
        3 => rollout.clone().prop_map(|rollout| Operation::Resume { rollout }),
        3 => (rollout.clone(), 0..APPROVERS.len())
            .prop_map(|(rollout, approver)| Operation::Approve { rollout, approver }),
        4 => power_operation(),
        1 => rollout.prop_map(|rollout| Operation::Cancel { rollout }),
        1 => (1..3usize).prop_map(|release| Operation::Revoke { release }),
        1 => lamp.clone().prop_map(|lamp| Operation::Suspend { lamp }),
        1 => lamp.prop_map(|lamp| Operation::Decommission { lamp }),
        2 => (0..ROLLOUTS.len(), 0..4u32)
            .prop_map(|(rollout, group)| Operation::OpenGroup { rollout, group }),
        1 => (4..8usize).prop_map(|number| Operation::Register { number }),
    ]
}

/// What people do about approvals, and what needs them.
fn people_operation() -> impl Strategy<Value = Operation> {
    let (rollout, approver) = (0..ROLLOUTS.len(), 0..APPROVERS.len());
    prop_oneof![
        6 => power_operation(),
        4 => rollout.clone().prop_map(|rollout| Operation::Start { rollout }),
        2 => rollout.clone().prop_map(|rollout| Operation::Pause { rollout }),
        4 => rollout.clone().prop_map(|rollout| Operation::Resume { rollout }),
        3 => (rollout, approver)
            .prop_map(|(rollout, approver)| Operation::Approve { rollout, approver }),
    ]
}

fn next_state(state: DeploymentState) -> DeploymentState {
    use DeploymentState::*;
    match state {
        Assigned => Offered,
        Offered => Downloading,
        Downloading => Downloaded,
        Downloaded => Installing,
        Installing => Staged,
        Staged => Trial,
        _ => Confirmed,
    }
}

/// Applies an operation and returns its facts; it may be refused.
fn apply(city: &mut City, operation: &Operation) -> Vec<Fact> {
    let reason = String::new();
    let rollout = |at: usize| id(ROLLOUTS[at]);
    let facts = match *operation {
        Operation::Report {
            rollout,
            lamp,
            to,
            signed,
        } => {
            let Some(_) = city.deployment(ROLLOUTS[rollout], LAMPS[lamp]) else {
                return Vec::new();
            };
            let mut report = city.next_report(ROLLOUTS[rollout], LAMPS[lamp], REPORTED[to]);
            if !signed {
                report.signature = None;
            }
            city.send("gw-1", vec![report])
        }
        Operation::Advance { rollout, lamp } => {
            let Some(deployment) = city.deployment(ROLLOUTS[rollout], LAMPS[lamp]) else {
                return Vec::new();
            };
            city.step(ROLLOUTS[rollout], LAMPS[lamp], next_state(deployment.state))
        }
        Operation::Postpone {
            rollout: at,
            lamp,
            minutes,
        } => {
            let until_ms = if minutes == 0 {
                0
            } else {
                city.time_ms + minutes * HOUR_MS / 60
            };
            let (rollout, device) = (rollout(at), id(LAMPS[lamp]));
            city.rollouts(
                "olga",
                RolloutsAction::Postpone(Postponement {
                    rollout,
                    device,
                    until_ms,
                    reason,
                }),
            )
        }
        Operation::Wait { minutes } => Ok(city.block(minutes * HOUR_MS / 60)),
        Operation::Start { rollout: at } => city.rollouts(
            "olga",
            RolloutsAction::Start {
                rollout: rollout(at),
            },
        ),
        Operation::Pause { rollout: at } => city.rollouts(
            "olga",
            RolloutsAction::Pause {
                rollout: rollout(at),
                reason,
            },
        ),
        Operation::Resume { rollout: at } => city.rollouts(
            "olga",
            RolloutsAction::Resume {
                rollout: rollout(at),
            },
        ),
        Operation::Approve { rollout, approver } => {
            let plan = city.rollout(ROLLOUTS[rollout]).plan_digest;
            let rollout = id(ROLLOUTS[rollout]);
            city.rollouts(
                APPROVERS[approver],
                RolloutsAction::Approve { rollout, plan },
            )
        }
        Operation::WithdrawPlan {
            rollout: at,
            approver,
        } => city.rollouts(
            APPROVERS[approver],
            RolloutsAction::WithdrawApproval {
                rollout: rollout(at),
            },
        ),
        Operation::OfRelease {
            release,
            approver,
            withdraw,
        } => {
            let manifest = manifest(&format!("r{release}"));
            let release = manifest.release.clone();
            match withdraw {
                true => city.firmware(
                    APPROVERS[approver],
                    FirmwareAction::WithdrawApproval { release },
                ),
                false => city.approve_release(APPROVERS[approver], &manifest),
            }
        }
        Operation::Power {
            approver,
            power,
            has,
        } => {
            let name = APPROVERS[approver];
            if has {
                set_power(city, name, power, true);
                return Vec::new();
            }
            let before = ROLLOUTS.map(|name| (id(name), city.rollout(name).status));
            let facts = take_power(city, name, power);
            if !facts.is_empty() {
                pauses_without_approvals(city, &before, name);
            }
            Ok(facts)
        }
        Operation::Age { days } => Ok(city.block(days * 24 * HOUR_MS)),
        Operation::Cancel { rollout: at } => city.rollouts(
            "olga",
            RolloutsAction::Cancel {
                rollout: rollout(at),
                reason,
            },
        ),
        Operation::Revoke { release } => {
            let release = id(&format!("r{release}"));
            city.firmware("sina", FirmwareAction::Revoke { release, reason })
        }
        Operation::Suspend { lamp } => {
            let action = DevicesAction::Suspend {
                device: id(LAMPS[lamp]),
                reason,
            };
            city.act("olga", Action::Devices(action))
        }
        Operation::OpenGroup { rollout: at, group } => {
            let rollout = rollout(at);
            city.rollouts("olga", RolloutsAction::OpenGroup { rollout, group })
        }
        Operation::Register { number } => {
            let devices = vec![lamp(number, NORTH, true)];
            city.act("olga", Action::Devices(DevicesAction::Register { devices }))
        }
        Operation::Decommission { lamp } => {
            let action = DevicesAction::Decommission {
                device: id(LAMPS[lamp]),
                reason,
            };
            city.act("olga", Action::Devices(action))
        }
    };
    facts.unwrap_or_default()
}

fn legal(facts: &[Fact]) {
    for (from, to) in crate::city::moves(facts) {
        assert!(transitions::is_legal(from, to), "{from:?} to {to:?}");
    }
}

/// The count that each state belongs to, written out once more.
fn recount(deployments: &[Deployment]) -> RolloutCounts {
    use DeploymentState::*;
    let mut counts = RolloutCounts::default();
    for deployment in deployments {
        match deployment.state {
            Assigned => counts.assigned += 1,
            Confirmed => counts.confirmed += 1,
            state if state.is_failure() => counts.failed += 1,
            state if state.is_end() => counts.other += 1,
            _ => counts.active += 1,
        }
    }
    counts
}

fn records_agree(city: &City) {
    let reader = &city.overlay;
    let mut timers = BTreeMap::new();
    for (deadline_ms, rollout, device) in reader.page(&keys::timers(), None, 1000).unwrap() {
        assert_eq!(
            timers.insert((rollout, device), deadline_ms),
            None,
            "one timer each"
        );
    }
    let at_work = reader.page(&keys::at_work(), None, 1000).unwrap();
    let mut active: BTreeMap<Id, Id> = BTreeMap::new();
    for name in ROLLOUTS {
        let rollout = city.rollout(name);
        let deployments = rollouts::deployments(reader, &id(name), None, 1000).unwrap();
        let skipped = rollout.counts.skipped;
        assert_eq!(
            rollout.counts,
            RolloutCounts {
                skipped,
                ..recount(&deployments)
            }
        );
        for deployment in &deployments {
            let key = (deployment.rollout.clone(), deployment.device.clone());
            assert_eq!(timers.remove(&key), deployment.deadline_ms);
            assert_eq!(deployment.deadline_ms.is_none(), deployment.state.is_end());
            assert!(deployment.steps.len() <= rollouts::DEPLOYMENT_STEPS_MAX);
            assert_eq!(deployment.steps.last().unwrap().to, deployment.state);
            assert!(deployment.postponed_count <= rollout.plan.deferral.count_max);
            assert!(deployment.retries <= rollout.plan.retries_max);
            if !deployment.state.is_end() {
                let other = active.insert(deployment.device.clone(), id(name));
                assert_eq!(other, None, "one deployment at work on a device");
            }
        }
        use RolloutStatus::*;
        let begun = matches!(rollout.status, Running | Paused | PausedByErrors | Stopping);
        assert_eq!(
            at_work.iter().any(|(listed, _)| listed.as_str() == name),
            begun
        );
        let open = rollout.counts.assigned + rollout.counts.active;
        assert!(
            open == 0 || begun,
            "{:?} with open deployments",
            rollout.status
        );
    }
    assert!(
        timers.is_empty(),
        "no timer without a deployment: {timers:?}"
    );
    for lamp in LAMPS {
        let state = devices::state(reader, &id(lamp)).unwrap().unwrap();
        assert_eq!(state.active_rollout.as_ref(), active.get(&id(lamp)));
    }
}

/// The books of the groups agree with those of their rollout.
fn groups_agree(city: &City, name: &str) {
    let reader = &city.overlay;
    let Some(groups) = rollouts::groups(reader, &id(name)).unwrap() else {
        return;
    };
    let rollout = city.rollout(name);
    let mut sum = RolloutCounts::default();
    for (at, record) in groups.groups.iter().enumerate() {
        let GroupCounts {
            deployments,
            timed_out,
        } = record.counts;
        let all = rollouts::deployments(reader, &id(name), None, 1000).unwrap();
        let members = city.members(name, at);
        let of_group = all
            .iter()
            .filter(|d| members.contains(&d.device.to_string()));
        let of_group: Vec<_> = of_group.cloned().collect();
        let skipped = deployments.skipped;
        let recounted = RolloutCounts {
            skipped,
            ..recount(&of_group)
        };
        assert_eq!(deployments, recounted, "group {at}");
        let silent = of_group
            .iter()
            .filter(|d| d.state == DeploymentState::TimedOut);
        assert_eq!(timed_out, silent.count() as u64);
        sum.assigned += deployments.assigned;
        sum.active += deployments.active;
        sum.confirmed += deployments.confirmed;
        sum.failed += deployments.failed;
        sum.other += deployments.other;
        sum.skipped += skipped;
        let opened = at < groups.opened as usize;
        assert_eq!(record.opened_height.is_some(), opened);
        assert_eq!(record.status == GroupStatus::Waiting, !opened);
        let behind = at + 1 < groups.opened as usize;
        assert!(
            !behind || record.status == GroupStatus::Passed,
            "none was skipped"
        );
    }
    assert_eq!(sum, rollout.counts);
    let late = reader
        .page(&keys::late_devices(&id(name)), None, 1000)
        .unwrap();
    assert_eq!(groups.late, late.len() as u64);
    let timers = reader.page(&keys::rollout_timers(), None, 1000).unwrap();
    let timers: Vec<_> = timers
        .iter()
        .filter(|(_, of)| of.as_str() == name)
        .collect();
    assert!(timers.len() <= 1);
    assert_eq!(timers.first().map(|(at, _)| *at), groups.due_ms);
    use RolloutStatus::*;
    let live = matches!(rollout.status, Running | Paused | PausedByErrors);
    let continuous = reader.page(&keys::continuous(), None, 1000).unwrap();
    let plan = rollouts::grouped_plan(reader, &id(name)).unwrap().unwrap();
    assert_eq!(plan.base, rollout.plan);
    assert_eq!(codec::digest(&plan), rollout.plan_digest);
    assert_eq!(continuous.contains(&id(name)), live && plan.continuous);
}

/// A group that opens follows one that was good enough at that moment.
fn gates_held(city: &City, facts: &[Fact]) {
    for fact in facts {
        let Fact::GroupOpened { rollout, group } = fact else {
            continue;
        };
        let Some(before) = (*group as usize).checked_sub(1) else {
            continue;
        };
        let plan = rollouts::grouped_plan(&city.overlay, rollout)
            .unwrap()
            .unwrap();
        let gate = plan.groups[before].gate;
        let counts = city.groups(rollout.as_str()).groups[before]
            .counts
            .deployments;
        let ended = counts.confirmed + counts.failed;
        let all = ended + counts.assigned + counts.active;
        assert!(ended >= u64::from(gate.sample_min));
        assert!(counts.confirmed * 100 >= all * u64::from(gate.success_percent_min));
    }
}

/// As [`two_planned`], with `x` in groups.
fn planned_in_groups(continuous: bool) -> City {
    let mut city = two_planned();
    let (rollout, reason) = (id("x"), String::new());
    city.rollouts("olga", RolloutsAction::Cancel { rollout, reason })
        .unwrap();
    let mut by_hand = gate(50, 1, 0);
    by_hand.next_by_hand = true;
    let second = GroupMembers::Count { count: 1 };
    let groups = vec![
        group(canaries(&["lamp-0"]), gate(100, 1, 1)),
        group(second, by_hand),
        group(GroupMembers::Rest, gate(50, 1, 0)),
    ];
    let mut plan = grouped("x", groups);
    plan.base.error_percent_max = 60;
    plan.base.error_sample_min = 2;
    plan.base.retries_max = 1;
    plan.limits.silence_percent_max = Some(50);
    plan.retry.backoff_ms = 5 * 60_000;
    plan.continuous = continuous;
    plan.stop_ms = Some(city.time_ms + 60 * HOUR_MS);
    city.overlay.delete(&keys::rollout(&id("x")));
    city.overlay.commit();
    city.plan_groups("olga", &plan).unwrap();
    city.approve_groups("anna", &plan).unwrap();
    city.rollouts("olga", RolloutsAction::Start { rollout: id("x") })
        .unwrap();
    city.block(1);
    city
}

fn two_planned() -> City {
    let mut city = City::with_lamps(LAMPS.len());
    city.released(&manifest("r2"));
    // A release has one approval more than it needs, so that those of the plan matter alone too.
    set_power(&mut city, "carl", Power::Role, true);
    for release in ["r1", "r2"] {
        city.approve_release("carl", &manifest(release)).unwrap();
    }
    for (name, release) in ROLLOUTS.into_iter().zip(["r1", "r2"]) {
        let mut plan = plan(name, release, list(&LAMPS));
        plan.error_percent_max = 60;
        plan.error_sample_min = 2;
        plan.retries_max = 1;
        city.plan("olga", &plan).unwrap();
        city.approve("anna", &plan).unwrap();
    }
    city
}

fn one_started() -> City {
    let mut city = two_planned();
    city.rollouts("olga", RolloutsAction::Start { rollout: id("x") })
        .unwrap();
    city.block(1);
    city
}

/// A pause waits for people as long as it takes; here they give up.
fn cancel_paused(city: &mut City) {
    for name in ROLLOUTS {
        let status = city.rollout(name).status;
        if matches!(
            status,
            RolloutStatus::Paused | RolloutStatus::PausedByErrors
        ) {
            let cancel = RolloutsAction::Cancel {
                rollout: id(name),
                reason: String::new(),
            };
            city.rollouts("olga", cancel).unwrap();
        }
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_order_of_operations_breaks_the_records(
        operations in prop::collection::vec(operation(), 1..120)
    ) {
        let mut city = one_started();
        for operation in &operations {
            let facts = apply(&mut city, operation);
            legal(&facts);
            approved(&city, &facts);
            records_agree(&city);
        }
        // Left alone, everything comes to an end: nothing stays "proceeding" for ever.
        for _ in 0..12 {
            cancel_paused(&mut city);
            legal(&city.block(2 * HOUR_MS));
            records_agree(&city);
        }
        for name in ROLLOUTS {
            let rollout = city.rollout(name);
            prop_assert_eq!(rollout.counts.assigned + rollout.counts.active, 0);
        }
    }

    #[test]
    fn no_order_of_operations_opens_a_group_too_early(
        continuous in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..160)
    ) {
        let mut city = planned_in_groups(continuous);
        for operation in &operations {
            let facts = apply(&mut city, operation);
            legal(&facts);
            approved(&city, &facts);
            gates_held(&city, &facts);
            records_agree(&city);
            groups_agree(&city, "x");
        }
        // The stop deadline ends what nothing else has ended.
        for _ in 0..70 {
            cancel_paused(&mut city);
            legal(&city.block(HOUR_MS));
            groups_agree(&city, "x");
        }
        records_agree(&city);
        let status = city.rollout("x").status;
        prop_assert!(matches!(status, RolloutStatus::Stopped | RolloutStatus::Finished));
    }

    #[test]
    fn nothing_starts_or_resumes_without_living_approvals(
        operations in prop::collection::vec(people_operation(), 1..60)
    ) {
        let mut city = two_planned();
        for operation in &operations {
            let facts = apply(&mut city, operation);
            approved(&city, &facts);
        }
    }
}
