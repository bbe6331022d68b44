use std::time::Duration;

use tokio::time::Instant;

use crate::lwm2m::inventory::NamedValue;
use crate::lwm2m::resource::ResourceValue;
use crate::runtime::inventory::Inventories;
use crate::verify::tests::id;

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: u64 = 3_600_000;

fn values(model: &str, battery: i64) -> Vec<NamedValue> {
    vec![
        ("/3/0/1".to_owned(), ResourceValue::Text(model.to_owned())),
        ("/3/0/9".to_owned(), ResourceValue::Integer(battery)),
    ]
}

#[test]
fn a_device_is_asked_once_a_day_and_the_ledger_hears_of_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.json");
    let (now, device) = (Instant::now(), id("lamp"));
    let mut inventories = Inventories::open(path.clone(), now);
    assert!(inventories.ask(&device, now, 0));
    assert!(
        !inventories.ask(&device, now + HOUR / 2, HOUR_MS / 2),
        "it was asked"
    );
    assert!(
        inventories.ask(&device, now + HOUR, HOUR_MS),
        "it did not answer"
    );
    let facts = inventories.record(&device, &values("Pole", 80), HOUR_MS);
    let named: Vec<_> = facts.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(named, ["/3/0/1"], "not the battery");
    inventories.save(now, false, |_| true);
    assert!(!path.exists(), "not at once");
    inventories.save(now, true, |_| true);
    // After a restart of the gateway.
    let mut inventories = Inventories::open(path.clone(), now);
    assert!(!inventories.ask(&device, now, 24 * HOUR_MS));
    assert!(inventories.ask(&device, now, 25 * HOUR_MS));
    assert_eq!(
        inventories.record(&device, &values("Pole", 70), 25 * HOUR_MS),
        []
    );
    assert_eq!(
        inventories
            .record(&device, &values("Mast", 70), 26 * HOUR_MS)
            .len(),
        1
    );
    // An update makes it another one.
    assert!(!inventories.ask(&device, now, 27 * HOUR_MS));
    inventories.expire(&device);
    assert!(inventories.ask(&device, now, 27 * HOUR_MS));
    // What is not served is forgotten, and a damaged file too.
    inventories.save(now, true, |_| false);
    assert!(Inventories::open(path.clone(), now).ask(&device, now, 26 * HOUR_MS));
    std::fs::write(&path, b"{").unwrap();
    assert!(Inventories::open(path, now).ask(&device, now, 26 * HOUR_MS));
}
