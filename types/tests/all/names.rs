//! Ids, districts and versions.

use lamplighter_types::{Hash, HexError, Id, NameError, Scope, Version};
use proptest::prelude::*;

#[test]
fn ids_have_few_characters_and_a_length() {
    for good in ["a", "0", "lamp-1", "a.b_c-d", &"x".repeat(64)] {
        assert_eq!(good.parse::<Id>().unwrap().as_str(), good);
    }
    let long = "x".repeat(65);
    for bad in [
        "", "-a", ".a", "_a", "A", "a b", "a/b", "ä", "a\0", "a\n", "a+b", "a#", &long,
    ] {
        assert_eq!(bad.parse::<Id>(), Err(NameError::Id), "{bad:?}");
    }
}

#[test]
fn districts_are_paths_of_ids() {
    for good in ["", "north", "north/harbour", "a/b/c/d/e/f"] {
        assert_eq!(good.parse::<Scope>().unwrap().as_str(), good);
    }
    let long = ["x".repeat(64), "y".repeat(64), "z".repeat(31)].join("/");
    assert_eq!(long.len(), 161);
    for bad in [
        "/",
        "north/",
        "/north",
        "a//b",
        "a/b/c/d/e/f/g",
        "North",
        "a/-b",
        &long,
    ] {
        assert_eq!(bad.parse::<Scope>(), Err(NameError::Scope), "{bad:?}");
    }
}

#[test]
fn a_district_covers_what_lies_in_it() {
    let scope = |text: &str| text.parse::<Scope>().unwrap();
    assert!(scope("").covers(&scope("north/harbour")));
    assert!(scope("").covers(&scope("")));
    assert!(scope("north").covers(&scope("north")));
    assert!(scope("north").covers(&scope("north/harbour")));
    assert!(!scope("north").covers(&scope("northern")));
    assert!(!scope("north/harbour").covers(&scope("north")));
    assert!(!scope("north").covers(&scope("")));
    let around = scope("a/b/c").ancestry();
    assert_eq!(around, ["", "a", "a/b", "a/b/c"].map(scope));
    assert_eq!(scope("").ancestry(), [scope("")]);
}

#[test]
fn versions_are_three_plain_numbers() {
    let version: Version = "1.20.4294967295".parse().unwrap();
    assert_eq!(
        (version.major, version.minor, version.patch),
        (1, 20, u32::MAX)
    );
    assert_eq!(version.to_string(), "1.20.4294967295");
    let bad = [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.02.3",
        "1.2.03",
        "+1.2.3",
        "1.-2.3",
        "1.2.",
        "1..3",
        "1.2.3 ",
        "1.2.4294967296",
        "1.2.x",
        "١.2.3",
    ];
    for bad in bad {
        assert_eq!(bad.parse::<Version>(), Err(NameError::Version), "{bad:?}");
    }
    assert!("1.10.0".parse::<Version>().unwrap() > "1.9.9".parse().unwrap());
}

#[test]
fn hashes_are_lower_case_hexadecimal() {
    let text = "0123456789abcdef".repeat(4);
    assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
    assert_eq!(text.to_uppercase().parse::<Hash>(), Err(HexError::Digit));
    assert_eq!("0g".repeat(32).parse::<Hash>(), Err(HexError::Digit));
    assert_eq!(
        "ab".parse::<Hash>(),
        Err(HexError::Length {
            expected: 64,
            got: 2
        })
    );
}

proptest! {
    #[test]
    fn any_text_is_taken_unchanged_or_refused(text in "\\PC{0,80}") {
        if let Ok(id) = text.parse::<Id>() {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert!(text.parse::<Scope>().is_ok());
        }
        if let Ok(version) = text.parse::<Version>() {
            prop_assert_eq!(version.to_string(), text);
        }
    }

    #[test]
    fn covering_is_being_in_the_ancestry(
        a in "([a-c]{1,2}(/[a-c]{1,2}){0,3})?",
        b in "([a-c]{1,2}(/[a-c]{1,2}){0,3})?",
    ) {
        let (a, b) = (a.parse::<Scope>().unwrap(), b.parse::<Scope>().unwrap());
        prop_assert_eq!(a.covers(&b), b.ancestry().contains(&a));
    }
}
