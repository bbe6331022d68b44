//! One method of etcd over gRPC: `Put`, which is what its own benchmark calls.
//!
//! gRPC is the protocol that etcd speaks to every client; JSON over HTTP/1.1 would be translated
//! inside the process of etcd, at its expense.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// Length of the frame's head: not compressed, and the length of the message.
const FRAME_HEAD_BYTES: usize = 5;
/// Time limit of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const PUT: &str = "/etcdserverpb.KV/Put";

/// `etcdserverpb.PutRequest`, of which the rest has its defaults.
#[derive(Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A call of etcd failed.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("HTTP/2")]
    Http2(#[from] h2::Error),
    #[error("the request is not one")]
    Request(#[from] http::Error),
    #[error("etcd answered with status {0}")]
    Status(String),
    #[error("no answer within {ANSWER_WITHIN:?}")]
    Silent,
}

/// A connection to a member of etcd, which may be shared.
#[derive(Clone)]
pub struct GrpcConnection {
    requests: SendRequest<Bytes>,
    uri: String,
}

impl GrpcConnection {
    pub async fn open(address: SocketAddr) -> Result<Self, GrpcError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        // It ends with the last handle; the requests report its errors.
        tokio::spawn(connection);
        let uri = format!("http://{address}{PUT}");
        Ok(Self { requests, uri })
    }

    /// Writes a value; the answer comes when a quorum has synced it.
    pub async fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), GrpcError> {
        let frame = frame(&PutRequest {
            key: key.as_bytes().to_vec(),
            value,
        });
        tokio::time::timeout(ANSWER_WITHIN, self.exchange(frame))
            .await
            .map_err(|_| GrpcError::Silent)?
    }

    async fn exchange(&mut self, frame: Bytes) -> Result<(), GrpcError> {
        let request = Request::post(&self.uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut body) = requests.send_request(request, false)?;
        body.send_data(frame, true)?;
        let (head, mut body) = response.await?.into_parts();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = body.trailers().await?;
        check(trailers.as_ref().unwrap_or(&head.headers))
    }
}

fn frame(message: &PutRequest) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode(&mut frame).expect("the buffer grows");
    frame.freeze()
}

fn check(headers: &HeaderMap) -> Result<(), GrpcError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        status => {
            let message = text("grpc-message").unwrap_or_default();
            let status = status.unwrap_or("none");
            Err(GrpcError::Status(format!("{status} {message}")))
        }
    }
}
