use std::path::PathBuf;

use super::text::number;
use super::{PAGES, STORED, Stored, fill};
use crate::error::BenchError;

fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))
}

fn page(name: &str) -> (String, Stored) {
    let text = std::fs::read_to_string(docs().join(name)).unwrap();
    (text, Stored::read(&docs().join(STORED)).unwrap())
}

#[test]
fn pages_have_the_figures_of_the_stored_reports() {
    for name in PAGES {
        let (text, stored) = page(name);
        let made = fill(&text, &stored).unwrap();
        assert!(made == text, "{name}: `make bench-page` makes it again");
    }
}

#[test]
fn figures_that_were_edited_by_hand_are_noticed() {
    for name in PAGES {
        let (text, stored) = page(name);
        let end = super::END;
        let mut edited = 0;
        for (at, _) in text.match_indices(end) {
            let by_hand = format!("{}| 1 | 2 |\n{}", &text[..at], &text[at..]);
            assert_eq!(fill(&by_hand, &stored).unwrap(), text, "{name} at {at}");
            edited += 1;
        }
        assert!(edited >= 3, "{name} has few parts: {edited}");
    }
}

/// What is stored is published: it names no folder of the machine that measured.
#[test]
fn stored_reports_name_no_paths() {
    let text = std::fs::read_to_string(docs().join(STORED)).unwrap();
    let texts = text.split('"').skip(1).step_by(2);
    let paths: Vec<&str> = texts
        .filter(|text| text.contains('/') && !text.starts_with("/v1/"))
        .collect();
    assert!(paths.is_empty(), "{paths:?}");
}

#[test]
fn prose_stays_and_parts_are_known() {
    let part = |name: &str| {
        format!(
            "Before.\n{}{name} -->\nold\n{} After.",
            super::BEGIN,
            super::END
        )
    };
    let made = fill(&part("reads"), &Stored::default()).unwrap();
    assert!(made.starts_with("Before.\n<!-- figures: reads -->\n") && made.ends_with(" After."));
    assert!(!made.contains("old"));
    assert_eq!(fill("no part", &Stored::default()).unwrap(), "no part");
    for wrong in [
        part("nothing"),
        part("scale nothing"),
        "<!-- figures: reads -->\nx".to_owned(),
    ] {
        let refused = fill(&wrong, &Stored::default());
        assert!(
            matches!(refused, Err(BenchError::Unexpected { .. })),
            "{wrong}"
        );
    }
}

#[test]
fn numbers_have_three_digits_and_thousands_apart() {
    let cases = [
        (0.0, "0.00"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (99.96, "100"),
        (1_234.5, "1,234"),
        (1_234_567.0, "1,234,567"),
        (-1_234.0, "-1,234"),
        (f64::NAN, "-"),
        (f64::INFINITY, "-"),
    ];
    for (value, text) in cases {
        assert_eq!(number(value), text, "{value}");
    }
}
