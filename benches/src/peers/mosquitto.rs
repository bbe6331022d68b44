//! mosquitto of Debian as the peer of a node's MQTT edge. It keeps nothing on the disk, as Debian
//! configures it until a client has a session that outlives its connection.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::broker::Broker;
use super::foreign::{Foreign, Program};
use super::mqtt::{Client, Incoming, MqttConnection, MqttError};
use super::publishers::mqtt_error;
use lamplighter_types::wire::topics::HEAD;

use crate::cluster::free_addresses;
use crate::error::BenchError;

/// Starts a broker that takes anybody on loopback.
pub async fn start(program: &Program, parent: &Path) -> Result<Foreign, BenchError> {
    let data = parent.join("mosquitto");
    fs::create_dir_all(&data).map_err(BenchError::io("making", &data))?;
    let address = free_addresses(1)?[0];
    let settings = data.join("mosquitto.conf");
    // Unless it is started by root, the first line has no effect; then it would become a user
    // that may not read its settings here. The limits of a client are those of a node.
    let text = format!(
        "user root\nlistener {} 127.0.0.1\nallow_anonymous true\npersistence false\n\
         set_tcp_nodelay true\nmax_inflight_messages 100\nmax_queued_messages 1024\n\
         log_dest stderr\nlog_type error\n",
        address.port()
    );
    fs::write(&settings, text).map_err(BenchError::io("writing", &settings))?;
    let arguments = ["-c".to_owned(), settings.display().to_string()];
    let mut broker = Foreign::start(program, &arguments, &data, address)?;
    broker.ready(answers).await?;
    Ok(broker)
}

async fn answers(address: SocketAddr) -> bool {
    let client = Client {
        id: "ready".to_owned(),
        token: None,
    };
    MqttConnection::open(address, &client).await.is_ok()
}

/// A client that publishes messages of one length to all.
pub struct Publisher {
    connection: MqttConnection,
    address: SocketAddr,
    length: usize,
    number: u64,
}

impl Publisher {
    pub async fn open(broker: &Broker, length: usize) -> Result<Self, BenchError> {
        let client = Client {
            id: "publisher".to_owned(),
            token: None,
        };
        let connection = MqttConnection::open(broker.address, &client).await;
        Ok(Self {
            connection: connection.map_err(mqtt_error(broker.address))?,
            address: broker.address,
            length,
            number: 0,
        })
    }

    /// Publishes the next message, retained by nobody, and returns its number.
    pub async fn publish(&mut self) -> Result<u64, BenchError> {
        self.number += 1;
        let mut text = format!("{{\"height\":{},\"rest\":\"", self.number);
        while text.len() + 2 < self.length {
            text.push('x');
        }
        text += "\"}";
        self.connection.publish(HEAD, 1, "", text.as_bytes());
        let flushed = self.connection.flush().await;
        flushed.map_err(mqtt_error(self.address))?;
        match self
            .connection
            .next()
            .await
            .map_err(mqtt_error(self.address))?
        {
            Incoming::PubAck { reason, .. } if reason < 0x80 => Ok(self.number),
            _ => Err(mqtt_error(self.address)(MqttError::Order)),
        }
    }
}
