use std::time::Duration;

use lamplighter_client::{Client, ClientConfig, ClientError};
use lamplighter_types::wire::{Problem, problem};
use tokio::time::Instant;

use crate::artifact::ArtifactCache;
use crate::runtime::tasks::{BackgroundTasks, TaskResult, retry_proof};
use crate::verify::tests::{World, id};

/// The answer of a node that does not have the block yet.
fn not_found() -> ClientError {
    let problem = Problem::new(404, "Not Found", problem::code::NOT_FOUND, "there is none");
    ClientError::Problem {
        node: "node".to_owned(),
        problem: Box::new(problem),
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_may_lag_by_three_seconds_with_any_jitter() {
    for _ in 0..200 {
        let announced = Instant::now();
        let is_late = || announced.elapsed() >= Duration::from_secs(3);
        let fetch = async || is_late().then_some(()).ok_or_else(not_found);
        retry_proof(fetch).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn another_error_ends_the_retries_at_once() {
    let announced = Instant::now();
    let fetch = async || Err::<(), _>(ClientError::NoAddress);
    retry_proof(fetch).await.unwrap_err();
    assert_eq!(announced.elapsed(), Duration::ZERO);
}

/// The node answers nothing: a Thing that asks again and again has one call under way.
#[tokio::test]
async fn changes_for_a_thing_are_fetched_once_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    let settings = ClientConfig::new(vec!["http://127.0.0.1:1".to_owned()]);
    let client = Client::new(settings.with_genesis(world.genesis.clone())).unwrap();
    let cache = ArtifactCache::open(folder.path(), 1 << 20).unwrap();
    let mut tasks = BackgroundTasks::new(client, world.vendor.public(), cache);
    for trusted in 0..5 {
        tasks.fetch_changes(id("lamp-1"), trusted);
        tasks.fetch_changes(id("lamp-2"), trusted);
    }
    let mut fetched = Vec::new();
    while let Some(result) = tasks.next().await {
        let TaskResult::ChangesFetched { device, changes } = result.unwrap() else {
            panic!("nothing else was asked for")
        };
        assert_eq!(changes, None);
        tasks.changes_fetched(&device);
        fetched.push(device);
    }
    fetched.sort();
    assert_eq!(fetched, [id("lamp-1"), id("lamp-2")]);
    tasks.fetch_changes(id("lamp-1"), 5);
    assert!(tasks.next().await.is_some());
}
