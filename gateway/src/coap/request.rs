//! Requests and responses, independent of the messages that carry them.

use std::ops::RangeInclusive;

use super::block::Block;
use super::message::{CoapOption, Code, Message, MessageType, Token, decode_uint, encode_uint};

/// Most segments in a path: LwM2M needs 4, `.well-known/core` 2.
pub const PATH_SEGMENTS_MAX: usize = 8;
/// Most arguments of a request: a registration has 5.
pub const QUERIES_MAX: usize = 12;
/// Longest path segment or argument, in bytes (RFC 7252 section 5.10).
pub const TEXT_BYTES_MAX: usize = 255;

/// Number of the Echo option (RFC 9175 section 2.2.1).
const ECHO: u16 = 252;
/// Longest value of it.
const ECHO_BYTES_MAX: usize = 40;
/// Number of the Q-Block1 option (RFC 9177 section 4.1).
pub(super) const Q_BLOCK1: u16 = 19;
/// Number of the Q-Block2 option.
pub(super) const Q_BLOCK2: u16 = 31;
/// Number of the Request-Tag option (RFC 9175 section 3.2.1).
const REQUEST_TAG: u16 = 292;
/// Longest value of it.
const REQUEST_TAG_BYTES_MAX: usize = 8;

/// Media types by number (IANA CoAP Content-Formats).
pub mod format {
    /// `text/plain; charset=utf-8`
    pub const TEXT: u16 = 0;
    /// `application/link-format` (RFC 6690)
    pub const LINK_FORMAT: u16 = 40;
    /// `application/octet-stream`
    pub const OCTETS: u16 = 42;
    /// `application/cbor`
    pub const CBOR: u16 = 60;
    /// `application/senml+json`
    pub const SENML_JSON: u16 = 110;
    /// `application/senml+cbor`
    pub const SENML_CBOR: u16 = 112;
    /// The number of `application/vnd.oma.lwm2m+tlv` before it was registered; some still use it.
    pub const LWM2M_TLV_OLD: u16 = 1542;
    /// `application/missing-blocks+cbor-seq` (RFC 9177)
    pub const MISSING_BLOCKS: u16 = 272;
    /// `application/vnd.oma.lwm2m+tlv`
    pub const LWM2M_TLV: u16 = 11542;
    /// `application/vnd.oma.lwm2m+json`
    pub const LWM2M_JSON: u16 = 11543;
}

/// A request for a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// GET, POST, PUT or DELETE.
    pub method: Code,
    /// Segments of the path, without slashes.
    pub path: Vec<String>,
    /// Arguments, each `name=value` or a bare name.
    pub query: Vec<String>,
    /// Media type of the payload.
    pub content_format: Option<u16>,
    /// Media type that the client wants.
    pub accept: Option<u16>,
    /// 0: notifications of changes are wanted.
    pub observe: Option<u32>,
    /// The block of the request that the payload is.
    pub block1: Option<Block>,
    /// The block of the response that is wanted.
    pub block2: Option<Block>,
    /// The same, of a body whose blocks travel in sets (RFC 9177).
    pub q_block1: Option<Block>,
    /// A block of the response that is wanted in that way, to find out whether the peer knows it.
    pub q_block2: Option<Block>,
    /// Tells the blocks of one body from those of another one.
    pub request_tag: Option<Vec<u8>>,
    /// Size of the whole request in bytes, a hint.
    pub size1: Option<u32>,
    /// The value of a challenge that is repeated (RFC 9175).
    pub echo: Option<Vec<u8>>,
    /// Body, or one block of it.
    pub payload: Vec<u8>,
}

impl Request {
    /// A request without payload to a path such as `/5/0/3`.
    pub fn new(method: Code, path: &str) -> Request {
        let segments = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned);
        Request {
            method,
            path: segments.collect(),
            query: Vec::new(),
            content_format: None,
            accept: None,
            observe: None,
            block1: None,
            block2: None,
            q_block1: None,
            q_block2: None,
            request_tag: None,
            size1: None,
            echo: None,
            payload: Vec::new(),
        }
    }

    /// GET of a path.
    pub fn get(path: &str) -> Request {
        Request::new(Code::GET, path)
    }

    /// Adds a body with its media type.
    pub fn with_payload(mut self, content_format: u16, payload: Vec<u8>) -> Request {
        self.content_format = Some(content_format);
        self.payload = payload;
        self
    }

    /// The same resource below other segments.
    pub fn below(mut self, root: &[String]) -> Request {
        self.path.splice(0..0, root.iter().cloned());
        self
    }

    /// Adds an argument.
    pub fn with_query(mut self, argument: String) -> Request {
        self.query.push(argument);
        self
    }

    /// Adds the media type that is wanted.
    pub fn with_accept(mut self, content_format: u16) -> Request {
        self.accept = Some(content_format);
        self
    }

    /// The path as text, `/5/0/3`.
    pub fn path_text(&self) -> String {
        format!("/{}", self.path.join("/"))
    }

    /// Value of the argument `name`.
    pub fn argument(&self, name: &str) -> Option<&str> {
        let value = |q: &'_ String| -> Option<usize> {
            let rest = q.strip_prefix(name)?.strip_prefix('=')?;
            Some(q.len() - rest.len())
        };
        self.query
            .iter()
            .find_map(|q| value(q).map(|start| &q[start..]))
    }

    /// Reads a request; the error is the response to send.
    pub fn from_message(message: &Message) -> Result<Request, Box<Response>> {
        let bad = |reason: &str| Box::new(Response::error(Code::BAD_REQUEST, reason));
        let proxy = |(n, _): &(u16, Vec<u8>)| {
            matches!(
                CoapOption::from(*n),
                CoapOption::ProxyUri | CoapOption::ProxyScheme
            )
        };
        if message.options.iter().any(proxy) {
            return Err(Box::new(Response::new(Code::NO_PROXY)));
        }
        if let Some(number) = message.unsupported_critical() {
            let reason = format!("option {number}");
            return Err(Box::new(Response::error(Code::BAD_OPTION, &reason)));
        }
        let path =
            text_options(message, CoapOption::UriPath, PATH_SEGMENTS_MAX).ok_or(bad("path"))?;
        let query = text_options(message, CoapOption::UriQuery, QUERIES_MAX).ok_or(bad("query"))?;
        let block1 = block_option(message, CoapOption::Block1).map_err(|()| bad("block1"))?;
        let block2 = block_option(message, CoapOption::Block2).map_err(|()| bad("block2"))?;
        let q_block1 = block_option(message, Q_BLOCK1.into()).map_err(|()| bad("q-block1"))?;
        let q_block2 = block_option(message, Q_BLOCK2.into()).map_err(|()| bad("q-block2"))?;
        Ok(Request {
            method: message.code,
            path,
            query,
            content_format: u16_option(message, CoapOption::ContentFormat)
                .map_err(|()| bad("format"))?,
            accept: u16_option(message, CoapOption::Accept).map_err(|()| bad("accept"))?,
            observe: message.uint(CoapOption::Observe),
            block1,
            block2,
            q_block1,
            q_block2,
            request_tag: bytes_option(message, REQUEST_TAG, 0..=REQUEST_TAG_BYTES_MAX),
            size1: message.uint(CoapOption::Size1),
            echo: bytes_option(message, ECHO, 1..=ECHO_BYTES_MAX),
            payload: message.payload.clone(),
        })
    }

    /// The request itself, unless it is of a set of blocks and those are `refused`: they are
    /// critical options.
    pub(super) fn without_sets(self, refused: bool) -> Result<Request, Box<Response>> {
        match self.q_block1.or(self.q_block2).filter(|_| refused) {
            Some(_) => Err(Box::new(Response::error(Code::BAD_OPTION, "Q-Block"))),
            None => Ok(self),
        }
    }

    /// The message that carries it.
    pub fn to_message(&self, message_type: MessageType, id: u16, token: Token) -> Message {
        let mut options = Vec::new();
        push_uint(&mut options, CoapOption::Observe, self.observe);
        options.extend(
            self.path
                .iter()
                .map(|s| (CoapOption::UriPath.into(), s.clone().into_bytes())),
        );
        push_uint(
            &mut options,
            CoapOption::ContentFormat,
            self.content_format.map(u32::from),
        );
        options.extend(
            self.query
                .iter()
                .map(|s| (CoapOption::UriQuery.into(), s.clone().into_bytes())),
        );
        push_uint(&mut options, CoapOption::Accept, self.accept.map(u32::from));
        options.extend(self.q_block1.map(|b| (Q_BLOCK1, b.encode())));
        options.extend(self.q_block2.map(|b| (Q_BLOCK2, b.encode())));
        options.extend(self.block2.map(|b| (CoapOption::Block2.into(), b.encode())));
        options.extend(self.block1.map(|b| (CoapOption::Block1.into(), b.encode())));
        push_uint(&mut options, CoapOption::Size1, self.size1);
        options.extend(self.echo.iter().map(|value| (ECHO, value.clone())));
        let tag = self.request_tag.iter();
        options.extend(tag.map(|value| (REQUEST_TAG, value.clone())));
        Message {
            message_type,
            code: self.method,
            id,
            token,
            options,
            payload: self.payload.clone(),
        }
    }
}

/// The response of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 2.xx, 4.xx or 5.xx.
    pub code: Code,
    /// Media type of the payload.
    pub content_format: Option<u16>,
    /// Segments of the path of a new resource.
    pub location: Vec<String>,
    /// The sequence number of a notification.
    pub observe: Option<u32>,
    /// The block of the request that is acknowledged, with the size wanted from now on.
    pub block1: Option<Block>,
    /// The last block of a body in sets up to which all are there (RFC 9177).
    pub q_block1: Option<Block>,
    /// The block of the response that the payload is.
    pub block2: Option<Block>,
    /// Size of the whole response in bytes, a hint.
    pub size2: Option<u32>,
    /// Version of the representation, at most 8 bytes.
    pub etag: Option<Vec<u8>>,
    /// A challenge: the client shall repeat its request with this value (RFC 9175).
    pub echo: Option<Vec<u8>>,
    /// Body, one block of it, or the reason of an error.
    pub payload: Vec<u8>,
}

impl Response {
    /// A response without payload.
    pub fn new(code: Code) -> Response {
        Response {
            code,
            content_format: None,
            location: Vec::new(),
            observe: None,
            block1: None,
            q_block1: None,
            block2: None,
            size2: None,
            etag: None,
            echo: None,
            payload: Vec::new(),
        }
    }

    /// 2.05 with a body.
    pub fn content(content_format: u16, payload: Vec<u8>) -> Response {
        let content_format = Some(content_format);
        Response {
            content_format,
            payload,
            ..Response::new(Code::CONTENT)
        }
    }

    /// An error with its reason as text (RFC 7252 section 5.5.2).
    pub fn error(code: Code, reason: &str) -> Response {
        Response {
            payload: reason.as_bytes().to_vec(),
            ..Response::new(code)
        }
    }

    /// The reason of an error, or the payload of a text resource.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Reads a response; `None` if an option is malformed or critical and unknown.
    pub fn from_message(message: &Message) -> Option<Response> {
        if message.unsupported_critical().is_some() {
            return None;
        }
        Some(Response {
            code: message.code,
            content_format: u16_option(message, CoapOption::ContentFormat).ok()?,
            location: text_options(message, CoapOption::LocationPath, PATH_SEGMENTS_MAX)?,
            observe: message.uint(CoapOption::Observe),
            block1: block_option(message, CoapOption::Block1).ok()?,
            q_block1: block_option(message, Q_BLOCK1.into()).ok()?,
            block2: block_option(message, CoapOption::Block2).ok()?,
            size2: message.uint(CoapOption::Size2),
            etag: message.values(CoapOption::ETag).next().map(<[u8]>::to_vec),
            echo: bytes_option(message, ECHO, 1..=ECHO_BYTES_MAX),
            payload: message.payload.clone(),
        })
    }

    /// The message that carries it.
    pub fn to_message(&self, message_type: MessageType, id: u16, token: Token) -> Message {
        let mut options = Vec::new();
        options.extend(
            self.etag
                .iter()
                .map(|tag| (CoapOption::ETag.into(), tag.clone())),
        );
        push_uint(&mut options, CoapOption::Observe, self.observe);
        let location = self.location.iter().map(|s| s.clone().into_bytes());
        options.extend(location.map(|s| (CoapOption::LocationPath.into(), s)));
        push_uint(
            &mut options,
            CoapOption::ContentFormat,
            self.content_format.map(u32::from),
        );
        options.extend(self.q_block1.map(|b| (Q_BLOCK1, b.encode())));
        options.extend(self.block2.map(|b| (CoapOption::Block2.into(), b.encode())));
        options.extend(self.block1.map(|b| (CoapOption::Block1.into(), b.encode())));
        push_uint(&mut options, CoapOption::Size2, self.size2);
        options.extend(self.echo.iter().map(|value| (ECHO, value.clone())));
        Message {
            message_type,
            code: self.code,
            id,
            token,
            options,
            payload: self.payload.clone(),
        }
    }
}

/// The value of an elective option: one of another length is none.
fn bytes_option(message: &Message, number: u16, lengths: RangeInclusive<usize>) -> Option<Vec<u8>> {
    let value = message.values(CoapOption::from(number)).next()?;
    lengths.contains(&value.len()).then(|| value.to_vec())
}

fn push_uint(options: &mut Vec<(u16, Vec<u8>)>, option: CoapOption, value: Option<u32>) {
    options.extend(value.map(|v| (option.into(), encode_uint(v))));
}

fn text_options(message: &Message, option: CoapOption, count_max: usize) -> Option<Vec<String>> {
    let texts = message.values(option).map(|value| {
        let text = std::str::from_utf8(value).ok()?;
        (text.len() <= TEXT_BYTES_MAX).then(|| text.to_owned())
    });
    let texts: Vec<String> = texts.collect::<Option<_>>()?;
    (texts.len() <= count_max).then_some(texts)
}

fn block_option(message: &Message, option: CoapOption) -> Result<Option<Block>, ()> {
    let value = message.values(option).next();
    value
        .map(|bytes| Block::decode(bytes).ok_or(()))
        .transpose()
}

fn u16_option(message: &Message, option: CoapOption) -> Result<Option<u16>, ()> {
    let value = message.values(option).next();
    let read = |bytes| {
        decode_uint(bytes)
            .and_then(|v| u16::try_from(v).ok())
            .ok_or(())
    };
    value.map(read).transpose()
}
