//! A peer that sends what a test wants, right or wrong. It shares no code with the crate: it
//! follows the description of the protocol in the crate's documentation.

use std::future::poll_fn;
use std::net::SocketAddr;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::identity::Keypair;
use libp2p::noise;
use multistream_select::{Negotiated, Version, dialer_select_proto};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::CHAIN;

pub const LANES: [&str; 6] = [
    "control",
    "append",
    "attestation",
    "transactions",
    "sync",
    "snapshot",
];

pub type Secure = noise::Output<Negotiated<Compat<TcpStream>>>;
pub type Stream = Negotiated<yamux::Stream>;

/// A frame as it is on the wire.
pub fn frame(kind: u8, id: u64, aux: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (13 + body.len() as u32).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&aux.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub fn handshake() -> Vec<u8> {
    frame(1, 0, 1, &CHAIN)
}

/// Reads one frame; kind and body.
pub async fn read(stream: &mut Stream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut rest = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut rest).await?;
    Ok((rest[0], rest[13..].to_vec()))
}

/// TCP and Noise with the key of `secret`.
pub async fn secure(to: SocketAddr, secret: [u8; 32]) -> Secure {
    let tcp = TcpStream::connect(to).await.unwrap().compat();
    let (_, io) = dialer_select_proto(tcp, ["/noise"], Version::V1)
        .await
        .unwrap();
    let keys = Keypair::ed25519_from_bytes(secret).unwrap();
    let config = noise::Config::new(&keys).unwrap();
    config.upgrade_outbound(io, "/noise").await.unwrap().1
}

/// The streams of a connection whose driver runs until the connection ends.
pub struct Raw {
    pub streams: Vec<yamux::Stream>,
}

/// A connection with yamux and `count` streams on which nothing was sent yet.
pub async fn muxed(to: SocketAddr, secret: [u8; 32], count: usize) -> Raw {
    let io = secure(to, secret).await;
    let (_, io) = dialer_select_proto(io, ["/yamux/1.0.0"], Version::V1)
        .await
        .unwrap();
    let mut connection = yamux::Connection::new(io, Default::default(), yamux::Mode::Client);
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(
            poll_fn(|cx| connection.poll_new_outbound(cx))
                .await
                .unwrap(),
        );
    }
    tokio::spawn(async move {
        while let Some(Ok(_)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {}
    });
    Raw { streams }
}

impl Raw {
    /// Opens the next stream by its protocol name.
    pub async fn open(&mut self, name: &str) -> Stream {
        let stream = self.streams.remove(0);
        let name = format!("/lamplighter/{name}/1");
        dialer_select_proto(stream, [name], Version::V1)
            .await
            .unwrap()
            .1
    }
}

/// A complete link: the link stream after both handshakes, the lanes, and one unused stream.
pub struct Link {
    pub link: Stream,
    pub lanes: Vec<Stream>,
    pub raw: Raw,
}

pub async fn linked(to: SocketAddr, secret: [u8; 32]) -> Link {
    let mut raw = muxed(to, secret, 8).await;
    let mut link = raw.open("link").await;
    link.write_all(&handshake()).await.unwrap();
    link.flush().await.unwrap();
    let (kind, body) = read(&mut link).await.unwrap();
    assert_eq!(
        (kind, &body[..32], &body[32..]),
        (1, &CHAIN[..], &b"a test node"[..])
    );
    let mut lanes = Vec::new();
    for name in LANES {
        lanes.push(raw.open(name).await);
    }
    Link { link, lanes, raw }
}

impl Link {
    pub async fn send(&mut self, lane: usize, bytes: &[u8]) {
        self.lanes[lane].write_all(bytes).await.unwrap();
        self.lanes[lane].flush().await.unwrap();
    }

    /// The reason in the close frame, which is the last frame on the link stream except for pings.
    pub async fn close_reason(&mut self) -> String {
        loop {
            match read(&mut self.link).await.unwrap() {
                (5, reason) => return String::from_utf8(reason).unwrap(),
                (3, _) => {}
                (kind, _) => panic!("a frame of kind {kind}"),
            }
        }
    }
}
