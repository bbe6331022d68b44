//! `/v1/artifacts`: firmware images, uploaded in pieces and read in ranges.

use std::io::ErrorKind;
use std::time::UNIX_EPOCH;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::stream;
use lamplighter_contracts::users;
use lamplighter_ledger::artifacts::{ArtifactError, Artifacts, RANGE_BYTES_MAX, Uploader};
use lamplighter_types::{Hash, Role};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Input, Path, Payload};
use super::problem::{Problem, chain};
use crate::token::Bearer;

/// Bytes of one piece of an upload.
pub const PIECE_BYTES_MAX: usize = lamplighter_ledger::artifacts::APPEND_BYTES_MAX;

const UPLOAD_OFFSET: &str = "upload-offset";

/// What may be read by whoever knows a digest: gateways fetch without a login.
pub fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read, head))
        .routes(routes!(groups))
}

/// What needs a token.
pub fn routes() -> OpenApiRouter<App> {
    let pieces = OpenApiRouter::new().routes(routes!(append, offset, drop_upload));
    let pieces = pieces.layer(DefaultBodyLimit::max(PIECE_BYTES_MAX));
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(uploads))
        .merge(pieces)
}

impl From<ArtifactError> for Problem {
    fn from(error: ArtifactError) -> Self {
        let detail = chain(&error);
        let (status, code) = match &error {
            ArtifactError::Missing(_) => (StatusCode::NOT_FOUND, "not_found"),
            ArtifactError::Offset { .. } => (StatusCode::CONFLICT, "artifact.offset"),
            ArtifactError::TooManyAccountUploads(_) => (StatusCode::CONFLICT, "artifact.uploads"),
            ArtifactError::WrongDigest { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "artifact.digest")
            }
            ArtifactError::Mismatch { .. } => (StatusCode::BAD_REQUEST, "artifact.size"),
            ArtifactError::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "artifact.range"),
            ArtifactError::TooManyUploads(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            ArtifactError::Quota { .. } => (StatusCode::INSUFFICIENT_STORAGE, "artifact.quota"),
            ArtifactError::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
                (StatusCode::INSUFFICIENT_STORAGE, "artifact.disk_full")
            }
            ArtifactError::Damaged { .. } => (StatusCode::SERVICE_UNAVAILABLE, "artifact.damaged"),
            ArtifactError::NoPeer(_)
            | ArtifactError::Io { .. }
            | ArtifactError::Unsynced { .. }
            | ArtifactError::Failed(_) => {
                tracing::error!(error = detail, "the artifact store failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        };
        Self::new(status, code, detail)
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewArtifact {
    digest: Hash,
    #[schema(minimum = 1, maximum = 268435456)]
    size_bytes: u64,
}

/// Where an upload stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Upload {
    digest: Hash,
    /// Bytes that are on disk: the next piece begins here.
    offset: u64,
    complete: bool,
}

/// Who uploads; each account has its own uploads.
fn uploader(bearer: Option<&Bearer>) -> Uploader {
    match bearer {
        Some(bearer) => Uploader::Account(bearer.account.clone()),
        None => Uploader::Anyone,
    }
}

fn upload(artifacts: &Artifacts, digest: Hash, offset: u64) -> Upload {
    Upload {
        digest,
        offset,
        complete: artifacts.size(&digest).is_some(),
    }
}

/// Uploading fills disks on every validator: only vendors, operators and administrators may, and
/// only while there is space.
fn demand_uploader(app: &App, bearer: Option<&Bearer>) -> Result<(), Problem> {
    if let Some(full) = app.handle.disk_full() {
        return Err(Problem::read_only(full.to_string()));
    }
    let Some(bearer) = bearer else { return Ok(()) };
    let (view, _) = app.handle.view()?;
    let account = users::account(&view, &bearer.account)?;
    let roles = [Role::Vendor, Role::Operator, Role::Administrator];
    match account.is_some_and(|a| roles.iter().any(|role| a.has_role_somewhere(*role))) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "only vendors, operators and administrators upload artifacts",
        )),
    }
}

/// Begins an upload, or asks where one stands.
///
/// Uploads of other accounts are not touched; an own one that was begun with another size begins
/// anew. At most 8 of an account are unfinished at a node, and each is dropped a day after its last
/// piece.
#[utoipa::path(post, path = "/v1/artifacts", tag = "artifacts", request_body = NewArtifact,
    responses((status = 200, body = Upload), (status = 403, body = Problem),
        (status = 409, description = "Too many own uploads are unfinished: `artifact.uploads`.",
            body = Problem),
        (status = 507, body = Problem)))]
async fn begin(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Input(new): Input<NewArtifact>,
) -> Result<Json<Upload>, Problem> {
    demand_uploader(&app, bearer.as_deref())?;
    let artifacts = app.handle.artifacts();
    let uploader = uploader(bearer.as_deref());
    let offset = artifacts
        .begin(&uploader, new.digest, new.size_bytes)
        .await?;
    Ok(Json(upload(artifacts, new.digest, offset)))
}

/// An upload that waits for more pieces.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Unfinished {
    digest: Hash,
    /// As announced.
    size_bytes: u64,
    /// Bytes that are on disk: the next piece begins here.
    offset: u64,
    /// When it is dropped unless a piece comes before, Unix ms by this node's clock.
    expires_ms: u64,
}

/// Your uploads that are unfinished.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UnfinishedUploads {
    items: Vec<Unfinished>,
}

/// The caller's unfinished uploads at this node.
#[utoipa::path(get, path = "/v1/uploads", tag = "artifacts",
    responses((status = 200, body = UnfinishedUploads)))]
async fn uploads(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
) -> Result<Json<UnfinishedUploads>, Problem> {
    let uploader = uploader(bearer.as_deref());
    let found = app.handle.artifacts().uploads(&uploader).await?;
    let items = found.into_iter().map(|upload| {
        let since = upload.expires.duration_since(UNIX_EPOCH);
        Unfinished {
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

/// Drops an own unfinished upload with what came of it.
#[utoipa::path(delete, path = "/v1/artifacts/{digest}/upload", tag = "artifacts",
    params(("digest" = Hash, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn drop_upload(
    State(app): State<App>,
    Path(digest): Path<Hash>,
    bearer: Option<Extension<Bearer>>,
) -> Result<StatusCode, Problem> {
    let uploader = uploader(bearer.as_deref());
    let artifacts = app.handle.artifacts();
    artifacts.drop_upload(&uploader, digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Appends a piece of at most 4 MiB that begins at `Upload-Offset`.
///
/// The offset must be where the upload stands, so a piece that is sent again is refused and changes
/// nothing. The last piece makes the artifact complete, if the bytes have the digest; otherwise all
/// are dropped. A piece without bytes changes nothing and says where the upload stands.
#[utoipa::path(patch, path = "/v1/artifacts/{digest}/upload", tag = "artifacts",
    params(("digest" = Hash, Path), ("Upload-Offset" = u64, Header)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Upload), (status = 403, body = Problem),
        (status = 404, description = "No such upload was begun at this node.", body = Problem),
        (status = 409, description = "The upload stands elsewhere: `artifact.offset`.",
            body = Problem),
        (status = 416, description = "It goes on behind the end that was announced: \
            `artifact.range`.", body = Problem),
        (status = 422, description = "The bytes do not have the digest: `artifact.digest`.",
            body = Problem),
        (status = 507, body = Problem)))]
async fn append(
    State(app): State<App>,
    Path(digest): Path<Hash>,
    bearer: Option<Extension<Bearer>>,
    headers: HeaderMap,
    body: Payload,
) -> Result<Json<Upload>, Problem> {
    demand_uploader(&app, bearer.as_deref())?;
    let offset = headers
        .get(UPLOAD_OFFSET)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let offset = offset.ok_or_else(|| {
        Problem::invalid("artifact.offset", "the header Upload-Offset is missing")
    })?;
    let artifacts = app.handle.artifacts();
    let uploader = uploader(bearer.as_deref());
    let offset = artifacts
        .append(&uploader, digest, offset, body.bytes.clone())
        .await?;
    Ok(Json(upload(artifacts, digest, offset)))
}

/// Where an upload stands, in the header `Upload-Offset`.
#[utoipa::path(head, path = "/v1/artifacts/{digest}/upload", tag = "artifacts",
    params(("digest" = Hash, Path)),
    responses((status = 200, headers(("Upload-Offset" = u64, description = "Bytes on disk."))),
        (status = 404)))]
async fn offset(
    State(app): State<App>,
    Path(digest): Path<Hash>,
    bearer: Option<Extension<Bearer>>,
) -> Result<Response, Problem> {
    let uploader = uploader(bearer.as_deref());
    let offset = app.handle.artifacts().offset(&uploader, digest).await?;
    Ok([(UPLOAD_OFFSET, offset.to_string())].into_response())
}

fn describe(response: &mut Response, digest: &Hash, size_bytes: u64) {
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let tag = HeaderValue::try_from(format!("\"{digest}\"")).expect("hexadecimal text");
    headers.insert(header::ETAG, tag);
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, forever);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size_bytes));
}

fn size_of(app: &App, digest: &Hash) -> Result<u64, Problem> {
    let size = app.handle.artifacts().size(digest);
    size.ok_or_else(|| Problem::not_found(format!("artifact {digest} at this node")))
}

/// Size of an artifact.
#[utoipa::path(head, path = "/v1/artifacts/{digest}", tag = "artifacts",
    params(("digest" = Hash, Path)), responses((status = 200), (status = 404)))]
async fn head(State(app): State<App>, Path(digest): Path<Hash>) -> Result<Response, Problem> {
    let size_bytes = size_of(&app, &digest)?;
    let mut response = Response::new(Body::empty());
    describe(&mut response, &digest, size_bytes);
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
) -> Result<Response, Problem> {
    let size_bytes = size_of(&app, &digest)?;
    let tag = format!("\"{digest}\"");
    let same = headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == tag.as_bytes());
    let asked = headers
        .get(header::RANGE)
        .filter(|_| same)
        .and_then(|v| v.to_str().ok());
    let range = match asked.map(|text| parse_range(text, size_bytes)) {
        None | Some(Asked::Ignored) => None,
        Some(Asked::Range(first, last)) => Some((first, last)),
        Some(Asked::Unsatisfiable) => {
            let detail = format!("the artifact has {size_bytes} bytes");
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "artifact.range", detail);
            let all = [(header::CONTENT_RANGE, format!("bytes */{size_bytes}"))];
            return Ok((all, problem).into_response());
        }
    };
    let (first, last) = range.unwrap_or((0, size_bytes - 1));
    let body = Body::from_stream(pieces(app.handle.artifacts().clone(), digest, first, last));
    let mut response = Response::new(body);
    describe(&mut response, &digest, last - first + 1);
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
enum Asked {
    /// First and last byte.
    Range(u64, u64),
    /// Not a single byte range: the whole is sent, as RFC 9110 allows.
    Ignored,
    Unsatisfiable,
}

fn parse_range(text: &str, size_bytes: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
        return Asked::Ignored;
    };
    let end = size_bytes - 1;
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if last.is_empty() && first <= end => Asked::Range(first, end),
        (Ok(first), Ok(last)) if first <= last && first <= end => {
            Asked::Range(first, last.min(end))
        }
        (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => {
            Asked::Range(size_bytes.saturating_sub(suffix), end)
        }
        (Ok(_), _) if last.is_empty() => Asked::Unsatisfiable,
        (Ok(first), Ok(last)) if first <= last => Asked::Unsatisfiable,
        (Err(_), Ok(0)) if first.is_empty() => Asked::Unsatisfiable,
        _ => Asked::Ignored,
    }
}

/// The blake3 chaining values of the artifact's 16 KiB groups, 32 bytes each: with them every group
/// can be checked by itself.
#[utoipa::path(get, path = "/v1/artifacts/{digest}/groups", tag = "artifacts",
    params(("digest" = Hash, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = Problem)))]
async fn groups(State(app): State<App>, Path(digest): Path<Hash>) -> Result<Response, Problem> {
    let groups = app.handle.artifacts().groups(digest).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, groups.to_bytes()).into_response())
}
