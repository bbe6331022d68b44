use super::*;

#[test]
fn an_interval_has_one_first_header() {
    let start = 1_800_000_000_000;
    assert!(begins_interval(start - 1, start));
    assert!(!begins_interval(start, start + 1));
    assert!(!begins_interval(start, start + INTERVAL_MS - 1));
    assert!(begins_interval(
        start + INTERVAL_MS - 1,
        start + INTERVAL_MS
    ));
    assert!(
        begins_interval(start, start + INTERVAL_MS),
        "a quiet chain: every header"
    );
    assert!(begins_interval(u64::MAX - INTERVAL_MS, u64::MAX));
}

#[tokio::test(start_paused = true)]
async fn a_demand_is_announced_now_and_then_and_lasts() {
    let demands = Demands::default();
    for _ in 0..100 {
        demands.record_local();
    }
    assert_eq!(demands.newest().announcements, 1);
    assert!(demands.newest().lasts());
    tokio::time::advance(ANNOUNCE_EVERY).await;
    demands.record_local();
    assert_eq!(demands.newest().announcements, 2);
    tokio::time::advance(DEMAND_FOR).await;
    assert!(!demands.newest().lasts());
}

/// Callers of other nodes never make this one announce anything, and a flood of announcements wakes
/// the attester a few times a second.
#[tokio::test(start_paused = true)]
async fn a_demand_of_another_node_is_not_passed_on() {
    let demands = Demands::default();
    let mut watch = demands.watch();
    demands.record_remote();
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    for _ in 0..100 {
        demands.record_remote();
    }
    assert!(!watch.has_changed().unwrap());
    assert!(demands.newest().lasts());
    assert_eq!(demands.newest().announcements, 0);
    tokio::time::advance(ANNOUNCE_EVERY).await;
    demands.record_remote();
    assert!(watch.has_changed().unwrap());
}

#[test]
fn only_the_highest_unsigned_height_of_others_counts() {
    let demands = Demands::default();
    demands.record_signed(5);
    for (height, expected) in [(5, 0), (7, 7), (6, 7), (9, 9)] {
        demands.record_attested(height);
        assert_eq!(demands.newest().attested, expected);
    }
}
