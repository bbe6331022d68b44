use std::collections::BTreeMap;

use lamplighter_types::limits::ID_BYTES_MAX;
use lamplighter_types::wire::work::DeviceMark;

use super::report_check::{device, devices};
use crate::runtime::device_table::{DEVICES_MAX, DeviceTable, DeviceTableChanges, NameRange};
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

/// The answers lead from the digest of all to each name, and to no device that was lost.
#[test]
fn held_devices_are_reported_by_digests_and_at_last_by_names() {
    let dir = tempfile::tempdir().unwrap();
    let known = DeviceTable::open(dir.path().join("devices.json")).unwrap();
    let root = known.digest();
    assert_eq!((root.count, &root.after, &root.until), (0, &None, &None));
    let name = |n: usize| format!("{n:05}-{}", "n".repeat(ID_BYTES_MAX - 6));
    known.update((0..DEVICES_MAX).map(|n| (id(&name(n)), Some(device(&name(n), true)), 5)));
    let before = known.digest();
    known.update([(id(&name(7)), None, 6)]);
    assert_ne!(known.digest(), before);
    assert_eq!(known.digest().count as usize, DEVICES_MAX - 1);

    let (mut names, mut levels) = (BTreeMap::new(), 0);
    let mut asked = vec![NameRange::default()];
    while !asked.is_empty() {
        levels += 1;
        let mut next = Vec::new();
        for range in asked {
            let request = known.held(&range);
            let json = serde_json::to_vec(&request).unwrap();
            assert!(json.len() < 8 * 1024, "{} bytes", json.len());
            let mut after = range.after;
            for part in &request.ranges {
                assert_eq!(part.after, after, "without a gap");
                after = part.until.clone();
                let (after, until) = (part.after.clone(), part.until.clone());
                next.push(NameRange { after, until });
            }
            if let Some(held) = request.devices {
                assert!(
                    held.devices
                        .keys()
                        .all(|name| held.after.as_ref() < Some(name))
                );
                names.extend(held.devices);
            } else {
                assert_eq!(after, range.until);
            }
        }
        asked = next;
    }
    assert_eq!((levels, names.len()), (3, DEVICES_MAX - 1));
    assert!(!names.contains_key(&id(&name(7))));
    let mark = &names[&id(&name(8))];
    assert_eq!(*mark, DeviceMark::of(&device(&name(8), true)));
    assert_ne!(*mark, DeviceMark::of(&device(&name(8), false)));
    // A range that no honest node asks for.
    let (after, until) = (Some(id("b")), Some(id("a")));
    let nothing = known.held(&NameRange { after, until });
    assert!(nothing.devices.unwrap().devices.is_empty());
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
