//! HTTP/1.1 listeners, with limits for connections, and for the time and memory of a request's
//! head.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ServeError;
use crate::https::HttpsAcceptor;

/// Connections of one listener. Each uses a few KiB while it is idle; more wait to be accepted.
const CONNECTIONS_MAX: usize = 8_192;
/// A connection that sends no complete head of a request in this time is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of a request; an IOTRegistry operation has its parameters in the address.
const HEAD_BYTES_MAX: usize = 64 * 1024;
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
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<SocketAddr, ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tasks.spawn(accept(listener, tls, router, tasks.clone(), stop.clone()));
    Ok(bound)
}

async fn accept(
    listener: TcpListener,
    tls: Option<HttpsAcceptor>,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
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
            Ok((stream, _)) => {
                let serving = secure(stream, tls.clone(), router.clone(), stop.clone());
                tasks.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn secure(
    stream: TcpStream,
    tls: Option<HttpsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    match tls {
        None => connection(stream, router, stop).await,
        Some(acceptor) => {
            if let Some(Some(stream)) = stop.run_until_cancelled(acceptor.accept(stream)).await {
                connection(stream, router, stop).await;
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stop: CancellationToken,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
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
