//! Tests of notification messages and of the work that waits for one gateway.

use std::time::Duration;

use lamplighter_ledger::FeedEvent;
use lamplighter_types::wire::work::WorkItem;
use lamplighter_types::wire::{Cursor, NotificationMessage};
use lamplighter_types::{Fact, Hash, Id, Notification, Place};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::notifications::{DISTRICTS_MAX, PreviousNotifications};
use super::pending::{COLLECT_TIME, ITEMS_MAX, NextStep, PendingWork, SYNC_TIMEOUT, WEIGHT_MAX};
use super::reminders::Reminders;

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

fn event(height: u64, district: &str, author: Option<&str>) -> FeedEvent {
    FeedEvent {
        cursor: Cursor { height, index: 2 },
        time_ms: 1_700_000_000_000,
        transaction: Hash::of(b"t"),
        author: author.map(|author| Id::new(author).unwrap()),
        notification: Notification {
            place: Some(Place {
                device: Id::new("lamp-1").unwrap(),
                district: district.parse().unwrap(),
                gateway: None,
            }),
            fact: Fact::DeviceTagged,
        },
    }
}

#[test]
fn a_message_has_author_time_and_previous_cursor() {
    let message =
        |event, previous| serde_json::to_value(NotificationMessage { event, previous }).unwrap();
    let first = message(event(7, "north", Some("olga")), None);
    let expected = json!({
        "cursor": "7.2", "previous": null, "time_ms": 1_700_000_000_000_u64,
        "transaction": Hash::of(b"t"), "author": "olga",
        "notification": {
            "place": {"device": "lamp-1", "district": "north", "gateway": null},
            "fact": "device_tagged",
        },
    });
    assert_eq!(first, expected);
    let by_time = message(event(8, "north", None), Some("7.2".parse().unwrap()));
    assert_eq!(by_time["author"], Value::Null);
    assert_eq!(by_time["previous"], "7.2");
}

#[test]
fn each_district_has_a_separate_order() {
    let mut previous = PreviousNotifications::default();
    let mut replace = |height, district: &str| {
        let cursor = Cursor { height, index: 0 };
        let before = previous.replace(&district.parse().unwrap(), cursor);
        before.map(|cursor| cursor.height)
    };
    assert_eq!(replace(1, "north"), None);
    assert_eq!(replace(2, "north/harbour"), None);
    assert_eq!(replace(3, "north"), Some(1));
    assert_eq!(replace(4, "north/harbour"), Some(2));
    for district in 0..DISTRICTS_MAX {
        replace(5, &format!("d{district}"));
    }
    assert_eq!(replace(6, "north"), None, "forgotten, not kept for ever");
}

/// New work every 20 ms, as on a ledger that never rests.
#[tokio::test(start_paused = true)]
async fn new_work_does_not_delay_work_that_waits() {
    let mut pending = PendingWork::default();
    let begun = Instant::now();
    let mut sent = None;
    for number in 1..100 {
        sleep(Duration::from_millis(10)).await;
        if number % 2 == 0 {
            pending.add([item(number)]);
        }
        if let NextStep::Send(message, _) = pending.next(Instant::now()) {
            sent = Some((message, begun.elapsed()));
            break;
        }
    }
    // The first came after 20 ms.
    let (message, after) = sent.unwrap();
    assert_eq!(after, Duration::from_millis(20) + COLLECT_TIME);
    assert_eq!(message, [item(2), item(4), item(6)]);
    assert_eq!(pending.next(Instant::now()), NextStep::Done);
}

#[tokio::test(start_paused = true)]
async fn a_message_has_many_devices_or_few_deployments() {
    let mut pending = PendingWork::default();
    pending.add((0..100).map(item));
    pending.add((0..100).map(config));
    pending.add((0..100).map(item));
    sleep(COLLECT_TIME).await;
    let mut lengths = Vec::new();
    let mut all = Vec::new();
    while let NextStep::Send(message, _) = pending.next(Instant::now()) {
        lengths.push(message.len());
        all.extend(message);
    }
    let wanted: Vec<_> = (0..100).map(item).chain((0..100).map(config)).collect();
    assert!(all == wanted, "each once, the devices first");
    assert_eq!(lengths[..4], [WEIGHT_MAX, WEIGHT_MAX, WEIGHT_MAX, 11]);
    assert_eq!(lengths[4], WEIGHT_MAX / 4);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_sends_what_it_holds_gets_no_listing() {
    let mut pending = PendingWork::default();
    pending.schedule_listing(SYNC_TIMEOUT);
    let at = Instant::now() + SYNC_TIMEOUT;
    assert_eq!(pending.next(Instant::now()), NextStep::Wait(at));
    pending.cancel_listing();
    assert_eq!(pending.next(Instant::now()), NextStep::Done);
    pending.schedule_listing(SYNC_TIMEOUT);
    sleep(SYNC_TIMEOUT).await;
    assert_eq!(pending.next(Instant::now()), NextStep::List);
    assert_eq!(pending.next(Instant::now()), NextStep::Done);
}

/// The end of a connection is noticed when something can't be delivered to it; by then the gateway
/// may be back and have requests again.
#[tokio::test(start_paused = true)]
async fn work_that_a_new_connection_asked_for_is_not_discarded_with_the_old_one() {
    let mut pending = PendingWork::default();
    pending.schedule_listing(Duration::ZERO);
    pending.add([item(1)]);
    sleep(COLLECT_TIME).await;
    assert_eq!(pending.next(Instant::now()), NextStep::List);
    let NextStep::Send(_, requests) = pending.next(Instant::now()) else {
        panic!("there is something to send");
    };
    pending.cancel_listing();
    pending.add([item(2)]);
    pending.discard(requests);
    sleep(COLLECT_TIME).await;
    let NextStep::Send(message, requests) = pending.next(Instant::now()) else {
        panic!("the second is still to be sent");
    };
    assert_eq!(message, [item(2)]);
    pending.add([item(3)]);
    pending.discard(requests);
    sleep(COLLECT_TIME).await;
    assert_eq!(pending.next(Instant::now()), NextStep::Done);
}

/// A gateway can say that it holds any names at all.
#[tokio::test(start_paused = true)]
async fn invented_names_fill_no_memory() {
    let mut pending = PendingWork::default();
    let made_up = |begin: usize| (begin..begin + ITEMS_MAX).map(item);
    assert_eq!(pending.add(made_up(0)), 0);
    assert_eq!(pending.add(made_up(ITEMS_MAX)), ITEMS_MAX);
    assert_eq!(pending.add(made_up(0)), 0, "what is there is no new item");
    // What was sent makes room again.
    sleep(COLLECT_TIME).await;
    let NextStep::Send(sent, _) = pending.next(Instant::now()) else {
        panic!("something is to be sent");
    };
    assert_eq!(pending.add(made_up(ITEMS_MAX)), ITEMS_MAX - sent.len());
}

/// A tick costs what is due, not what is known: of 100,000 devices three have open work.
#[tokio::test(start_paused = true)]
async fn only_open_work_that_is_due_is_looked_at_again() {
    let (mut reminders, start) = (Reminders::default(), Instant::now());
    let gateway = |number: usize| id(&format!("gw-{}", number / 10_000));
    for number in 0..100_000 {
        reminders.record(&gateway(number), &[item(number)], start);
    }
    assert_eq!(reminders.next_at(), None, "a device alone is no open work");
    for number in [5, 50_005, 99_999] {
        reminders.record(&gateway(number), &[item(number), config(number)], start);
    }
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(reminders.next_at(), Some(at(10)));
    assert!(reminders.take_due(10, at(9)).is_empty());
    let due = reminders.take_due(2, at(10));
    assert_eq!(due.len(), 2, "no more than are asked for");
    assert_eq!(
        (&due[1].gateway, &due[1].item),
        (&id("gw-5"), &config(50_005))
    );
    let [first, second] = due.try_into().unwrap();
    // One is reported meanwhile, one is sent again later and later, one is due.
    reminders.again(first, at(10));
    drop(second);
    assert_eq!(reminders.take_due(10, at(29)).len(), 1);
    assert_eq!(reminders.next_at(), Some(at(30)));
    let mut pauses = Vec::new();
    while pauses.len() < 6 {
        let now = reminders.next_at().unwrap();
        let due = reminders.take_due(10, now).pop().unwrap();
        reminders.again(due, now);
        pauses.push((reminders.next_at().unwrap() - now).as_secs());
    }
    assert_eq!(pauses, [40, 80, 160, 300, 300, 300]);
    // It changes: at once, and from the first pause on.
    let now = at(2_000);
    reminders.record(&gateway(5), &[config(5)], now);
    assert_eq!(reminders.next_at(), Some(now + Duration::from_secs(10)));
}
