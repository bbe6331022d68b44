use lamplighter_types::{Hash, Id};

use super::keys::{ALL, HEADERS, RECEIPTS, last_item, last_number};

#[test]
fn no_prefix_begins_another_one_of_its_column_family() {
    for (at, one) in ALL.iter().enumerate() {
        for other in &ALL[at + 1..] {
            let collide =
                one.prefix.starts_with(other.prefix) || other.prefix.starts_with(one.prefix);
            assert!(
                one.cf != other.cf || !collide,
                "{} and {}",
                one.name,
                other.name
            );
        }
    }
}

#[test]
fn keys_are_in_the_order_of_their_parts() {
    let heights = [0, 1, 255, 256, u64::MAX - 1, u64::MAX];
    assert!(heights.map(|h| HEADERS.height(h)).is_sorted());
    let items = [(0, 0), (0, 256), (1, 0), (1, u32::MAX), (256, 3)];
    assert!(items.map(|(h, i)| RECEIPTS.item(h, i)).is_sorted());
    for (height, index) in items {
        let key = RECEIPTS.item(height, index);
        assert_eq!(last_item(&key), Some((height, index)));
        assert!(key.starts_with(&RECEIPTS.height(height)));
    }
    assert_eq!(last_number(&HEADERS.height(77)), Some(77));
    assert_eq!(
        (last_number(b"short"), last_item(b"too short")),
        (None, None)
    );
}

#[test]
fn no_device_shares_keys_with_one_of_a_longer_name() {
    let id = |text: &str| text.parse::<Id>().unwrap();
    let one = RECEIPTS.device(&id("lamp"));
    for longer in ["lamp-1", "lamp.", "lamp0"] {
        assert!(
            !RECEIPTS.device_sequence(&id(longer), 0).starts_with(&one),
            "{longer}"
        );
    }
    assert_eq!(HEADERS.hash(&Hash::ZERO).len(), 33);
}
