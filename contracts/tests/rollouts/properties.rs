//! Whatever people, gateways and Things do in whatever order: no illegal step, and the books agree.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_contracts::rollouts::{self, keys, transitions};
use lamplighter_contracts::{Reader, devices, firmware, governance, users};
use lamplighter_types::*;
use proptest::prelude::*;

use crate::city::{City, HOUR_MS, id, list, manifest, plan, secret};

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
            let plan = city.rollout(ROLLOUTS[rollout]).plan;
            city.approve(APPROVERS[approver], &plan)
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
            set_power(city, APPROVERS[approver], power, has);
            Ok(Vec::new())
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
