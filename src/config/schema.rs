//! JSON Schema (draft 2020-12) of the files, from the table of keys: for editors, and for those who generate files.
//!
//! What the schema refuses is refused by the parser too. The parser knows more: what keys have to do with each other
//! and with other files.

use serde_json::{Map, Value, json};

use super::keys::{DAEMON, FLOW, Form, Key, Required, SUBSCRIBER, Standing};

/// Of a file of `flows.d`.
pub fn flow() -> Value {
    document("A flow of mediaconnect: flows.d/NAME.toml", FLOW)
}

/// Of a file of `subscribers.d`.
pub fn subscriber() -> Value {
    document("A subscriber of mediaconnect: subscribers.d/NAME.toml", SUBSCRIBER)
}

/// Of `mediaconnect.toml`.
pub fn daemon() -> Value {
    document("mediaconnect.toml", DAEMON)
}

fn document(title: &str, keys: &[Key]) -> Value {
    let mut schema = Map::from_iter([
        ("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema")),
        ("title".to_owned(), json!(title)),
    ]);
    schema.extend(table(keys));
    Value::Object(schema)
}

/// A table: its keys, and for each protocol those that have no meaning.
fn table(keys: &[Key]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys.iter().filter(|key| !matches!(key.form, Form::Later)) {
        properties.insert(key.name.to_owned(), property(key));
    }
    let mut schema = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("additionalProperties".to_owned(), json!(false)),
        ("properties".to_owned(), Value::Object(properties)),
    ]);
    let always = keys.iter().filter(|key| key.required == Required::Always);
    let (either, required): (Vec<_>, Vec<_>) = always.partition(|key| !key.instead.is_empty());
    let required: Vec<_> = required.into_iter().map(|key| key.name).collect();
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    let rules = protocols(keys).into_iter().filter_map(|protocol| rule(protocol, keys));
    let rules: Vec<_> = either.into_iter().map(any_of).chain(rules).collect();
    if !rules.is_empty() {
        schema.insert("allOf".into(), json!(rules));
    }
    schema
}

/// The protocols that have their keys in this table: the words of its first key.
fn protocols(keys: &[Key]) -> Vec<&'static str> {
    match keys.first().map(|key| key.form) {
        Some(Form::Protocol(known)) => available(known),
        Some(Form::Choice(words)) => words.to_vec(),
        _ => Vec::new(),
    }
}

fn available(known: &[(&'static str, Standing)]) -> Vec<&'static str> {
    known.iter().filter(|(_, standing)| *standing == Standing::Available).map(|(name, _)| *name).collect()
}

/// The keys that have no meaning for `protocol`, and those that must be written for it.
fn rule(protocol: &str, keys: &[Key]) -> Option<Value> {
    let has_meaning = |key: &&Key| key.on.is_empty() || key.on.contains(&protocol);
    let without: Map<_, _> = keys
        .iter()
        .filter(|key| !matches!(key.form, Form::Later) && !has_meaning(key))
        .map(|key| (key.name.to_owned(), json!(false)))
        .collect();
    let needs = |key: &&Key| matches!(key.required, Required::For(protocols) if protocols.contains(&protocol));
    let may_stand_in = |key: &Key| keys.iter().any(|k| k.name == key.instead && has_meaning(&k));
    let (either, alone): (Vec<_>, Vec<_>) = keys.iter().filter(needs).partition(|key| may_stand_in(key));
    let mut then = Map::new();
    if !without.is_empty() {
        then.insert("properties".into(), Value::Object(without));
    }
    if !alone.is_empty() {
        then.insert("required".into(), alone.into_iter().map(|key| key.name).collect());
    }
    if !either.is_empty() {
        then.insert("allOf".into(), either.into_iter().map(any_of).collect());
    }
    let selector = keys.first()?.name;
    let of = json!({ "properties": { selector: { "const": protocol } }, "required": [selector] });
    (!then.is_empty()).then(|| json!({ "if": of, "then": then }))
}

/// A key, or the one that may stand in its place.
fn any_of(key: &Key) -> Value {
    json!({ "anyOf": [{ "required": [key.name] }, { "required": [key.instead] }] })
}

fn property(key: &Key) -> Value {
    let mut schema = form(key.form);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".into(), json!(key.doc));
        let default = toml::from_str::<toml::Table>(&format!("default = {}", key.default)).ok();
        schema.extend(
            default.and_then(|table| serde_json::to_value(table).ok()?.as_object().cloned()).into_iter().flatten(),
        );
    }
    schema
}

fn form(form: Form) -> Value {
    let number = json!({ "type": "integer", "minimum": 1 });
    match form {
        Form::Text
        | Form::Duration(..)
        | Form::DurationOrOff(..)
        | Form::Gather(_)
        | Form::Interface
        | Form::Network
        | Form::Address
        | Form::KeyFile => json!({ "type": "string" }),
        Form::Time => json!({ "type": "string", "format": "date-time" }),
        Form::Bind | Form::Destination => json!({ "type": "string", "pattern": ":[0-9]{1,5}$" }),
        Form::Cpus => json!({ "type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$" }),
        Form::Protocol(known) => json!({ "enum": available(known) }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Form::OneOf(numbers) => json!({ "enum": numbers }),
        Form::Pair(least, most) => json!({
            "type": "array",
            "items": { "type": "integer", "minimum": least, "maximum": most },
            "minItems": 2,
            "maxItems": 2,
        }),
        Form::Bitrate => json!({ "anyOf": [number, { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?[kKMG]?$" }] }),
        Form::Dscp => json!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 63 }, { "type": "string" }] }),
        Form::Choice(words) => json!({ "enum": words }),
        Form::List(inner) => json!({ "type": "array", "items": self::form(*inner) }),
        Form::Texts => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Form::Table(keys) => Value::Object(table(keys)),
        Form::Tables(count, keys) => {
            json!({ "type": "array", "items": table(keys), "minItems": count, "maxItems": count })
        }
        Form::Named(keys) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$" },
            "additionalProperties": table(keys),
        }),
        Form::Threshold => json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }] }),
        Form::Later => json!(false),
    }
}

#[cfg(test)]
mod tests;
