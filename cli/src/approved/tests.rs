use serde_json::json;

use super::flatten;

#[test]
fn durations_and_times_are_in_words() {
    let record = json!({
        "deferral": { "count_max": 2, "total_ms_max": 259_200_000 },
        "timers": { "download_ms": 86_400_000 },
        "expires_ms": 1_796_074_200_000_u64,
        "replaces_from": null,
    });
    let mut fields = Vec::new();
    flatten(String::new(), &record, &mut fields);
    fields.sort();
    let expires = crate::time::local(1_796_074_200_000);
    let expected = [
        ("deferral count max", "2"),
        ("deferral total max", &crate::time::duration(259_200_000)),
        ("expires", &expires),
        ("replaces from", "-"),
        ("timers download", "1 d"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields, expected);
}
