//! Merging of documents.

use std::collections::BTreeMap;

use lamplighter_types::json::JsonValue;

/// Merges `patch` into `target` (RFC 7396): objects member by member, `null` removes, all else
/// replaces.
pub fn merge(target: &mut JsonValue, patch: JsonValue) {
    let JsonValue::Object(changes) = patch else {
        *target = patch;
        return;
    };
    if !matches!(target, JsonValue::Object(_)) {
        *target = JsonValue::Object(BTreeMap::new());
    }
    let JsonValue::Object(members) = target else {
        unreachable!("made an object above");
    };
    for (name, change) in changes {
        if change == JsonValue::Null {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(JsonValue::Null), change);
        }
    }
}
