//! `/v1/archive`: certified blocks in binary pages, for audits and backups.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use lamplighter_types::wire::content_type::BYTES;
use lamplighter_types::wire::header::CERTIFIED_HEIGHT;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem};
use super::extract::Path;
use super::{read, reader};
use crate::rights::{Record, Rights};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(page))
}

/// The certified blocks from a height on, in the bytes of the ledger: about 4 MiB, and 1,024
/// blocks at most. `docs/formats.md` has the form. The header `certified-height` is the height of
/// the last one that this node has; the page is empty behind it.
#[utoipa::path(get, path = "/v1/archive/{height}", tag = "chain",
    params(("height" = u64, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 403, body = Problem)))]
async fn page(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(height): Path<u64>,
) -> Result<Response, ApiError> {
    let (state, _) = read::view(&app, None, false).await?;
    read::require(&rights, &state, &Record::Block)?;
    let handle = app.handle.clone();
    let pages = move || handle.archive_page(height);
    let account = reader::account();
    let read = app.handle.read_in_turn(account.as_ref(), pages);
    let (page, certified) = read.await?;
    let mut response = page.into_bytes().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BYTES));
    headers.insert(
        HeaderName::from_static(CERTIFIED_HEIGHT),
        HeaderValue::from(certified),
    );
    Ok(response)
}
