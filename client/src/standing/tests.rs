use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_is_called_last_until_it_may_be_repaired() {
    let nodes = Standings::new(3);
    nodes.prefer(1);
    assert_eq!(nodes.in_turn(), [1, 2, 0]);
    nodes.failed(1, Fault::Unserved);
    assert_eq!(nodes.in_turn(), [2, 0, 1]);
    nodes.failed(2, Fault::Untrue);
    assert_eq!(nodes.in_turn(), [0, 1, 2], "a lie is worse than an outage");
    nodes.failed(0, Fault::Unserved);
    assert_eq!(nodes.in_turn().len(), 3, "no node is left out");
    tokio::time::advance(UNSERVED_MIN).await;
    assert_eq!(nodes.in_turn(), [1, 0, 2]);
    // Each fault counts for longer, up to the limit.
    for _ in 0..40 {
        nodes.failed(1, Fault::Unserved);
    }
    tokio::time::advance(UNSERVED_MAX - Duration::from_secs(1)).await;
    assert_eq!(nodes.in_turn(), [2, 0, 1]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(nodes.in_turn(), [1, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn only_a_proof_makes_up_for_a_lie() {
    let nodes = Standings::new(2);
    nodes.failed(0, Fault::Untrue);
    nodes.served(0);
    nodes.failed(0, Fault::Unserved);
    assert_eq!(nodes.in_turn(), [1, 0]);
    nodes.proved(0, 7);
    assert_eq!(nodes.in_turn(), [0, 1]);
    nodes.failed(0, Fault::Unserved);
    nodes.served(0);
    assert_eq!(nodes.in_turn(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_block_that_was_proven_long_ago_is_behind() {
    let nodes = Standings::new(2);
    nodes.proved(1, 7);
    nodes.prefer(0);
    nodes.at_height(0, 6);
    assert_eq!(nodes.in_turn(), [0, 1], "blocks need time to arrive");
    tokio::time::advance(BEHIND_AFTER).await;
    nodes.at_height(0, 7);
    assert_eq!(nodes.in_turn(), [0, 1]);
    nodes.at_height(0, 6);
    assert_eq!(nodes.in_turn(), [1, 0]);
    nodes.at_height(1, u64::MAX);
    assert_eq!(
        nodes.in_turn(),
        [1, 0],
        "what a node claims helps it nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_keeps_the_order_and_does_not_bind_for_long() {
    let (nodes, urls) = (Standings::new(3), ["a", "b", "c"]);
    nodes.failed(0, Fault::Unserved);
    nodes.failed(2, Fault::Untrue);
    nodes.prefer(2);
    let mut known = nodes.remembered(urls.into_iter());
    let second = Standings::new(4);
    second.restore(["new", "c", "b", "a"].into_iter(), &known);
    assert_eq!(second.in_turn(), [2, 0, 3, 1]);
    // A clock that was wrong, or a file that somebody wrote.
    for known in &mut known {
        (known.until_ms, known.faults) = (u64::MAX, u32::MAX);
    }
    second.restore(["new", "c", "b", "a"].into_iter(), &known);
    tokio::time::advance(UNTRUE_MAX).await;
    assert_eq!(second.in_turn(), [1, 2, 3, 0]);
    second.failed(1, Fault::Untrue);
    assert_eq!(second.in_turn(), [2, 3, 0, 1]);
}
