//! Attacks by a gateway on the MQTT topics of another one.

use std::time::Duration;

use lamplighter_types::login::Audience;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};

use super::events::ROGUE;
use crate::DevnetError;
use crate::journal::Journal;
use crate::network::Devnet;

/// Time for a node to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

async fn connect(devnet: &Devnet, password: Option<String>) -> (AsyncClient, EventLoop) {
    let address = devnet.nodes[0].config.mqtt_listen;
    let mut options = MqttOptions::new(ROGUE, address.ip().to_string(), address.port());
    if let Some(password) = password {
        options.set_credentials(ROGUE, password);
    }
    AsyncClient::new(options, 10)
}

/// Waits for the packet that decides.
async fn answer<T>(
    events: &mut EventLoop,
    mut look: impl FnMut(Result<Incoming, String>) -> Option<T>,
) -> Result<T, DevnetError> {
    let search = async {
        loop {
            let found = match events.poll().await {
                Ok(Event::Incoming(packet)) => look(Ok(packet)),
                Ok(Event::Outgoing(_)) => None,
                Err(error) => look(Err(error.to_string())),
            };
            if let Some(found) = found {
                return found;
            }
        }
    };
    let late = |_| DevnetError::Unexpected("the MQTT edge did not answer".to_owned());
    tokio::time::timeout(ANSWER_WITHIN, search)
        .await
        .map_err(late)
}

pub(super) async fn run(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let token = devnet.client(ROGUE)?.token(0, Audience::Mqtt).await;
    let token = token.map_err(DevnetError::client("getting a token"))?.token;
    journal.attack(
        "a gateway that connects without a token",
        without_token(devnet, None).await,
    );
    let wrong = Some("AAAA.BBBB".to_owned());
    journal.attack(
        "a gateway that connects with a made-up token",
        without_token(devnet, wrong).await,
    );
    let verdict = subscription(devnet, token.clone()).await;
    journal.attack("a subscription to another gateway's work", verdict);
    let verdict = publication(devnet, token).await;
    journal.attack("a publication on another gateway's topic", verdict);
    Ok(())
}

async fn without_token(devnet: &Devnet, password: Option<String>) -> Result<String, DevnetError> {
    let (_client, mut events) = connect(devnet, password).await;
    let verdict = answer(&mut events, |packet| match packet {
        Ok(Incoming::ConnAck(ack)) => Some(Err(format!("connected: {ack:?}"))),
        Ok(_) => None,
        Err(refusal) => Some(Ok(refusal)),
    });
    verdict.await?.map_err(DevnetError::NotRefused)
}

async fn subscription(devnet: &Devnet, token: String) -> Result<String, DevnetError> {
    let (client, mut events) = connect(devnet, Some(token)).await;
    let failed = |error: rumqttc::v5::ClientError| DevnetError::Unexpected(error.to_string());
    client
        .subscribe("lamplighter/1/gw/gateway-1/work", QoS::AtLeastOnce)
        .await
        .map_err(failed)?;
    let verdict = answer(&mut events, |packet| match packet {
        Ok(Incoming::SubAck(ack)) => Some(match ack.return_codes.first() {
            Some(SubscribeReasonCode::NotAuthorized) => Ok("SUBACK 0x87 not authorized".to_owned()),
            other => Err(format!("{other:?}")),
        }),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    verdict.await?.map_err(DevnetError::NotRefused)
}

async fn publication(devnet: &Devnet, token: String) -> Result<String, DevnetError> {
    let (client, mut events) = connect(devnet, Some(token)).await;
    let failed = |error: rumqttc::v5::ClientError| DevnetError::Unexpected(error.to_string());
    let topic = "lamplighter/1/gw/gateway-1/tx";
    client
        .publish(topic, QoS::AtLeastOnce, false, "{}")
        .await
        .map_err(failed)?;
    let verdict = answer(&mut events, |packet| match packet {
        Ok(Incoming::PubAck(ack)) => Some(match ack.reason {
            PubAckReason::NotAuthorized => Ok("PUBACK 0x87 not authorized".to_owned()),
            other => Err(format!("{other:?}")),
        }),
        // The acknowledgement comes first; an error alone does not decide.
        Ok(_) => None,
        Err(error) if error.contains("NotAuthorized") => Some(Ok(error)),
        Err(error) => Some(Err(error)),
    });
    verdict.await?.map_err(DevnetError::NotRefused)
}
