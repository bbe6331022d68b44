//! A client made of bytes, which can also send what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::{TIMEOUT, token};

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;
pub const UNSUBACK: u8 = 11;
pub const PINGRESP: u8 = 13;
pub const DISCONNECT: u8 = 14;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A packet from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

impl Packet {
    /// Topic, packet id and payload of a PUBLISH.
    pub fn publish(&self, v5: bool) -> (String, u16, Vec<u8>) {
        assert_eq!(self.kind, PUBLISH, "{self:?}");
        let length = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let topic = String::from_utf8(self.body[2..2 + length].to_vec()).unwrap();
        let mut at = 2 + length;
        let mut id = 0;
        if self.flags & 6 != 0 {
            id = u16::from_be_bytes([self.body[at], self.body[at + 1]]);
            at += 2;
        }
        if v5 {
            at += 1 + usize::from(self.body[at]);
        }
        (topic, id, self.body[at..].to_vec())
    }
}

pub struct Raw {
    stream: Box<dyn Stream>,
    pub v5: bool,
}

/// The content of a CONNECT.
pub struct ConnectPacket<'a> {
    pub v5: bool,
    pub id: &'a str,
    pub user: &'a str,
    pub password: String,
    pub clean: bool,
    pub keepalive: u16,
    /// MQTT 5 session expiry in seconds.
    pub expiry: u32,
    /// MQTT 5 receive maximum.
    pub window: Option<u16>,
    pub will: Option<(&'a str, &'a [u8])>,
    pub will_retain: bool,
    pub will_delay: u32,
}

impl<'a> ConnectPacket<'a> {
    pub fn new(v5: bool, id: &'a str) -> Self {
        Self {
            v5,
            id,
            user: id,
            password: token(id),
            clean: true,
            keepalive: 60,
            expiry: 0,
            window: None,
            will: None,
            will_retain: false,
            will_delay: 0,
        }
    }

    pub fn keep(mut self) -> Self {
        self.clean = false;
        self.expiry = 600;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = 0xc0 | u8::from(self.clean) << 1;
        if self.will.is_some() {
            flags |= 4 | 8 | u8::from(self.will_retain) << 5;
        }
        let mut body = string("MQTT");
        body.extend([if self.v5 { 5 } else { 4 }, flags]);
        body.extend(self.keepalive.to_be_bytes());
        if self.v5 {
            let mut properties = vec![17];
            properties.extend(self.expiry.to_be_bytes());
            if let Some(window) = self.window {
                properties.push(33);
                properties.extend(window.to_be_bytes());
            }
            body.push(properties.len() as u8);
            body.extend(properties);
        }
        body.extend(string(self.id));
        if let Some((topic, payload)) = self.will {
            if self.v5 {
                body.extend([5, 24]);
                body.extend(self.will_delay.to_be_bytes());
            }
            body.extend(string(topic));
            body.extend((payload.len() as u16).to_be_bytes());
            body.extend(payload);
        }
        body.extend(string(self.user));
        body.extend(string(&self.password));
        frame(0x10, &body)
    }
}

impl Raw {
    pub async fn open(address: SocketAddr, v5: bool) -> Self {
        Self {
            stream: Box::new(TcpStream::connect(address).await.unwrap()),
            v5,
        }
    }

    pub fn over(stream: impl Stream + 'static, v5: bool) -> Self {
        Self {
            stream: Box::new(stream),
            v5,
        }
    }

    /// Connects and is accepted.
    pub async fn connect(address: SocketAddr, connect: ConnectPacket<'_>) -> Self {
        let (raw, code, _) = Self::try_connect(address, connect).await;
        assert_eq!(code, 0);
        raw
    }

    /// Connects and returns code and session flag of the CONNACK.
    pub async fn try_connect(address: SocketAddr, connect: ConnectPacket<'_>) -> (Self, u8, bool) {
        let mut raw = Self::open(address, connect.v5).await;
        raw.send(&connect.bytes()).await;
        let ack = raw.packet().await;
        assert_eq!(ack.kind, CONNACK);
        (raw, ack.body[1], ack.body[0] == 1)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already, which the next read shows.
        self.stream.write_all(bytes).await.ok();
        self.stream.flush().await.ok();
    }

    /// The next packet.
    pub async fn packet(&mut self) -> Packet {
        self.next().await.expect("the server closed")
    }

    /// The next packet, or `None` when the server closed.
    pub async fn next(&mut self) -> Option<Packet> {
        timeout(TIMEOUT, self.read())
            .await
            .expect("the server said nothing")
    }

    async fn read(&mut self) -> Option<Packet> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Packet {
            kind: first >> 4,
            flags: first & 15,
            body,
        })
    }

    /// The next packet of this kind. Messages before it are acknowledged and dropped.
    pub async fn until(&mut self, kind: u8) -> Packet {
        loop {
            let packet = self.packet().await;
            if packet.kind == kind {
                return packet;
            }
            assert_eq!(packet.kind, PUBLISH, "{packet:?}");
            self.ack(packet.publish(self.v5).1).await;
        }
    }

    /// The next packet is of this kind.
    pub async fn expect(&mut self, kind: u8) -> Packet {
        let packet = self.packet().await;
        assert_eq!(packet.kind, kind, "{packet:?}");
        packet
    }

    /// No packet comes for a while.
    pub async fn expect_silence(&mut self) {
        let read = timeout(Duration::from_millis(150), self.read()).await;
        assert!(read.is_err(), "{read:?}");
    }

    /// The server closes, after a DISCONNECT if MQTT 5 gives it a reason, which is returned.
    pub async fn expect_closed(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some(packet) = self.next().await {
            if packet.kind == DISCONNECT {
                reason = Some(packet.body.first().copied().unwrap_or(0));
            }
        }
        reason
    }

    /// Bytes that were on their way when the server closed.
    pub async fn rest(mut self) -> usize {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let read = self.stream.read_to_end(&mut rest);
        timeout(TIMEOUT, read).await.expect("no end").ok();
        rest.len()
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        self.send(&subscribe(self.v5, 77, &[(filter, qos)])).await;
        loop {
            let packet = self.packet().await;
            if packet.kind == SUBACK {
                return *packet.body.last().unwrap();
            }
        }
    }

    pub async fn publish(&mut self, topic: &str, qos: u8, id: u16, payload: &[u8]) {
        let bytes = publish(self.v5, topic.as_bytes(), qos, id, payload);
        self.send(&bytes).await;
    }

    /// Publishes at QoS 1 and returns the reason of the PUBACK (0 in MQTT 3.1.1).
    pub async fn publish_acked(&mut self, topic: &str, id: u16, payload: &[u8]) -> u8 {
        self.publish(topic, 1, id, payload).await;
        let ack = self.until(PUBACK).await;
        assert_eq!(ack.body[..2], id.to_be_bytes());
        ack.body.get(2).copied().unwrap_or(0)
    }

    /// Acknowledges a message; one of QoS 0 has the id 0 and needs none.
    pub async fn ack(&mut self, id: u16) {
        if id == 0 {
            return;
        }
        self.send(&[&[0x40, 2][..], &id.to_be_bytes()].concat())
            .await;
    }

    pub async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        self.until(PINGRESP).await;
    }
}

pub fn string(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u16).to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

pub fn publish(v5: bool, topic: &[u8], qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    publish_with(v5, topic, qos << 1, id, &[], payload)
}

pub fn publish_with(
    v5: bool,
    topic: &[u8],
    flags: u8,
    id: u16,
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic);
    if flags & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    if v5 {
        body.extend(&frame(0, properties)[1..]);
    }
    body.extend(payload);
    frame(0x30 | flags, &body)
}

pub fn subscribe(v5: bool, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    for (filter, options) in filters {
        body.extend(string(filter));
        body.push(*options);
    }
    frame(0x82, &body)
}

pub fn unsubscribe(v5: bool, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(string(filter));
    }
    frame(0xa2, &body)
}
