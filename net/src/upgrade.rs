//! The upgrade of a TCP connection to a libp2p one: socket options, Noise, and yamux with its
//! driver.

use std::future::poll_fn;
use std::time::Duration;

use futures::io::BufReader;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::noise;
use multistream_select::{Negotiated, Version, dialer_select_proto, listener_select_proto};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::LinkError;
use crate::network_state::NetworkState;
use crate::{Lane, NodeKey};

const NOISE: &str = "/noise";
const YAMUX: &str = "/yamux/1.0.0";

/// The link stream and the lanes.
pub(crate) const STREAMS: usize = 1 + Lane::ALL.len();

/// Streams that yamux allows; one more than the protocol uses, so that this crate names the error.
const STREAMS_MAX: usize = STREAMS + 1;

/// Bytes that yamux buffers for all streams of one connection. Its own default is 1 GiB. Enough
/// for 100 MB/s at a round trip of 150 ms, and every stream keeps at least 256 KiB.
const RECEIVE_WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// One yamux frame with its header fills one Noise message of 64,511 bytes.
const SPLIT_SEND_BYTES: usize = crate::frame::WRITE_BATCH_BYTES;

/// Unsent bytes in the kernel's buffer. With more of them, a heartbeat waits longer behind bulk
/// data on a slow line: 128 KiB are 100 ms at 10 Mbit/s.
const UNSENT_BYTES: u32 = 128 * 1024;

/// The time without an acknowledgement of the other kernel after which a connection is closed (RFC
/// 5482) and dialed again. Without it TCP waits ever longer before it retransmits: after a
/// partition of 6 s the link would be dead for 6 s more. A slow line still acknowledges.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);

/// Bytes of the read buffer: Noise reads 8 KiB at a time, and this saves system calls.
const TCP_READ_BYTES: usize = 64 * 1024;

/// The time to send the last frames when a connection is closed.
const CLOSE_MAX: Duration = Duration::from_millis(500);

type Tcp = BufReader<Compat<TcpStream>>;
type Secured = noise::Output<Negotiated<Tcp>>;
type Connection = yamux::Connection<Negotiated<Secured>>;

/// A stream whose protocol is agreed on.
pub(crate) type Stream = Negotiated<yamux::Stream>;

/// A connection that is driven by its own task, until this value is dropped.
pub(crate) struct Mux {
    /// Streams that the peer opened.
    pub inbound: mpsc::Receiver<yamux::Stream>,
    /// Ends with the connection, and returns the reason.
    pub ended: JoinHandle<LinkError>,
    _stop: DropGuard,
}

/// Upgrades as the dialer: proves this node's key, checks the peer's, and opens all streams.
pub(crate) async fn outbound(
    state: &NetworkState,
    tcp: TcpStream,
    expected: NodeKey,
) -> Result<(Mux, Vec<yamux::Stream>), LinkError> {
    let tcp = prepare(tcp)?;
    let io = dialer_select_proto(tcp, [NOISE], Version::V1Lazy).await;
    let (_, io) = io.map_err(|source| LinkError::Negotiate {
        protocol: NOISE,
        source,
    })?;
    let upgrade = state.noise.clone().upgrade_outbound(io, NOISE).await;
    let (peer, io) = upgrade.map_err(|source| LinkError::Noise { source })?;
    let found = NodeKey::from_peer_id(&peer).ok_or(LinkError::NotEd25519)?;
    if found != expected {
        return Err(LinkError::WrongKey { expected, found });
    }
    // From here on a listener that does not list this node's key closes the connection.
    let io = dialer_select_proto(io, [YAMUX], Version::V1Lazy).await;
    let (_, io) = io.map_err(|_closed| LinkError::ClosedBeforeHandshake)?;
    let mut connection = Connection::new(io, yamux_config(), yamux::Mode::Client);
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let stream = poll_fn(|cx| connection.poll_new_outbound(cx)).await;
        streams.push(stream.map_err(|source| LinkError::Mux { source })?);
    }
    Ok((drive(state, connection), streams))
}

/// Upgrades as the listener: learns the peer's key, and closes the connection before it sends
/// anything more unless `admit` accepts the key.
pub(crate) async fn inbound(
    state: &NetworkState,
    tcp: TcpStream,
    admit: impl FnOnce(NodeKey) -> Result<(), LinkError>,
) -> Result<(NodeKey, Mux), LinkError> {
    let tcp = prepare(tcp)?;
    let io = listener_select_proto(tcp, [NOISE]).await;
    let (_, io) = io.map_err(|source| LinkError::Negotiate {
        protocol: NOISE,
        source,
    })?;
    let upgrade = state.noise.clone().upgrade_inbound(io, NOISE).await;
    let (peer, io) = upgrade.map_err(|source| LinkError::Noise { source })?;
    let key = NodeKey::from_peer_id(&peer).ok_or(LinkError::NotEd25519)?;
    admit(key)?;
    let io = listener_select_proto(io, [YAMUX]).await;
    let (_, io) = io.map_err(|source| LinkError::Negotiate {
        protocol: YAMUX,
        source,
    })?;
    let connection = Connection::new(io, yamux_config(), yamux::Mode::Server);
    Ok((key, drive(state, connection)))
}

fn prepare(tcp: TcpStream) -> Result<Tcp, LinkError> {
    set_options(&tcp).map_err(|source| LinkError::Socket { source })?;
    Ok(BufReader::with_capacity(TCP_READ_BYTES, tcp.compat()))
}

fn set_options(tcp: &TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(tcp);
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    }
    Ok(())
}

fn yamux_config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS_MAX);
    config.set_max_connection_receive_window(Some(RECEIVE_WINDOW_BYTES));
    config.set_split_send_size(SPLIT_SEND_BYTES);
    config
}

fn drive(state: &NetworkState, connection: Connection) -> Mux {
    let (streams, inbound) = mpsc::channel(STREAMS);
    let stop = CancellationToken::new();
    let ended = state.tasks.spawn(driver(connection, streams, stop.clone()));
    Mux {
        inbound,
        ended,
        _stop: stop.drop_guard(),
    }
}

/// Moves bytes between the socket and the streams; nothing moves without it.
async fn driver(
    mut connection: Connection,
    streams: mpsc::Sender<yamux::Stream>,
    stop: CancellationToken,
) -> LinkError {
    let reason = loop {
        let next = poll_fn(|cx| connection.poll_next_inbound(cx));
        match stop.run_until_cancelled(next).await {
            None => break LinkError::Shutdown,
            Some(Some(Ok(stream))) => match streams.try_send(stream) {
                Ok(()) => {}
                Err(_full) => break LinkError::TooManyStreams,
            },
            Some(Some(Err(source))) => return LinkError::Mux { source },
            Some(None) => return LinkError::Closed,
        }
    };
    let close = poll_fn(|cx| connection.poll_close(cx));
    match tokio::time::timeout(CLOSE_MAX, close).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection did not close cleanly"),
        Err(_) => tracing::debug!("a connection did not close in time"),
    }
    reason
}
