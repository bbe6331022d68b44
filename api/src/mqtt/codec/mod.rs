//! MQTT packets as bytes. Frames are split and checked here before the codec of rumqttd decodes
//! them, because it panics on packets that only a server sends. Packets to 3.1.1 clients are
//! encoded without their optional parts, because its encoder panics on them.

mod properties;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use lamplighter_types::Hash;
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::v5::V5;
use rumqttd::protocol::{
    DisconnectReasonCode, Filter, Packet, Protocol, PublishProperties, Subscribe, Unsubscribe,
};

use super::limits::{CONTROL_BYTES, PACKET_BYTES, PROPERTIES_BYTES};
use properties::Carrier;

pub use properties::check_connect;

/// Protocol level of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// Bytes that are not MQTT, or not allowed from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are no packet of this protocol version.
    #[error("malformed packet")]
    Malformed,
    /// A packet that a client must not send, or not here.
    #[error("packet not allowed here")]
    NotAllowed,
    /// Larger than the limit of its kind.
    #[error("packet too large")]
    TooLarge,
    /// A topic alias, although none was offered.
    #[error("topic alias was not offered")]
    TopicAlias,
    /// A CONNECT with an authentication method; only certificate and password are supported.
    #[error("authentication methods are not supported")]
    Authentication,
}

impl CodecError {
    /// The MQTT 5 reason that is sent to the client.
    pub fn reason(self) -> DisconnectReasonCode {
        match self {
            Self::Malformed => DisconnectReasonCode::MalformedPacket,
            // Only a CONNECT can ask for it, and gets a CONNACK.
            Self::NotAllowed | Self::Authentication => DisconnectReasonCode::ProtocolError,
            Self::TooLarge => DisconnectReasonCode::PacketTooLarge,
            Self::TopicAlias => DisconnectReasonCode::TopicAliasInvalid,
        }
    }
}

/// A packet from a connected client.
#[derive(Debug)]
pub enum ReceivedPacket {
    /// A publication with what the codec hides: QoS and packet id.
    Publish(Publication),
    /// The client acknowledges a QoS 1 message.
    PubAck(u16),
    /// The client releases a QoS 2 packet id.
    PubRel(u16),
    /// Filters to add.
    Subscribe {
        /// Packet id for the answer.
        id: u16,
        /// The filters, at least one.
        filters: Vec<Filter>,
        /// An MQTT 5 subscription identifier came along, which is not offered.
        has_identifier: bool,
    },
    /// Filters to remove.
    Unsubscribe {
        /// Packet id for the answer.
        id: u16,
        /// The filters, at least one.
        filters: Vec<String>,
    },
    /// PINGREQ.
    Ping,
    /// The client ends the connection.
    Disconnect {
        /// MQTT 5 reason 0x04: its will is to be published all the same.
        with_will: bool,
        /// New session expiry in seconds.
        expiry: Option<u32>,
    },
}

/// A PUBLISH from a client.
#[derive(Debug)]
pub struct Publication {
    /// 0, 1 or 2.
    pub qos: u8,
    /// Packet id, 0 at QoS 0.
    pub id: u16,
    /// The client asks to keep it for later subscribers.
    pub retain: bool,
    /// Topic as sent, not checked.
    pub topic: Bytes,
    /// Content.
    pub payload: Bytes,
    /// MQTT 5 properties.
    pub properties: PublishProperties,
}

/// Fixed header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// Packet type and flags.
    pub first: u8,
    /// Bytes before the body.
    pub start: usize,
    /// Bytes of the body.
    pub body: usize,
}

const PUBLISH: u8 = 3;

/// Reads the fixed header at the front of `bytes`; `None` when more bytes are needed.
pub fn header(bytes: &[u8]) -> Result<Option<FixedHeader>, CodecError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    Ok(variable_integer(rest)?.map(|(body, length)| FixedHeader {
        first,
        start: 1 + length,
        body,
    }))
}

/// Splits the next packet off `buffer` and decodes it; `None` when more bytes are needed.
pub fn next(version: Version, buffer: &mut BytesMut) -> Result<Option<ReceivedPacket>, CodecError> {
    let Some(header) = header(buffer)? else {
        return Ok(None);
    };
    check_kind(version, header)?;
    let end = header.start + header.body;
    if buffer.len() < end {
        return Ok(None);
    }
    let mut frame = buffer.split_to(end);
    decode(version, header, &mut frame).map(Some)
}

/// Allows only what a connected client may send, with the flags and the size of its kind.
fn check_kind(version: Version, header: FixedHeader) -> Result<(), CodecError> {
    let (kind, flags) = (header.first >> 4, header.first & 0x0f);
    let most = if kind == PUBLISH {
        PACKET_BYTES
    } else {
        CONTROL_BYTES
    };
    if header.body > most {
        return Err(CodecError::TooLarge);
    }
    match (kind, flags) {
        (PUBLISH, _) | (4 | 14, 0) | (6 | 8 | 10, 2) => Ok(()),
        (12, 0) if header.body == 0 => Ok(()),
        (4 | 6 | 8 | 10 | 12 | 14, _) => Err(CodecError::Malformed),
        // AUTH exists in MQTT 5, but no method was agreed.
        (15, 0) if version == Version::V5 => Err(CodecError::NotAllowed),
        _ => Err(CodecError::NotAllowed),
    }
}

fn decode(
    version: Version,
    header: FixedHeader,
    frame: &mut BytesMut,
) -> Result<ReceivedPacket, CodecError> {
    check_properties(version, header, frame)?;
    let publish = (header.first >> 4 == PUBLISH)
        .then(|| publish_head(version, header, frame))
        .transpose()?;
    let packet = read(version, frame)?;
    match packet {
        Packet::Publish(packet, properties) => {
            let head = publish.ok_or(CodecError::Malformed)?;
            if packet.payload.len() != head.payload {
                return Err(CodecError::Malformed);
            }
            let properties = properties.unwrap_or_default();
            if properties.topic_alias.is_some() {
                return Err(CodecError::TopicAlias);
            }
            Ok(ReceivedPacket::Publish(Publication {
                qos: head.qos,
                id: head.id,
                retain: packet.retain,
                topic: packet.topic,
                payload: packet.payload,
                properties,
            }))
        }
        Packet::PubAck(ack, _) => Ok(ReceivedPacket::PubAck(ack.pkid)),
        Packet::PubRel(release, _) => Ok(ReceivedPacket::PubRel(release.pkid)),
        Packet::Subscribe(Subscribe { pkid, filters }, properties) if pkid != 0 => {
            let has_identifier = properties.is_some_and(|p| p.id.is_some());
            Ok(ReceivedPacket::Subscribe {
                id: pkid,
                filters,
                has_identifier,
            })
        }
        Packet::Unsubscribe(Unsubscribe { pkid, filters }, _)
            if pkid != 0 && !filters.is_empty() =>
        {
            Ok(ReceivedPacket::Unsubscribe { id: pkid, filters })
        }
        Packet::PingReq(_) => Ok(ReceivedPacket::Ping),
        Packet::Disconnect(packet, properties) => Ok(ReceivedPacket::Disconnect {
            with_will: packet.reason_code == DisconnectReasonCode::DisconnectWithWillMessage,
            expiry: properties.and_then(|p| p.session_expiry_interval),
        }),
        _ => Err(CodecError::Malformed),
    }
}

/// Decodes one whole frame with rumqttd's codec.
pub fn read(version: Version, frame: &mut BytesMut) -> Result<Packet, CodecError> {
    let packet = match version {
        Version::V4 => V4.read_mut(frame, PACKET_BYTES),
        Version::V5 => V5.read_mut(frame, PACKET_BYTES),
    };
    packet.map_err(|_| CodecError::Malformed)
}

struct PublishHead {
    qos: u8,
    id: u16,
    payload: usize,
}

/// QoS and packet id from the raw frame, and how long the payload has to be: the codec does not
/// give out the former, and lets properties run over into the payload.
fn publish_head(
    version: Version,
    header: FixedHeader,
    frame: &[u8],
) -> Result<PublishHead, CodecError> {
    let qos = (header.first >> 1) & 3;
    let redelivered = header.first & 8 != 0;
    if qos == 3 || (qos == 0 && redelivered) {
        return Err(CodecError::Malformed);
    }
    let mut at = header.start;
    at += 2 + usize::from(number(frame, at)?);
    let id = if qos == 0 { 0 } else { number(frame, at)? };
    if qos > 0 {
        at += 2;
        if id == 0 {
            return Err(CodecError::Malformed);
        }
    }
    if version == Version::V5 {
        at += properties_at(frame, at)?;
    }
    let payload = frame.len().checked_sub(at).ok_or(CodecError::Malformed)?;
    Ok(PublishHead { qos, id, payload })
}

/// The MQTT 5 properties of a packet are bounded and checked before the codec allocates for them.
fn check_properties(version: Version, header: FixedHeader, frame: &[u8]) -> Result<(), CodecError> {
    if version == Version::V4 {
        return Ok(());
    }
    let (carrier, at) = match header.first >> 4 {
        PUBLISH => {
            let topic = 2 + usize::from(number(frame, header.start)?);
            let id = if header.first & 6 == 0 { 0 } else { 2 };
            (Carrier::Publish, header.start + topic + id)
        }
        8 => (Carrier::Subscribe, header.start + 2),
        10 => (Carrier::Unsubscribe, header.start + 2),
        4 | 6 if header.body > 3 => (Carrier::Acknowledgement, header.start + 3),
        14 if header.body > 1 => (Carrier::Disconnect, header.start + 1),
        _ => return Ok(()),
    };
    if properties_at(frame, at)? > PROPERTIES_BYTES {
        return Err(CodecError::TooLarge);
    }
    properties::section(carrier, frame, at).map(drop)
}

/// Bytes of the properties at `at`, their length field included.
fn properties_at(frame: &[u8], at: usize) -> Result<usize, CodecError> {
    let rest = frame.get(at..).ok_or(CodecError::Malformed)?;
    let (bytes, length) = variable_integer(rest)?.ok_or(CodecError::Malformed)?;
    if rest.len() < bytes + length {
        return Err(CodecError::Malformed);
    }
    Ok(bytes + length)
}

/// The two-byte number at `at`.
pub fn number(frame: &[u8], at: usize) -> Result<u16, CodecError> {
    let pair = frame.get(at..at + 2).ok_or(CodecError::Malformed)?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

/// MQTT's variable byte integer: value and bytes used; `None` when it is cut off.
pub fn variable_integer(bytes: &[u8]) -> Result<Option<(usize, usize)>, CodecError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        Err(CodecError::Malformed)
    } else {
        Ok(None)
    }
}

/// Encodes a packet to a client. MQTT 3.1.1 gets it without properties and unknown codes.
pub fn write(version: Version, packet: Packet, out: &mut BytesMut) {
    let written = match version {
        Version::V5 => V5.write(packet, out),
        Version::V4 => match without_properties(packet) {
            Some(packet) => V4.write(packet, out),
            None => return,
        },
    };
    written.expect("answers are far below the largest packet of MQTT");
}

fn without_properties(packet: Packet) -> Option<Packet> {
    Some(match packet {
        Packet::ConnAck(ack, _) => Packet::ConnAck(ack, None),
        Packet::PubAck(ack, _) => Packet::PubAck(ack, None),
        Packet::PubRec(ack, _) => Packet::PubRec(ack, None),
        Packet::PubComp(ack, _) => Packet::PubComp(ack, None),
        Packet::SubAck(ack, _) => Packet::SubAck(ack, None),
        Packet::UnsubAck(ack, _) => Packet::UnsubAck(ack, None),
        Packet::PingResp(response) => Packet::PingResp(response),
        // A 3.1.1 server sends nothing when it closes.
        _ => return None,
    })
}

/// A message to a client.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Topic.
    pub topic: Arc<str>,
    /// Content.
    pub payload: Bytes,
    /// Kept for later subscribers, and sent because somebody subscribed.
    pub retained: bool,
    /// MQTT 5 correlation data of the request that this answers.
    pub correlation: Option<Bytes>,
    /// Hash of the transaction that a receipt belongs to (MQTT 5 user property `transaction`).
    pub transaction: Option<Hash>,
}

const CORRELATION_DATA: u8 = 9;
const USER_PROPERTY: u8 = 38;

/// Bytes that `publish` will write for a message at most.
pub fn publish_bytes(message: &Message) -> usize {
    let correlation = message.correlation.as_ref().map_or(0, Bytes::len);
    message.topic.len() + message.payload.len() + correlation + 128
}

/// Encodes a PUBLISH. `id` is `None` at QoS 0.
pub fn publish(
    version: Version,
    message: &Message,
    id: Option<u16>,
    redelivered: bool,
    out: &mut BytesMut,
) {
    let properties = match version {
        Version::V4 => None,
        Version::V5 => Some(message_properties(message)),
    };
    let head = properties
        .as_ref()
        .map_or(0, |p| integer_bytes(p.len()) + p.len());
    let body = 2 + message.topic.len() + id.map_or(0, |_| 2) + head + message.payload.len();
    let flags =
        u8::from(redelivered) << 3 | u8::from(id.is_some()) << 1 | u8::from(message.retained);
    out.reserve(body + 5);
    out.put_u8(PUBLISH << 4 | flags);
    put_integer(body, out);
    put_string(message.topic.as_bytes(), out);
    if let Some(id) = id {
        out.put_u16(id);
    }
    if let Some(properties) = properties {
        put_integer(properties.len(), out);
        out.extend_from_slice(&properties);
    }
    out.extend_from_slice(&message.payload);
}

fn message_properties(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    if let Some(correlation) = &message.correlation {
        out.put_u8(CORRELATION_DATA);
        put_string(correlation, &mut out);
    }
    if let Some(transaction) = &message.transaction {
        out.put_u8(USER_PROPERTY);
        put_string(b"transaction", &mut out);
        put_string(transaction.to_string().as_bytes(), &mut out);
    }
    out
}

fn put_string(bytes: &[u8], out: &mut BytesMut) {
    out.put_u16(bytes.len() as u16);
    out.extend_from_slice(bytes);
}

fn integer_bytes(value: usize) -> usize {
    1 + usize::from(value >= 1 << 7) + usize::from(value >= 1 << 14) + usize::from(value >= 1 << 21)
}

fn put_integer(mut value: usize, out: &mut BytesMut) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.put_u8(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}
