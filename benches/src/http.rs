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
    pub body_bytes: usize,
}

/// A persistent connection.
pub struct Connection {
    stream: TcpStream,
    pub address: SocketAddr,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self, HttpError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address,
            buffer: Vec::new(),
        })
    }

    pub async fn get(&mut self, path: &str) -> Result<HttpAnswer, HttpError> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address).into())
            .await
    }

    /// Sends bytes as `application/octet-stream`.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<HttpAnswer, HttpError> {
        let (address, length) = (self.address, body.len());
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\n\
             content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
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
        let length = head.head_bytes + head.body_bytes;
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        let body = self.buffer[head.head_bytes..length].to_vec();
        Ok(HttpAnswer {
            status: head.status,
            body,
        })
    }

    async fn read_more(&mut self) -> Result<(), HttpError> {
        self.buffer.reserve(4_096);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(HttpError::Closed),
            _ => Ok(()),
        }
    }
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
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let (Some(status), Some(body_bytes)) = (status, length) else {
        return Err(HttpError::Malformed);
    };
    if body_bytes > ANSWER_BYTES_MAX {
        return Err(HttpError::TooLong);
    }
    Ok(Some(Head {
        status,
        head_bytes: end + 4,
        body_bytes,
    }))
}
