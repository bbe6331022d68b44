mod city;
mod commands;
mod image;
mod import;
mod restore;
mod texts;

use super::keys::grant;

#[test]
fn a_role_is_for_the_city_or_a_district() {
    let city = grant("operator").unwrap();
    assert_eq!(city.scope.as_str(), "");
    let harbour = grant("approver@north/harbour").unwrap();
    assert_eq!(harbour.scope.as_str(), "north/harbour");
    assert!(grant("king").is_err());
    assert!(grant("operator@North").is_err());
}
