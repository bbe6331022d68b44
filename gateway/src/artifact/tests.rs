use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{StreamExt, stream};
use lamplighter_client::{Client, ClientConfig};
use lamplighter_types::Hash;
use lamplighter_types::artifact::{GROUP_BYTES, GroupsBuilder};

use super::{ArtifactCache, CacheError};

#[derive(Clone)]
struct Node {
    bytes: Arc<Vec<u8>>,
    /// Bytes after which each connection breaks.
    cut: usize,
    /// A byte that is sent wrong.
    flip: Option<usize>,
    ranges: Arc<AtomicU32>,
}

fn image(groups: usize) -> Vec<u8> {
    (0..groups * GROUP_BYTES + 123)
        .map(|n| (n * 17 % 253) as u8)
        .collect()
}

/// An error that breaks a connection, some time after the bytes before it.
fn broken_end(broken: bool) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    stream::iter(broken.then_some(())).then(|()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut"))
    })
}

async fn groups(State(node): State<Node>) -> Vec<u8> {
    let mut builder = GroupsBuilder::default();
    builder.update(&node.bytes);
    builder.finish().unwrap().to_bytes()
}

async fn range(State(node): State<Node>, headers: HeaderMap) -> Response {
    node.ranges.fetch_add(1, Ordering::SeqCst);
    let requested = headers.get("range").unwrap().to_str().unwrap().to_owned();
    let (first, last) = requested
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let mut bytes = node.bytes[first..=last].to_vec();
    if let Some(at) = node.flip.filter(|at| (first..=last).contains(at)) {
        bytes[at - first] ^= 0x10;
    }
    let broken = bytes.len() > node.cut;
    bytes.truncate(node.cut);
    let end = broken_end(broken);
    let body = stream::iter([Ok(Bytes::from(bytes))]).chain(end);
    (StatusCode::PARTIAL_CONTENT, Body::from_stream(body)).into_response()
}

async fn serve(node: &Node) -> String {
    let router = Router::new()
        .route("/v1/artifacts/{digest}/groups", get(groups))
        .route("/v1/artifacts/{digest}", get(range))
        .with_state(node.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

fn node(bytes: Vec<u8>, cut: usize, flip: Option<usize>) -> Node {
    Node {
        bytes: Arc::new(bytes),
        cut,
        flip,
        ranges: Arc::default(),
    }
}

fn client(urls: Vec<String>) -> Client {
    let mut config = ClientConfig::new(urls);
    config.deadline = Duration::from_secs(5);
    Client::new(config).unwrap()
}

#[tokio::test]
async fn an_artifact_is_fetched_once_for_the_mesh() {
    let bytes = image(20);
    let (digest, size) = (Hash::of(&bytes), bytes.len() as u64);
    let node = node(bytes.clone(), 100_000, None);
    let client = client(vec![serve(&node).await]);
    let dir = tempfile::tempdir().unwrap();
    let cache = ArtifactCache::open(dir.path(), 1 << 20).unwrap();
    let all = (0..10).map(|_| cache.ensure(&client, digest, size, vec![]));
    for path in futures::future::join_all(all).await {
        assert_eq!(std::fs::read(path.unwrap()).unwrap(), bytes);
    }
    let ranges = node.ranges.load(Ordering::SeqCst);
    assert!(
        (4..8).contains(&ranges),
        "{ranges} ranges through cut connections"
    );
    assert!(!cache.part_path(&digest).exists());
}

#[tokio::test]
async fn a_download_is_resumed_after_a_restart() {
    let bytes = image(20);
    let (digest, size) = (Hash::of(&bytes), bytes.len() as u64);
    let dir = tempfile::tempdir().unwrap();
    let cache = ArtifactCache::open(dir.path(), 1 << 20).unwrap();
    std::fs::write(cache.part_path(&digest), &bytes[..15 * GROUP_BYTES + 7]).unwrap();
    // The connection breaks after the missing bytes: fetching more would fail.
    let node = node(bytes.clone(), 6 * GROUP_BYTES, None);
    let client = client(vec![serve(&node).await]);
    let path = cache.ensure(&client, digest, size, vec![]).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert_eq!(node.ranges.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_file_that_was_damaged_on_disk_is_never_served() {
    let bytes = image(5);
    let (digest, size) = (Hash::of(&bytes), bytes.len() as u64);
    let node = node(bytes.clone(), usize::MAX, None);
    let client = client(vec![serve(&node).await]);
    let dir = tempfile::tempdir().unwrap();
    let cache = ArtifactCache::open(dir.path(), 1 << 20).unwrap();
    let path = cache.ensure(&client, digest, size, vec![]).await.unwrap();
    let mut damaged = bytes.clone();
    damaged[40_000] ^= 4;
    std::fs::write(&path, &damaged).unwrap();
    cache.ensure(&client, digest, size, vec![]).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(node.ranges.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_node_that_lies_is_replaced_and_alone_yields_nothing() {
    let bytes = image(8);
    let (digest, size) = (Hash::of(&bytes), bytes.len() as u64);
    let liar = node(bytes.clone(), usize::MAX, Some(5 * GROUP_BYTES));
    let honest = node(bytes.clone(), usize::MAX, None);
    let dir = tempfile::tempdir().unwrap();
    let cache = ArtifactCache::open(dir.path(), 1 << 20).unwrap();
    let alone = client(vec![serve(&liar).await]);
    let error = cache
        .ensure(&alone, digest, size, vec![])
        .await
        .unwrap_err();
    assert!(matches!(error, CacheError::Fetch { .. }), "{error}");
    assert!(!cache.path(&digest).exists());
    let both = client(vec![serve(&liar).await, serve(&honest).await]);
    let path = cache.ensure(&both, digest, size, vec![]).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

#[tokio::test]
async fn the_oldest_artifact_that_is_not_in_use_is_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ArtifactCache::open(dir.path(), 2 * 100_000).unwrap();
    let mut digests = Vec::new();
    for seed in 0..3u8 {
        let bytes = vec![seed; 80_000];
        let (digest, size) = (Hash::of(&bytes), bytes.len() as u64);
        let client = client(vec![serve(&node(bytes, usize::MAX, None)).await]);
        let in_use = digests.first().copied().into_iter().collect();
        cache.ensure(&client, digest, size, in_use).await.unwrap();
        digests.push(digest);
    }
    let cached: Vec<_> = digests
        .iter()
        .map(|digest| cache.path(digest).exists())
        .collect();
    assert_eq!(cached, [true, false, true]);
    let bytes = vec![9; 80_000];
    let client = client(vec![serve(&node(bytes.clone(), usize::MAX, None)).await]);
    let full = cache
        .ensure(&client, Hash::of(&bytes), 80_000, digests)
        .await;
    assert!(matches!(full, Err(CacheError::Full { .. })));
}
