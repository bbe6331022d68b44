//! What every schema has: bounds of numbers, no unknown fields where none are taken, plain text,
//! and examples.

use lamplighter_types::{HexBytes, ReleaseManifest, codec};
use serde::Deserialize;
use serde_json::{Map, Value, json};

type Schemas = Map<String, Value>;

const PREFIX: &str = "#/components/schemas/";

/// One action of each kind, in an order in which a ledger takes them all. A test sends them.
const ACTIONS: &str = include_str!("../../../../docs/examples/actions.json");
/// A transaction with all that its signature is made of, for who writes a client.
const TRANSACTION: &str = include_str!("../../../../docs/examples/transaction.json");

/// An action that is shown.
#[derive(Debug, Deserialize)]
struct Example {
    /// Who may do this.
    by: String,
    action: Value,
}

/// Adds to all schemas what they do not say of themselves.
pub fn complete(document: &mut Value) {
    each_object(&mut document["paths"], &mut |schema| bound(schema));
    let schemas = document["components"]["schemas"]
        .as_object_mut()
        .expect("there are schemas");
    for schema in schemas.values_mut() {
        each_object(schema, &mut |part| {
            bound(part);
            simplify(part);
        });
        close(schema);
    }
    illustrate(schemas);
}

fn each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            change(fields);
            fields.values_mut().for_each(|v| each_object(v, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| each_object(v, change)),
        _ => {}
    }
}

/// The largest number of each width, whose format utoipa spells unlike the registry of OpenAPI.
fn bound(schema: &mut Map<String, Value>) {
    let (format, max) = match schema.get("format").and_then(Value::as_str) {
        Some("u-int8") => ("uint8", u64::from(u8::MAX)),
        Some("u-int16") => ("uint16", u64::from(u16::MAX)),
        Some("u-int32") => ("uint32", u64::from(u32::MAX)),
        Some("u-int64") => ("uint64", u64::MAX),
        _ => return,
    };
    schema.insert("format".to_owned(), format.into());
    schema.entry("maximum").or_insert(max.into());
}

/// Links of the source have no meaning outside of it: what is left of them is their name.
fn simplify(schema: &mut Map<String, Value>) {
    let Some(Value::String(text)) = schema.get_mut("description") else {
        return;
    };
    while let Some(middle) = text.find("](crate::") {
        let end = text[middle..]
            .find(')')
            .map_or(text.len(), |at| middle + at + 1);
        text.replace_range(middle..end, "");
        if let Some(start) = text[..middle].rfind('[') {
            text.remove(start);
        }
    }
    *text = text.replace("[`", "`").replace("`]", "`");
}

/// Our types take no unknown fields, the variants of an enum neither.
fn close(schema: &mut Value) {
    let strict = schema.get("oneOf").is_some() || schema.get("additionalProperties").is_some();
    if strict {
        each_object(schema, &mut |part| {
            if part.contains_key("properties") && part.get("type").is_some_and(|t| t == "object") {
                part.insert("additionalProperties".to_owned(), false.into());
            }
        });
    }
}

/// Shows each kind of action, and each type that is part of one, by an example.
fn illustrate(schemas: &mut Schemas) {
    let actions: Vec<Example> = serde_json::from_str(ACTIONS).expect("a test reads it");
    for Example { by, action } in &actions {
        if say_who(schemas, action, by) {
            add(&mut schemas["Action"], action);
        }
        show(schemas, &reference("Action"), action);
        if let Some(manifest) = manifest(action) {
            show(schemas, &reference("ReleaseManifest"), &manifest);
        }
    }
    let vector: Value = serde_json::from_str(TRANSACTION).expect("a test reads it");
    for (name, field) in [
        ("Transaction", "transaction"),
        ("SignedTransaction", "signed"),
    ] {
        add(&mut schemas[name], &vector[field]);
    }
}

/// The manifest of a release that is published, which the action has in its binary encoding.
fn manifest(action: &Value) -> Option<Value> {
    let hex = action.pointer("/firmware/publish/release/manifest")?;
    let bytes = HexBytes::deserialize(hex).ok()?;
    let manifest: ReleaseManifest = codec::decode(&bytes.0).ok()?;
    serde_json::to_value(manifest).ok()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{PREFIX}{name}") })
}

fn named(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(PREFIX)
}

/// Says at the kind of an action who may do it; false when it is said already.
fn say_who(schemas: &mut Schemas, action: &Value, by: &str) -> bool {
    let Some((contract, action)) = action.as_object().and_then(|fields| fields.iter().next())
    else {
        return false;
    };
    let of_contract = |choice: &Value| choice["properties"].get(contract).cloned();
    let contracts = schemas["Action"]["oneOf"]
        .as_array()
        .expect("an enum has variants");
    let Some(contract) = contracts.iter().find_map(of_contract) else {
        return false;
    };
    let own = named(&contract).and_then(|name| schemas.get_mut(name));
    let Some(kind) = own.and_then(|own| variant(own, action)) else {
        return false;
    };
    let said = kind["description"].as_str().unwrap_or_default();
    if said.contains("By: ") {
        return false;
    }
    let pause = if said.is_empty() { "" } else { "\n\n" };
    kind["description"] = format!("{said}{pause}By: {by}.").into();
    true
}

/// Walks a value along its schema; each type and variant on the way gets its first example.
fn show(schemas: &mut Schemas, schema: &Value, value: &Value) {
    let mut schema = schema.clone();
    if let Some(name) = named(&schema).map(str::to_owned) {
        let Some(own) = schemas.get_mut(&name) else {
            return;
        };
        let place = match own.get("oneOf").is_some() {
            true => variant(own, value),
            false => Some(own).filter(|own| own.get("properties").is_some()),
        };
        if let Some(place) = place.filter(|place| place.get("examples").is_none()) {
            add(place, value);
        }
        schema = schemas[&name].clone();
    }
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    for choice in choices.filter(|choice| fits(choice, value)) {
        show(schemas, choice, value);
    }
    for (field, part) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(field).filter(|value| !value.is_null()) {
            show(schemas, part, value);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        show(schemas, &schema["items"], item);
    }
}

/// The variant of an enum that a value is of.
fn variant<'a>(schema: &'a mut Value, value: &Value) -> Option<&'a mut Value> {
    let choices = schema.get_mut("oneOf")?.as_array_mut()?;
    choices.iter_mut().find(|choice| fits(choice, value))
}

fn fits(choice: &Value, value: &Value) -> bool {
    if let Some(names) = choice["enum"].as_array() {
        return names.contains(value);
    }
    match choice["properties"].as_object() {
        Some(fields) => fields.keys().all(|name| value.get(name).is_some()),
        None => named(choice).is_some() && !value.is_null(),
    }
}

fn add(schema: &mut Value, example: &Value) {
    match &mut schema["examples"] {
        Value::Array(examples) => examples.push(example.clone()),
        none => *none = Value::Array(vec![example.clone()]),
    }
}
