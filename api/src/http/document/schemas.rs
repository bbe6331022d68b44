//! The parts that all schemas have: bounds of numbers, no unknown fields where none are accepted,
//! plain text, and examples.

use lamplighter_types::limits::NUMBER_MAX;
use lamplighter_types::{HexBytes, ReleaseManifest, codec};
use serde::Deserialize;
use serde_json::{Map, Value, json};

type Schemas = Map<String, Value>;

const PREFIX: &str = "#/components/schemas/";

/// One action of each kind, in an order in which a ledger takes them all. A test sends them.
const ACTIONS: &str = include_str!("../../../../docs/examples/actions.json");
/// A transaction with all inputs of its signature, for authors of clients.
const TRANSACTION: &str = include_str!("../../../../docs/examples/transaction.json");

/// An example of an action.
#[derive(Debug, Deserialize)]
struct Example {
    /// The accounts that may perform it, for people.
    by: String,
    action: Value,
}

/// Adds the common parts to all schemas.
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
    add_examples(schemas);
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

/// The largest number of each width, whose format utoipa spells unlike the registry of OpenAPI. No
/// number is above 2^53 - 1, which every reader of JSON gets right.
fn bound(schema: &mut Map<String, Value>) {
    let (format, max) = match schema.get("format").and_then(Value::as_str) {
        Some("u-int8") => ("uint8", u64::from(u8::MAX)),
        Some("u-int16") => ("uint16", u64::from(u16::MAX)),
        Some("u-int32") => ("uint32", u64::from(u32::MAX)),
        Some("u-int64") => ("uint64", NUMBER_MAX),
        _ => return,
    };
    schema.insert("format".to_owned(), format.into());
    schema.entry("maximum").or_insert(max.into());
}

/// Replaces links of the source, which have no meaning outside of it, by their names.
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

/// Marks types that accept no unknown fields, and the variants of enums.
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

/// Adds an example to each kind of action, and to each type that is part of one.
fn add_examples(schemas: &mut Schemas) {
    let actions: Vec<Example> = serde_json::from_str(ACTIONS).expect("a test reads it");
    for Example { by, action } in &actions {
        if add_permission(schemas, action, by) {
            add(&mut schemas["Action"], action);
        }
        add_examples_of(schemas, &reference("Action"), action);
        if let Some(manifest) = manifest(action) {
            add_examples_of(schemas, &reference("ReleaseManifest"), &manifest);
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

/// The manifest in an action that publishes a release, where it has its binary encoding.
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

/// Adds to the kind of an action who may perform it; false if it was added before.
fn add_permission(schemas: &mut Schemas, action: &Value, by: &str) -> bool {
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
    let actions = named(&contract).and_then(|name| schemas.get_mut(name));
    let Some(kind) = actions.and_then(|actions| variant(actions, action)) else {
        return false;
    };
    let description = kind["description"].as_str().unwrap_or_default();
    if description.contains("By: ") {
        return false;
    }
    let separator = if description.is_empty() { "" } else { "\n\n" };
    kind["description"] = format!("{description}{separator}By: {by}.").into();
    true
}

/// Walks a value along its schema, and gives each type and variant on the way its first example.
fn add_examples_of(schemas: &mut Schemas, schema: &Value, value: &Value) {
    let mut schema = schema.clone();
    if let Some(name) = named(&schema).map(str::to_owned) {
        let Some(component) = schemas.get_mut(&name) else {
            return;
        };
        let target = if component.get("oneOf").is_some() {
            variant(component, value)
        } else {
            Some(component).filter(|schema| schema.get("properties").is_some())
        };
        if let Some(target) = target.filter(|target| target.get("examples").is_none()) {
            add(target, value);
        }
        schema = schemas[&name].clone();
    }
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    for choice in choices.filter(|choice| fits(choice, value)) {
        add_examples_of(schemas, choice, value);
    }
    for (field, part) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(field).filter(|value| !value.is_null()) {
            add_examples_of(schemas, part, value);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        add_examples_of(schemas, &schema["items"], item);
    }
}

/// The variant of an enum that a value has.
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
