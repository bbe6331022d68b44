//! Which pages of browsers may read answers (CORS, Fetch standard): those of the origins that the
//! operator names, none unless configured. Tokens are in a header that a page sets itself, so
//! cookies and other credentials are not allowed.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use lamplighter_types::wire::header as wire;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// For so long a browser keeps the answer to its preflight request.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// The layer for these origins; none if there are none.
pub fn layer(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    // Those that are no header values were refused with the configuration.
    let origins = origins.iter().filter_map(|o| HeaderValue::from_str(o).ok());
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::RANGE,
            HeaderName::from_static(wire::LAST_EVENT_ID),
            HeaderName::from_static(wire::UPLOAD_OFFSET),
        ])
        .expose_headers([
            HeaderName::from_static(wire::LEDGER_HEIGHT),
            HeaderName::from_static(wire::UPLOAD_OFFSET),
            header::CONTENT_RANGE,
            header::RETRY_AFTER,
        ])
        .max_age(MAX_AGE);
    Some(layer)
}
