use super::*;

#[test]
fn doubles_up_to_the_longest_pause() {
    let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
    let mut backoff = Backoff::new(min, max);
    for expected_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
        let expected = Duration::from_millis(expected_ms);
        let pause = backoff.pause();
        assert!(
            pause >= expected / 2 && pause <= expected,
            "{pause:?} for {expected:?}"
        );
    }
    backoff.reset();
    assert!(backoff.pause() <= min);
}
