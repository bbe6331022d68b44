use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::coap::{
    CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format,
};
use lamplighter_gateway::lwm2m::{Stage, UpdateResult, agent, path};
use lamplighter_gateway::south::WorkNotice;
use lamplighter_types::{DeploymentState::*, ReleaseManifest, SecretKey};

use super::super::{Slot, Thing};
use super::testbed::{Testbed, image, key, manifest, offer, vendor, version};

/// Offers a release with a package and returns code and text of the rejection.
async fn rejected(manifest: &ReleaseManifest, signer: &SecretKey, package: &[u8]) -> (u32, String) {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    testbed
        .transfer_offer("lamp-1", package, offer("lamp-1", manifest, signer))
        .await;
    testbed.install("lamp-1").await;
    let log = testbed
        .until("ended", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(log.states("lamp-1"), [Rejected]);
    let status = lamp.status().await.unwrap();
    assert_eq!((status.slot, status.floor, status.boots), (Slot::A, 1, 1));
    assert_eq!(lamp.active_image().await.unwrap(), image("factory", 5_000));
    let last = log.ended("lamp-1").unwrap();
    assert_eq!(u32::from(status.result.value()), last.code);
    (last.code, last.detail)
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_transit_is_refused() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", 20_000);
    lamp.corrupt_next_block().await.unwrap();
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    let log = testbed
        .until("ended", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(log.states("lamp-1"), [Rejected]);
    assert_eq!(log.ended("lamp-1").unwrap().code, 5);
    let status = lamp.status().await.unwrap();
    assert_eq!(status.result, UpdateResult::IntegrityCheckFailed);
    assert_eq!((status.slot, status.held_bytes), (Slot::A, 0));
    // The same release without the flaw is accepted afterwards.
    testbed
        .until("the gateway knows", |log| {
            let rejected = |(_, notice): &(String, WorkNotice)| {
                matches!(
                    notice,
                    WorkNotice::Stage {
                        stage: Stage::Rejected(_),
                        ..
                    }
                )
            };
            log.notices.iter().any(rejected)
        })
        .await;
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed.install("lamp-1").await;
    testbed
        .until("confirmed", |log| log.states("lamp-1").contains(&Confirmed))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_the_gateways_file_is_refused() {
    let good = image("new", 20_000);
    let mut bad = good.clone();
    bad[19_999] ^= 0x80;
    let (code, words) = rejected(&manifest(&good), &vendor(), &bad).await;
    assert_eq!(code, 5);
    assert!(words.contains("size and digest"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn bytes_after_the_image_are_refused() {
    let good = image("new", 20_000);
    let longer = [&good[..], b"more"].concat();
    assert_eq!(rejected(&manifest(&good), &vendor(), &longer).await.0, 5);
}

#[tokio::test(start_paused = true)]
async fn releases_that_are_not_for_this_thing_are_refused() {
    let new = image("new", 5_000);
    let good = manifest(&new);
    let (code, words) = rejected(&good, &key("stranger"), &new).await;
    assert!(code == 5 && words.contains("vendor"), "{words}");
    let other = ReleaseManifest {
        hardware_classes: vec!["lamp-b2".into()],
        ..good.clone()
    };
    let (code, words) = rejected(&other, &vendor(), &new).await;
    assert!(code == 6 && words.contains("hardware class"), "{words}");
    let old = ReleaseManifest {
        security_counter: 0,
        ..good.clone()
    };
    let (code, words) = rejected(&old, &vendor(), &new).await;
    assert!(code == 6 && words.contains("floor"), "{words}");
    let late = ReleaseManifest {
        replaces_from: Some(version(9)),
        ..good.clone()
    };
    assert_eq!(rejected(&late, &vendor(), &new).await.0, 6);
    let expired = ReleaseManifest {
        expires_ms: Some(1),
        ..good.clone()
    };
    assert_eq!(rejected(&expired, &vendor(), &new).await.0, 6);
    let huge = ReleaseManifest {
        size_bytes: 1 << 40,
        ..good
    };
    assert_eq!(rejected(&huge, &vendor(), &new).await.0, 2);
}

struct EmptyService;

#[async_trait::async_trait]
impl CoapService for EmptyService {
    async fn handle(&self, _peer: Peer, _request: Request) -> Response {
        Response::new(Code::NOT_FOUND)
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_gateway_may_write_and_nothing_without_an_offer() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp: Thing = testbed.lamp("lamp-1", 2).await;
    testbed
        .until("registered", |log| !log.registered.is_empty())
        .await;
    let package = || Request::new(Code::PUT, path::PACKAGE).with_payload(format::OCTETS, vec![1]);
    let link = testbed.network.attach(([10, 0, 0, 99], 5683).into());
    let other = CoapEndpoint::start(
        link,
        CoapConfig::default(),
        std::sync::Arc::new(EmptyService),
    )
    .unwrap();
    let response = other
        .handle()
        .request(lamp.addr(), package())
        .await
        .unwrap();
    assert_eq!(response.code, Code::UNAUTHORIZED);
    let version = other
        .handle()
        .request(lamp.addr(), Request::get(path::FIRMWARE_VERSION))
        .await;
    assert_eq!(version.unwrap().payload, b"1.0.0");

    let south = testbed.south.as_ref().unwrap().handle();
    let response = south.request(lamp.addr(), package()).await.unwrap();
    assert_eq!(response.code, Code::FORBIDDEN);
    let install = Request::new(Code::POST, path::UPDATE);
    let response = south.request(lamp.addr(), install).await.unwrap();
    assert_eq!(response.code, Code::METHOD_NOT_ALLOWED);
    let junk = Request::new(Code::PUT, agent::OFFER).with_payload(format::OCTETS, vec![9; 500]);
    assert_eq!(
        south.request(lamp.addr(), junk).await.unwrap().code,
        Code::BAD_REQUEST
    );
    let new = image("new", 5_000);
    let foreign = offer("lamp-2", &manifest(&new), &vendor());
    let foreign = Request::new(Code::PUT, agent::OFFER).with_payload(format::OCTETS, foreign);
    assert_eq!(
        south.request(lamp.addr(), foreign).await.unwrap().code,
        Code::FORBIDDEN
    );
}
