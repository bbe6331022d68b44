use std::time::Duration;

use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::lwm2m::agent::ThingReport;
use lamplighter_gateway::lwm2m::{FirmwareState, Stage, UpdateResult};
use lamplighter_gateway::south::{SouthCommand, SouthConfig, WorkNotice};
use lamplighter_types::{DeploymentState::*, Hash};

use super::super::{SelfTest, Slot, ThingMesh};
use super::testbed::{Testbed, image, manifest, version};

const SIZE: usize = 70 * 1024 + 13;

#[tokio::test(start_paused = true)]
async fn a_release_is_transferred_installed_tried_and_confirmed() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", SIZE);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed
        .until("downloaded", |log| {
            log.states("lamp-1").contains(&Downloaded)
        })
        .await;
    assert_eq!(lamp.status().await.unwrap().slot, Slot::A);
    testbed.install("lamp-1").await;
    let log = testbed
        .until("confirmed", |log| log.ended("lamp-1").is_some())
        .await;

    let reports = log.deployments("lamp-1");
    let states: Vec<_> = reports.iter().map(|r| (r.from, r.to)).collect();
    let expected = [
        (Downloading, Downloaded),
        (Downloaded, Installing),
        (Installing, Staged),
        (Staged, Trial),
        (Trial, Confirmed),
    ];
    assert_eq!(states, expected);
    assert!(
        reports
            .windows(2)
            .all(|pair| pair[0].counter < pair[1].counter)
    );
    assert_eq!(reports[4].digest, Some(Hash::of(&new)));
    assert!(
        reports[4].detail.contains("slot B, boot 2"),
        "{}",
        reports[4].detail
    );
    let status = lamp.status().await.unwrap();
    assert_eq!(
        (status.slot, status.version, status.boots),
        (Slot::B, version(1), 2)
    );
    assert_eq!((status.floor, status.digest), (2, Hash::of(&new)));
    assert_eq!(
        (status.state, status.result),
        (FirmwareState::Idle, UpdateResult::Success)
    );
    assert_eq!(lamp.active_image().await.unwrap(), new);
    let last = testbed.until("inventory of the new image", |log| {
        matches!(log.reports.last(), Some(ThingReport::Inventory(r)) if r.digest == Hash::of(&new))
    });
    last.await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_fails_its_self_test_is_reverted() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    lamp.set_self_test(SelfTest::Fails);
    let new = image("new", 20_000);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    let log = testbed
        .until("reverted", |log| log.ended("lamp-1").is_some())
        .await;
    let expected = [Downloaded, Installing, Staged, Trial, Reverted];
    assert_eq!(log.states("lamp-1"), expected);
    let status = lamp.status().await.unwrap();
    assert_eq!(
        (status.slot, status.version, status.floor),
        (Slot::A, version(0), 1)
    );
    assert_eq!(
        log.ended("lamp-1").unwrap().digest,
        Some(Hash::of(&image("factory", 5_000)))
    );
    assert_eq!(status.result, UpdateResult::UpdateFailed);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_hangs_is_lost_and_reverted_by_the_power_button() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    lamp.set_self_test(SelfTest::NeverComesBack);
    let new = image("new", 20_000);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    let log = testbed.until("lost", |log| !log.lost.is_empty()).await;
    assert!(
        !log.states("lamp-1").contains(&Trial),
        "a hanging image says nothing"
    );
    assert_eq!(log.ended("lamp-1"), None);
    lamp.power_cycle();
    let log = testbed
        .until("reverted", |log| log.ended("lamp-1").is_some())
        .await;
    let last = log.ended("lamp-1").unwrap();
    assert_eq!((last.from, last.to), (Staged, Reverted));
    assert_eq!(lamp.status().await.unwrap().slot, Slot::A);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_reach_the_gateway_is_reverted() {
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
    testbed.network.set_faults(Faults {
        drop: 1.0,
        ..Faults::NONE
    });
    tokio::time::sleep(Duration::from_secs(150)).await;
    testbed.network.set_faults(Faults::NONE);
    let log = testbed
        .until("reverted", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(log.ended("lamp-1").unwrap().to, Reverted);
    assert_eq!(lamp.status().await.unwrap().slot, Slot::A);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_can_be_cancelled_but_not_an_installation() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", SIZE);
    let cancel = || SouthCommand::Cancel {
        endpoint: "lamp-1".to_owned(),
        deployment: "spring".to_owned(),
    };
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed
        .until("some progress", |log| log.progress() > 0)
        .await;
    testbed.command(cancel()).await;
    let noticed = |log: &super::testbed::Log, wanted: fn(&WorkNotice) -> bool| {
        log.notices.iter().any(|(_, notice)| wanted(notice))
    };
    testbed
        .until("the notice", |log| {
            noticed(log, |n| {
                matches!(
                    n,
                    WorkNotice::Stage {
                        stage: Stage::Cancelled,
                        ..
                    }
                )
            })
        })
        .await;
    assert_eq!(lamp.status().await.unwrap().held_bytes, 0);

    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    testbed
        .until("installing", |log| {
            log.states("lamp-1").contains(&Installing)
        })
        .await;
    testbed.command(cancel()).await;
    testbed
        .until("refused", |log| {
            noticed(log, |n| matches!(n, WorkNotice::Refused { .. }))
        })
        .await;
    testbed
        .until("confirmed", |log| log.states("lamp-1").contains(&Confirmed))
        .await;
}

#[tokio::test(start_paused = true)]
async fn twenty_things_are_updated_at_once_over_a_network_that_loses_a_tenth() {
    let faults = Faults {
        drop: 0.1,
        duplicate: 0.05,
        delay_max: Duration::from_millis(100),
    };
    let mut settings = SouthConfig::default();
    // Four wait for the others, and nobody proves their orders again here.
    settings.session.order_age_max = Duration::from_secs(86_400);
    let testbed = Testbed::with(3, faults, settings);
    let begun = tokio::time::Instant::now();
    let names: Vec<String> = (0..20).map(|n| format!("lamp-{n}")).collect();
    let configs = names
        .iter()
        .zip(10..)
        .map(|(name, host)| testbed.config(name, host))
        .collect();
    let mesh = ThingMesh::spawn(configs).await.unwrap();
    let new = image("new", SIZE);
    for name in &names {
        testbed.transfer(name, &new, &manifest(&new)).await;
        testbed.install(name).await;
    }
    let ended = |log: &super::testbed::Log| names.iter().all(|name| log.ended(name).is_some());
    let log = testbed.until("all ended", ended).await;
    println!(
        "{:?}, {} datagrams",
        begun.elapsed(),
        testbed.network.sent()
    );
    for name in &names {
        assert_eq!(log.ended(name).unwrap().to, Confirmed, "{name}");
        let thing = mesh.get(&name.parse().unwrap()).unwrap();
        assert_eq!(thing.active_image().await.unwrap(), new);
    }
    mesh.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_downloaded_package_is_reported_again_after_a_ledger_reset() {
    let testbed = Testbed::new(1, Faults::NONE);
    let _lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", 20_000);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    let idle = |log: &super::testbed::Log, times: usize| {
        let downloaded = |(_, notice): &&(String, WorkNotice)| {
            matches!(
                notice,
                WorkNotice::Stage {
                    stage: Stage::Downloaded,
                    ..
                }
            )
        };
        log.notices.iter().filter(downloaded).count() == times
    };
    testbed.until("downloaded", |log| idle(log, 1)).await;
    let sent = testbed.network.sent();
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.until("downloaded again", |log| idle(log, 2)).await;
    assert!(
        testbed.network.sent() - sent < 20,
        "nothing was transferred twice"
    );
    let twice = |log: &super::testbed::Log| log.states("lamp-1") == [Downloaded, Downloaded];
    testbed.until("reported again", twice).await;
}
