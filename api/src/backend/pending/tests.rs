use lamplighter_types::Id;
use tokio::time::sleep;

use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn item(number: usize) -> WorkItem {
    let device = id(&format!("lamp-{number:04}"));
    WorkItem::Device { device }
}

fn config(number: usize) -> WorkItem {
    let device = id(&format!("lamp-{number:04}"));
    WorkItem::Config { device }
}

/// New work every 20 ms, as on a ledger that never rests.
#[tokio::test(start_paused = true)]
async fn work_that_goes_on_coming_does_not_hold_up_what_is_there() {
    let mut pending = Pending::default();
    let begun = Instant::now();
    let mut sent = None;
    for number in 1..100 {
        sleep(Duration::from_millis(10)).await;
        if number % 2 == 0 {
            pending.add([item(number)]);
        }
        if let Next::Send(message, _) = pending.next(Instant::now()) {
            sent = Some((message, begun.elapsed()));
            break;
        }
    }
    // The first came after 20 ms.
    let (message, after) = sent.unwrap();
    assert_eq!(after, Duration::from_millis(20) + GATHER);
    assert_eq!(message, [item(2), item(4), item(6)]);
    assert_eq!(pending.next(Instant::now()), Next::Nothing);
}

#[tokio::test(start_paused = true)]
async fn a_message_has_many_devices_or_few_deployments() {
    let mut pending = Pending::default();
    pending.add((0..100).map(item));
    pending.add((0..100).map(config));
    pending.add((0..100).map(item));
    sleep(GATHER).await;
    let mut lengths = Vec::new();
    let mut all = Vec::new();
    while let Next::Send(message, _) = pending.next(Instant::now()) {
        lengths.push(message.len());
        all.extend(message);
    }
    let wanted: Vec<_> = (0..100).map(item).chain((0..100).map(config)).collect();
    assert!(all == wanted, "each once, the devices first");
    assert_eq!(lengths[..4], [WEIGHT_MAX, WEIGHT_MAX, WEIGHT_MAX, 11]);
    assert_eq!(lengths[4], WEIGHT_MAX / 4);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_says_what_it_has_is_not_told_all() {
    let mut pending = Pending::default();
    pending.list(SYNC_WITHIN);
    let at = Instant::now() + SYNC_WITHIN;
    assert_eq!(pending.next(Instant::now()), Next::Wait(at));
    pending.said();
    assert_eq!(pending.next(Instant::now()), Next::Nothing);
    pending.list(SYNC_WITHIN);
    sleep(SYNC_WITHIN).await;
    assert_eq!(pending.next(Instant::now()), Next::List);
    assert_eq!(pending.next(Instant::now()), Next::Nothing);
}

/// The end of a connection is noticed when something can't be delivered to it; by then the gateway
/// may be back and have asked again.
#[tokio::test(start_paused = true)]
async fn what_a_new_connection_asked_for_is_not_forgotten_with_the_old_one() {
    let mut pending = Pending::default();
    pending.list(Duration::ZERO);
    pending.add([item(1)]);
    sleep(GATHER).await;
    assert_eq!(pending.next(Instant::now()), Next::List);
    let Next::Send(_, asked) = pending.next(Instant::now()) else {
        panic!("there is something to send");
    };
    pending.said();
    pending.add([item(2)]);
    pending.forget(asked);
    sleep(GATHER).await;
    let Next::Send(message, asked) = pending.next(Instant::now()) else {
        panic!("the second is still to be sent");
    };
    assert_eq!(message, [item(2)]);
    pending.add([item(3)]);
    pending.forget(asked);
    sleep(GATHER).await;
    assert_eq!(pending.next(Instant::now()), Next::Nothing);
}

/// A gateway can say that it holds any names at all.
#[tokio::test(start_paused = true)]
async fn names_that_a_gateway_makes_up_fill_no_memory() {
    let mut pending = Pending::default();
    let made_up = |begin: usize| (begin..begin + ITEMS_MAX).map(item);
    assert_eq!(pending.add(made_up(0)), 0);
    assert_eq!(pending.add(made_up(ITEMS_MAX)), ITEMS_MAX);
    assert_eq!(pending.add(made_up(0)), 0, "what is there is no new item");
    assert_eq!(pending.items.len(), ITEMS_MAX);
    // What was sent makes room again.
    sleep(GATHER).await;
    let Next::Send(sent, _) = pending.next(Instant::now()) else {
        panic!("something is to be sent");
    };
    assert_eq!(pending.add(made_up(ITEMS_MAX)), ITEMS_MAX - sent.len());
}
