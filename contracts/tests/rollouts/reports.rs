use lamplighter_types::limits::NUMBER_MAX;
use lamplighter_types::*;

use crate::city::{ALL_THE_WAY, City, HOUR_MS, NORTH, id, list, manifest, moves, plan, secret};

use DeploymentState::*;

fn begun() -> City {
    let mut city = City::with_lamps(2);
    city.started(&plan("x", "r1", list(&["lamp-0", "lamp-1"])));
    city
}

#[test]
fn only_the_gateway_of_the_device_reports() {
    let mut city = begun();
    let report = city.next_report("x", "lamp-0", Offered);
    assert_eq!(
        city.send("gw-2", vec![report.clone()]),
        Err("devices.not_your_device")
    );
    assert_eq!(
        city.send("olga", vec![report.clone()]),
        Err("rollouts.not_gateway")
    );
    let assign = DevicesAction::AssignGateway {
        device: id("lamp-0"),
        gateway: Some(id("gw-2")),
    };
    city.act("olga", Action::Devices(assign)).unwrap();
    assert_eq!(
        city.send("gw-1", vec![report.clone()]),
        Err("devices.not_your_device")
    );
    city.send("gw-2", vec![report]).unwrap();
}

#[test]
fn a_thing_with_a_key_signs_from_downloaded_on() {
    let mut city = begun();
    city.walk("x", "lamp-0", &[Offered, Downloading]);
    for to in [Downloaded, Installing, Staged, Trial, Confirmed] {
        let mut report = city.next_report("x", "lamp-0", to);
        let good = report.clone();
        report.signature = None;
        let mut send = |report: &DeploymentReport| city.send("gw-1", vec![report.clone()]);
        assert_eq!(send(&report), Err("rollouts.unsigned"), "{to:?}");
        report.signature = Some(Signature([7; 64]));
        assert_eq!(send(&report), Err("devices.wrong_signature"), "{to:?}");
        let chain = Hash::of(b"another city");
        report.sign(&chain, &secret("lamp-0"));
        assert_eq!(send(&report), Err("devices.wrong_signature"), "{to:?}");
        report = good.clone();
        report.counter += 1;
        assert_eq!(
            send(&report),
            Err("devices.wrong_signature"),
            "{to:?}: not what was signed"
        );
        send(&good).unwrap();
    }
    let steps = city.deployment("x", "lamp-0").unwrap().steps;
    let attested: Vec<bool> = steps.iter().map(|step| step.attested).collect();
    assert_eq!(
        attested,
        [false, false, false, true, true, true, true, true]
    );
    // Neither does a rejection or "not needed" count without the Thing's word, a failure does.
    for (to, code) in [
        (NotNeeded, "rollouts.unsigned"),
        (Rejected, "rollouts.unsigned"),
    ] {
        let mut report = city.next_report("x", "lamp-1", to);
        report.signature = None;
        assert_eq!(city.send("gw-1", vec![report]), Err(code));
    }
    let mut failed = city.next_report("x", "lamp-1", Failed);
    failed.signature = None;
    city.send("gw-1", vec![failed]).unwrap();
    assert!(!city.deployment("x", "lamp-1").unwrap().steps[1].attested);
}

#[test]
fn a_gateway_vouches_for_a_thing_without_a_key() {
    let mut city = City::with_lamps(0);
    city.lamps(0..1, NORTH, false);
    city.started(&plan("x", "r1", list(&["lamp-0"])));
    let mut signed = city.next_report("x", "lamp-0", Offered);
    signed.sign(&city.chain_id, &secret("lamp-0"));
    assert_eq!(
        city.send("gw-1", vec![signed]),
        Err("devices.wrong_signature")
    );
    city.walk("x", "lamp-0", &ALL_THE_WAY);
    let steps = city.deployment("x", "lamp-0").unwrap().steps;
    assert!(steps.iter().all(|step| !step.attested));
    assert_eq!(city.device_state("lamp-0").release, Some(id("r1")));
}

#[test]
fn counters_only_rise_and_a_gateway_cannot_use_them_up() {
    let mut city = begun();
    let mut offered = city.next_report("x", "lamp-0", Offered);
    offered.counter = u64::MAX;
    // No reader of JSON would see this number as it is.
    assert_eq!(
        city.send("gw-1", vec![offered.clone()]),
        Err("shape.too_large")
    );
    offered.counter = NUMBER_MAX;
    city.send("gw-1", vec![offered]).unwrap();
    let first = city.next_report("x", "lamp-0", Downloaded);
    city.send("gw-1", vec![first.clone()]).unwrap();
    assert_eq!(city.device_state("lamp-0").report_counter, first.counter);
    assert_eq!(
        city.send("gw-1", vec![first.clone()]),
        Err("devices.counter_used"),
        "a replay"
    );
    let mut next = city.next_report("x", "lamp-0", Installing);
    next.counter = first.counter;
    next.sign(&city.chain_id, &secret("lamp-0"));
    assert_eq!(city.send("gw-1", vec![next]), Err("devices.counter_used"));
}

#[test]
fn a_future_height_cannot_have_been_seen() {
    let mut city = begun();
    let mut report = city.next_report("x", "lamp-0", Offered);
    report.seen_height = city.height + 1;
    assert_eq!(
        city.send("gw-1", vec![report]),
        Err("rollouts.future_height")
    );
}

#[test]
fn the_digest_is_that_of_the_release() {
    let mut city = begun();
    city.walk("x", "lamp-0", &[Offered]);
    let wrong = [None, Some(Hash::of(b"something else"))];
    for to in [Downloaded, Installing, Staged, Trial, Confirmed] {
        let may_be_absent = matches!(to, Installing | Staged);
        for digest in wrong.iter().filter(|d| d.is_some() || !may_be_absent) {
            let mut report = city.next_report("x", "lamp-0", to);
            report.digest = *digest;
            report.sign(&city.chain_id, &secret("lamp-0"));
            assert_eq!(
                city.send("gw-1", vec![report]),
                Err("rollouts.digest"),
                "{to:?}"
            );
        }
        city.step("x", "lamp-0", to).unwrap();
    }
}

#[test]
fn a_batch_is_taken_report_by_report() {
    let mut city = begun();
    let way = &ALL_THE_WAY;
    let mut reports: Vec<DeploymentReport> = Vec::new();
    let mut from = Assigned;
    for to in way {
        let mut report = city.next_report("x", "lamp-0", *to);
        report.from = from;
        if report.signature.is_some() {
            report.sign(&city.chain_id, &secret("lamp-0"));
        }
        from = *to;
        reports.push(report);
    }
    let mut stale = city.next_report("x", "lamp-1", Downloaded);
    stale.from = Downloading;
    stale.sign(&city.chain_id, &secret("lamp-1"));
    reports.insert(3, stale.clone());
    let mut unknown = stale.clone();
    unknown.device = id("lamp-9");
    reports.insert(0, unknown);
    let facts = city.send("gw-1", reports).unwrap();
    let refused: Vec<&str> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::ReportRefused {
                rollout: _,
                to: _,
                counter: _,
                code,
            } => Some(code.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(refused, ["devices.unknown_device", "rollouts.stale"]);
    assert_eq!(moves(&facts).len(), way.len());
    assert_eq!(city.state_of("x", "lamp-0"), Confirmed);
    // Nothing of a refused report stays: its number is still free.
    assert_eq!(city.device_state("lamp-1").report_counter, 0);
    stale.from = Assigned;
    stale.to = Offered;
    stale.signature = None;
    city.send("gw-1", vec![stale]).unwrap();
    assert_eq!(city.send("gw-1", vec![]), Err("shape.empty"));
}

#[test]
fn a_device_outside_the_rollout_has_no_deployment() {
    let mut city = begun();
    city.lamps(5..6, NORTH, true);
    let mut report = city.next_report("x", "lamp-0", Failed);
    report.device = id("lamp-5");
    report.sign(&city.chain_id, &secret("lamp-5"));
    assert_eq!(
        city.send("gw-1", vec![report.clone()]),
        Err("rollouts.unknown_deployment")
    );
    report.rollout = id("y");
    report.sign(&city.chain_id, &secret("lamp-5"));
    assert_eq!(
        city.send("gw-1", vec![report]),
        Err("rollouts.unknown_deployment")
    );
}

#[test]
fn an_expired_release_is_not_offered_but_its_confirmation_is_recorded() {
    let mut city = City::with_lamps(2);
    let mut short = manifest("r2");
    short.expires_ms = Some(city.time_ms + HOUR_MS / 2);
    city.released(&short);
    city.started(&plan("x", "r2", list(&["lamp-0", "lamp-1"])));
    city.walk("x", "lamp-0", &[Offered, Downloading]);
    city.block(HOUR_MS / 2);
    assert_eq!(city.step("x", "lamp-1", Offered), Err("firmware.expired"));
    city.walk("x", "lamp-0", &[Downloaded, Installing, Trial, Confirmed]);
}

#[test]
fn a_device_out_of_service_is_offered_nothing() {
    let mut city = begun();
    let suspend = DevicesAction::Suspend {
        device: id("lamp-0"),
        reason: String::new(),
    };
    city.act("olga", Action::Devices(suspend)).unwrap();
    assert_eq!(
        city.step("x", "lamp-0", Offered),
        Err("devices.wrong_status")
    );
    city.block(2 * HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), Removed);
    let reason = String::new();
    let decommission = DevicesAction::Decommission {
        device: id("lamp-1"),
        reason,
    };
    let facts = city.act("olga", Action::Devices(decommission)).unwrap();
    assert_eq!(moves(&facts).len(), 0, "its timer had ended it");
}
