//! `/v1/iotregistry`: the routes of IOTRegistrySwagger (2017), with their query parameters and
//! replies.
//!
//! An operation is signed by its registrant. This node puts it into a transaction of its own
//! account, so the routes have a rate limit, and what the records would refuse is refused before it
//! costs a block anything.

use std::sync::Mutex;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lamplighter_contracts::ContractError;
use lamplighter_contracts::devices::iotregistry::{
    CreateRegistrant, RegisterSpec, RegisterThing, RegistryError, RegistryFailure, argument,
};
use lamplighter_contracts::devices::{iotregistry_check, iotregistry_query};
use lamplighter_ledger::Verdict;
use lamplighter_state::StateError;
use lamplighter_types::{Action, DevicesAction, Outcome};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Query;
use super::problem::{Problem, chain};
use super::read::{LEDGER_HEIGHT, view};
use super::transactions::{Submitted, submitted};

/// Operations in a row that this node relays after a pause.
const RELAYS_BURST: u32 = 32;
/// One more after so long: ten in a second, far more than people register by hand.
const RELAY_EVERY: Duration = Duration::from_millis(100);
/// How long an operation is waited for.
const WITHIN: Duration = Duration::from_secs(30);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_registrant, registrant))
        .routes(routes!(register_thing))
        .routes(routes!(thing))
        .routes(routes!(register_spec))
        .routes(routes!(spec))
}

/// How many operations may be relayed now.
pub struct Relays(Mutex<Bucket>);

struct Bucket {
    left: u32,
    filled: Instant,
}

impl Relays {
    pub fn new() -> Self {
        Self(Mutex::new(Bucket {
            left: RELAYS_BURST,
            filled: Instant::now(),
        }))
    }

    fn take(&self) -> Result<(), Problem> {
        let mut bucket = self.0.lock().expect("nobody panics with the bucket locked");
        let now = Instant::now();
        let gained = (now - bucket.filled).as_millis() / RELAY_EVERY.as_millis();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        bucket.left = bucket.left.saturating_add(gained).min(RELAYS_BURST);
        if gained > 0 {
            bucket.filled = now;
        }
        let left = bucket.left.checked_sub(1);
        bucket.left = left.ok_or_else(|| {
            let detail = "this node relays no more IOTRegistry operations now";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
        })?;
        Ok(())
    }
}

fn refused(failure: RegistryFailure<StateError>) -> Problem {
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
        RegistryError::DamagedRecord(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, refusal.code(), chain(&refusal))
}

/// Bytes in a query, as hexadecimal text in either case.
fn bytes(field: &str, text: &str) -> Result<Vec<u8>, Problem> {
    hex::decode(text).map_err(|e| {
        Problem::invalid(
            "iotregistry.not_hex",
            format!("{field} is not hexadecimal: {e}"),
        )
    })
}

/// Puts an operation into a transaction of this node and waits until it is in a block.
async fn relay(app: &App, function: &str, argument: String) -> Result<Json<Submitted>, Problem> {
    app.relays.take()?;
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
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "deadline", detail)
    };
    match tokio::time::timeout(WITHIN, ticket.verdict())
        .await
        .map_err(|_| deadline())?
    {
        Verdict::Committed(commitment) => match &commitment.receipt.outcome {
            Outcome::Succeeded => Ok(Json(submitted(app, hash, commitment))),
            Outcome::Failed { code, message } => Err(Problem::new(
                StatusCode::CONFLICT,
                code.clone(),
                message.clone(),
            )),
        },
        Verdict::Refused(refusal) => Err(Problem::busy(refusal.to_string())),
        Verdict::Unknown => Err(deadline()),
    }
}

/// The reply of the original, byte for byte.
async fn answer(app: &App, function: &str, argument: &str) -> Result<Response, Problem> {
    let (state, head) = view(app, None, false).await?;
    let text = iotregistry_query(&state, function, argument).map_err(refused)?;
    let kind = (header::CONTENT_TYPE, "application/json".to_owned());
    let height = (LEDGER_HEIGHT, head.height.to_string());
    Ok(([kind, height], text).into_response())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct NewRegistrant {
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
) -> Result<Json<Submitted>, Problem> {
    let NewRegistrant {
        registrant_name,
        registrant_pubkey,
        signature,
        data,
    } = new;
    let message = CreateRegistrant {
        registrant_name,
        registrant_pubkey: bytes("RegistrantPubkey", &registrant_pubkey)?,
        data,
        signature: bytes("Signature", &signature)?,
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
) -> Result<Response, Problem> {
    answer(&app, "owner", &query.registrant_pubkey).await
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
) -> Result<Json<Submitted>, Problem> {
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
        nonce: bytes("Nonce", &nonce)?,
        aliases,
        registrant_pubkey,
        signature: bytes("Signature", &signature)?,
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
) -> Result<Response, Problem> {
    answer(&app, "thing", &query.alias).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[into_params(rename_all = "PascalCase", parameter_in = Query)]
pub struct NewSpec {
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
) -> Result<Json<Submitted>, Problem> {
    let NewSpec {
        spec_name,
        registrant_pubkey,
        signature,
        data,
    } = new;
    let signature = bytes("Signature", &signature)?;
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
async fn spec(State(app): State<App>, Query(query): Query<SpecQuery>) -> Result<Response, Problem> {
    answer(&app, "spec", &query.spec_name).await
}
