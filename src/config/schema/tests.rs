use super::*;
use crate::config::keys::{CONTENT, FAILOVER, FEC, HTTP, LEG, MONITORING, OUTPUT, SOURCE, SWITCH_ON, THUMBNAILS};

/// Does `value` fit `schema`, as far as our schemas go?
fn fits(schema: &Value, value: &Value) -> bool {
    let rules = match schema {
        Value::Bool(all) => return *all,
        Value::Object(rules) => rules,
        _ => return false,
    };
    rules.iter().all(|(rule, arg)| match (rule.as_str(), value) {
        ("type", _) => match arg.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("{other}"),
        },
        ("enum", _) => arg.as_array().unwrap().contains(value),
        ("const", _) => arg == value,
        ("minimum", Value::Number(n)) => n.as_i64() >= arg.as_i64(),
        ("maximum", Value::Number(n)) => n.as_i64() <= arg.as_i64(),
        ("minItems", Value::Array(list)) => list.len() as u64 >= arg.as_u64().unwrap(),
        ("maxItems", Value::Array(list)) => list.len() as u64 <= arg.as_u64().unwrap(),
        ("items", Value::Array(list)) => list.iter().all(|v| fits(arg, v)),
        ("required", Value::Object(table)) => {
            arg.as_array().unwrap().iter().all(|k| table.contains_key(k.as_str().unwrap()))
        }
        ("properties", Value::Object(table)) => {
            arg.as_object().unwrap().iter().all(|(k, s)| table.get(k).is_none_or(|v| fits(s, v)))
        }
        ("additionalProperties", Value::Object(table)) => {
            let named = rules.get("properties").and_then(Value::as_object);
            table.iter().filter(|(k, _)| named.is_none_or(|n| !n.contains_key(*k))).all(|(_, v)| fits(arg, v))
        }
        ("anyOf", _) => arg.as_array().unwrap().iter().any(|s| fits(s, value)),
        ("allOf", _) => arg.as_array().unwrap().iter().all(|s| fits(s, value)),
        ("if", _) => !fits(arg, value) || fits(&rules["then"], value),
        _ => true,
    })
}

fn table_of_bad_files(keep: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config");
    let files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    files
        .filter(|p| p.extension().is_some_and(|e| e == "toml") && keep(p.file_name().unwrap().to_str().unwrap()))
        .filter_map(|p| Some((p.display().to_string(), std::fs::read_to_string(p).ok()?)))
        .collect()
}

/// The parser, on one side, and the schema on the other, must not disagree about what the schema can say.
#[test]
fn what_the_schema_refuses_the_parser_refuses() {
    let (mut refused, mut taken) = (0, 0);
    for (file, text) in table_of_bad_files(|_| true) {
        let Ok(table) = toml::from_str::<toml::Table>(text.trim_start_matches('\u{feff}')) else { continue };
        let value = serde_json::to_value(&table).unwrap();
        let of_daemon = file.contains("/daemon-");
        let expected = std::fs::read_to_string(file.replace(".toml", ".expect")).unwrap();
        let valid = !expected.contains(": error: ");
        let fits = fits(&if of_daemon { daemon() } else { flow() }, &value);
        assert!(fits || !valid, "{file} is valid, but not by the schema");
        // An unknown key, a wrong type or an unavailable part must be refused by both.
        for words in [
            "unknown key",
            "not available in this version",
            "has no meaning for protocol",
            "has no meaning with mode =",
            "must be",
            "needs `bind`",
            "needs `destination`",
            "needs `remote`",
        ] {
            if expected.contains(words) {
                assert!(!fits, "{file} is refused ({words}), but fits the schema");
            }
        }
        refused += usize::from(!fits);
        taken += usize::from(valid);
    }
    assert!(refused > 20 && taken > 5);
}

#[test]
fn every_key_of_this_version_is_in_the_schema_with_its_text() {
    let (flow, daemon) = (flow(), daemon());
    let source = &flow["properties"]["sources"]["additionalProperties"];
    let output = &flow["properties"]["outputs"]["additionalProperties"];
    let failover = &flow["properties"]["failover"];
    let monitoring = &flow["properties"]["monitoring"];
    let tables = [
        (FLOW, &flow),
        (SOURCE, source),
        (OUTPUT, output),
        (LEG, &output["properties"]["legs"]["items"]),
        (FEC, &output["properties"]["fec"]),
        (FAILOVER, failover),
        (SWITCH_ON, &failover["properties"]["switch-on"]),
        (MONITORING, monitoring),
        (THUMBNAILS, &monitoring["properties"]["thumbnails"]),
        (CONTENT, &monitoring["properties"]["content"]),
        (DAEMON, &daemon),
        (HTTP, &daemon["properties"]["http"]),
    ];
    for (keys, schema) in tables {
        for key in keys {
            let property = &schema["properties"][key.name];
            assert_eq!(property.is_null(), matches!(key.form, Form::Later), "{}", key.name);
            assert!(property.is_null() || !property["description"].as_str().unwrap().is_empty(), "{}", key.name);
            assert_eq!(property["default"].is_null(), key.default.is_empty(), "{}", key.name);
        }
    }
    assert_eq!(source["properties"]["reorder-window"]["default"], "50ms");
    assert_eq!(flow["required"], json!(["sources"]));
}
