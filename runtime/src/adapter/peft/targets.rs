//! Which modules a configuration adapts, by PEFT's rules.
//!
//! PEFT makes pairs where the configuration says and fills those from the file; tensors elsewhere it
//! drops. The tensors say where graft adapts, so the two must agree.

use regex::Regex;
use serde_json::{Map, Value};

/// A list of names, or one regular expression over the whole path.
#[derive(Debug)]
enum Names {
    List(Vec<String>),
    Pattern(Regex),
}

impl Names {
    /// `None` where nothing is said, or in an expression that this crate cannot read (Python's have
    /// more): then the tensors alone decide.
    fn read(keys: &Map<String, Value>, key: &str) -> Result<Option<Self>, String> {
        match keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(pattern)) => {
                let regex = Regex::new(&format!("^(?:{pattern})$"));
                Ok(regex.ok().map(Self::Pattern))
            }
            Some(Value::Array(items)) => Ok(Some(Self::List(strings(key, items)?))),
            Some(other) => Err(format!("{key} is {other}, not a list of names")),
        }
    }

    /// A name in a list stands for the end of a path, from a dot on, or for a whole path.
    fn match_path(&self, module: &str) -> Match {
        let names = match self {
            Self::Pattern(regex) if regex.is_match(module) => return Match::Whole,
            Self::Pattern(_) => return Match::No,
            Self::List(names) => names,
        };
        let end = |name: &String| {
            let rest = module.strip_suffix(name.as_str());
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        if names.iter().any(|name| name == module) {
            Match::Whole
        } else if names.iter().any(end) {
            Match::End
        } else {
            Match::No
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Match {
    No,
    /// By the end of its path: `layers_to_transform` is asked as well.
    End,
    Whole,
}

/// What `target_modules`, `exclude_modules`, `layers_to_transform` and `layers_pattern` say together.
#[derive(Debug)]
pub(super) struct Targets {
    /// `None`: every module that has tensors.
    chosen: Option<Names>,
    excluded: Option<Names>,
    layers: Option<Vec<u64>>,
    /// Each finds a module's layer; the first that matches decides.
    layer_patterns: Vec<Regex>,
}

impl Targets {
    /// Reads the four keys.
    ///
    /// # Errors
    /// A sentence that names the malformed one.
    pub fn read(keys: &Map<String, Value>) -> Result<Self, String> {
        let chosen = match keys.get("target_modules") {
            Some(Value::String(all)) if all.eq_ignore_ascii_case("all-linear") => None,
            _ => Names::read(keys, "target_modules")?,
        };
        let layers = match keys.get("layers_to_transform") {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) if items.is_empty() => None,
            Some(Value::Array(items)) => Some(items.iter().map(layer).collect::<Result<_, _>>()?),
            Some(one) => Some(vec![layer(one)?]),
        };
        let names = match keys.get("layers_pattern") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(name)) if name.is_empty() => Vec::new(),
            Some(Value::String(name)) => vec![name.clone()],
            Some(Value::Array(items)) => strings("layers_pattern", items)?,
            Some(other) => return Err(format!("layers_pattern is {other}, not a name")),
        };
        let pattern = |name: &String| {
            let regex = Regex::new(&format!(r"^(?:|.*?\.)(?:{name})\.(\d+)\."));
            regex.map_err(|e| format!("layers_pattern has {name:?}, which cannot be read: {e}"))
        };
        let layer_patterns = if names.is_empty() {
            vec![Regex::new(r"^.*?\.[^.]*\.(\d+)\.").expect("a sound expression")]
        } else {
            names.iter().map(pattern).collect::<Result<_, _>>()?
        };
        Ok(Self {
            chosen,
            excluded: Names::read(keys, "exclude_modules")?,
            layers,
            layer_patterns,
        })
    }

    /// Why PEFT would not adapt this module, such as `model.layers.0.self_attn.q_proj`; `None` if it
    /// would.
    pub fn why_not(&self, module: &str) -> Option<&'static str> {
        if let Some(excluded) = &self.excluded
            && excluded.match_path(module) != Match::No
        {
            return Some("exclude_modules leaves it out");
        }
        match self.chosen.as_ref().map(|names| names.match_path(module)) {
            Some(Match::No) => Some("it is not among the target_modules"),
            Some(Match::End) if !self.has_layer(module) => {
                Some("its layer is not among the layers_to_transform")
            }
            _ => None,
        }
    }

    fn has_layer(&self, module: &str) -> bool {
        let Some(layers) = &self.layers else {
            return true;
        };
        let found = self.layer_patterns.iter().find_map(|p| p.captures(module));
        let number = found.and_then(|groups| groups[1].parse().ok());
        number.is_some_and(|number: u64| layers.contains(&number))
    }
}

fn strings(key: &str, items: &[Value]) -> Result<Vec<String>, String> {
    let text = |item: &Value| item.as_str().map(str::to_owned);
    let texts = items.iter().map(text).collect::<Option<_>>();
    texts.ok_or_else(|| format!("{key} holds something that is no name"))
}

fn layer(value: &Value) -> Result<u64, String> {
    let number = value.as_u64();
    number.ok_or_else(|| format!("layers_to_transform has {value}, which is no layer's number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q1: &str = "model.layers.1.self_attn.q_proj";

    fn why_not(keys: &str, module: &str) -> Option<&'static str> {
        let keys = serde_json::from_str(keys).unwrap();
        Targets::read(&keys).unwrap().why_not(module)
    }

    #[test]
    fn modules_are_chosen_as_in_peft() {
        for adapted in [
            r#"{}"#,
            r#"{"target_modules": "all-linear"}"#,
            r#"{"target_modules": ["v_proj", "q_proj"]}"#,
            r#"{"target_modules": ["self_attn.q_proj"], "layers_to_transform": [0, 1]}"#,
            r#"{"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "layers"}"#,
            r#"{"target_modules": ["q_proj"], "layers_to_transform": [], "exclude_modules": []}"#,
            // A whole path needs no layer.
            r#"{"target_modules": ["model.layers.1.self_attn.q_proj"], "layers_to_transform": [0]}"#,
            r#"{"target_modules": ".*(q|v)_proj", "exclude_modules": ".*layers\\.0.*"}"#,
            // Python's look-ahead cannot be read: the tensors decide.
            r#"{"target_modules": "^(?!.*vision).*v_proj"}"#,
        ] {
            assert_eq!(why_not(adapted, Q1), None, "{adapted}");
        }
        for left_out in [
            r#"{"target_modules": ["v_proj", "_proj"]}"#,
            r#"{"target_modules": []}"#,
            r#"{"target_modules": "q_proj"}"#,
            r#"{"target_modules": ["q_proj"], "layers_to_transform": [0, 11]}"#,
            r#"{"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h"]}"#,
            r#"{"target_modules": ["q_proj"], "exclude_modules": ["1.self_attn.q_proj"]}"#,
            r#"{"target_modules": ["q_proj"], "exclude_modules": ".*layers\\.1.*"}"#,
        ] {
            assert!(why_not(left_out, Q1).is_some(), "{left_out}");
        }
    }

    #[test]
    fn malformed_choices_are_refused() {
        for keys in [
            r#"{"target_modules": 3}"#,
            r#"{"target_modules": [3]}"#,
            r#"{"exclude_modules": {}}"#,
            r#"{"layers_to_transform": [-1]}"#,
            r#"{"layers_to_transform": "1"}"#,
            r#"{"layers_pattern": "("}"#,
            r#"{"layers_pattern": 1}"#,
        ] {
            let keys = serde_json::from_str(keys).unwrap();
            assert!(Targets::read(&keys).is_err(), "{keys:?}");
        }
    }
}
