use std::collections::BTreeSet;

use super::*;
use crate::users::UsersError;

#[test]
fn a_refusal_has_code_fields_and_a_text_for_people() {
    let account: Id = "ada".parse().unwrap();
    let refusal = Refusal::of(UsersError::RoleGranted {
        account,
        role: Role::Administrator,
        scope: Scope::city(),
    });
    assert_eq!(refusal.code, "users.role_granted");
    let fields: Vec<_> = refusal.fields.iter().collect();
    let expected = [("account", "ada"), ("role", "administrator"), ("scope", "")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(
        fields,
        expected.iter().map(|(n, v)| (n, v)).collect::<Vec<_>>()
    );
    assert_eq!(
        refusal.to_string(),
        "ada has the role administrator for the whole city already"
    );
}

#[test]
fn a_field_keeps_the_bytes_of_a_text_up_to_its_limit() {
    // U+1F98A is in older Unicode tables, U+1FAE9 only in newer ones: both stay as they are.
    let kind = "\u{1f98a}\u{1fae9}\u{1b}[31m".repeat(40);
    let fields = events::EventsError::UnknownKind(kind.clone()).fields();
    let kept = &fields["kind"];
    assert!(kind.starts_with(kept.as_str()));
    assert!(kept.len() <= FIELD_BYTES_MAX && kept.len() > FIELD_BYTES_MAX - 4);
}

#[test]
fn a_text_for_people_does_not_command_a_terminal() {
    let error = events::EventsError::UnknownKind("\u{1b}[31m".to_owned());
    assert!(error.to_string().starts_with("\\u{1b}[31m is neither"));
    let fields = RefusalFields::from([("a\u{7}".to_owned(), "b\u{202e}".to_owned())]);
    assert_eq!(
        message("future.code", &fields),
        "future.code a\\u{7}=b\\u{202e}"
    );
}

#[test]
fn each_code_has_one_template_with_closed_names() {
    let mut codes = BTreeSet::new();
    for (code, template) in templates() {
        assert!(codes.insert(code), "{code} is there twice");
        assert_eq!(
            template.matches('{').count(),
            template.matches('}').count(),
            "{code}"
        );
    }
}
