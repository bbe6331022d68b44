//! `/v1/artifacts`: firmware images, uploaded in pieces and read in ranges.

use std::io::ErrorKind;
use std::time::UNIX_EPOCH;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::stream;
use lamplighter_contracts::{firmware, users};
use lamplighter_ledger::artifacts::{ArtifactError, Artifacts, RANGE_BYTES_MAX, Uploader};
use lamplighter_system::error_chain;
use lamplighter_types::wire::content_type::BYTES;
use lamplighter_types::wire::header::UPLOAD_OFFSET;
use lamplighter_types::wire::{NewArtifact, UnfinishedUpload, UnfinishedUploads, Upload};
use lamplighter_types::{Hash, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{BodyBytes, JsonBody, Path};
use crate::token::Bearer;

/// Bytes of one piece of an upload.
pub const PIECE_BYTES_MAX: usize = lamplighter_ledger::artifacts::APPEND_BYTES_MAX;

/// Routes without a token: gateways fetch without a login, and only those who know a digest can.
pub fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read, head))
        .routes(routes!(groups))
}

/// Routes that need a token.
pub fn routes() -> OpenApiRouter<App> {
    let pieces = OpenApiRouter::new().routes(routes!(append, offset, drop_upload));
    let pieces = pieces.layer(DefaultBodyLimit::max(PIECE_BYTES_MAX));
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(uploads))
        .merge(pieces)
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> Self {
        let detail = error_chain(&error);
        let (status, code) = match &error {
            ArtifactError::Missing(_) => (StatusCode::NOT_FOUND, code::NOT_FOUND),
            ArtifactError::Offset { .. } => (StatusCode::CONFLICT, "artifact.offset"),
            ArtifactError::TooManyAccountUploads(_)
            | ArtifactError::TooManyOrganizationUploads(_) => {
                (StatusCode::CONFLICT, "artifact.uploads")
            }
            ArtifactError::Published(_) => (StatusCode::CONFLICT, "artifact.published"),
            ArtifactError::WrongDigest { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "artifact.digest")
            }
            ArtifactError::Mismatch { .. } => (StatusCode::BAD_REQUEST, "artifact.size"),
            ArtifactError::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "artifact.range"),
            ArtifactError::TooManyUploads(_) => (StatusCode::SERVICE_UNAVAILABLE, code::BUSY),
            ArtifactError::Quota { .. } => (StatusCode::INSUFFICIENT_STORAGE, "artifact.quota"),
            ArtifactError::OrganizationQuota { .. } => (
                StatusCode::INSUFFICIENT_STORAGE,
                "artifact.organization_quota",
            ),
            ArtifactError::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
                (StatusCode::INSUFFICIENT_STORAGE, "artifact.disk_full")
            }
            ArtifactError::Damaged { .. } => (StatusCode::SERVICE_UNAVAILABLE, "artifact.damaged"),
            ArtifactError::NoPeer(_)
            | ArtifactError::Io { .. }
            | ArtifactError::Unsynced { .. }
            | ArtifactError::Failed(_) => {
                tracing::error!(error = detail, "the artifact store failed");
                (StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL)
            }
        };
        Self::new(status, code, detail)
    }
}

/// The owner of an upload; each account has its own uploads, within the limits of its organization.
fn uploader(app: &App, bearer: Option<&Bearer>) -> Result<Uploader, ApiError> {
    let Some(bearer) = bearer else {
        return Ok(Uploader::Anyone);
    };
    let (view, _) = app.handle.view()?;
    let account = users::account(&view, &bearer.account)?;
    let account = account.ok_or_else(|| forbidden("the account is not on the ledger"))?;
    Ok(Uploader::Account {
        account: account.account,
        organization: account.organization,
    })
}

fn forbidden(detail: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail)
}

fn upload(artifacts: &Artifacts, digest: Hash, offset: u64) -> Upload {
    Upload {
        digest,
        offset,
        complete: artifacts.size(&digest).is_some(),
    }
}

/// Uploads fill the disks of all validators: only vendors, operators and administrators may upload,
/// and only while there is space.
fn require_uploader(app: &App, bearer: Option<&Bearer>) -> Result<(), ApiError> {
    if let Some(full) = app.handle.disk_full() {
        return Err(ApiError::read_only(full.to_string()));
    }
    let Some(bearer) = bearer else { return Ok(()) };
    let (view, _) = app.handle.view()?;
    let account = users::account(&view, &bearer.account)?;
    let roles = [Role::Vendor, Role::Operator, Role::Administrator];
    if account.is_some_and(|a| roles.iter().any(|role| a.has_role_somewhere(*role))) {
        return Ok(());
    }
    let detail = "only vendors, operators and administrators upload artifacts";
    Err(forbidden(detail))
}

/// Begins an upload, or returns the offset of one.
///
/// Uploads of other accounts are not touched. If the account has announced the digest with another
/// size, the upload starts again from the beginning. An account has at most 8 unfinished uploads at
/// a node, its organization 16, and each is dropped a day after its last piece. An organization has
/// at most 8 GiB at a node that no approver has released.
#[utoipa::path(post, path = "/v1/artifacts", tag = "artifacts", request_body = NewArtifact,
    responses((status = 200, body = Upload), (status = 403, body = Problem),
        (status = 409, description = "The account or its organization has too many unfinished \
            uploads: `artifact.uploads`.",
            body = Problem),
        (status = 507, description = "No space for all (`artifact.quota`), or for the organization \
            (`artifact.organization_quota`).", body = Problem)))]
async fn begin(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    JsonBody(new): JsonBody<NewArtifact>,
) -> Result<Json<Upload>, ApiError> {
    require_uploader(&app, bearer.as_deref())?;
    let artifacts = app.handle.artifacts();
    let uploader = uploader(&app, bearer.as_deref())?;
    let offset = artifacts
        .begin(&uploader, new.digest, new.size_bytes)
        .await?;
    Ok(Json(upload(artifacts, new.digest, offset)))
}

/// The caller's unfinished uploads at this node.
#[utoipa::path(get, path = "/v1/uploads", tag = "artifacts",
    responses((status = 200, body = UnfinishedUploads)))]
async fn uploads(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
) -> Result<Json<UnfinishedUploads>, ApiError> {
    let uploader = uploader(&app, bearer.as_deref())?;
    let uploads = app.handle.artifacts().uploads(&uploader).await?;
    let items = uploads.into_iter().map(|upload| {
        let since = upload.expires.duration_since(UNIX_EPOCH);
        UnfinishedUpload {
            digest: upload.digest,
            size_bytes: upload.size_bytes,
            offset: upload.offset,
            expires_ms: since.map_or(0, |since| since.as_millis() as u64),
        }
    });
    Ok(Json(UnfinishedUploads {
        items: items.collect(),
    }))
}

/// Drops an unfinished upload of the caller with its bytes, or an artifact that an account of the
/// caller's organization uploaded at this node and that no release names.
#[utoipa::path(delete, path = "/v1/artifacts/{digest}/upload", tag = "artifacts",
    params(("digest" = Hash, Path)),
    responses((status = 204), (status = 404, body = Problem),
        (status = 409, description = "A release names the artifact: `artifact.published`.",
            body = Problem)))]
async fn drop_upload(
    State(app): State<App>,
    Path(digest): Path<Hash>,
    bearer: Option<Extension<Bearer>>,
) -> Result<StatusCode, ApiError> {
    let uploader = uploader(&app, bearer.as_deref())?;
    let artifacts = app.handle.artifacts();
    if artifacts.size(&digest).is_none() {
        artifacts.drop_upload(&uploader, digest).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let (view, _) = app.handle.view()?;
    if firmware::is_published(&view, &digest)? {
        return Err(ArtifactError::Published(digest).into());
    }
    artifacts.drop_unpublished(&uploader, digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Appends a piece of at most 4 MiB that begins at `Upload-Offset`.
///
/// The offset must be that of the upload, so a piece that is sent again is refused and changes
/// nothing. The last piece makes the artifact complete, if the bytes have the digest; otherwise all
/// are dropped. A piece without bytes changes nothing and returns the offset of the upload.
#[utoipa::path(patch, path = "/v1/artifacts/{digest}/upload", tag = "artifacts",
    params(("digest" = Hash, Path), ("Upload-Offset" = u64, Header)),
    request_body(content = Option<Vec<u8>>, content_type = "application/octet-stream"),
    responses((status = 200, body = Upload), (status = 403, body = Problem),
        (status = 404, description = "No such upload was begun at this node.", body = Problem),
        (status = 409, description = "The upload has another offset: `artifact.offset`.",
            body = Problem),
        (status = 416, description = "The piece goes beyond the size that was announced: \
            `artifact.range`.", body = Problem),
        (status = 422, description = "The bytes do not have the digest: `artifact.digest`.",
            body = Problem),
        (status = 507, body = Problem)))]
async fn append(
    State(app): State<App>,
    Path(digest): Path<Hash>,
    bearer: Option<Extension<Bearer>>,
    headers: HeaderMap,
    body: BodyBytes,
) -> Result<Json<Upload>, ApiError> {
    require_uploader(&app, bearer.as_deref())?;
    let offset = headers
        .get(UPLOAD_OFFSET)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let offset = offset.ok_or_else(|| {
        ApiError::invalid("artifact.offset", "the header Upload-Offset is missing")
    })?;
    let artifacts = app.handle.artifacts();
    let uploader = uploader(&app, bearer.as_deref())?;
    let offset = artifacts
        .append(&uploader, digest, offset, body.bytes.clone())
        .await?;
    Ok(Json(upload(artifacts, digest, offset)))
}

/// The offset of an upload, in the header `Upload-Offset`.
#[utoipa::path(head, path = "/v1/artifacts/{digest}/upload", tag = "artifacts",
    params(("digest" = Hash, Path)),
    responses((status = 200, headers(("Upload-Offset" = u64, description = "Bytes on disk."))),
        (status = 404)))]
async fn offset(
    State(app): State<App>,
    Path(digest): Path<Hash>,
    bearer: Option<Extension<Bearer>>,
) -> Result<Response, ApiError> {
    let uploader = uploader(&app, bearer.as_deref())?;
    let offset = app.handle.artifacts().offset(&uploader, digest).await?;
    Ok([(UPLOAD_OFFSET, offset.to_string())].into_response())
}

fn add_headers(response: &mut Response, digest: &Hash, size_bytes: u64) {
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let tag = HeaderValue::try_from(format!("\"{digest}\"")).expect("hexadecimal text");
    headers.insert(header::ETAG, tag);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BYTES));
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, forever);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size_bytes));
}

fn size_of(app: &App, digest: &Hash) -> Result<u64, ApiError> {
    let size = app.handle.artifacts().size(digest);
    size.ok_or_else(|| ApiError::not_found(format!("artifact {digest} at this node")))
}

/// Size of an artifact.
#[utoipa::path(head, path = "/v1/artifacts/{digest}", tag = "artifacts",
    params(("digest" = Hash, Path)), responses((status = 200), (status = 404)))]
async fn head(State(app): State<App>, Path(digest): Path<Hash>) -> Result<Response, ApiError> {
    let size_bytes = size_of(&app, &digest)?;
    let mut response = Response::new(Body::empty());
    add_headers(&mut response, &digest, size_bytes);
    Ok(response)
}

/// The bytes of an artifact, or one range of them (RFC 9110 section 14). Every 16 KiB were checked
/// against the digest when they were read from the disk.
#[utoipa::path(get, path = "/v1/artifacts/{digest}", tag = "artifacts",
    params(("digest" = Hash, Path), ("Range" = Option<String>, Header),
        ("If-Range" = Option<String>, Header)),
    responses(
        (status = 200, description = "All of it.", body = Vec<u8>,
            content_type = "application/octet-stream"),
        (status = 206, description = "The range.", body = Vec<u8>,
            content_type = "application/octet-stream"),
        (status = 404, body = Problem),
        (status = 416, description = "The range begins behind the end: `artifact.range`.",
            body = Problem)))]
async fn read(
    State(app): State<App>,
    Path(digest): Path<Hash>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let size_bytes = size_of(&app, &digest)?;
    let tag = format!("\"{digest}\"");
    let is_unchanged = headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == tag.as_bytes());
    let range = headers
        .get(header::RANGE)
        .filter(|_| is_unchanged)
        .and_then(|v| v.to_str().ok());
    let range = match range.map(|text| parse_range(text, size_bytes)) {
        None | Some(ByteRange::Ignored) => None,
        Some(ByteRange::Range(first, last)) => Some((first, last)),
        Some(ByteRange::Unsatisfiable) => {
            let detail = format!("the artifact has {size_bytes} bytes");
            let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "artifact.range", detail);
            let content_range = [(header::CONTENT_RANGE, format!("bytes */{size_bytes}"))];
            return Ok((content_range, error).into_response());
        }
    };
    let (first, last) = range.unwrap_or((0, size_bytes - 1));
    let body = Body::from_stream(pieces(app.handle.artifacts().clone(), digest, first, last));
    let mut response = Response::new(body);
    add_headers(&mut response, &digest, last - first + 1);
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {first}-{last}/{size_bytes}");
        let value = HeaderValue::try_from(text).expect("digits and dashes");
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

fn pieces(
    artifacts: Artifacts,
    digest: Hash,
    first: u64,
    last: u64,
) -> impl stream::Stream<Item = Result<Bytes, ArtifactError>> {
    stream::try_unfold(first, move |offset| {
        let artifacts = artifacts.clone();
        async move {
            if offset > last {
                return Ok(None);
            }
            let length = (last - offset + 1).min(RANGE_BYTES_MAX);
            let bytes = artifacts.read(digest, offset, length).await?;
            Ok(Some((bytes, offset + length)))
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    /// First and last byte.
    Range(u64, u64),
    /// The header is not a single byte range: the whole is sent, as RFC 9110 allows.
    Ignored,
    Unsatisfiable,
}

fn parse_range(text: &str, size_bytes: u64) -> ByteRange {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
        return ByteRange::Ignored;
    };
    let end = size_bytes - 1;
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if last.is_empty() && first <= end => ByteRange::Range(first, end),
        (Ok(first), Ok(last)) if first <= last && first <= end => {
            ByteRange::Range(first, last.min(end))
        }
        (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => {
            ByteRange::Range(size_bytes.saturating_sub(suffix), end)
        }
        (Ok(_), _) if last.is_empty() => ByteRange::Unsatisfiable,
        (Ok(first), Ok(last)) if first <= last => ByteRange::Unsatisfiable,
        (Err(_), Ok(0)) if first.is_empty() => ByteRange::Unsatisfiable,
        _ => ByteRange::Ignored,
    }
}

/// The blake3 chaining values of the artifact's 16 KiB groups, 32 bytes each: with them every group
/// can be checked by itself.
#[utoipa::path(get, path = "/v1/artifacts/{digest}/groups", tag = "artifacts",
    params(("digest" = Hash, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = Problem)))]
async fn groups(State(app): State<App>, Path(digest): Path<Hash>) -> Result<Response, ApiError> {
    let groups = app.handle.artifacts().groups(digest).await?;
    let content_type = [(header::CONTENT_TYPE, BYTES)];
    Ok((content_type, groups.to_bytes()).into_response())
}
