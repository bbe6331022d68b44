use lamplighter_types::{Hash, Id, Notification, Place};

use super::*;

fn delivery(height: u64, district: &str, author: Option<&str>) -> Delivery {
    Delivery {
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
fn a_message_says_who_when_and_what_was_before() {
    let message = |delivery: &Delivery, before| message(delivery, before);
    let first = message(&delivery(7, "north", Some("olga")), None);
    let expected = json!({
        "cursor": "7.2", "previous": null, "time_ms": 1_700_000_000_000_u64,
        "transaction": Hash::of(b"t"), "author": "olga",
        "notification": {
            "place": {"device": "lamp-1", "district": "north", "gateway": null},
            "fact": "device_tagged",
        },
    });
    assert_eq!(first, expected);
    let by_time = message(&delivery(8, "north", None), Some("7.2".parse().unwrap()));
    assert_eq!(by_time["author"], Value::Null);
    assert_eq!(by_time["previous"], "7.2");
}

#[test]
fn each_district_has_its_own_order() {
    let mut previous = Previous::default();
    let mut before = |height, district: &str| {
        let cursor = Cursor { height, index: 0 };
        let before = previous.replace(&district.parse().unwrap(), cursor);
        before.map(|cursor| cursor.height)
    };
    assert_eq!(before(1, "north"), None);
    assert_eq!(before(2, "north/harbour"), None);
    assert_eq!(before(3, "north"), Some(1));
    assert_eq!(before(4, "north/harbour"), Some(2));
    for district in 0..DISTRICTS_MAX {
        before(5, &format!("d{district}"));
    }
    assert_eq!(before(6, "north"), None, "forgotten, not kept for ever");
}
