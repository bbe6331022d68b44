use lamplighter_types::{Group, GroupGate, GroupMembers, Id, Scope, Selection};

use super::{WrittenGroup, gate};

fn read(text: &str) -> Option<Group> {
    let group = text.parse::<WrittenGroup>().ok();
    group.map(|group| group.group(false))
}

fn ids(names: &[&str]) -> GroupMembers {
    let devices = names.iter().map(|name| Id::new(*name).unwrap());
    GroupMembers::Selected {
        selection: Selection::List {
            devices: devices.collect(),
        },
    }
}

#[test]
fn a_group_is_read_as_people_write_it() {
    let hour_ms = 3_600_000;
    let tagged = GroupMembers::Selected {
        selection: Selection::Filter {
            district: Scope::city(),
            model: None,
            hardware_class: None,
            tag: Some("ring=0".to_owned()),
        },
    };
    for (text, members, percent, sample, soak_ms, by_hand) in [
        ("rest", GroupMembers::Rest, 95, 1, hour_ms, false),
        (
            "10%",
            GroupMembers::Percent { percent: 10 },
            95,
            1,
            hour_ms,
            false,
        ),
        (
            "25 devices: soak 0",
            GroupMembers::Count { count: 25 },
            95,
            1,
            0,
            false,
        ),
        ("tag=ring=0: sample 7", tagged, 95, 7, hour_ms, false),
        (
            "lamp-1, lamp-2: success 100%, sample 2, soak 2d, by hand",
            ids(&["lamp-1", "lamp-2"]),
            100,
            2,
            48 * hour_ms,
            true,
        ),
    ] {
        let gate = GroupGate {
            success_percent_min: percent,
            sample_min: sample,
            soak_ms,
            next_by_hand: by_hand,
        };
        assert_eq!(read(text), Some(Group { members, gate }), "{text}");
    }
}

#[test]
fn another_text_is_no_group_and_the_wrong_part_is_named() {
    let (names_none, known) = ("names no devices: write `lamp-1,lamp-2`", "`soak 24h` and");
    for (text, part, words) in [
        ("", "``", names_none),
        ("ten devices", "`ten devices`", names_none),
        ("300%", "`300%`", names_none),
        ("colour=red", "`colour=red`", names_none),
        ("rest: soak 3", "`soak 3`", "`24h`"),
        (
            "rest: soak 99999999999999999999d",
            "`soak 99999999999999999999d`",
            "`24h`",
        ),
        ("rest: success 101", "`success 101`", "a percentage"),
        ("rest: success many", "`success many`", "a percentage"),
        ("rest: sample", "`sample`", "a number of devices"),
        ("rest: hurry", "`hurry`", known),
        ("10%: sucess 95", "`sucess 95`", known),
    ] {
        let refused = text.parse::<WrittenGroup>().unwrap_err().to_string();
        assert!(refused.starts_with(part), "{text}: {refused}");
        assert!(refused.contains(words), "{text}: {refused}");
    }
}

#[test]
fn the_last_group_soaks_only_if_that_is_written() {
    let soak_ms = |text: &str, is_last| {
        let group = text.parse::<WrittenGroup>().unwrap().group(is_last);
        group.gate.soak_ms
    };
    assert_eq!(soak_ms("rest", false), 3_600_000);
    assert_eq!(soak_ms("rest", true), 0);
    assert_eq!(soak_ms("rest: success 90, soak 30s", true), 30_000);
}

#[test]
fn a_gate_is_printed_in_words() {
    let group = read("rest: success 90, sample 20, soak 24h, by hand").unwrap();
    assert_eq!(
        gate(&group.gate),
        "90 % of 20 or more, for 1 d, then by hand"
    );
}
