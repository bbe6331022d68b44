//! Packages over HTTP, for Things that fetch them so (protocol 2 of object 5). Whole, or one range;
//! within the rate of the mesh, and only to the addresses of registered Things.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::Stream;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::packages::Package;
use super::pull::PackageServer;
use super::registry::SharedRegistry;

/// Connections at a time: each is a Thing that fetches a package.
const CONNECTIONS_MAX: usize = 64;
/// Bytes that are read and sent at a time.
const CHUNK_BYTES: usize = 8 * 1024;
/// The time for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// The time of a connection: a Thing that is slower fetches the rest with a range.
const CONNECTION_TIME: Duration = Duration::from_secs(6 * 3_600);

/// Starts to serve packages, and returns the address and the task that holds the listener.
///
/// # Errors
/// The address can't be listened on.
pub(super) fn start(
    address: SocketAddr,
    packages: &PackageServer,
    registry: &SharedRegistry,
    stop: &CancellationToken,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = listen(address)?;
    let local = listener.local_addr()?;
    let serving = serve(listener, packages.clone(), registry.clone(), stop.clone());
    Ok((local, tokio::spawn(serving)))
}

/// Serves packages until the token is cancelled.
async fn serve(
    listener: TcpListener,
    packages: PackageServer,
    registry: SharedRegistry,
    stop: CancellationToken,
) {
    let path = format!("/{}/{{name}}", super::packages::PATH);
    let router = Router::new()
        .route(&path, get(package))
        .with_state(packages);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, peer)) = accepted else {
            // Out of file handles, or the peer is gone: the pause keeps it from spinning.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !is_known(&registry, peer.ip()) {
            tracing::debug!(%peer, "no Thing is registered from there");
            continue;
        }
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            tracing::debug!(%peer, "too many Things fetch packages");
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            let connection = tokio::time::timeout(CONNECTION_TIME, connection(stream, router));
            if let Some(Err(_)) = stop.run_until_cancelled(connection).await {
                tracing::debug!(%peer, "a connection took too long");
            }
            drop(permit);
        });
    }
}

/// Listens for Things.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn is_known(registry: &SharedRegistry, address: IpAddr) -> bool {
    registry.read().has_address(address)
}

async fn connection(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a Thing's connection ended");
    }
}

async fn package(
    State(server): State<PackageServer>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let packages = server.packages.clone();
    let found = tokio::task::spawn_blocking(move || packages.find(&name)).await;
    let package = match found.map_err(io::Error::other) {
        Ok(Ok(Some(package))) => package,
        Ok(Ok(None)) => return StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) | Err(error) => {
            tracing::warn!(%error, "a package can't be read");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let size = package.size_bytes;
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let (status, start, end) = match range.map(|text| parse_range(text, size)) {
        None | Some(Range::Ignored) => (StatusCode::OK, 0, size),
        Some(Range::Bytes(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(Range::Beyond) => {
            let all = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, all).into_response();
        }
    };
    let body = Body::from_stream(chunks(server, package, start, end));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {start}-{}/{size}", end - 1);
        let range = HeaderValue::try_from(range).expect("digits are a header");
        headers.insert(header::CONTENT_RANGE, range);
    }
    response
}

/// A range of a request (RFC 9110, section 14).
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// From the first byte up to the second, which is not among them.
    Bytes(u64, u64),
    /// It begins after the end.
    Beyond,
    /// It is of another kind: everything is sent.
    Ignored,
}

fn parse_range(text: &str, size: u64) -> Range {
    let spec = text
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'));
    let Some((first, last)) = spec else {
        return Range::Ignored;
    };
    let (start, end) = match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(start), "") => (start, size),
        (Ok(start), last) => match last.parse::<u64>() {
            Ok(last) if last >= start => (start, size.min(last.saturating_add(1))),
            _ => return Range::Ignored,
        },
        (Err(_), last) if first.trim().is_empty() => match last.parse::<u64>() {
            Ok(count) => (size.saturating_sub(count), size),
            Err(_) => return Range::Ignored,
        },
        _ => return Range::Ignored,
    };
    if start < end {
        Range::Bytes(start, end)
    } else {
        Range::Beyond
    }
}

fn chunks(
    server: PackageServer,
    package: Package,
    start: u64,
    end: u64,
) -> impl Stream<Item = io::Result<Vec<u8>>> {
    futures::stream::try_unfold(start, move |offset| {
        let (package, rate) = (package.clone(), server.rate.clone());
        async move {
            if offset >= end {
                return Ok(None);
            }
            let length = CHUNK_BYTES.min((end - offset) as usize);
            let read = tokio::task::spawn_blocking(move || package.read(offset, length));
            let bytes = read.await.map_err(io::Error::other)??;
            rate.acquire(bytes.len()).await;
            let next = offset + bytes.len() as u64;
            Ok(Some((bytes, next)))
        }
    })
}

#[cfg(test)]
mod tests;
