//! `/v1/iotregistry`: the routes of IOTRegistrySwagger (2017), with their query parameters and
//! replies.
//!
//! An operation is signed by its registrant. This node puts it into a transaction of the node's
//! account, so the routes have a rate limit, and an operation that the records would refuse is
//! refused before it is in a block.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lamplighter_contracts::devices::iotregistry::{
    CreateRegistrant, RegisterSpec, RegisterThing, RegistryError, RegistryFailure, argument,
};
use lamplighter_contracts::devices::{iotregistry_check, iotregistry_query};
use lamplighter_contracts::{ContractError, refusal};
use lamplighter_ledger::Verdict;
use lamplighter_state::StateError;
use lamplighter_system::{RateLimit, error_chain};
use lamplighter_types::wire::{Submitted, content_type};
use lamplighter_types::{Action, DevicesAction, Outcome};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::Query;
use super::read::{LEDGER_HEIGHT, view};
use super::transactions::submitted;

/// Operations that this node relays at once after a pause.
const RELAY_BURST: f64 = 32.0;
/// Operations that it relays in the long run: far more than people register by hand.
const RELAYS_PER_SECOND: f64 = 10.0;
/// Longest wait for the block of an operation.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_registrant, registrant))
        .routes(routes!(register_thing))
        .routes(routes!(thing))
        .routes(routes!(register_spec))
        .routes(routes!(spec))
}

/// The rate limit of relayed operations.
pub struct RelayLimit(Mutex<RateLimit>);

impl RelayLimit {
    pub fn new() -> Self {
        let limit = RateLimit::new(RELAYS_PER_SECOND, RELAY_BURST, Instant::now());
        Self(Mutex::new(limit))
    }

    fn acquire(&self) -> Result<(), ApiError> {
        let mut limit = self.0.lock().expect("nobody panics with the limit locked");
        if limit.try_acquire(Instant::now()) {
            return Ok(());
        }
        let detail = "this node relays no more IOTRegistry operations now";
        let status = StatusCode::TOO_MANY_REQUESTS;
        Err(ApiError::new(status, code::RATE_LIMITED, detail))
    }
}

fn refused(failure: RegistryFailure<StateError>) -> ApiError {
    let refusal = match failure {
        RegistryFailure::Refused(refusal) => refusal,
        RegistryFailure::Records(error) => return error.into(),
    };
    let status = match &refusal {
        RegistryError::NotFound => StatusCode::NOT_FOUND,
        RegistryError::RegistrantExists
        | RegistryError::NonceExists
        | RegistryError::AliasExists { .. }
        | RegistryError::SpecExists => StatusCode::CONFLICT,
        RegistryError::DamagedRecord => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, refusal.code(), error_chain(&refusal))
}

/// Decodes bytes in a query from hexadecimal text in either case.
fn parse_hex(field: &str, text: &str) -> Result<Vec<u8>, ApiError> {
    hex::decode(text).map_err(|e| {
        let detail = format!("{field} is not hexadecimal: {e}");
        ApiError::invalid("iotregistry.not_hex", detail)
    })
}

/// Puts an operation into a transaction of this node and waits for its block.
async fn relay(app: &App, function: &str, argument: String) -> Result<Json<Submitted>, ApiError> {
    app.relay_limit.acquire()?;
    let (state, _) = view(app, None, false).await?;
    iotregistry_check(state, function, &argument).map_err(refused)?;
    let action = DevicesAction::IotRegistry {
        function: function.to_owned(),
        argument,
    };
    let ticket = app.handle.submit_as_node(Action::Devices(action)).await?;
    let hash = ticket.hash;
    let deadline = || {
        let detail = format!("the transaction {hash} is in no block yet; ask for it later");
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, code::DEADLINE, detail)
    };
    match tokio::time::timeout(COMMIT_TIMEOUT, ticket.verdict())
        .await
        .map_err(|_| deadline())?
    {
        Verdict::Committed(commitment) => match &commitment.receipt.outcome {
            Outcome::Succeeded => Ok(Json(submitted(app, hash, commitment))),
            Outcome::Failed { code, fields } => Err(ApiError::new(
                StatusCode::CONFLICT,
                code.clone(),
                refusal::message(code, fields),
            )),
        },
        Verdict::Refused(refusal) => Err(ApiError::busy(refusal.to_string())),
        Verdict::Unknown => Err(deadline()),
    }
}

/// Answers a query as the original does, byte for byte.
async fn query_records(app: &App, function: &str, argument: &str) -> Result<Response, ApiError> {
    let (state, head) = view(app, None, false).await?;
    let text = iotregistry_query(&state, function, argument).map_err(refused)?;
    let content_type = (header::CONTENT_TYPE, content_type::JSON.to_owned());
    let height = (LEDGER_HEIGHT, head.height.to_string());
    Ok(([content_type, height], text).into_response())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct NewRegistrant {
    #[param(min_length = 1)]
    registrant_name: String,
    /// SEC1, hexadecimal.
    #[param(pattern = "^([0-9a-fA-F]{2})+$")]
    registrant_pubkey: String,
    /// DER, hexadecimal, over `name:compressed key:data`.
    #[param(pattern = "^([0-9a-fA-F]{2})+$")]
    signature: String,
    #[serde(default)]
    data: String,
}

/// Registers a registrant.
#[utoipa::path(post, path = "/v1/iotregistry/registrant", tag = "iotregistry",
    params(NewRegistrant),
    responses((status = 200, body = Submitted), (status = 400, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem),
        (status = 504, body = Problem)))]
async fn create_registrant(
    State(app): State<App>,
    Query(new): Query<NewRegistrant>,
) -> Result<Json<Submitted>, ApiError> {
    let NewRegistrant {
        registrant_name,
        registrant_pubkey,
        signature,
        data,
    } = new;
    let message = CreateRegistrant {
        registrant_name,
        registrant_pubkey: parse_hex("RegistrantPubkey", &registrant_pubkey)?,
        data,
        signature: parse_hex("Signature", &signature)?,
    };
    relay(&app, "createRegistrant", argument(&message)).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct RegistrantQuery {
    /// Compressed, lower-case hexadecimal.
    registrant_pubkey: String,
}

/// A registrant.
#[utoipa::path(get, path = "/v1/iotregistry/registrant", tag = "iotregistry",
    params(RegistrantQuery),
    responses((status = 200, body = serde_json::Value), (status = 404, body = Problem)))]
async fn registrant(
    State(app): State<App>,
    Query(query): Query<RegistrantQuery>,
) -> Result<Response, ApiError> {
    query_records(&app, "owner", &query.registrant_pubkey).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct NewThing {
    /// Hexadecimal.
    #[param(pattern = "^([0-9a-fA-F]{2})+$")]
    nonce: String,
    /// Separated by commas.
    #[serde(default)]
    aliases: String,
    /// Compressed, lower-case hexadecimal.
    #[param(pattern = "^([0-9a-fA-F]{2})+$")]
    registrant_pubkey: String,
    /// DER, hexadecimal, over `registrant:alias:..:alias:data:spec`.
    #[param(pattern = "^([0-9a-fA-F]{2})+$")]
    signature: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    spec: String,
}

/// Registers a thing.
#[utoipa::path(post, path = "/v1/iotregistry/registerThing", tag = "iotregistry",
    params(NewThing),
    responses((status = 200, body = Submitted), (status = 400, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem),
        (status = 504, body = Problem)))]
async fn register_thing(
    State(app): State<App>,
    Query(new): Query<NewThing>,
) -> Result<Json<Submitted>, ApiError> {
    let NewThing {
        nonce,
        aliases,
        registrant_pubkey,
        signature,
        data,
        spec,
    } = new;
    let aliases = match aliases.as_str() {
        "" => Vec::new(),
        list => list.split(',').map(str::to_owned).collect(),
    };
    let message = RegisterThing {
        nonce: parse_hex("Nonce", &nonce)?,
        aliases,
        registrant_pubkey,
        signature: parse_hex("Signature", &signature)?,
        data,
        spec,
    };
    relay(&app, "registerThing", argument(&message)).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct ThingQuery {
    alias: String,
}

/// A thing by one of its aliases.
#[utoipa::path(get, path = "/v1/iotregistry/thing", tag = "iotregistry", params(ThingQuery),
    responses((status = 200, body = serde_json::Value), (status = 404, body = Problem)))]
async fn thing(
    State(app): State<App>,
    Query(query): Query<ThingQuery>,
) -> Result<Response, ApiError> {
    query_records(&app, "thing", &query.alias).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct NewSpec {
    #[param(min_length = 1)]
    spec_name: String,
    /// Compressed, lower-case hexadecimal.
    #[param(pattern = "^([0-9a-fA-F]{2})+$")]
    registrant_pubkey: String,
    /// DER, hexadecimal, over `name:registrant:data`.
    #[param(pattern = "^([0-9a-fA-F]{2})+$")]
    signature: String,
    #[serde(default)]
    data: String,
}

/// Registers a spec.
#[utoipa::path(post, path = "/v1/iotregistry/registerSpec", tag = "iotregistry", params(NewSpec),
    responses((status = 200, body = Submitted), (status = 400, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem),
        (status = 504, body = Problem)))]
async fn register_spec(
    State(app): State<App>,
    Query(new): Query<NewSpec>,
) -> Result<Json<Submitted>, ApiError> {
    let NewSpec {
        spec_name,
        registrant_pubkey,
        signature,
        data,
    } = new;
    let signature = parse_hex("Signature", &signature)?;
    let message = RegisterSpec {
        spec_name,
        registrant_pubkey,
        signature,
        data,
    };
    relay(&app, "registerSpec", argument(&message)).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct SpecQuery {
    spec_name: String,
}

/// A spec by its name.
#[utoipa::path(get, path = "/v1/iotregistry/spec", tag = "iotregistry", params(SpecQuery),
    responses((status = 200, body = serde_json::Value), (status = 404, body = Problem)))]
async fn spec(
    State(app): State<App>,
    Query(query): Query<SpecQuery>,
) -> Result<Response, ApiError> {
    query_records(&app, "spec", &query.spec_name).await
}
