#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::to_bytes;
use tokio::sync::mpsc;

use super::{REQUESTS_MAX, REQUESTS_PER_ADDRESS, SubmissionPlaces, body_of};

fn address(last: u8) -> Option<IpAddr> {
    Some([127, 0, 0, last].into())
}

#[tokio::test]
async fn a_request_has_its_place_until_its_answer_is_read_or_dropped() {
    for is_read in [true, false] {
        let places = SubmissionPlaces::new();
        let place = Arc::new(places.acquire(address(1)).unwrap());
        let (lines, answers) = mpsc::channel(2);
        let body = body_of(answers, Arc::clone(&place));
        lines.send("1\n".into()).await.unwrap();
        lines.send("2\n".into()).await.unwrap();
        // The work is done, and nobody has read its outcome.
        drop((lines, place));
        assert_eq!(places.free(), REQUESTS_MAX - 1);
        match is_read {
            true => assert_eq!(to_bytes(body, 100).await.unwrap(), "1\n2\n"),
            false => drop(body),
        }
        assert_eq!(places.free(), REQUESTS_MAX);
    }
}

#[test]
fn one_address_leaves_places_to_the_others() {
    let places = SubmissionPlaces::new();
    let acquire = |last| places.acquire(address(last));
    let of_one: Vec<_> = (0..REQUESTS_PER_ADDRESS)
        .map_while(|_| acquire(1))
        .collect();
    assert_eq!(of_one.len(), REQUESTS_PER_ADDRESS);
    assert!(acquire(1).is_none());
    assert!(acquire(2).is_some());
    drop(of_one);
    assert!(acquire(1).is_some());
}
