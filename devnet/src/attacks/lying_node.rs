//! A node that lies to gateways: it forwards every request to a real node, and flips a bit of each
//! piece of firmware in the responses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lamplighter_tls as tls;
use lamplighter_types::PublicKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest response that is forwarded: a range of an artifact and more.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The switch and the counter of lies, shared by all lying nodes of one attack.
#[derive(Debug, Default)]
pub(super) struct LieControl {
    honest: AtomicBool,
    flipped: AtomicU64,
}

impl LieControl {
    pub fn flipped(&self) -> u64 {
        self.flipped.load(Ordering::Relaxed)
    }

    /// Forwards everything unchanged from now on.
    pub fn stop_lying(&self) {
        self.honest.store(true, Ordering::Relaxed);
    }
}

/// A running node that lies; it ends when dropped.
#[derive(Debug)]
pub(super) struct LyingNode {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl LyingNode {
    pub async fn start(
        address: SocketAddr,
        (node, key): (SocketAddr, PublicKey),
        control: Arc<LieControl>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let tls = tls::client(None, [key].into()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(tls));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (control, tls) = (control.clone(), tls.clone());
                tokio::spawn(async move {
                    if let Err(error) = forward(stream, node, tls, &control).await {
                        tracing::debug!(%error, "a request was not passed on");
                    }
                });
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for LyingNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Forwards one request and its response; the connection is closed after it.
async fn forward(
    mut client: TcpStream,
    node: SocketAddr,
    tls: TlsConnector,
    control: &LieControl,
) -> io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        if client.read_buf(&mut request).await? == 0 || request.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        if let Some(at) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = head + length.unwrap_or(0).min(HEAD_BYTES_MAX);
    while request.len() < whole && client.read_buf(&mut request).await? > 0 {}
    let upstream = TcpStream::connect(node).await?;
    let mut upstream = tls.connect(node.ip().into(), upstream).await?;
    let first = text.find("\r\n").unwrap_or(0);
    upstream.write_all(&request[..first]).await?;
    upstream.write_all(b"\r\nconnection: close").await?;
    upstream.write_all(&request[first..]).await?;
    let mut answer = Vec::new();
    upstream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    let good = answer.starts_with(b"HTTP/1.1 2");
    let firmware = text.starts_with("GET /v1/artifacts/") && !text[..first].contains("/groups");
    let lies = firmware && !control.honest.load(Ordering::Relaxed);
    if let Some(last) = answer.last_mut().filter(|_| lies && good) {
        *last ^= 1;
        control.flipped.fetch_add(1, Ordering::Relaxed);
    }
    client.write_all(&answer).await?;
    client.shutdown().await
}
