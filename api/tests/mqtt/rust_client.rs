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
    timeout(TIMEOUT, find).await.expect("nothing came")
}

#[tokio::test(flavor = "multi_thread")]
async fn rumqttc_3_1_1_over_tls() {
    let world = world().await;
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
    let (tx, hash) = world.transaction("gw-1");
    client
        .publish(TX, QoS::AtLeastOnce, false, tx)
        .await
        .unwrap();
    let (mut acknowledged, mut receipt) = (false, None);
    while !acknowledged || receipt.is_none() {
        let wanted = |p: &Incoming| matches!(p, Incoming::PubAck(_) | Incoming::Publish(_));
        match incoming(&mut events, wanted).await {
            Incoming::Publish(message) => receipt = Some(message),
            _ => acknowledged = true,
        }
    }
    let receipt = receipt.unwrap();
    assert_eq!(receipt.topic, RECEIPT);
    assert_eq!(json(&receipt.payload)["transaction"], hash.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn rumqttc_5_learns_why_a_transaction_is_refused() {
    let world = world().await;
    let mut options = v5::MqttOptions::new("gw-1", "127.0.0.1", world.plain.port());
    options.set_credentials("gw-1", token("gw-1"));
    let (client, mut events) = v5::AsyncClient::new(options, 10);
    let tx = world.tx("gw-1");
    client
        .publish(TX, v5::mqttbytes::QoS::AtLeastOnce, false, tx)
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
    timeout(TIMEOUT, acks).await.expect("no acknowledgements");
    use v5::mqttbytes::v5::PubAckReason;
    assert_eq!(
        reasons,
        [PubAckReason::Success, PubAckReason::PayloadFormatInvalid]
    );
    assert_eq!(world.count("admitted"), 1);
}
