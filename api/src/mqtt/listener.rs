//! Accepts connections. Accepting never waits for a client: TLS, CONNECT and everything after them
//! run in the connection's own task.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use lamplighter_tls as tls;
use lamplighter_types::PublicKey;
use rumqttd::protocol::ConnectReturnCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::codec;
use super::connection::Connection;
use super::connection::handshake::{self, ConnectInfo, ConnectRefused};
use super::limits::{BACKLOG, CLOSE_TIME, SEND_BUFFER_BYTES, TAKEOVER_TIME};
use crate::address_shares::AddressPlace;

/// Pause after a failure to accept: the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds an address with a backlog for a whole fleet.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the node stops.
pub async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => start(&shared, stream, peer.ip(), tls.clone()),
            Err(error) => {
                tracing::warn!(%error, "an MQTT connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn start(shared: &Arc<Shared>, stream: TcpStream, address: IpAddr, tls: Option<TlsAcceptor>) {
    shared.counters.accepted.add(1);
    let permit = Arc::clone(&shared.pending).try_acquire_owned().ok();
    let place = shared.pending_shares.acquire(address.to_canonical());
    let (Some(permit), Some(place)) = (permit, place) else {
        shared.counters.refused_full.add(1);
        return;
    };
    let pending = PendingPlace {
        _permit: permit,
        _place: place,
    };
    // Fails only on a socket that is already closed, which the first read shows.
    stream.set_nodelay(true).ok();
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    let deadline = Instant::now() + connect_time(&shared);
    tasks.spawn(async move {
        match tls {
            None => connect(shared, stream, None, deadline, pending).await,
            Some(acceptor) => match timeout_at(deadline, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let key = certificates.and_then(|c| c.first()).and_then(tls::key_of);
                    connect(shared, stream, key, deadline, pending).await;
                }
                Ok(Err(error)) => {
                    shared.counters.refused_connect.add(1);
                    tracing::debug!(%error, "TLS handshake failed");
                }
                Err(_) => shared.counters.refused_connect.add(1),
            },
        }
    });
}

/// The place of a connection before its CONNECT.
struct PendingPlace {
    _permit: OwnedSemaphorePermit,
    _place: AddressPlace,
}

/// Time until the CONNECT of a new connection: less where places are short.
fn connect_time(shared: &Shared) -> Duration {
    let most = shared.config.connect_time;
    if shared.pending.available_permits() < shared.config.pending_max / 2 {
        most.min(shared.config.busy_connect_time)
    } else {
        most
    }
}

async fn connect<S>(
    shared: Arc<Shared>,
    mut stream: S,
    peer: Option<PublicKey>,
    deadline: Instant,
    pending: PendingPlace,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut rx = BytesMut::new();
    let handshake = handshake::receive(&shared, &mut stream, &mut rx, peer);
    let refused = match timeout_at(deadline, handshake).await {
        Ok(Ok(info)) => match serve(&shared, stream, rx, info, pending).await {
            Some((mut stream, refused)) => {
                refuse(&mut stream, &refused).await;
                refused
            }
            None => return,
        },
        Ok(Err(refused)) => {
            refuse(&mut stream, &refused).await;
            refused
        }
        Err(_) => {
            shared.counters.refused_connect.add(1);
            return;
        }
    };
    shared.counters.refused_connect.add(1);
    tracing::debug!(%refused, "CONNECT was refused");
}

/// Serves the client to its end, or returns the stream with the reason why not.
async fn serve<S>(
    shared: &Arc<Shared>,
    stream: S,
    rx: BytesMut,
    info: ConnectInfo,
    pending: PendingPlace,
) -> Option<(S, ConnectRefused)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let version = info.version;
    let busy = |reason: &str| ConnectRefused::with(version, ConnectReturnCode::ServerBusy, reason);
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        shared.counters.refused_full.add(1);
        return Some((stream, busy("all places are taken")));
    };
    drop(pending);
    let session = shared.sessions.open(&info.account.account);
    let number = session.announce();
    let Ok(_exclusive) = timeout(TAKEOVER_TIME, session.acquire()).await else {
        return Some((stream, busy("the connection before did not end")));
    };
    // Revocations count from the announcement on: one just before it is noticed here.
    if !shared.accounts.is_valid(&info.key, &info.account.account) {
        let code = ConnectReturnCode::NotAuthorized;
        return Some((
            stream,
            ConnectRefused::with(version, code, "the key was revoked"),
        ));
    }
    shared.counters.connected.add(1);
    Connection::new(Arc::clone(shared), stream, rx, info, session, number)
        .run()
        .await;
    shared.counters.connected.sub(1);
    drop(place);
    None
}

async fn refuse(stream: &mut (impl AsyncWrite + Unpin), refused: &ConnectRefused) {
    let Some((version, code)) = refused.connack else {
        return;
    };
    let mut tx = BytesMut::new();
    codec::write(version, handshake::connack_refusal(code), &mut tx);
    let close = async {
        // The client may have closed already.
        stream.write_all_buf(&mut tx).await.ok();
        stream.shutdown().await.ok();
    };
    timeout(CLOSE_TIME, close).await.ok();
}
