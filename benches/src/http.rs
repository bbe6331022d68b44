//! An HTTP/1.1 client for the load generator: one connection, one request after the other. It takes
//! less processor time from the nodes than a full client would.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer: the receipt of a transaction that registers 1,000 devices is far below.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
const LINE_END: &[u8] = b"\r\n";
/// Time limit of an answer: a node answers after 30 s that a transaction still waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the connection was closed before the answer")]
    Closed,
    #[error("the answer is not HTTP/1.1 with a length")]
    Malformed,
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("no answer within {ANSWER_WITHIN:?}")]
    Silent,
}

/// The answer of a node.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub head_bytes: usize,
    /// None if the body comes in chunks.
    pub body_bytes: Option<usize>,
}

/// A persistent connection.
pub struct Connection {
    stream: TcpStream,
    pub address: SocketAddr,
    buffer: Vec<u8>,
    /// Sent as `authorization: Bearer`.
    pub token: Option<String>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self, HttpError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address,
            buffer: Vec::new(),
            token: None,
        })
    }

    pub async fn get(&mut self, path: &str) -> Result<HttpAnswer, HttpError> {
        self.send("GET", path, "", &[]).await
    }

    /// Sends bytes as `application/octet-stream`.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<HttpAnswer, HttpError> {
        let kind = "content-type: application/octet-stream\r\n";
        self.send("POST", path, kind, body).await
    }

    /// Sends a request; each of the additional header lines ends with a line break.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<HttpAnswer, HttpError> {
        let address = self.address;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}");
        if let Some(token) = &self.token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        if method != "GET" {
            request += &format!("content-length: {}\r\n", body.len());
        }
        let mut request = (request + "\r\n").into_bytes();
        request.extend_from_slice(body);
        self.exchange(request).await
    }

    async fn exchange(&mut self, request: Vec<u8>) -> Result<HttpAnswer, HttpError> {
        let exchange = async {
            self.stream.write_all(&request).await?;
            self.answer().await
        };
        tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| HttpError::Silent)?
    }

    async fn answer(&mut self) -> Result<HttpAnswer, HttpError> {
        self.buffer.clear();
        let head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            self.read_more().await?;
        };
        let Some(body_bytes) = head.body_bytes else {
            let body = self.chunks(head.head_bytes).await?;
            let status = head.status;
            return Ok(HttpAnswer { status, body });
        };
        let length = head.head_bytes + body_bytes;
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        let body = self.buffer[head.head_bytes..length].to_vec();
        Ok(HttpAnswer {
            status: head.status,
            body,
        })
    }

    /// Reads a body in chunks, which begins at `at` in the buffer.
    async fn chunks(&mut self, mut at: usize) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        loop {
            let Some((size, begin)) = parse_chunk_head(&self.buffer[at..])? else {
                self.read_more().await?;
                continue;
            };
            if body.len() + size > ANSWER_BYTES_MAX {
                return Err(HttpError::TooLong);
            }
            let (begin, end) = (at + begin, at + begin + size);
            while self.buffer.len() < end + LINE_END.len() {
                self.read_more().await?;
            }
            body.extend_from_slice(&self.buffer[begin..end]);
            at = end + LINE_END.len();
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), HttpError> {
        self.buffer.reserve(4_096);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(HttpError::Closed),
            _ => Ok(()),
        }
    }
}

/// Parses the line before a chunk: its size, and the bytes of the line; `None` until it is
/// complete. No node sends trailers.
fn parse_chunk_head(bytes: &[u8]) -> Result<Option<(usize, usize)>, HttpError> {
    let Some(end) = bytes.windows(2).position(|two| two == LINE_END) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| HttpError::Malformed)?;
    let size = usize::from_str_radix(text, 16).map_err(|_| HttpError::Malformed)?;
    Ok(Some((size, end + LINE_END.len())))
}

/// Parses the head of an answer; `None` until it is complete.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, HttpError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        let fits = bytes.len() <= HEAD_BYTES_MAX;
        return if fits {
            Ok(None)
        } else {
            Err(HttpError::TooLong)
        };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| HttpError::Malformed)?;
    let mut lines = text.split("\r\n");
    let is_chunked = text
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let Some(status) = status.filter(|_| is_chunked || length.is_some()) else {
        return Err(HttpError::Malformed);
    };
    let body_bytes = length.filter(|_| !is_chunked);
    if body_bytes > Some(ANSWER_BYTES_MAX) {
        return Err(HttpError::TooLong);
    }
    Ok(Some(Head {
        status,
        head_bytes: end + 4,
        body_bytes,
    }))
}
