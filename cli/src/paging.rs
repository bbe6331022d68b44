//! Complete lists: nodes return them in pages.

use lamplighter_client::{ClientError, Page, Read};

use crate::failure::Failure;
use crate::session::asking;

/// The items of all pages; `read` reads the page after a place.
pub async fn all<T>(
    read: impl AsyncFnMut(Option<&str>) -> Result<Read<Page<T>>, ClientError>,
) -> Result<Vec<T>, Failure> {
    first(usize::MAX, read).await
}

/// The first `limit` items of all pages.
pub async fn first<T>(
    limit: usize,
    mut read: impl AsyncFnMut(Option<&str>) -> Result<Read<Page<T>>, ClientError>,
) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = read(after.as_deref()).await.map_err(asking)?.value;
        // A page may be empty and name what follows, where nothing that was looked at matches the
        // filter. A node that names the same place again is not followed.
        let is_end = page.next.is_none() || page.next == after;
        items.extend(page.items);
        if is_end || items.len() >= limit {
            items.truncate(limit);
            return Ok(items);
        }
        after = page.next;
    }
}
