use std::time::Duration;

use lamplighter_client::ClientError;
use lamplighter_types::wire::{Problem, problem};
use tokio::time::Instant;

use crate::runtime::tasks::retry_proof;

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
