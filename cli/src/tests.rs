use clap::CommandFactory;

use super::Arguments;
use super::keys::grant;

#[test]
fn no_option_is_given_twice() {
    Arguments::command().debug_assert();
}

#[test]
fn a_role_is_for_the_city_or_a_district() {
    let city = grant("operator").unwrap();
    assert_eq!(city.scope.as_str(), "");
    let harbour = grant("approver@north/harbour").unwrap();
    assert_eq!(harbour.scope.as_str(), "north/harbour");
    assert!(grant("king").is_err());
    assert!(grant("operator@North").is_err());
}
