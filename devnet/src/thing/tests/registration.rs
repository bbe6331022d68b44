use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::south::{ServedDevices, ThingKey};

use super::testbed::{CHAIN, Testbed, key};

/// Devices with keys, of which each request to register asks once.
#[derive(Default)]
struct Keyed(AtomicUsize);

impl ServedDevices for Keyed {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        Some(endpoint_name.to_owned())
    }

    fn serves(&self, _endpoint: &str) -> bool {
        true
    }

    fn key(&self, endpoint: &str) -> Option<ThingKey> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Some(ThingKey {
            chain_id: CHAIN,
            key: key(endpoint).public(),
        })
    }
}

/// One round trip for the nonce, one for the signature over it.
#[tokio::test(start_paused = true)]
async fn a_signed_registration_takes_two_round_trips() {
    let mut testbed = Testbed::new(1, Faults::NONE);
    testbed.stop_gateway().await;
    let keyed = Arc::new(Keyed::default());
    testbed.start_gateway_for(keyed.clone());
    let _lamp = testbed.lamp("lamp-1", 2).await;
    testbed
        .until("registered", |log| !log.registered.is_empty())
        .await;
    assert_eq!(keyed.0.load(Ordering::Relaxed), 2, "requests to register");
}
