use std::sync::Arc;

use lamplighter_store::MemoryKv;
use lamplighter_types::{Account, AccountKind, Id, Scope};

use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

/// A page of a list in which the account may read what is of itself.
fn page_of(rows: &[Id], after: Option<Id>, limit: usize) -> Result<Page<Id>, u16> {
    page_of_kind(rows, after, limit, Kind::Transaction, |row| {
        Record::Transaction { sender: row }
    })
}

fn page_of_kind(
    rows: &[Id],
    after: Option<Id>,
    limit: usize,
    kind: Kind,
    record: for<'a> fn(&'a Id) -> Record<'a>,
) -> Result<Page<Id>, u16> {
    let rights = Rights::of(&Account {
        account: id("reader"),
        kind: AccountKind::User,
        organization: id("city"),
        name: String::new(),
        district: Scope::city(),
        keys: Vec::new(),
        grants: Vec::new(),
        disabled: false,
        registered_height: 0,
    });
    let rows = rows.to_vec();
    let list = List {
        list: move |_: &View, after: Option<&Id>, limit| {
            let begin = after.map_or(0, |after| rows.partition_point(|row| row <= after));
            Ok(rows[begin..].iter().take(limit).cloned().collect())
        },
        place: |row: &Id| row.clone(),
        cursor: |row: &Id| row.to_string(),
        kind,
        record,
    };
    let view = View::new(Arc::new(MemoryKv::new()));
    let (rights, mut begun) = (rights.at(&view), BegunPage::new(limit, after));
    for rows_max in [ROWS_IN_SHORT, ROWS_MAX] {
        if let Some(page) = begun.read(&view, &rights, &list, rows_max).unwrap() {
            return Ok(page);
        }
    }
    let problem = far().into_problem();
    assert_eq!(problem.code, code::READ_SCOPE);
    Err(problem.status)
}

fn others(prefix: &str, count: usize) -> Vec<Id> {
    let names = (0..count).map(|n| id(&format!("{prefix}-{n:06}")));
    names.collect()
}

#[test]
fn a_page_leads_on_from_what_it_has_alone() {
    let me = vec![id("reader")];
    let rows = [others("a", 5_000), me.clone(), others("z", 5_000)].concat();
    for limit in [1, 2, 100, 1_000] {
        let page = page_of(&rows, None, limit).unwrap();
        assert_eq!(page.items, me, "limit {limit}");
        let next = (limit == 1).then(|| "reader".to_owned());
        assert_eq!(page.next, next, "limit {limit}");
        let last = page_of(&rows, Some(id("reader")), limit).unwrap();
        assert_eq!((last.items, last.next), (Vec::new(), None));
    }
}

#[test]
fn a_list_of_which_the_account_reads_nothing_is_not_looked_through() {
    let rows = others("a", ROWS_MAX + 100);
    let page = page_of_kind(&rows, None, 10, Kind::Governance, |_| Record::Governance);
    let page = page.unwrap();
    assert_eq!((page.items, page.next), (Vec::new(), None));
}

#[test]
fn what_is_behind_very_many_rows_of_others_is_refused() {
    let me = vec![id("reader")];
    let behind = [others("a", ROWS_MAX - 1), me.clone()].concat();
    assert_eq!(page_of(&behind, None, 10).unwrap().items, me);
    let behind = [others("a", ROWS_MAX + 100), me.clone()].concat();
    assert_eq!(page_of(&behind, None, 10).unwrap_err(), 403);
    // What was found before is shown first.
    let before = [me.clone(), others("z", ROWS_MAX + 100)].concat();
    let page = page_of(&before, None, 10).unwrap();
    assert_eq!((page.items, page.next), (me, Some("reader".to_owned())));
    let next = page_of(&before, Some(id("reader")), 10);
    assert_eq!(next.unwrap_err(), 403);
}
