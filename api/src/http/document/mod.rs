//! The description of the HTTP interface (OpenAPI 3.1). It is generated from routes and types; the
//! parts that hold for all of them are added here.

mod operations;
mod schemas;

use axum::{Router, middleware};
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::record::Artifact;
use lamplighter_types::wire::Wait;
use lamplighter_types::wire::work::WorkMessage;
use lamplighter_types::{Attestation, ReleaseManifest, Transaction};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::rights;

use super::{
    App, alarms, archive, artifacts, auth, blocks, config, devices, exposure, feed, firmware,
    iotregistry, reports, rollouts, sessions, status, submissions, timeline, transactions, users,
};

/// The name of the bearer token in the description.
const TOKEN: &str = "token";

/// The document without routes. Its schemas are those that clients sign or check: the payload of a
/// transaction, the manifest of a release, and the messages of the MQTT edge.
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
        Wait,
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
        .merge(submissions::open_routes())
        .merge(status::routes())
        .merge(auth::routes())
        .merge(blocks::open_routes())
        .merge(users::open_routes())
        .merge(artifacts::open_routes());
    let mut guarded = OpenApiRouter::new()
        .merge(transactions::routes())
        .merge(blocks::routes())
        .merge(archive::routes())
        .merge(users::routes())
        .merge(devices::routes())
        .merge(reports::routes())
        .merge(exposure::routes())
        .merge(timeline::routes())
        .merge(firmware::routes())
        .merge(artifacts::routes())
        .merge(rollouts::routes())
        .merge(alarms::routes())
        .merge(config::routes())
        .merge(feed::routes())
        .merge(sessions::routes())
        .merge(iotregistry::routes())
        .route_layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_token,
        ));
    operations::require_token(guarded.get_openapi_mut());
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
    if let Some(Value::String(text)) = document.pointer_mut("/info/description") {
        *text += &format!("\n\nWhat an account may read:\n\n{}", rights::to_markdown());
    }
    schemas::complete(&mut document);
    (routes, document)
}
