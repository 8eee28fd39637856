//! The schema of a plugin's options: whether a person can learn from it what to give, and options that it
//! forbids.

use serde_json::{Map, Value, json};

use super::{Broken, Ruling, kept};

const ADVICE: &str = "the schema is a JSON object like {\"type\": \"object\", \"properties\": {\"column\": {\"type\": \
     \"string\", \"description\": \"…\", \"default\": \"text\"}}, \"additionalProperties\": false}";

/// The types that JSON Schema knows.
const TYPES: [&str; 7] = [
    "string", "integer", "number", "boolean", "array", "object", "null",
];

/// Whether `text` describes options.
pub fn ruling(text: &str) -> Ruling {
    let broken = |what: String| Broken::new(what, ADVICE);
    let schema: Value =
        serde_json::from_str(text).map_err(|e| broken(format!("its schema is not JSON: {e}")))?;
    if schema["type"] != "object" {
        return Err(broken("its schema is not of the type \"object\"".into()));
    }
    if schema["additionalProperties"] != false {
        let what = "its schema allows any further option, so that one misspelt has no effect and is not noticed";
        return Err(broken(what.into()));
    }
    let properties =
        properties(text).ok_or_else(|| broken("its schema has no \"properties\"".into()))?;
    for (name, property) in &properties {
        let types = types(property);
        if let Some(unknown) = types.iter().find(|t| !TYPES.contains(&t.as_str())) {
            return Err(broken(format!(
                "its option {name} has the type {unknown:?}, which there is not"
            )));
        }
        if property.get("default").is_none() && property.get("description").is_none() {
            return Err(broken(format!(
                "its option {name} has neither a default nor a description"
            )));
        }
        if let Some(default) = property.get("default")
            && !fits(default, &types)
        {
            return Err(broken(format!(
                "the default of its option {name}, {default}, is not of its type"
            )));
        }
    }
    kept(match properties.len() {
        0 => "no options".to_owned(),
        1 => "1 option".to_owned(),
        many => format!("{many} options"),
    })
}

/// The options and their schemas.
pub fn properties(text: &str) -> Option<Map<String, Value>> {
    let schema: Value = serde_json::from_str(text).ok()?;
    schema["properties"].as_object().cloned()
}

/// All options at their defaults.
pub fn defaults(text: &str) -> String {
    let properties = properties(text).unwrap_or_default();
    let given = properties.into_iter();
    let given = given.filter_map(|(name, property)| Some((name, property.get("default")?.clone())));
    Value::Object(given.collect()).to_string()
}

/// What became of options that were tried.
pub enum Taken {
    /// The plugin returned `invalid-options`.
    Refused,
    /// It took them.
    Accepted,
    /// It failed in another way.
    Failed(String),
}

/// Whether a plugin refuses options that its schema `text` forbids, as `attempt` finds.
pub fn refuses_what_it_forbids(
    text: &str,
    advice: &'static str,
    mut attempt: impl FnMut(&str) -> Taken,
) -> Ruling {
    let forbidden = forbidden(text);
    for options in &forbidden {
        let what = match attempt(options) {
            Taken::Refused => continue,
            Taken::Accepted => format!("it takes the options {options}"),
            Taken::Failed(error) => format!("with the options {options} it says: {error}"),
        };
        return Err(Broken::new(what, advice));
    }
    kept(format!("{} of them", forbidden.len()))
}

/// Options that the schema forbids: one that there is not, and each that there is with a value that is not
/// among its own or of no type of its own.
fn forbidden(text: &str) -> Vec<String> {
    let mut all = vec![json!({"no-such-option": 1}).to_string()];
    for (name, property) in properties(text).unwrap_or_default() {
        let types = types(&property);
        let values = [json!({}), json!([]), json!(1.5), json!("?"), json!(true)];
        let wrong = values.into_iter().find(|value| !fits(value, &types));
        if property["enum"].is_array() {
            all.push(json!({name: "no-such-value"}).to_string());
        } else if let (false, Some(value)) = (types.is_empty(), wrong) {
            all.push(json!({name: value}).to_string());
        }
    }
    all
}

/// Its `type`, one or several; empty where it may be anything.
fn types(property: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match &property["type"] {
        Value::Array(types) => types.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

fn fits(value: &Value, types: &[String]) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    };
    types.is_empty() || types.iter().any(|name| is(name))
}
