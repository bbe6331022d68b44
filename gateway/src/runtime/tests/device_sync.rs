use std::time::Duration;

use lamplighter_types::wire::work::DevicesHeld;
use tokio::time::Instant;

use crate::runtime::device_sync::DeviceSync;

#[test]
fn devices_are_announced_soon_after_a_rejected_proof() {
    let (mut sync, start) = (DeviceSync::default(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    assert!(!sync.is_due(after(1_000)), "not connected");
    sync.start(vec![DevicesHeld::default(); 2], start);
    assert!(sync.next_request().is_some() && sync.next_request().is_some());
    assert!(!sync.has_request() && sync.next_request().is_none());
    assert!(!sync.is_due(after(299)) && sync.is_due(after(300)));
    sync.start_soon(start);
    sync.start_soon(after(20));
    assert!(!sync.is_due(after(29)) && sync.is_due(after(30)));
    sync.start(vec![DevicesHeld::default()], after(30));
    sync.stop();
    assert!(!sync.has_request() && !sync.is_due(after(1_000)));
}
