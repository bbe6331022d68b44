//! One CoAP message (RFC 7252 section 3), decoded strictly.
//!
//! `coap-lite` parses. This module adds checks that it leaves out: the version, a payload marker
//! without payload, bytes after an empty message, and limits on size and number of options.
//! [`Code`] stays a byte, since `coap_lite::MessageClass` has neither `Eq` nor `Hash` nor the
//! classes of codes that it does not know.

use std::fmt;

use coap_lite::error::MessageError;
pub use coap_lite::{CoapOption, MessageType};
use coap_lite::{MessageClass, Packet};
use thiserror::Error;

use super::request::{Q_BLOCK1, Q_BLOCK2};

/// Largest datagram taken or sent, in bytes (RFC 7252 section 4.6: fits an IPv6 MTU of 1280).
pub const DATAGRAM_BYTES_MAX: usize = 1152;
/// Most options in one message; ours use fewer than 16, foreign clients rarely more.
pub const OPTIONS_MAX: usize = 32;
/// Longest token (RFC 7252 section 5.3.1).
pub const TOKEN_BYTES_MAX: usize = 8;

/// Bytes are no CoAP message, or a message cannot be sent.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// More bytes than one datagram may have.
    #[error("datagram of {bytes} bytes, the limit is {DATAGRAM_BYTES_MAX}")]
    TooLong {
        /// Size of the datagram.
        bytes: usize,
    },
    /// The bytes do not follow RFC 7252 section 3.
    #[error("parsing a CoAP message")]
    Malformed {
        /// The parser's error.
        #[source]
        source: MessageError,
    },
    /// Another protocol version; such a message is ignored in silence (section 3).
    #[error("CoAP version {0}, only 1 is known")]
    Version(u8),
    /// A marker without payload, or bytes after an empty message.
    #[error("message is not in its only valid form")]
    NotCanonical,
    /// More options than the limit.
    #[error("{0} options, the limit is {OPTIONS_MAX}")]
    TooManyOptions(usize),
}

/// Request method or response code, as on the wire (`class << 5 | detail`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u8);

impl Code {
    /// 0.00
    pub const EMPTY: Code = Code(0);
    /// 0.01
    pub const GET: Code = Code(0x01);
    /// 0.02
    pub const POST: Code = Code(0x02);
    /// 0.03
    pub const PUT: Code = Code(0x03);
    /// 0.04
    pub const DELETE: Code = Code(0x04);
    /// 0.05 (RFC 8132)
    pub const FETCH: Code = Code(0x05);
    /// 0.07 (RFC 8132)
    pub const IPATCH: Code = Code(0x07);
    /// 2.01
    pub const CREATED: Code = Code(0x41);
    /// 2.02
    pub const DELETED: Code = Code(0x42);
    /// 2.04
    pub const CHANGED: Code = Code(0x44);
    /// 2.05
    pub const CONTENT: Code = Code(0x45);
    /// 2.31
    pub const CONTINUE: Code = Code(0x5F);
    /// 4.00
    pub const BAD_REQUEST: Code = Code(0x80);
    /// 4.01
    pub const UNAUTHORIZED: Code = Code(0x81);
    /// 4.02
    pub const BAD_OPTION: Code = Code(0x82);
    /// 4.03
    pub const FORBIDDEN: Code = Code(0x83);
    /// 4.04
    pub const NOT_FOUND: Code = Code(0x84);
    /// 4.05
    pub const METHOD_NOT_ALLOWED: Code = Code(0x85);
    /// 4.06
    pub const NOT_ACCEPTABLE: Code = Code(0x86);
    /// 4.08
    pub const INCOMPLETE: Code = Code(0x88);
    /// 4.12
    pub const PRECONDITION_FAILED: Code = Code(0x8C);
    /// 4.13
    pub const TOO_LARGE: Code = Code(0x8D);
    /// 4.15
    pub const UNSUPPORTED_FORMAT: Code = Code(0x8F);
    /// 4.29
    pub const TOO_MANY_REQUESTS: Code = Code(0x9D);
    /// 5.00
    pub const INTERNAL_ERROR: Code = Code(0xA0);
    /// 5.03
    pub const UNAVAILABLE: Code = Code(0xA3);
    /// 5.05
    pub const NO_PROXY: Code = Code(0xA5);

    /// True for 0.01 to 0.31.
    pub fn is_request(self) -> bool {
        self.0 != 0 && self.0 >> 5 == 0
    }

    /// True for 2.xx, 4.xx and 5.xx.
    pub fn is_response(self) -> bool {
        matches!(self.0 >> 5, 2 | 4 | 5)
    }

    /// True for 2.xx.
    pub fn is_success(self) -> bool {
        self.0 >> 5 == 2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 >> 5, self.0 & 0x1F)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ties a response to its request: 0 to 8 bytes that the client chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Token {
    bytes: [u8; TOKEN_BYTES_MAX],
    len: u8,
}

impl Token {
    /// A token of at most 8 bytes; `None` for more.
    pub fn new(value: &[u8]) -> Option<Token> {
        let mut bytes = [0; TOKEN_BYTES_MAX];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Token {
            bytes,
            len: value.len() as u8,
        })
    }

    /// The bytes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// One message. Options are in ascending order of their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Confirmable, non-confirmable, acknowledgement or reset.
    pub message_type: MessageType,
    /// Method or response code.
    pub code: Code,
    /// Message id: pairs a message with its acknowledgement and finds duplicates.
    pub id: u16,
    /// Pairs a response with its request.
    pub token: Token,
    /// Number and value of each option.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Body, or one block of it.
    pub payload: Vec<u8>,
}

impl Message {
    /// An empty message: acknowledgement or reset.
    pub fn empty(message_type: MessageType, id: u16) -> Message {
        let token = Token::default();
        Message {
            message_type,
            code: Code::EMPTY,
            id,
            token,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Parses one datagram. Never panics; see [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(DecodeError::TooLong { bytes: bytes.len() });
        }
        let packet = Packet::from_bytes(bytes).map_err(malformed)?;
        if packet.header.get_version() != 1 {
            return Err(DecodeError::Version(packet.header.get_version()));
        }
        // The encoding of a message is unique, so everything the parser was lenient about shows
        // here.
        if packet
            .to_bytes_with_limit(DATAGRAM_BYTES_MAX)
            .map_err(malformed)?
            != bytes
        {
            return Err(DecodeError::NotCanonical);
        }
        let code = Code(packet.header.code.into());
        if code == Code::EMPTY && bytes.len() != 4 {
            return Err(DecodeError::NotCanonical);
        }
        let count = packet.options().map(|(_, values)| values.len()).sum();
        if count > OPTIONS_MAX {
            return Err(DecodeError::TooManyOptions(count));
        }
        let options = packet
            .options()
            .flat_map(|(number, values)| values.iter().map(|v| (*number, v.clone())))
            .collect();
        let token = Token::new(packet.get_token()).ok_or(DecodeError::NotCanonical)?;
        let message_type = packet.header.get_type();
        let id = packet.header.message_id;
        Ok(Message {
            message_type,
            code,
            id,
            token,
            options,
            payload: packet.payload,
        })
    }

    /// The bytes of the datagram; an error if they exceed [`DATAGRAM_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.set_type(self.message_type);
        packet.header.code = MessageClass::from(self.code.0);
        packet.header.message_id = self.id;
        packet.set_token(self.token.as_bytes().to_vec());
        for (number, value) in &self.options {
            packet.add_option((*number).into(), value.clone());
        }
        packet.payload.clone_from(&self.payload);
        packet
            .to_bytes_with_limit(DATAGRAM_BYTES_MAX)
            .map_err(malformed)
    }

    /// Values of an option that may repeat, in order.
    pub fn values(&self, option: CoapOption) -> impl Iterator<Item = &[u8]> {
        let number = u16::from(option);
        self.options
            .iter()
            .filter(move |(n, _)| *n == number)
            .map(|(_, v)| v.as_slice())
    }

    /// First value of an option as an unsigned number; `None` if absent or longer than 4 bytes.
    pub fn uint(&self, option: CoapOption) -> Option<u32> {
        self.values(option).next().and_then(decode_uint)
    }

    /// First critical option (odd number, section 5.4.1) that this endpoint does not support.
    pub fn unsupported_critical(&self) -> Option<u16> {
        use CoapOption::*;
        let supported = |number: u16| {
            matches!(
                CoapOption::from(number),
                UriHost | UriPort | UriPath | UriQuery | Accept | Block2 | Block1
            ) || matches!(number, Q_BLOCK1 | Q_BLOCK2)
        };
        let mut numbers = self.options.iter().map(|(number, _)| *number);
        numbers.find(|number| number % 2 == 1 && !supported(*number))
    }
}

/// Message id of bytes that start like a confirmable message of version 1, for a reset.
pub fn confirmable_id(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [first, _, high, low, ..] if first >> 4 == 0b0100 => {
            Some(u16::from_be_bytes([*high, *low]))
        }
        _ => None,
    }
}

/// The shortest big-endian form (RFC 7252 section 3.2, format `uint`).
pub fn encode_uint(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    bytes[value.leading_zeros() as usize / 8..].to_vec()
}

/// Reads a `uint` option of at most 4 bytes.
pub fn decode_uint(bytes: &[u8]) -> Option<u32> {
    (bytes.len() <= 4).then(|| bytes.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)))
}

fn malformed(source: MessageError) -> DecodeError {
    DecodeError::Malformed { source }
}
