//! Retries of a rollout in groups: how often, after how long, for which codes.

use lamplighter_types::*;

use crate::city::{City, HOUR_MS, gate, group, grouped, id};

use DeploymentState::*;

const MINUTE_MS: u64 = 60_000;

fn retrying(backoff_ms: u64, codes: &[u32]) -> City {
    let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(0, 0, 0))]);
    plan.base.retries_max = 2;
    plan.retry = RetryPolicy {
        backoff_ms,
        codes: codes.to_vec(),
    };
    let mut city = City::with_lamps(2);
    city.started_in_groups(&plan);
    city
}

fn end(city: &mut City, to: DeploymentState, code: u32) {
    city.walk("x", "lamp-0", &[Offered, Downloading]);
    let mut report = city.next_report("x", "lamp-0", to);
    report.code = code;
    report.signature = None;
    let keyed = devices_key();
    report.sign(&city.chain_id, &keyed);
    city.send("gw-1", vec![report]).unwrap();
}

fn devices_key() -> SecretKey {
    crate::city::secret("lamp-0")
}

fn state(city: &City) -> DeploymentState {
    city.state_of("x", "lamp-0")
}

#[test]
fn a_retry_waits_twice_as_long_each_time_and_the_last_failure_is_the_end() {
    let mut city = retrying(10 * MINUTE_MS, &[]);
    for (round, wait_ms) in [10, 20]
        .map(|minutes| minutes * MINUTE_MS)
        .into_iter()
        .enumerate()
    {
        end(&mut city, Failed, 8);
        assert_eq!(state(&city), Postponed, "round {round}");
        city.block(wait_ms - 1);
        assert_eq!(state(&city), Postponed, "round {round}");
        city.block(1);
        assert_eq!(state(&city), Assigned, "round {round}");
    }
    end(&mut city, Failed, 8);
    assert_eq!(state(&city), Failed);
    let deployment = city.deployment("x", "lamp-0").unwrap();
    assert_eq!(deployment.retries, 2);
    assert_eq!(deployment.postponed_count, 0, "nobody postponed it");
    assert_eq!(city.groups("x").groups[0].counts.deployments.failed, 1);
}

#[test]
fn only_listed_codes_are_retried_and_rejections_never() {
    let mut city = retrying(0, &[8, 9]);
    end(&mut city, Failed, 9);
    assert_eq!(state(&city), Assigned);
    end(&mut city, Failed, 7);
    assert_eq!(state(&city), Failed, "7 is not listed");
    let mut city = retrying(MINUTE_MS, &[]);
    end(&mut city, Rejected, 8);
    assert_eq!(state(&city), Rejected);
}

#[test]
fn a_retry_that_waits_can_be_brought_forward_or_recalled() {
    let mut city = retrying(10 * HOUR_MS, &[]);
    end(&mut city, Failed, 8);
    let now = RolloutsAction::Postpone(Postponement {
        rollout: id("x"),
        device: id("lamp-0"),
        until_ms: 0,
        reason: "repaired".to_owned(),
    });
    city.rollouts("olga", now).unwrap();
    assert_eq!(state(&city), Assigned);
    end(&mut city, Failed, 8);
    assert_eq!(state(&city), Postponed);
    let (rollout, reason) = (id("x"), "enough".to_owned());
    city.rollouts("olga", RolloutsAction::Cancel { rollout, reason })
        .unwrap();
    city.run_until_idle();
    assert_eq!(state(&city), Cancelled);
}
