//! Requests and responses, independent of the messages that carry them.

use super::block::Block;
use super::message::{CoapOption, Code, Message, MessageType, Token, decode_uint, encode_uint};

/// Most segments in a path: LwM2M needs 4, `.well-known/core` 2.
pub const PATH_SEGMENTS_MAX: usize = 8;
/// Most arguments of a request: a registration has 5.
pub const QUERIES_MAX: usize = 12;
/// Longest path segment or argument, in bytes (RFC 7252 section 5.10).
pub const TEXT_BYTES_MAX: usize = 255;

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
    /// The block of the request that the payload is.
    pub block1: Option<Block>,
    /// The block of the response that is wanted.
    pub block2: Option<Block>,
    /// Size of the whole request in bytes, a hint.
    pub size1: Option<u32>,
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
            block1: None,
            block2: None,
            size1: None,
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
    pub fn from_message(message: &Message) -> Result<Request, Response> {
        let bad = |reason: &str| Response::error(Code::BAD_REQUEST, reason);
        let proxy = |(n, _): &(u16, Vec<u8>)| {
            matches!(
                CoapOption::from(*n),
                CoapOption::ProxyUri | CoapOption::ProxyScheme
            )
        };
        if message.options.iter().any(proxy) {
            return Err(Response::new(Code::NO_PROXY));
        }
        if let Some(number) = message.unsupported_critical() {
            return Err(Response::error(
                Code::BAD_OPTION,
                &format!("option {number}"),
            ));
        }
        let path =
            text_options(message, CoapOption::UriPath, PATH_SEGMENTS_MAX).ok_or(bad("path"))?;
        let query = text_options(message, CoapOption::UriQuery, QUERIES_MAX).ok_or(bad("query"))?;
        let block1 = block_option(message, CoapOption::Block1).map_err(|()| bad("block1"))?;
        let block2 = block_option(message, CoapOption::Block2).map_err(|()| bad("block2"))?;
        Ok(Request {
            method: message.code,
            path,
            query,
            content_format: u16_option(message, CoapOption::ContentFormat)
                .map_err(|()| bad("format"))?,
            accept: u16_option(message, CoapOption::Accept).map_err(|()| bad("accept"))?,
            block1,
            block2,
            size1: message.uint(CoapOption::Size1),
            payload: message.payload.clone(),
        })
    }

    /// The message that carries it.
    pub fn to_message(&self, message_type: MessageType, id: u16, token: Token) -> Message {
        let mut options = Vec::new();
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
        options.extend(self.block2.map(|b| (CoapOption::Block2.into(), b.encode())));
        options.extend(self.block1.map(|b| (CoapOption::Block1.into(), b.encode())));
        push_uint(&mut options, CoapOption::Size1, self.size1);
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
    /// The block of the request that is acknowledged, with the size wanted from now on.
    pub block1: Option<Block>,
    /// The block of the response that the payload is.
    pub block2: Option<Block>,
    /// Size of the whole response in bytes, a hint.
    pub size2: Option<u32>,
    /// Version of the representation, at most 8 bytes.
    pub etag: Option<Vec<u8>>,
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
            block1: None,
            block2: None,
            size2: None,
            etag: None,
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
            block1: block_option(message, CoapOption::Block1).ok()?,
            block2: block_option(message, CoapOption::Block2).ok()?,
            size2: message.uint(CoapOption::Size2),
            etag: message.values(CoapOption::ETag).next().map(<[u8]>::to_vec),
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
        let location = self.location.iter().map(|s| s.clone().into_bytes());
        options.extend(location.map(|s| (CoapOption::LocationPath.into(), s)));
        push_uint(
            &mut options,
            CoapOption::ContentFormat,
            self.content_format.map(u32::from),
        );
        options.extend(self.block2.map(|b| (CoapOption::Block2.into(), b.encode())));
        options.extend(self.block1.map(|b| (CoapOption::Block1.into(), b.encode())));
        push_uint(&mut options, CoapOption::Size2, self.size2);
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
