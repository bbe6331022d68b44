use std::time::Duration;

use super::renew_after;

#[test]
fn a_connection_is_renewed_before_its_token_ends() {
    let minutes = |count: u64| count * 60_000;
    assert_eq!(
        renew_after(minutes(100 + 15), minutes(100)),
        Some(Duration::from_secs(14 * 60))
    );
    // A gateway whose clock is ahead, or a node that lies, must not make it connect without end.
    assert_eq!(renew_after(minutes(100) + 5, minutes(100)), None);
    assert_eq!(renew_after(minutes(100), minutes(102)), None);
    assert_eq!(renew_after(0, u64::MAX), None);
}
