//! The description of the HTTP interface (OpenAPI 3.1): what is read off routes and types, and what
//! holds for all of them, which is added here in one place.

mod operations;
mod schemas;

use axum::{Router, middleware};
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::record::Artifact;
use lamplighter_types::work::WorkMessage;
use lamplighter_types::{Attestation, ReleaseManifest, Transaction};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use super::{
    App, artifacts, auth, blocks, devices, events, feed, firmware, iotregistry, rollouts, status,
    transactions, users,
};

/// How the description calls the bearer token.
const TOKEN: &str = "token";

/// Beside what routes take and give there are the types that clients sign or check: the payload of
/// a transaction, the manifest of a release, and what the MQTT edge sends.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lamplighter",
        description = "A city's devices, their firmware, configuration and events on a ledger. \
            Writing is a signed `Transaction` with one `Action` in it; reading needs a token.",
        license(name = "Apache-2.0")
    ),
    servers((url = "/", description = "The node that serves this document.")),
    components(schemas(
        transactions::Wait,
        Transaction,
        ReleaseManifest,
        Artifact,
        Attestation,
        CertifiedHeader,
        WorkMessage
    ))
)]
struct Document;

/// All routes with their description.
pub fn describe(app: &App) -> (Router<App>, Value) {
    let open = OpenApiRouter::new()
        .merge(transactions::open_routes())
        .merge(status::routes())
        .merge(auth::routes())
        .merge(users::open_routes())
        .merge(artifacts::open_routes());
    let mut guarded = OpenApiRouter::new()
        .merge(transactions::routes())
        .merge(blocks::routes())
        .merge(users::routes())
        .merge(devices::routes())
        .merge(firmware::routes())
        .merge(artifacts::routes())
        .merge(rollouts::routes())
        .merge(events::routes())
        .merge(feed::routes())
        .merge(iotregistry::routes())
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::guard));
    operations::demand_token(guarded.get_openapi_mut());
    let mut document = Document::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    let (routes, document) = OpenApiRouter::with_openapi(document)
        .merge(open)
        .merge(guarded)
        .split_for_parts();
    let mut document = serde_json::to_value(document).expect("a description has a JSON form");
    operations::complete(&mut document);
    schemas::complete(&mut document);
    (routes, document)
}
