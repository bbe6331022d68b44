use std::time::Duration;

use lamplighter_types::wire::work::{RangeDigest, SyncRequest};
use tokio::time::Instant;

use crate::runtime::device_sync::DeviceSync;

#[test]
fn devices_are_announced_soon_after_a_rejected_proof() {
    let (mut sync, start) = (DeviceSync::default(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    assert!(!sync.is_due(after(1_000)), "not connected");
    sync.answer(SyncRequest::default, start);
    assert!(!sync.has_request(), "not connected");
    sync.start(RangeDigest::default(), start);
    assert_eq!(sync.next_request().unwrap().ranges.len(), 1);
    assert!(!sync.has_request() && sync.next_request().is_none());
    assert!(!sync.is_due(after(299)) && sync.is_due(after(300)));
    sync.start_soon(start);
    sync.start_soon(after(20));
    assert!(!sync.is_due(after(29)) && sync.is_due(after(30)));
    // A node that asks without end is asked again later.
    sync.start(RangeDigest::default(), after(30));
    let mut made = 0;
    for _ in 0..5_000 {
        let request = || {
            made += 1;
            SyncRequest::default()
        };
        sync.answer(request, after(30));
    }
    assert_eq!(made, 1_023);
    assert!(!sync.is_due(after(59)) && sync.is_due(after(60)));
    sync.stop();
    assert!(!sync.has_request() && !sync.is_due(after(1_000)));
}
