//! The parts that all operations have: statuses, the form of problems, headers, security.

use lamplighter_types::wire::content_type::{BYTES, JSON, PROBLEM as PROBLEM_JSON};
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::SecurityRequirement;

use super::TOKEN;
use crate::rights;

/// The media type of a stream of server-sent events.
const EVENTS: &str = "text/event-stream";
const PROBLEM_SCHEMA: &str = "#/components/schemas/Problem";

/// Parameters that make a node wait: for a height, the leader, or a certificate.
const WAITING: [&str; 3] = ["min_height", "linearizable", "proof"];

/// The meanings of statuses that an operation does not describe.
const MEANINGS: [(&str, &str); 15] = [
    ("200", "Done."),
    ("204", "Done; there is nothing to say."),
    (
        "400",
        "Something in the path, query or body is not understood; `code` says what.",
    ),
    (
        "401",
        "There is no token, or it is not good: `auth.missing`, `auth.refused`.",
    ),
    (
        "403",
        "The account may not do this, or not read this: `forbidden`, `read.scope`.",
    ),
    ("404", "There is no such record at this node: `not_found`."),
    (
        "408",
        "The body did not arrive within 30 s: `body.timeout`.",
    ),
    ("409", "It contradicts what is there; `code` says what."),
    ("413", "The body is too large: `body.too_large`."),
    ("415", "The body is of another media type: `content_type`."),
    (
        "429",
        "Too many in a second, or at once: `rate_limited`, `quota.requests`. See `Retry-After`.",
    ),
    (
        "500",
        "The node could not do this; its log says why: `internal`.",
    ),
    (
        "503",
        "Busy or read-only: wait `Retry-After` seconds, or ask another node.",
    ),
    (
        "504",
        "The height, leader or certificate did not come in time: `deadline`.",
    ),
    (
        "507",
        "The node keeps no more artifacts: `artifact.quota`, `artifact.disk_full`.",
    ),
];

/// Marks all operations as needing a token.
pub fn require_token(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let PathItem {
            get,
            post,
            patch,
            delete,
            head,
            ..
        } = item;
        for operation in [get, post, patch, delete, head].into_iter().flatten() {
            operation.security = Some(vec![SecurityRequirement::new(TOKEN, [""; 0])]);
        }
    }
}

/// Adds the common parts to all operations.
pub fn complete(document: &mut Value) {
    let paths = document["paths"].as_object_mut().expect("there are routes");
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().expect("a route has methods") {
            describe(path, method, operation);
        }
    }
    let height = json!({
        "description": "The answer is of this height, or of a later one.",
        "required": true,
        "schema": { "type": "integer", "format": "uint64", "minimum": 0 },
    });
    document["components"]["headers"] = json!({ "Ledger-Height": height });
}

fn describe(path: &str, method: &str, operation: &mut Value) {
    let statuses = statuses(operation);
    if operation.get("security").is_none() {
        operation["security"] = json!([]);
    }
    if let Some(parameters) = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut)
    {
        parameters.iter_mut().for_each(|p| parameter(path, p));
    }
    if let Some(content) = operation.pointer_mut("/requestBody/content") {
        content_of(content);
    }
    if let (Some(kind), false) = (rights::kind_of(path), operation["security"] == json!([])) {
        let text = operation["description"].as_str().unwrap_or_default();
        let text = format!("{text}\n\n{}", rights::sentence(kind));
        operation["description"] = text.trim_start().into();
    }
    let responses = operation["responses"]
        .as_object_mut()
        .expect("an operation has responses");
    for status in statuses {
        let problem = json!({ "content": { JSON: { "schema": { "$ref": PROBLEM_SCHEMA } } } });
        responses.entry(status).or_insert(problem);
    }
    for (status, response) in responses {
        answer(method, status, response);
    }
}

/// The statuses of problems that are not particular to the operation.
fn statuses(operation: &Value) -> Vec<&'static str> {
    // Every request counts for its account or address.
    let mut statuses = vec!["429", "500", "503"];
    let list = |name: &str| {
        operation
            .get(name)
            .and_then(Value::as_array)
            .map_or(&[][..], |l| l)
    };
    if !list("security").is_empty() {
        statuses.extend(["401", "403"]);
    }
    let parameters = list("parameters");
    if !parameters.is_empty() {
        statuses.push("400");
    }
    let waits = |p: &Value| WAITING.iter().any(|name| p["name"] == *name);
    if parameters.iter().any(waits) {
        statuses.push("504");
    }
    // The validators that are trusted may be too long ago for one proof.
    if parameters.iter().any(|p| p["name"] == "trusted") {
        statuses.push("409");
    }
    if let Some(content) = operation.pointer("/requestBody/content") {
        statuses.extend(["400", "408", "413"]);
        // A body that is only bytes is accepted with any content type.
        if content.get(JSON).is_some() {
            statuses.push("415");
        }
    }
    statuses
}

/// Completes a parameter, which is left out and never null.
fn parameter(path: &str, parameter: &mut Value) {
    let is_cursor = parameter["name"] == "after";
    let schema = &mut parameter["schema"];
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [kind] = &kinds[..] {
            schema["type"] = kind.clone();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
        if let [choice] = &choices[..] {
            *schema = choice.clone();
        }
    }
    if is_cursor {
        schema["pattern"] = cursor(path).into();
    }
}

/// The form of the `after` of a list.
fn cursor(path: &str) -> &'static str {
    match path {
        "/v1/alarms" => "^[a-z0-9][a-z0-9._-]{0,63}:[0-9]{1,19}$",
        "/v1/devices/{device}/alarms" | "/v1/devices/{device}/events" => "^[0-9]{1,19}$",
        "/v1/devices/{device}/timeline" => {
            "^([0-9]{1,19}\\.([0-9]{1,9}|4294967295))?:([0-9]{1,19})?$"
        }
        path if path.ends_with("/history") || path.starts_with("/v1/feed") => {
            // 2^32 - 1 is the end of a block; no block has a thousandth of that in it.
            "^[0-9]{1,19}\\.([0-9]{1,9}|4294967295)$"
        }
        _ => "^[a-z0-9][a-z0-9._-]{0,63}$",
    }
}

fn answer(method: &str, status: &str, response: &mut Value) {
    let meaning = MEANINGS.iter().find(|(code, _)| *code == status);
    if let (Some((_, meaning)), true) = (meaning, has_no_text(response)) {
        response["description"] = (*meaning).into();
    }
    if let Some(content) = response.get_mut("content") {
        content_of(content);
    }
    // The answer to HEAD has no body.
    if let (Some(fields), true) = (response.as_object_mut(), method == "head") {
        fields.remove("content");
    }
    for (name, header) in headers(status) {
        response["headers"][name] = header;
    }
}

fn has_no_text(response: &Value) -> bool {
    response.get("description").is_none_or(|text| text == "")
}

fn headers(status: &str) -> Vec<(&'static str, Value)> {
    let text =
        |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let seconds =
        json!({ "description": "Seconds.", "schema": { "type": "integer", "minimum": 0 } });
    match status {
        "401" => vec![("WWW-Authenticate", text("`Bearer`."))],
        "429" | "503" => vec![("Retry-After", seconds)],
        "200" | "202" | "204" | "206" => {
            let height = json!({ "$ref": "#/components/headers/Ledger-Height" });
            vec![("Ledger-Height", height)]
        }
        _ => Vec::new(),
    }
}

/// Problems have a media type of their own, bytes no schema, and what a type describes in a stream
/// is the data of one event.
fn content_of(content: &mut Value) {
    let kinds = content
        .as_object_mut()
        .expect("contents are listed by media type");
    if kinds
        .get(JSON)
        .is_some_and(|c| c["schema"]["$ref"] == PROBLEM_SCHEMA)
    {
        let problem = kinds.remove(JSON).expect("it was just there");
        kinds.insert(PROBLEM_JSON.to_owned(), problem);
    }
    if let Some(bytes) = kinds.get_mut(BYTES) {
        *bytes = Value::Object(Map::new());
    }
    if let Some(stream) = kinds.get_mut(EVENTS) {
        let data = stream["schema"].take();
        stream["schema"] = server_sent_event(&data);
    }
}

/// One event of a stream, as the standard of HTML names its fields. One without data, which a
/// client does not see as an event, has the cursor alone.
fn server_sent_event(data: &Value) -> Value {
    json!({
        "type": "object",
        "description": "One event of the stream.",
        "required": ["id", "event", "data"],
        "properties": {
            "id": { "type": "string", "description": "The cursor.", "pattern": cursor("/v1/feed") },
            "event": { "type": "string", "description": "The name of the fact." },
            "data": {
                "type": "string",
                "contentMediaType": JSON,
                "contentSchema": data,
            },
        },
    })
}
