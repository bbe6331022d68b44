use std::cell::RefCell;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Calls nodes that answer after these seconds, until one answers well, and returns it with the
/// seconds at which each was called.
async fn round(seconds: &[u64], good: usize) -> (Option<usize>, Vec<u64>, Duration) {
    let (begun, called) = (Instant::now(), RefCell::new(Vec::new()));
    let mut hedge = Hedge::new((0..seconds.len()).collect(), SECOND);
    let call = |index: usize| {
        called.borrow_mut().push(begun.elapsed().as_secs());
        let takes = Duration::from_secs(seconds[index]);
        async move {
            tokio::time::sleep(takes).await;
            (index, index == good)
        }
    };
    let mut found = None;
    while let Some((index, is_good)) = hedge.next(call).await {
        assert!(hedge.awaited().len() < AWAITED_MAX);
        if is_good {
            found = Some(index);
            break;
        }
    }
    (found, called.into_inner(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_next_node_is_called_while_a_silent_one_is_awaited() {
    assert_eq!(round(&[9, 0], 1).await, (Some(1), vec![0, 1], SECOND));
    // A node that answers in time is alone.
    assert_eq!(round(&[0, 0], 0).await, (Some(0), vec![0], Duration::ZERO));
    // The first one may still be the one that answers.
    assert_eq!(round(&[2, 9], 0).await, (Some(0), vec![0, 1], 2 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn two_nodes_are_awaited_at_most_and_a_bad_answer_calls_the_next_at_once() {
    // The second one is useless at once; the third one is silent until the first one has answered.
    let (found, called, took) = round(&[4, 0, 9, 0], 3).await;
    assert_eq!(
        (found, called, took),
        (Some(3), vec![0, 1, 1, 4], 4 * SECOND)
    );
    let (found, called, took) = round(&[0, 0, 0], 7).await;
    assert_eq!((found, called, took), (None, vec![0, 0, 0], Duration::ZERO));
    assert_eq!(round(&[], 0).await, (None, vec![], Duration::ZERO));
}

#[test]
fn the_wait_follows_the_usual_time_within_bounds() {
    let time = AnswerTime::default();
    assert_eq!(time.hedge_after(), HEDGE_AFTER_MIN);
    for _ in 0..40 {
        time.took(Duration::from_millis(600));
    }
    let after = time.hedge_after();
    assert!(
        after > SECOND && after <= Duration::from_millis(1_200),
        "{after:?}"
    );
    for _ in 0..40 {
        time.took(Duration::from_secs(20));
    }
    assert_eq!(time.hedge_after(), HEDGE_AFTER_MAX);
}
