use std::time::Duration;

use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::lwm2m::agent::ThingReport;
use lamplighter_gateway::south::{SouthCommand, WorkNotice};
use lamplighter_types::{AlarmChange, ConfigReport, DeploymentState::*, Hash, Severity};

use super::super::{NewEvent, Slot, Thing};
use super::testbed::{Log, Testbed, image, manifest};

const SIZE: usize = 70 * 1024 + 13;

fn failure() -> NewEvent {
    NewEvent {
        kind: "lampFailure".to_owned(),
        severity: Severity::Major,
        alarm: AlarmChange::Raise,
        data: "{\"current_ma\":0}".to_owned(),
    }
}

fn config_reports(log: &Log) -> Vec<ConfigReport> {
    let of = |report: &ThingReport| match report {
        ThingReport::Config(report) => Some(report.clone()),
        _ => None,
    };
    log.reports.iter().filter_map(of).collect()
}

fn configure(document: &[u8]) -> SouthCommand {
    SouthCommand::Configure {
        endpoint: "lamp-1".to_owned(),
        document: document.to_vec(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_thing_resumes_its_transfer() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", SIZE);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed
        .until("half", |log| log.progress() > SIZE as u64 / 2)
        .await;
    lamp.kill().await;
    let before = testbed.network.sent();
    let lamp = testbed.lamp("lamp-1", 2).await;
    assert!(lamp.status().await.unwrap().held_bytes > SIZE as u64 / 2);
    testbed.install("lamp-1").await;
    let log = testbed
        .until("ended", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(log.ended("lamp-1").unwrap().to, Confirmed);
    assert_eq!(lamp.active_image().await.unwrap(), new);
    let blocks = SIZE.div_ceil(1024) as u64;
    let sent = testbed.network.sent() - before;
    assert!(
        sent < 2 * blocks,
        "{sent} datagrams: fewer than the whole image would need"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restarted_gateway_resumes_the_transfer() {
    let mut testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", SIZE);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed
        .until("half", |log| log.progress() > SIZE as u64 / 2)
        .await;
    testbed.stop_gateway().await;
    let held = lamp.status().await.unwrap().held_bytes;
    assert!(held > SIZE as u64 / 2);
    testbed.start_gateway();
    let before = testbed.network.sent();
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    let log = testbed
        .until("ended", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(log.ended("lamp-1").unwrap().to, Confirmed);
    assert_eq!(lamp.active_image().await.unwrap(), new);
    let sent = testbed.network.sent() - before;
    assert!(sent < 2 * SIZE.div_ceil(1024) as u64, "{sent} datagrams");
}

#[tokio::test(start_paused = true)]
async fn power_lost_while_the_slot_is_written_installs_again() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", 20_000);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    testbed
        .until("installing", |log| {
            log.states("lamp-1").contains(&Installing)
        })
        .await;
    lamp.kill().await;
    let lamp = testbed.lamp("lamp-1", 2).await;
    let log = testbed
        .until("ended", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(log.ended("lamp-1").unwrap().to, Confirmed);
    assert_eq!(lamp.active_image().await.unwrap(), new);
}

#[tokio::test(start_paused = true)]
async fn a_staged_image_that_changed_is_not_booted() {
    let testbed = Testbed::new(1, Faults::NONE);
    let mut config = testbed.config("lamp-1", 2);
    config.boot_time = Duration::from_secs(60);
    let lamp = Thing::spawn(config).await.unwrap();
    let new = image("new", 20_000);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    testbed
        .until("staged", |log| log.states("lamp-1").contains(&Staged))
        .await;
    let slot = testbed.folder.path().join("lamp-1/slot-b");
    let mut bytes = std::fs::read(&slot).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&slot, bytes).unwrap();
    let log = testbed
        .until("ended", |log| log.ended("lamp-1").is_some())
        .await;
    let last = log.ended("lamp-1").unwrap();
    assert_eq!((last.from, last.to), (Staged, Reverted));
    assert_eq!(lamp.status().await.unwrap().slot, Slot::A);
}

#[tokio::test(start_paused = true)]
async fn events_keep_their_numbers_and_wait_for_the_gateway() {
    let mut testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    assert_eq!(lamp.raise(failure()).await.unwrap(), 1);
    testbed
        .until("first event", |log| log.events.len() == 1)
        .await;
    testbed.stop_gateway().await;
    assert_eq!(lamp.raise(failure()).await.unwrap(), 2);
    lamp.kill().await;
    let lamp = testbed.lamp("lamp-1", 2).await;
    assert_eq!(lamp.raise(failure()).await.unwrap(), 3);
    testbed.start_gateway();
    let log = testbed
        .until("all events", |log| log.events.len() == 3)
        .await;
    let numbers: Vec<u64> = log.events.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(log.events[0].kind, "lampFailure");
    assert_eq!(log.events[0].alarm, AlarmChange::Raise);
}

#[tokio::test(start_paused = true)]
async fn a_thing_unknown_to_its_gateway_registers_again_with_its_next_event() {
    let mut testbed = Testbed::new(1, Faults::NONE);
    let mut config = testbed.config("lamp-1", 2);
    config.lifetime = Duration::from_secs(86_400);
    let lamp = Thing::spawn(config).await.unwrap();
    testbed
        .until("registered", |log| log.registered.len() == 1)
        .await;
    testbed.stop_gateway().await;
    testbed.start_gateway();
    lamp.raise(failure()).await.unwrap();
    let raised = tokio::time::Instant::now();
    let log = testbed
        .until("the event", |log| !log.events.is_empty())
        .await;
    assert_eq!(log.registered.len(), 2);
    assert!(
        raised.elapsed() < Duration::from_secs(60),
        "not before its next update"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outbox_without_a_gateway_is_bounded() {
    let mut testbed = Testbed::new(1, Faults::NONE);
    testbed.stop_gateway().await;
    let lamp = testbed.lamp("lamp-1", 2).await;
    let mut taken = 0;
    while lamp.raise(failure()).await.is_ok() {
        taken += 1;
        assert!(taken <= 256);
    }
    let long = NewEvent {
        data: "x".repeat(2000),
        ..failure()
    };
    assert!(lamp.raise(long).await.is_err());
    testbed.start_gateway();
    testbed
        .until("all that were taken", |log| log.events.len() == taken)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_is_applied_once_the_gateway_was_reached_with_it() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    let document = b"{\"dimming\":40}";
    testbed.command(configure(document)).await;
    let log = testbed
        .until("a report", |log| !config_reports(log).is_empty())
        .await;
    let report = &config_reports(&log)[0];
    assert!(report.applied);
    assert_eq!(report.document, Hash::of(document));
    assert_eq!(
        lamp.status().await.unwrap().configuration,
        Some(Hash::of(document))
    );
    let file = testbed.folder.path().join("lamp-1/configuration.json");
    assert_eq!(std::fs::read(file).unwrap(), document);

    testbed.command(configure(b"[1, 2")).await;
    let log = testbed
        .until("a second report", |log| config_reports(log).len() == 2)
        .await;
    assert!(!config_reports(&log)[1].applied);
    let refused = |(_, notice): &(String, WorkNotice)| {
        matches!(
            notice,
            WorkNotice::Configured {
                accepted: false,
                ..
            }
        )
    };
    testbed
        .until("the notice", |log| log.notices.iter().any(refused))
        .await;
    assert_eq!(
        lamp.status().await.unwrap().configuration,
        Some(Hash::of(document))
    );
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cuts_the_thing_off_is_reverted() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    testbed.command(configure(b"{\"channel\":11}")).await;
    testbed
        .until("applied", |log| !config_reports(log).is_empty())
        .await;
    // The network is slow enough to be cut between the document's arrival and its confirmation.
    testbed.network.set_faults(Faults {
        delay_max: Duration::from_secs(2),
        ..Faults::NONE
    });
    testbed.command(configure(b"{\"channel\":26}")).await;
    while lamp.status().await.unwrap().configuration != Some(Hash::of(b"{\"channel\":26}")) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    testbed.network.set_faults(Faults {
        drop: 1.0,
        ..Faults::NONE
    });
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(
        lamp.status().await.unwrap().configuration,
        Some(Hash::of(b"{\"channel\":11}"))
    );
    testbed.network.set_faults(Faults::NONE);
    let log = testbed
        .until("noticed", |log| config_reports(log).len() == 2)
        .await;
    assert!(!config_reports(&log)[1].applied);
}
