use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::super::simulated::{Faults, SimulatedNetwork};
use super::super::*;
use super::{MemoryService, addr, body, memory_service};

const BAD: Faults = Faults {
    drop: 0.1,
    duplicate: 0.1,
    delay_max: Duration::from_millis(200),
};

fn large() -> CoapConfig {
    CoapConfig {
        body_bytes_max: 1 << 20,
        ..CoapConfig::default()
    }
}

fn start(
    network: &SimulatedNetwork,
    port: u16,
    config: CoapConfig,
    memory_service: Arc<MemoryService>,
) -> CoapEndpoint {
    let random = StdRng::seed_from_u64(u64::from(port));
    CoapEndpoint::start_seeded(network.attach(addr(port)), config, memory_service, random).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_of_70_kb_passes_a_network_that_loses_a_tenth() {
    for seed in 0..5 {
        let network = SimulatedNetwork::new(seed, BAD);
        let (here, there) = (memory_service(), memory_service());
        let client = start(&network, 1, large(), here);
        let _server = start(&network, 2, large(), there.clone());
        let image = body(70 * 1024 + 13);
        let put = Request::new(Code::PUT, "/5/0/0").with_payload(format::OCTETS, image.clone());
        let response = client.handle().request(addr(2), put).await.unwrap();
        assert_eq!(response.code, Code::CHANGED);
        assert_eq!(there.get("/5/0/0").as_ref(), Some(&image));
        assert_eq!(there.handled(), 1, "duplicates are not handled again");
        let back = client
            .handle()
            .request(addr(2), Request::get("/5/0/0"))
            .await
            .unwrap();
        assert_eq!(back.payload, image);
    }
}

#[tokio::test(start_paused = true)]
async fn the_smaller_block_size_of_either_side_is_used() {
    for (server_szx, client_szx) in [(6, 2), (2, 6), (0, 0)] {
        let network = SimulatedNetwork::new(1, Faults::NONE);
        let there = memory_service();
        let client = start(
            &network,
            1,
            CoapConfig {
                szx: server_szx,
                ..CoapConfig::default()
            },
            memory_service(),
        );
        let _server = start(
            &network,
            2,
            CoapConfig {
                szx: client_szx,
                ..CoapConfig::default()
            },
            there.clone(),
        );
        let text = body(5_001);
        let put = Request::new(Code::PUT, "/a").with_payload(format::OCTETS, text.clone());
        assert_eq!(
            client.handle().request(addr(2), put).await.unwrap().code,
            Code::CHANGED
        );
        assert_eq!(there.get("/a").as_ref(), Some(&text));
        let back = client
            .handle()
            .request(addr(2), Request::get("/a"))
            .await
            .unwrap();
        assert_eq!(back.payload, text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_waited_for() {
    let network = SimulatedNetwork::new(1, BAD);
    let there = memory_service();
    let client = start(&network, 1, CoapConfig::default(), memory_service());
    let _server = start(&network, 2, CoapConfig::default(), there.clone());
    let response = client
        .handle()
        .request(addr(2), Request::new(Code::POST, "/slow"))
        .await;
    assert_eq!(response.unwrap().payload, b"done");
    assert_eq!(there.handled(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_times_out_after_93_seconds_at_most() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let client = start(&network, 1, CoapConfig::default(), memory_service());
    let before = Instant::now();
    let error = client
        .handle()
        .exchange(addr(9), Request::get("/"))
        .await
        .unwrap_err();
    assert_eq!(error, RequestError::NoAcknowledgement { attempts: 5 });
    let waited = before.elapsed();
    assert!(
        waited >= Duration::from_secs(62) && waited <= Duration::from_secs(93),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn bodies_beyond_the_limit_are_refused_by_both_sides() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let there = memory_service();
    let client = start(&network, 1, large(), memory_service());
    let _server = start(&network, 2, CoapConfig::default(), there.clone());
    let put = Request::new(Code::PUT, "/a").with_payload(format::OCTETS, body(70_000));
    assert_eq!(
        client.handle().request(addr(2), put).await.unwrap().code,
        Code::TOO_LARGE
    );
    assert_eq!(there.get("/a"), None);
    let put = Request::new(Code::PUT, "/a").with_payload(format::OCTETS, body((1 << 20) + 1));
    let error = client.handle().request(addr(2), put).await.unwrap_err();
    assert!(matches!(error, TransferError::TooLarge { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_does_not_hold_up_the_next() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let client = start(&network, 1, CoapConfig::default(), memory_service());
    let handle = client.handle();
    let first = handle.exchange(addr(2), Request::get("/"));
    tokio::time::timeout(Duration::from_secs(1), first)
        .await
        .unwrap_err();
    let _server = start(&network, 2, CoapConfig::default(), memory_service());
    let before = Instant::now();
    handle.exchange(addr(2), Request::get("/")).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn datagrams_of_any_content_leave_the_endpoint_serving(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let network = SimulatedNetwork::new(1, Faults::NONE);
            let server = start(&network, 2, CoapConfig::default(), memory_service());
            let attacker = network.attach(addr(3));
            for mut datagram in datagrams {
                // Half of them at least look like CoAP.
                if let Some(first) = datagram.first_mut().filter(|b| **b % 2 == 0) {
                    *first = 0x40 | (*first & 0x3F);
                }
                attacker.send(&datagram, addr(2).into()).await.unwrap();
            }
            let client = start(&network, 1, CoapConfig::default(), memory_service());
            let answer = client.handle().exchange(addr(2), Request::get("/x")).await.unwrap();
            assert_eq!(answer.code, Code::NOT_FOUND);
            drop(server);
        });
    }
}

/// A loss costs a quarter of a second on a link that was measured to be quick: 390 s without the
/// measurements.
#[tokio::test(start_paused = true)]
async fn a_quick_link_that_loses_a_tenth_does_not_stand_still() {
    let faults = Faults {
        drop: 0.05,
        duplicate: 0.0,
        delay_max: Duration::from_millis(60),
    };
    let network = SimulatedNetwork::new(3, faults);
    let small = CoapConfig { szx: 2, ..large() };
    let client = start(&network, 1, small, memory_service());
    let _server = start(&network, 2, large(), memory_service());
    let begun = Instant::now();
    let put = Request::new(Code::PUT, "/5/0/0").with_payload(format::OCTETS, body(64 * 1024));
    let response = client.handle().request(addr(2), put).await.unwrap();
    assert_eq!(response.code, Code::CHANGED);
    let seconds = begun.elapsed().as_secs();
    // 1,024 blocks: 61 s without a loss, and about 100 losses.
    assert!(seconds < 120, "{seconds} s");
}
