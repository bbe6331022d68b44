//! rumqttc, which the gateway uses.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS, Transport, v5};
use tokio::time::timeout;

use super::support::*;
use super::tls::client_config;

const TX: &str = "lamplighter/1/gw/gw-1/tx";
const RECEIPT: &str = "lamplighter/1/gw/gw-1/receipt";

async fn incoming(events: &mut EventLoop, wanted: impl Fn(&Incoming) -> bool) -> Incoming {
    let find = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(packet)) if wanted(&packet) => return packet,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(PATIENCE, find).await.expect("nothing came")
}

#[tokio::test(flavor = "multi_thread")]
async fn rumqttc_3_1_1_over_tls() {
    let world = world();
    let mut options = MqttOptions::new("gw-1", "localhost", world.tls.port());
    options.set_transport(Transport::tls_with_config(
        client_config(Some("gw-1")).into(),
    ));
    options
        .set_keep_alive(Duration::from_secs(5))
        .set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe(RECEIPT, QoS::AtLeastOnce).await.unwrap();
    incoming(&mut events, |packet| matches!(packet, Incoming::SubAck(_))).await;
    client
        .publish(TX, QoS::AtLeastOnce, false, "tx")
        .await
        .unwrap();
    incoming(&mut events, |packet| matches!(packet, Incoming::PubAck(_))).await;
    world
        .publisher
        .publish_receipt("gw-1", hash(b"tx"), "done".into())
        .unwrap();
    let receipt = incoming(&mut events, |packet| matches!(packet, Incoming::Publish(_))).await;
    let Incoming::Publish(receipt) = receipt else {
        unreachable!()
    };
    assert_eq!(
        (receipt.topic.as_str(), &receipt.payload[..]),
        (RECEIPT, &b"done"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rumqttc_5_is_told_why_a_transaction_is_refused() {
    let world = world();
    let mut options = v5::MqttOptions::new("gw-1", "127.0.0.1", world.plain.port());
    options.set_credentials("gw-1", token("gw-1"));
    let (client, mut events) = v5::AsyncClient::new(options, 10);
    client
        .publish(TX, v5::mqttbytes::QoS::AtLeastOnce, false, "tx")
        .await
        .unwrap();
    client
        .publish(TX, v5::mqttbytes::QoS::AtLeastOnce, false, "bad")
        .await
        .unwrap();
    let mut reasons = Vec::new();
    let acks = async {
        while reasons.len() < 2 {
            // rumqttc takes a refusal for an error of the connection; it is delivered before.
            if let Ok(v5::Event::Incoming(v5::Incoming::PubAck(ack))) = events.poll().await {
                reasons.push(ack.reason);
            }
        }
    };
    timeout(PATIENCE, acks).await.expect("no acknowledgements");
    use v5::mqttbytes::v5::PubAckReason;
    assert_eq!(
        reasons,
        [PubAckReason::Success, PubAckReason::PayloadFormatInvalid]
    );
    assert_eq!(world.ledger.taken_by("gw-1").len(), 1);
}
