use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::coap::{Code, Request, format};
use lamplighter_gateway::lwm2m::{agent, order, path};
use lamplighter_types::proof::TrustedSet;
use lamplighter_types::{Validator, ValidatorSet};

use super::super::{ORDER_REFUSED, Slot, Thing};
use super::testbed::{CHAIN, Testbed, image, key, manifest, offer, vendor};

/// A lamp that checks orders from a set of one validator on.
async fn pinned_lamp(testbed: &Testbed) -> Thing {
    let validator = Validator {
        node: 1,
        account: lamplighter_types::Id::new("node-1").unwrap(),
        key: key("node-1").public(),
        address: String::new(),
    };
    let mut config = testbed.config("lamp-1", 2);
    config.ledger = Some(TrustedSet {
        chain_id: CHAIN,
        height: 0,
        set: ValidatorSet {
            validators: vec![validator],
        },
    });
    Thing::spawn(config).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_thing_that_checks_orders_takes_none_without_proof_and_reports_that_once() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = pinned_lamp(&testbed).await;
    testbed
        .until("registered", |log| !log.registered.is_empty())
        .await;
    let south = testbed.south.as_ref().unwrap().handle();
    let new = image("new", 5_000);
    let offer = offer("lamp-1", &manifest(&new), &vendor());
    let put = |path, bytes| Request::new(Code::PUT, path).with_payload(format::OCTETS, bytes);
    for request in [
        put(agent::OFFER, offer.clone()),
        put(agent::OFFER, offer),
        put(agent::CONFIGURATION, b"{}".to_vec()),
        Request::new(Code::POST, path::UPDATE),
        put(path::PACKAGE, vec![1]),
    ] {
        let answer = south.request(lamp.addr(), request).await.unwrap();
        assert_eq!(answer.code, Code::FORBIDDEN, "{}", answer.text());
    }
    let junk = put(order::ORDER, vec![9; 3_000]);
    let answer = south.request(lamp.addr(), junk).await.unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);
    let log = testbed
        .until("both are reported", |log| log.events.len() == 2)
        .await;
    let codes: Vec<_> = log.events.iter().map(|event| event.data.as_str()).collect();
    let wanted = [
        r#"{"answer":"4.03","code":"order.unproven"}"#,
        r#"{"answer":"4.00","code":"order.malformed"}"#,
    ];
    assert_eq!(codes, wanted);
    assert!(log.events.iter().all(|event| event.kind == ORDER_REFUSED));
    let status = lamp.status().await.unwrap();
    assert_eq!(
        (status.slot, status.configuration, status.held_bytes),
        (Slot::A, None, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_thing_without_the_ledger_has_no_resources_for_it() {
    let testbed = Testbed::new(1, Faults::NONE);
    let lamp = testbed.lamp("lamp-1", 2).await;
    testbed
        .until("registered", |log| !log.registered.is_empty())
        .await;
    let south = testbed.south.as_ref().unwrap().handle();
    let get = Request::get(order::TRUSTED_HEIGHT);
    let put = |path| Request::new(Code::PUT, path).with_payload(format::OCTETS, vec![1]);
    for request in [get, put(order::ORDER), put(order::VALIDATORS)] {
        let answer = south.request(lamp.addr(), request).await.unwrap();
        assert_eq!(answer.code, Code::NOT_FOUND);
    }
}
