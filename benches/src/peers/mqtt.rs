//! An MQTT 5 client for the load: CONNECT, SUBSCRIBE, and PUBLISH with QoS 1. It takes less
//! processor time from the brokers than a full client would, and is the same for all of them.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
/// Longest packet: far above the receipts and heads of the measurements.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// The property of a PUBLISH that says how its payload is encoded.
const CONTENT_TYPE: u8 = 0x03;
/// The reason of a PUBACK with which a node asks to send the same again later.
pub const QUOTA_EXCEEDED: u8 = 0x97;
const KEEPALIVE_SECONDS: u16 = 600;

/// A connection to a broker failed.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("a packet is malformed or too long")]
    Malformed,
    #[error("the broker answered with reason {0:#04x}")]
    Refused(u8),
    #[error("a transaction did not succeed: {0}")]
    NotCommitted(String),
    #[error("another packet was expected")]
    Order,
}

/// A packet from the broker.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The reason, 0 for success.
    ConnAck(u8),
    SubAck(u8),
    PubAck {
        id: u16,
        reason: u8,
    },
    /// With an id if it wants a PUBACK.
    Publish {
        id: Option<u16>,
        payload: Bytes,
    },
    Other,
}

/// A client by its id, and the token of its account.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub token: Option<String>,
}

pub struct MqttConnection {
    stream: TcpStream,
    received: BytesMut,
    sent: BytesMut,
}

impl MqttConnection {
    /// Connects and waits for the CONNACK.
    pub async fn open(address: SocketAddr, client: &Client) -> Result<Self, MqttError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            received: BytesMut::new(),
            sent: BytesMut::new(),
        };
        connection.put(0x10, &connect(client));
        connection.flush().await?;
        match connection.next().await? {
            Incoming::ConnAck(0) => Ok(connection),
            Incoming::ConnAck(reason) => Err(MqttError::Refused(reason)),
            _ => Err(MqttError::Order),
        }
    }

    /// Subscribes with QoS 1 and waits for the SUBACK. Messages that come first are acknowledged.
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), MqttError> {
        let mut body = BytesMut::new();
        // The packet id, no properties, the filter, its options.
        body.put_slice(&[0, 1, 0]);
        put_text(&mut body, topic);
        body.put_u8(1);
        self.put(0x82, &body);
        self.flush().await?;
        loop {
            match self.next().await? {
                Incoming::SubAck(granted) if granted < 0x80 => return Ok(()),
                Incoming::SubAck(reason) => return Err(MqttError::Refused(reason)),
                Incoming::Publish { id, .. } => self.acknowledge(id).await?,
                _ => return Err(MqttError::Order),
            }
        }
    }

    /// Buffers a publication with QoS 1; [`flush`](Self::flush) sends it.
    pub fn publish(&mut self, topic: &str, id: u16, content_type: &str, payload: &[u8]) {
        let mut properties = BytesMut::new();
        if !content_type.is_empty() {
            properties.put_u8(CONTENT_TYPE);
            put_text(&mut properties, content_type);
        }
        let mut body = BytesMut::with_capacity(topic.len() + payload.len() + 64);
        put_text(&mut body, topic);
        body.put_u16(id);
        put_length(&mut body, properties.len());
        body.put_slice(&properties);
        body.put_slice(payload);
        self.put(0x32, &body);
    }

    /// Acknowledges a message, if it wants that.
    pub async fn acknowledge(&mut self, id: Option<u16>) -> Result<(), MqttError> {
        if let Some(id) = id {
            self.put(0x40, &id.to_be_bytes());
            self.flush().await?;
        }
        Ok(())
    }

    fn put(&mut self, first: u8, body: &[u8]) {
        self.sent.put_u8(first);
        put_length(&mut self.sent, body.len());
        self.sent.put_slice(body);
    }

    pub async fn flush(&mut self) -> Result<(), MqttError> {
        let sent = self.sent.split();
        Ok(self.stream.write_all(&sent).await?)
    }

    /// Waits for the next packet. It can be cancelled.
    pub async fn next(&mut self) -> Result<Incoming, MqttError> {
        loop {
            if let Some(packet) = take_packet(&mut self.received)? {
                return Ok(packet);
            }
            self.received.reserve(2_048);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(MqttError::Closed);
            }
        }
    }

    /// The next packet, if all of it has been received already.
    pub fn buffered(&mut self) -> Result<Option<Incoming>, MqttError> {
        take_packet(&mut self.received)
    }
}

fn connect(client: &Client) -> BytesMut {
    let mut body = BytesMut::new();
    put_text(&mut body, "MQTT");
    let credentials = if client.token.is_some() { 0xC0 } else { 0 };
    // Version 5, a clean start.
    body.put_slice(&[5, credentials | 0x02]);
    body.put_u16(KEEPALIVE_SECONDS);
    body.put_u8(0);
    put_text(&mut body, &client.id);
    if let Some(token) = &client.token {
        put_text(&mut body, &client.id);
        put_text(&mut body, token);
    }
    body
}

fn put_text(body: &mut BytesMut, text: &str) {
    body.put_u16(text.len() as u16);
    body.put_slice(text.as_bytes());
}

fn put_length(body: &mut BytesMut, mut length: usize) {
    loop {
        let seven = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return body.put_u8(seven);
        }
        body.put_u8(seven | 0x80);
    }
}

/// Takes a variable length from the begin; `None` until it is complete.
fn length_at(bytes: &[u8]) -> Result<Option<(usize, usize)>, MqttError> {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(MqttError::Malformed)
    }
}

/// Takes a whole packet from the begin of what was received.
pub fn take_packet(received: &mut BytesMut) -> Result<Option<Incoming>, MqttError> {
    let Some((length, bytes)) = length_at(received.get(1..).unwrap_or_default())? else {
        return Ok(None);
    };
    if length > PACKET_BYTES_MAX {
        return Err(MqttError::Malformed);
    }
    if received.len() < 1 + bytes + length {
        return Ok(None);
    }
    let first = received[0];
    received.advance(1 + bytes);
    let body = received.split_to(length).freeze();
    packet(first, body).map(Some)
}

fn packet(first: u8, mut body: Bytes) -> Result<Incoming, MqttError> {
    let at = |index: usize| body.get(index).copied().ok_or(MqttError::Malformed);
    match first >> 4 {
        CONNACK => at(1).map(Incoming::ConnAck),
        SUBACK => body
            .last()
            .copied()
            .map(Incoming::SubAck)
            .ok_or(MqttError::Malformed),
        PUBACK => Ok(Incoming::PubAck {
            id: u16::from_be_bytes([at(0)?, at(1)?]),
            reason: at(2).unwrap_or(0),
        }),
        PUBLISH => {
            let topic = usize::from(u16::from_be_bytes([at(0)?, at(1)?]));
            let has_id = first & 0x06 != 0;
            let needed = 2 + topic + if has_id { 2 } else { 0 };
            if body.len() < needed {
                return Err(MqttError::Malformed);
            }
            body.advance(2 + topic);
            let id = has_id.then(|| body.get_u16());
            let (properties, bytes) = length_at(&body)?.ok_or(MqttError::Malformed)?;
            if body.len() < bytes + properties {
                return Err(MqttError::Malformed);
            }
            body.advance(bytes + properties);
            Ok(Incoming::Publish { id, payload: body })
        }
        _ => Ok(Incoming::Other),
    }
}
