//! HTTP/1.1 listeners, with limits for connections, and for the time and memory of a request's
//! head.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::MapRequest;

use crate::ServeError;
use crate::address_shares::AddressShares;
use crate::deadline::WriteDeadline;
use crate::http::quota::PeerAddress;
use crate::https::HttpsAcceptor;
use crate::settings::HttpSettings;

/// Connections of one listener. Each uses a few KiB while it is idle; more wait to be accepted.
const CONNECTIONS_MAX: usize = 8_192;
/// A connection that sends no complete head of a request in this time is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of a request; an IOTRegistry operation has its parameters in the address.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes that the kernel keeps for a client that does not read, of which Linux makes twice as many:
/// left to itself it takes megabytes, and the write time would not begin to run.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// Queue of the kernel for connections that were not yet accepted.
const BACKLOG: u32 = 1_024;
/// Time for requests in progress to complete when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, e.g. because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop`, over TLS where there is an acceptor, and returns the address that
/// is bound.
pub(crate) async fn listen(
    address: SocketAddr,
    tls: Option<HttpsAcceptor>,
    router: Router,
    settings: &HttpSettings,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<SocketAddr, ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let server = Server {
        tls,
        router,
        write_time: Duration::from_secs(settings.write_timeout_s),
        stop: stop.clone(),
    };
    let shares = AddressShares::new(settings.connections_per_address as usize);
    tasks.spawn(accept(listener, server, shares, tasks.clone()));
    Ok(bound)
}

/// Binds an address. The kernel keeps few bytes for a client that does not read.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
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

/// What each connection of a listener needs.
#[derive(Clone)]
struct Server {
    tls: Option<HttpsAcceptor>,
    router: Router,
    write_time: Duration,
    stop: CancellationToken,
}

async fn accept(listener: TcpListener, server: Server, shares: AddressShares, tasks: TaskTracker) {
    let stop = server.stop.clone();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(permit) = stop
        .run_until_cancelled(connections.clone().acquire_owned())
        .await
    {
        let permit = permit.expect("nobody closes the semaphore");
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else {
            return;
        };
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                let Some(place) = shares.acquire(address) else {
                    tracing::debug!(%address, "an address has too many connections");
                    continue;
                };
                let serving = server.clone().secure(stream, address);
                tasks.spawn(async move {
                    serving.await;
                    drop((permit, place));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Server {
    async fn secure(self, stream: TcpStream, address: IpAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
        let Some(acceptor) = &self.tls else {
            let stream = WriteDeadline::new(stream, self.write_time);
            return self.serve(stream, address).await;
        };
        let accepted = self
            .stop
            .run_until_cancelled(acceptor.accept(stream, self.write_time))
            .await;
        if let Some(Some(stream)) = accepted {
            self.serve(stream, address).await;
        }
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: IpAddr,
    ) {
        let router = MapRequest::new(self.router, move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddress(address));
            request
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .with_upgrades();
        let mut served = pin!(served);
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = self.stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                match tokio::time::timeout(STOP_TIMEOUT, served).await {
                    Ok(ended) => ended,
                    Err(_) => return tracing::debug!("a request did not end when the node stopped"),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}
