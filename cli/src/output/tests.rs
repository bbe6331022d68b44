use proptest::prelude::*;

use super::{joined, members, or_dash, table, text};

/// Characters that a terminal obeys or a person does not see, by their numbers.
fn is_harmless(c: char) -> bool {
    let code = u32::from(c);
    let control = code < 0x20 || (0x7f..0xa0).contains(&code);
    let bidirectional = (0x202a..=0x202e).contains(&code) || (0x2066..=0x2069).contains(&code);
    let no_width = (0x200b..=0x200f).contains(&code) || code == 0xfeff;
    !(control || bidirectional || no_width || code == 0x2028 || code == 0x2029)
}

fn cell() -> impl Strategy<Value = String> {
    let some = prop_oneof![
        any::<char>(),
        prop::char::range('\0', '\u{ff}'),
        prop::char::range('\u{2000}', '\u{2070}'),
    ];
    prop::collection::vec(some, 0..20).prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #[test]
    fn a_table_of_any_texts_is_a_line_for_each_row(
        rows in prop::collection::vec(prop::collection::vec(cell(), 3), 0..5),
    ) {
        let lines = table(&["one", "two", "three"], rows.clone());
        prop_assert_eq!(lines.len(), rows.len() + 1);
        for line in lines {
            prop_assert!(line.chars().all(is_harmless), "{}", line.escape_debug());
        }
    }
}

#[test]
fn each_member_of_a_member_has_a_line() {
    let value = serde_json::json!({
        "name": "Harbour City",
        "policies": {
            "releases": { "approvals": 2, "expires_ms": 1 },
            "none": {},
            "wait_ms": null,
        },
    });
    let lines: Vec<_> = members("", &value)
        .into_iter()
        .map(|(name, text)| format!("{name} {text}"))
        .collect();
    let expected = [
        "name Harbour City",
        "policies.none {}",
        "policies.releases.approvals 2",
        "policies.releases.expires_ms 1",
        "policies.wait_ms -",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn columns_stand_below_each_other() {
    let rows = vec![
        vec!["\u{1b}[2J".to_owned(), "1".to_owned()],
        vec!["Łódź".to_owned(), "2".to_owned()],
    ];
    let lines = table(&["place", "n"], rows);
    assert_eq!(lines, ["place      n", "\\u{1b}[2J  1", "Łódź       2"]);
    assert_eq!(table(&["a", "b"], Vec::new()), ["a  b"]);
}

#[test]
fn nothing_is_a_dash() {
    assert_eq!(text(&serde_json::Value::Null), "-");
    assert_eq!(or_dash::<u64>(None), "-");
    assert_eq!(joined::<u64>(&[]), "-");
    assert_eq!(joined(&[1, 2]), "1 2");
}
