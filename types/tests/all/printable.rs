use lamplighter_types::{printable, printable_json};
use proptest::prelude::*;

/// The characters that a terminal obeys or a person does not see, by other means than in the code.
fn is_harmless(c: char) -> bool {
    let code = u32::from(c);
    let control = code < 0x20 || (0x7f..0xa0).contains(&code);
    let bidirectional = (0x202a..=0x202e).contains(&code) || (0x2066..=0x2069).contains(&code);
    let no_width = (0x200b..=0x200f).contains(&code) || code == 0xfeff;
    let separator = code == 0x2028 || code == 0x2029;
    !(control || bidirectional || no_width || separator)
}

/// Any text, rich in characters that matter.
fn text() -> impl Strategy<Value = String> {
    let some = prop_oneof![
        any::<char>(),
        prop::char::range('\0', '\u{ff}'),
        prop::char::range('\u{2000}', '\u{2070}'),
        Just('\u{feff}'),
        Just('\\'),
        Just('"'),
    ];
    prop::collection::vec(some, 0..60).prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #[test]
    fn printable_text_is_one_harmless_line(text in text()) {
        let printed = printable(&text);
        prop_assert!(printed.chars().all(is_harmless), "{printed:?}");
        if text.chars().all(|c| c.is_ascii_graphic()) {
            prop_assert_eq!(printed.as_ref(), &text);
        }
    }

    #[test]
    fn printable_json_is_the_same_json(text in text(), pretty: bool) {
        let value = serde_json::json!({ &text: [&text] });
        let json = if pretty { format!("{value:#}") } else { value.to_string() };
        let printed = printable_json(&json);
        prop_assert!(printed.chars().all(|c| c == '\n' || is_harmless(c)), "{printed:?}");
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
    }
}

#[test]
fn escapes_show_the_escaped_character() {
    let hostile = "\u{1b}[2J\u{202e}fine\n\u{e0041}";
    assert_eq!(
        printable(hostile),
        "\\u{1b}[2J\\u{202e}fine\\u{a}\\u{e0041}"
    );
    assert_eq!(printable("Straße 3, Łódź, 東京"), "Straße 3, Łódź, 東京");
    assert_eq!(printable_json("\"\u{e0041}\""), "\"\\udb40\\udc41\"");
}
