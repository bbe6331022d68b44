use lamplighter_types::{Grant, Scope};

use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn account(kind: AccountKind, grants: &[(Role, &str)]) -> Account {
    let grant = |(role, scope): &(Role, &str)| Grant::founding(*role, scope.parse().unwrap());
    Account {
        account: id("somebody"),
        kind,
        organization: id("city"),
        name: String::new(),
        district: Scope::city(),
        keys: Vec::new(),
        grants: grants.iter().map(grant).collect(),
        disabled: false,
        registered_height: 0,
    }
}

#[test]
fn a_role_in_a_district_reads_no_more_than_the_district() {
    let city = Scope::city().to_string();
    for role in [Role::Auditor, Role::Administrator, Role::Security] {
        let all = Rights::of(&account(AccountKind::User, &[(role, &city)]));
        assert!(all.is_everything());
        let some = Rights::of(&account(AccountKind::User, &[(role, "north")]));
        assert!(!some.is_everything());
        assert_eq!(some.districts(), ["north".parse().unwrap()]);
    }
    for role in [Role::Operator, Role::Approver, Role::Vendor, Role::Relay] {
        assert!(!Rights::of(&account(AccountKind::User, &[(role, &city)])).is_everything());
    }
    // A vendor of the whole city sees no district.
    let vendor = Rights::of(&account(AccountKind::User, &[(Role::Vendor, &city)]));
    assert_eq!(vendor.districts(), []);
    assert!(Rights::of(&account(AccountKind::Node, &[])).is_everything());
    let gateway = Rights::of(&account(AccountKind::Gateway, &[]));
    assert!(!gateway.is_everything() && gateway.districts().is_empty());
}

#[test]
fn nothing_but_the_class_for_everything_reads_blocks_and_governance() {
    for class in [
        Class::Account,
        Class::District,
        Class::Vendor,
        Class::Gateway,
    ] {
        for kind in [Kind::Block, Kind::Governance] {
            assert_eq!(reach(class, kind), Reach::Nothing, "{class:?} {kind:?}");
        }
        assert_eq!(reach(class, Kind::Common), Reach::All);
    }
}

/// The page shows the table that decides.
#[test]
fn the_table_of_the_page_is_the_one_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- rights: generated -->\n", "<!-- rights: end -->");
    let at = page
        .find(begin)
        .expect("the page has a place for the table")
        + begin.len();
    let until = at + page[at..].find(end).unwrap();
    let table = to_markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let updated = format!("{}{table}{}", &page[..at], &page[until..]);
        std::fs::write(path, updated).unwrap();
    } else {
        assert_eq!(&page[at..until], table, "UPDATE_GOLDEN=1 writes it");
    }
}
