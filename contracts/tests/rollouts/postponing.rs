use lamplighter_contracts::rollouts;
use lamplighter_types::limits::NUMBER_MAX;
use lamplighter_types::*;

use crate::city::{ActResult, City, HOUR_MS, id, list, manifest, plan};

use DeploymentState::*;

fn offered() -> City {
    let mut city = City::with_lamps(2);
    city.started(&plan("x", "r1", list(&["lamp-0", "lamp-1"])));
    city.walk("x", "lamp-0", &[Offered]);
    city
}

fn postpone(city: &mut City, who: &str, until_ms: u64) -> ActResult {
    let reason = "football".to_owned();
    let (rollout, device) = (id("x"), id("lamp-0"));
    city.rollouts(
        who,
        RolloutsAction::Postpone(Postponement {
            rollout,
            device,
            until_ms,
            reason,
        }),
    )
}

#[test]
fn it_resumes_its_state_at_the_deadline() {
    let mut city = offered();
    city.walk("x", "lamp-0", &[Downloading]);
    let until = city.time_ms + 3 * HOUR_MS;
    assert_eq!(postpone(&mut city, "gw-1", until), Err("forbidden"));
    assert_eq!(postpone(&mut city, "anna", until), Err("forbidden"));
    postpone(&mut city, "nora", until).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), Postponed);
    assert_eq!(
        city.step("x", "lamp-0", Downloaded),
        Err("rollouts.transition")
    );
    city.block(3 * HOUR_MS - 1);
    assert_eq!(
        city.state_of("x", "lamp-0"),
        Postponed,
        "no timer runs out meanwhile"
    );
    city.block(1);
    let deployment = city.deployment("x", "lamp-0").unwrap();
    assert_eq!(deployment.state, Downloading);
    assert_eq!(deployment.deadline_ms, Some(city.time_ms + HOUR_MS));
    assert_eq!(
        (deployment.postponed_from, deployment.postponed_until_ms),
        (None, None)
    );
    city.walk("x", "lamp-0", &[Downloaded, Installing]);
}

#[test]
fn count_and_total_are_capped() {
    let mut city = offered();
    let first = city
        .deployment("x", "lamp-0")
        .unwrap()
        .first_offered_ms
        .unwrap();
    let latest = first + 10 * HOUR_MS;
    let now = city.time_ms;
    for bad in [now, now - 1, latest + 1, NUMBER_MAX] {
        assert_eq!(
            postpone(&mut city, "olga", bad),
            Err("rollouts.postponed_too_long")
        );
    }
    assert_eq!(
        postpone(&mut city, "olga", u64::MAX),
        Err("shape.too_large")
    );
    postpone(&mut city, "olga", now + HOUR_MS).unwrap();
    postpone(&mut city, "olga", latest).unwrap();
    assert_eq!(
        postpone(&mut city, "olga", latest),
        Err("rollouts.postponed_too_often")
    );
    assert_eq!(
        rollouts::due_ms(&city.overlay).unwrap(),
        Some(now + HOUR_MS),
        "of lamp-1"
    );
    city.block(10 * HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), Offered);
}

#[test]
fn it_can_be_taken_back() {
    let mut city = offered();
    assert_eq!(
        postpone(&mut city, "olga", 0),
        Err("rollouts.not_postponed")
    );
    let until = city.time_ms + HOUR_MS;
    postpone(&mut city, "olga", until).unwrap();
    postpone(&mut city, "olga", 0).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), Offered);
    assert_eq!(city.deployment("x", "lamp-0").unwrap().postponed_count, 1);
}

#[test]
fn not_before_the_offer_nor_when_installing() {
    let mut city = offered();
    let until = city.time_ms + HOUR_MS;
    let other = |city: &City, device: &str| {
        RolloutsAction::Postpone(Postponement {
            rollout: id("x"),
            device: id(device),
            until_ms: city.time_ms + HOUR_MS,
            reason: String::new(),
        })
    };
    let action = other(&city, "lamp-1");
    assert_eq!(city.rollouts("olga", action), Err("rollouts.not_offered"));
    let action = other(&city, "lamp-7");
    assert_eq!(
        city.rollouts("olga", action),
        Err("rollouts.unknown_deployment")
    );
    city.walk("x", "lamp-0", &[Downloaded, Installing]);
    for to in [Staged, Trial, Confirmed] {
        assert_eq!(postpone(&mut city, "olga", until), Err("rollouts.too_late"));
        city.step("x", "lamp-0", to).unwrap();
    }
}

#[test]
fn a_critical_release_is_not_postponed() {
    let mut city = City::with_lamps(1);
    city.released(&ReleaseManifest {
        critical: true,
        ..manifest("r2")
    });
    city.started(&plan("x", "r2", list(&["lamp-0"])));
    city.walk("x", "lamp-0", &[Offered]);
    let until = city.time_ms + HOUR_MS;
    assert_eq!(postpone(&mut city, "olga", until), Err("rollouts.critical"));
}

#[test]
fn a_postponed_deployment_is_recalled_like_any_other() {
    let mut city = offered();
    let until = city.time_ms + 9 * HOUR_MS;
    postpone(&mut city, "olga", until).unwrap();
    let cancel = RolloutsAction::Cancel {
        rollout: id("x"),
        reason: String::new(),
    };
    city.rollouts("olga", cancel).unwrap();
    city.run_until_idle();
    assert_eq!(city.state_of("x", "lamp-0"), Cancelled);
    assert_eq!(
        rollouts::due_ms(&city.overlay).unwrap(),
        None,
        "no timer is left"
    );
}
