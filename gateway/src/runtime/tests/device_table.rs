use lamplighter_types::limits::ID_BYTES_MAX;
use lamplighter_types::wire::work::{DeviceMark, DevicesHeld, SyncRequest};

use super::report_check::{device, devices};
use crate::runtime::device_table::{DEVICES_MAX, DeviceTable, DeviceTableChanges, HELD_RANGE_MAX};
use crate::verify::tests::id;

#[test]
fn devices_are_known_after_a_restart_and_old_proofs_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let known = devices(&dir);
    assert!(known.admits("lamp") && !known.admits("other") && !known.admits("../x"));
    assert_eq!(
        known.update([(id("lamp"), None, 4)]).removed,
        [],
        "an older proof"
    );
    assert_eq!(known.update([(id("lamp"), None, 6)]).removed, [id("lamp")]);
    known.update([(id("lamp"), Some(device("lamp", true)), 5)]);
    assert!(!known.admits("lamp"), "an older proof again");
    known.save().unwrap();
    assert!(!known.is_changed());
    drop(known);
    let again = DeviceTable::open(dir.path().join("devices.json")).unwrap();
    assert!(!again.admits("lamp") && again.admits("mute"));
}

/// The ranges have each device of a gateway of many devices, and no device that it has lost.
#[test]
fn held_devices_are_in_ranges_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let known = DeviceTable::open(dir.path().join("devices.json")).unwrap();
    assert_eq!(known.held_ranges(), [DevicesHeld::default()]);
    let count = 2 * HELD_RANGE_MAX + 5;
    let name = |n: usize| format!("{n:05}-{}", "n".repeat(ID_BYTES_MAX - 6));
    known.update((0..count).map(|n| (id(&name(n)), Some(device(&name(n), true)), 5)));
    known.update([(id(&name(7)), None, 6)]);
    let held = known.held_ranges();
    assert_eq!(held.len(), 3);
    assert_eq!((&held[0].after, &held[2].until), (&None, &None));
    for pair in held.windows(2) {
        assert!(pair[0].until.is_some());
        assert_eq!(pair[0].until, pair[1].after);
    }
    for range in &held {
        let devices = Some(range.clone());
        let since = None;
        let json = serde_json::to_vec(&SyncRequest { since, devices }).unwrap();
        assert!(
            json.len() < 64 * 1024,
            "{} bytes hold a slow link up",
            json.len()
        );
        let first = range.devices.keys().next();
        let last = range.devices.keys().next_back();
        assert!(range.after.is_none() || range.after.as_ref() < first);
        assert!(range.until.is_none() || range.until.as_ref() >= last);
    }
    let names: Vec<_> = held.iter().flat_map(|range| range.devices.keys()).collect();
    assert_eq!(names.len(), count - 1);
    assert!(!names.contains(&&id(&name(7))));
    let mark = &held[0].devices[&id(&name(8))];
    assert_eq!(*mark, DeviceMark::of(&device(&name(8), true)));
    assert_ne!(*mark, DeviceMark::of(&device(&name(8), false)));
}

#[test]
fn the_table_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let known = DeviceTable::open(dir.path().join("devices.json")).unwrap();
    let name = |n: usize| format!("lamp-{n:05}");
    let many = DEVICES_MAX + 3;
    let changes = known.update((0..many).map(|n| (id(&name(n)), Some(device(&name(n), true)), 5)));
    assert_eq!(changes.omitted, 3);
    // A removed device makes place for another one.
    known.update([(id(&name(0)), None, 6)]);
    let changes = known.update([(id("late"), Some(device("late", true)), 6)]);
    assert_eq!(changes, DeviceTableChanges::default());
    assert!(known.admits("late"));
}
