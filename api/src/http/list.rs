//! Pages of lists of which an account may read a part.

#[cfg(test)]
mod tests;

use std::str::FromStr;

use axum::http::StatusCode;
use lamplighter_state::{StateError, View};
use lamplighter_types::wire::Page;
use serde::Serialize;

use super::App;
use super::error::{ApiError, code};
use super::read::{JsonAt, PageQuery, read_for, view};
use super::reader;
use crate::rights::{Kind, Record, Rights, RightsAt};

/// Rows of a list that are read at once: some MiB of the largest records.
const ROWS_AT_ONCE: usize = 100;
/// Rows of a list that a short read looks at; a long one goes on.
const ROWS_IN_SHORT: usize = 1_000;
/// Rows that a page of a list looks at for an account that reads a part of it: more accounts,
/// releases or rollouts than a city has. What is found only behind them is refused.
const ROWS_MAX: usize = 100_000;

/// A list, and how its items are shown.
pub struct List<T, A, L, C> {
    /// Gets the state, the place after which to begin, and the limit.
    pub list: L,
    /// The place of an item.
    pub place: fn(&T) -> A,
    /// The place as the `after` of a query.
    pub cursor: C,
    pub kind: Kind,
    /// The record of an item that decides about its readers.
    pub record: for<'a> fn(&'a T) -> Record<'a>,
}

/// Reads a page of a list.
pub async fn page<T, A, L, C>(
    app: &App,
    query: &PageQuery,
    rights: &Rights,
    list: List<T, A, L, C>,
) -> Result<JsonAt<Page<T>>, ApiError>
where
    T: Serialize + Send + 'static,
    A: FromStr + Send + 'static,
    L: Fn(&View, Option<&A>, usize) -> Result<Vec<T>, StateError> + Send + 'static,
    C: Fn(&T) -> String + Send + 'static,
{
    let after = query.after()?;
    page_after(app, query, rights, after, list).await
}

/// Reads a page of a list after a place.
pub async fn page_after<T, A, L, C>(
    app: &App,
    query: &PageQuery,
    rights: &Rights,
    after: Option<A>,
    list: List<T, A, L, C>,
) -> Result<JsonAt<Page<T>>, ApiError>
where
    T: Serialize + Send + 'static,
    A: Send + 'static,
    L: Fn(&View, Option<&A>, usize) -> Result<Vec<T>, StateError> + Send + 'static,
    C: Fn(&T) -> String + Send + 'static,
{
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let (kind, limit, readable) = (list.kind, query.limit(), rights.clone());
    let short = move || {
        let mut begun = BegunPage::new(limit, after);
        let page = begun.read(&state, &readable.at(&state), &list, ROWS_IN_SHORT)?;
        Ok::<_, ApiError>(match page {
            Some(page) => Ok(JsonAt::new(head.height, &page)?),
            None => Err((begun, state, readable, list)),
        })
    };
    let (mut begun, state, readable, list) = match read_for(app, rights, kind, short).await? {
        Ok(page) => return Ok(page),
        Err(begun) => begun,
    };
    let long = move || {
        let page = begun.read(&state, &readable.at(&state), &list, ROWS_MAX)?;
        JsonAt::new(head.height, &page.ok_or_else(far)?)
    };
    let account = reader::account();
    app.handle.read_in_turn(account.as_ref(), long).await
}

/// A page of a list with what was found so far. It ends with the limit or with the list, and `next`
/// names its last item: it must say nothing of the rows that the account may not read, not even how
/// many there are.
struct BegunPage<T, A> {
    limit: usize,
    items: Vec<T>,
    /// The place after which it goes on.
    after: Option<A>,
    /// Rows that were looked at.
    rows: usize,
}

impl<T, A> BegunPage<T, A> {
    fn new(limit: usize, after: Option<A>) -> Self {
        Self {
            limit,
            items: Vec::new(),
            after,
            rows: 0,
        }
    }

    /// Reads on until so many rows were looked at; returns the page if it is complete. At
    /// [`ROWS_MAX`] it is, if anything was found.
    fn read<L, C>(
        &mut self,
        state: &View,
        rights: &RightsAt<'_>,
        list: &List<T, A, L, C>,
        rows_max: usize,
    ) -> Result<Option<Page<T>>, StateError>
    where
        L: Fn(&View, Option<&A>, usize) -> Result<Vec<T>, StateError>,
        C: Fn(&T) -> String,
    {
        if rights.rights().reads_nothing(list.kind) {
            return Ok(Some(self.page(None)));
        }
        while self.rows < rows_max {
            let at_once = match self.rows {
                0 => self.limit.min(ROWS_AT_ONCE),
                _ => ROWS_AT_ONCE,
            };
            let read = (list.list)(state, self.after.as_ref(), at_once)?;
            let is_last = read.len() < at_once;
            self.rows += read.len();
            for item in read {
                self.after = Some((list.place)(&item));
                if rights.allows(&(list.record)(&item))? {
                    self.items.push(item);
                }
                if self.items.len() == self.limit {
                    return Ok(Some(self.page(Some(&list.cursor))));
                }
            }
            if is_last {
                return Ok(Some(self.page(None)));
            }
        }
        let is_over = rows_max >= ROWS_MAX && !self.items.is_empty();
        Ok(is_over.then(|| self.page(Some(&list.cursor))))
    }

    /// The page, which leads on from its last item if there is a cursor for it.
    fn page(&mut self, cursor: Option<&dyn Fn(&T) -> String>) -> Page<T> {
        Page {
            next: self
                .items
                .last()
                .zip(cursor)
                .map(|(item, cursor)| cursor(item)),
            items: std::mem::take(&mut self.items),
        }
    }
}

/// The refusal of a list in which nothing that the account may read is near.
fn far() -> ApiError {
    let detail = "this account may read none of the many records that follow in this list";
    ApiError::new(StatusCode::FORBIDDEN, code::READ_SCOPE, detail)
}
