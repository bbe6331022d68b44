use lamplighter_types::{Group, GroupGate, GroupMembers, Id, Scope, Selection};

use super::{WrittenGroup, gate};

fn read(text: &str) -> Option<Group> {
    text.parse::<WrittenGroup>().ok().map(|group| group.0)
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
    for (text, part) in [
        ("", "``"),
        ("ten devices", "`ten devices`"),
        ("300%", "`300%`"),
        ("rest: soak 3", "`soak 3`"),
        (
            "rest: soak 99999999999999999999d",
            "`soak 99999999999999999999d`",
        ),
        ("rest: hurry", "`hurry`"),
        ("colour=red", "`colour=red`"),
    ] {
        let refused = text.parse::<WrittenGroup>().unwrap_err().to_string();
        assert!(refused.starts_with(part), "{text}: {refused}");
    }
}

#[test]
fn a_gate_is_printed_in_words() {
    let group = read("rest: success 90, sample 20, soak 24h, by hand").unwrap();
    assert_eq!(
        gate(&group.gate),
        "90 % of 20 or more, for 1 d, then by hand"
    );
}
