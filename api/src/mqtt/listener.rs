//! Takes connections in. Accepting never waits for a client: TLS, CONNECT and everything after
//! run in the connection's own task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use lamplighter_tls as tls;
use rumqttd::protocol::ConnectReturnCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::connect::{self, Hello, Refused};
use super::connection::Connection;
use super::limits::{BACKLOG, CONNECT_TIME_BUSY, FAREWELL_TIME, SEND_BUFFER_BYTES, TAKEOVER_TIME};
use super::wire;

/// Pause after an accept that failed because the system has no more file descriptors.
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
            Ok((stream, _)) => admit(&shared, stream, tls.clone()),
            Err(error) => {
                tracing::warn!(%error, "an MQTT connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    shared.counters.accepted.add(1);
    let Ok(pending) = Arc::clone(&shared.pending).try_acquire_owned() else {
        shared.counters.refused_full.add(1);
        return;
    };
    // Fails only on a socket that is already closed, which the first read will tell.
    stream.set_nodelay(true).ok();
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    let deadline = Instant::now() + connect_time(&shared);
    tasks.spawn(async move {
        match tls {
            None => welcome(shared, stream, None, deadline, pending).await,
            Some(acceptor) => match timeout_at(deadline, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let key = certificates
                        .and_then(|c| c.first())
                        .and_then(tls::key_of)
                        .map(|key| key.0);
                    welcome(shared, stream, key, deadline, pending).await;
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

/// How long a new connection may take: less where places are short.
fn connect_time(shared: &Shared) -> Duration {
    let most = shared.config.connect_time;
    match shared.pending.available_permits() < shared.config.pending_max / 2 {
        true => most.min(CONNECT_TIME_BUSY),
        false => most,
    }
}

async fn welcome<S>(
    shared: Arc<Shared>,
    mut stream: S,
    peer: Option<[u8; 32]>,
    deadline: Instant,
    pending: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut rx = BytesMut::new();
    let hello = timeout_at(
        deadline,
        connect::receive(&shared, &mut stream, &mut rx, peer),
    )
    .await;
    let refused = match hello {
        Ok(Ok(hello)) => match seat_and_serve(&shared, stream, rx, hello, pending).await {
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

/// Serves the client to its end, or gives the stream back with the reason why not.
async fn seat_and_serve<S>(
    shared: &Arc<Shared>,
    stream: S,
    rx: BytesMut,
    hello: Hello,
    pending: OwnedSemaphorePermit,
) -> Option<(S, Refused)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let version = hello.version;
    let busy = |reason: &str| Refused::with(version, ConnectReturnCode::ServerBusy, reason);
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        shared.counters.refused_full.add(1);
        return Some((stream, busy("all places are taken")));
    };
    drop(pending);
    let seat = shared.seats.of(&hello.account);
    let arrival = seat.arrive();
    let Ok(_gate) = timeout(TAKEOVER_TIME, seat.sit()).await else {
        return Some((stream, busy("the connection before did not end")));
    };
    // Orders begin with the arrival: a key that was revoked just before it is noticed here.
    let known = shared.backend.account_of_key(&hello.key);
    if known.is_none_or(|account| account.id != hello.account.id) {
        let code = ConnectReturnCode::NotAuthorized;
        return Some((stream, Refused::with(version, code, "the key was revoked")));
    }
    shared.counters.connected.add(1);
    Connection::new(Arc::clone(shared), stream, rx, hello, seat, arrival)
        .run()
        .await;
    shared.counters.connected.sub(1);
    drop(place);
    None
}

async fn refuse(stream: &mut (impl AsyncWrite + Unpin), refused: &Refused) {
    let Some((version, code)) = refused.answer else {
        return;
    };
    let mut tx = BytesMut::new();
    wire::write(version, connect::refusal(code), &mut tx);
    let farewell = async {
        // Who is refused may be gone already.
        stream.write_all_buf(&mut tx).await.ok();
        stream.shutdown().await.ok();
    };
    timeout(FAREWELL_TIME, farewell).await.ok();
}
