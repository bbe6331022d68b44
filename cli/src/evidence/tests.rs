use lamplighter_types::{Hash, Id};
use serde_json::json;

use super::file::{EvidenceFile, EvidenceOf};
use super::page;

/// Texts that end an element, begin another one, and turn what follows around.
const HOSTILE: &str = "</script><script>alert('x')</script>&amp;\"\u{202e}\u{1b}[2J\u{2028}";

#[test]
fn texts_of_the_ledger_are_neither_markup_nor_unseen() {
    let of = EvidenceOf::Device(Id::new("lamp-1").unwrap());
    let items = vec![json!({ "record": HOSTILE })];
    let file = EvidenceFile::new(Hash::ZERO, of, Some(HOSTILE.to_owned()), items);
    let rendered = page::render(&file, &[]);
    assert_eq!(rendered.matches("<script").count(), 1);
    assert_eq!(rendered.matches("</script>").count(), 1);
    assert!(!rendered.contains(['\u{202e}', '\u{1b}', '\u{2028}']));
    assert!(rendered.contains("&lt;/script&gt;"));
    assert!(rendered.contains("\\u{202e}"));
    let data = page::data(&rendered).unwrap();
    assert_eq!(EvidenceFile::from_json(data).unwrap(), file);
    assert!(page::data("<html></html>").is_none());
}
