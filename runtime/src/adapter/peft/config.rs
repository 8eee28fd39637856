//! What `adapter_config.json` says.

use regex::Regex;
use serde_json::{Map, Value};

use super::extensions;
use super::targets::Targets;

/// The numbers of a LoRA configuration.
#[derive(Debug)]
pub(super) struct Config {
    pub base_model: Option<String>,
    /// Whether pairs of the embedding and the output are one.
    pub ties: bool,
    rank: usize,
    alpha: f64,
    rslora: bool,
    rank_pattern: Vec<(Regex, f64)>,
    alpha_pattern: Vec<(Regex, f64)>,
    targets: Targets,
}

impl Config {
    /// Reads the JSON document.
    ///
    /// # Errors
    /// A sentence: what is malformed, or what graft cannot represent and what to do instead.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let keys: Map<String, Value> =
            serde_json::from_slice(text).map_err(|e| format!("it is not a JSON object: {e}"))?;
        let peft_type = keys.get("peft_type").and_then(Value::as_str);
        if peft_type != Some("LORA") {
            let found = peft_type.unwrap_or("missing");
            return Err(format!(
                "peft_type is {found}; graft reads LORA adapters only"
            ));
        }
        extensions::refuse(&keys)?;
        let size = |key: &str| match keys.get(key) {
            None | Some(Value::Null) => Ok(8.0), // PEFT's default for both
            Some(value) => positive(key, value),
        };
        let rank = size("r")?;
        let rslora = match keys.get("use_rslora") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(rslora)) => *rslora,
            Some(other) => return Err(format!("use_rslora is {other}, not true or false")),
        };
        let ranks = patterns(&keys, "rank_pattern")?;
        for (_, rank) in &ranks {
            whole("rank_pattern", *rank)?;
        }
        Ok(Self {
            base_model: keys
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            ties: keys.get("ensure_weight_tying") == Some(&Value::Bool(true)),
            rank: whole("r", rank)?,
            alpha: size("lora_alpha")?,
            rslora,
            rank_pattern: ranks,
            alpha_pattern: patterns(&keys, "alpha_pattern")?,
            targets: Targets::read(&keys)?,
        })
    }

    /// Why PEFT would make no pair at a module; `None` if it would.
    pub fn why_not(&self, module: &str) -> Option<&'static str> {
        self.targets.why_not(module)
    }

    /// R at a module, such as `model.layers.0.self_attn.q_proj`.
    pub fn rank(&self, module: &str) -> usize {
        first_match(&self.rank_pattern, module).map_or(self.rank, |rank| rank as usize)
    }

    /// The factor of `B A` at a module.
    pub fn scale(&self, module: &str) -> f32 {
        let alpha = first_match(&self.alpha_pattern, module).unwrap_or(self.alpha);
        (alpha / self.divisor(self.rank(module))) as f32
    }

    /// The alpha that, divided by the rank, gives the factor of most modules.
    pub fn stated_alpha(&self) -> f32 {
        (self.alpha / self.divisor(self.rank) * self.rank as f64) as f32
    }

    fn divisor(&self, rank: usize) -> f64 {
        if self.rslora {
            (rank as f64).sqrt()
        } else {
            rank as f64
        }
    }
}

fn positive(key: &str, value: &Value) -> Result<f64, String> {
    let number = value.as_f64().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| format!("{key} is {value}, not a positive number"))
}

fn whole(key: &str, number: f64) -> Result<usize, String> {
    if number.fract() != 0.0 || number > f64::from(u32::MAX) {
        return Err(format!(
            "{key} has the rank {number}, which no matrix can have"
        ));
    }
    Ok(number as usize)
}

fn first_match(patterns: &[(Regex, f64)], module: &str) -> Option<f64> {
    let found = patterns.iter().find(|(regex, _)| regex.is_match(module));
    found.map(|&(_, value)| value)
}

/// PEFT's rule: a key is a regular expression that must match the end of the module's path, from a
/// dot on or from its beginning. The first key that matches decides.
fn patterns(keys: &Map<String, Value>, key: &str) -> Result<Vec<(Regex, f64)>, String> {
    let entries = match keys.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => return Err(format!("{key} is {other}, not an object")),
    };
    let read = entries.iter().map(|(pattern, value)| {
        let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"));
        let regex = regex.map_err(|e| format!("{key} has {pattern:?}, which cannot be read: {e}"));
        Ok((regex?, positive(key, value)?))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<Config, String> {
        let text = format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8{extra}}}"#);
        Config::parse(text.as_bytes())
    }

    #[test]
    fn patterns_decide_as_in_peft() {
        let config = parse(
            r#", "use_rslora": true,
            "rank_pattern": {"layers.1.self_attn.q_proj": 16, "^model.layers.2.*": 2, "v_proj": 9},
            "alpha_pattern": {".*\\.q_proj": 12}"#,
        )
        .unwrap();
        let q = |layer: usize| format!("model.layers.{layer}.self_attn.q_proj");
        assert_eq!([0, 1, 2, 11].map(|n| config.rank(&q(n))), [4, 16, 2, 4]);
        assert_eq!(config.rank("model.layers.2.self_attn.v_proj"), 2);
        assert_eq!(config.rank("model.layers.3.self_attn.v_proj"), 9);
        assert_eq!(config.rank("model.layers.3.self_attn.xv_proj"), 4);
        assert_eq!(config.scale(&q(1)), 3.0);
        assert_eq!(config.scale("model.layers.0.mlp.up_proj"), 4.0);
        assert_eq!(config.stated_alpha(), 16.0);
    }

    #[test]
    fn what_would_change_the_result_is_refused() {
        for (extra, says) in [
            (r#", "use_dora": true"#, "DoRA"),
            (r#", "bias": "all""#, "trained biases"),
            (r#", "lora_bias": true"#, "biases of B"),
            (r#", "modules_to_save": ["lm_head"]"#, "lm_head"),
            (
                r#", "init_lora_weights": "pissa_niter_4""#,
                "changes the base",
            ),
            (r#", "fan_in_fan_out": true"#, "transposed"),
            (r#", "alora_invocation_tokens": [1, 2]"#, "activated LoRA"),
            (
                r#", "trainable_token_indices": [7]"#,
                "rows of the embedding",
            ),
            (
                r#", "trainable_token_indices": {"embed_tokens": [7]}"#,
                "rows of the embedding",
            ),
            (
                r#", "target_parameters": ["mlp.experts.down_proj"]"#,
                "linear layers only",
            ),
            (r#", "use_qalora": true"#, "groups of inputs"),
            (r#", "use_bdlora": {"nblocks": 2}"#, "block-diagonal"),
            (r#", "kasa_config": {"x": 1}"#, "singular values"),
            (r#", "monteclora_config": {"x": 1}"#, "samples"),
            (r#", "arrow_config": {"x": 1}"#, "several adapters"),
            (r#", "init_lora_weights": "olora""#, "changes the base"),
            (r#", "init_lora_weights": "corda""#, "changes the base"),
            (r#", "init_lora_weights": "lora_ga""#, "changes the base"),
            (r#", "init_lora_weights": "loftq""#, "changes the base"),
            (r#", "init_lora_weights": "next_year""#, "does not know"),
            (r#", "init_lora_weights": 7"#, "does not know"),
            (r#", "use_rslora": "yes""#, "true or false"),
            (r#", "use_rslora": 1"#, "true or false"),
            (r#", "rank_pattern": {"q_proj": 2.5}"#, "no matrix"),
            (r#", "layer_replication": [[0, 2]]"#, "layer_replication"),
            (
                r#", "something_of_next_year": {"x": 1}"#,
                "something_of_next_year",
            ),
            (r#", "rank_pattern": {"(": 2}"#, "cannot be read"),
            (r#", "rank_pattern": {"q_proj": -2}"#, "positive"),
            (r#", "alpha_pattern": [1]"#, "not an object"),
        ] {
            let reason = parse(extra).unwrap_err();
            assert!(reason.contains(says), "{extra}: {reason}");
        }
        for text in [
            "",
            "[]",
            "{}",
            r#"{"peft_type": "IA3"}"#,
            r#"{"peft_type": "LORA", "r": 0}"#,
        ] {
            assert!(Config::parse(text.as_bytes()).is_err(), "{text}");
        }
        let harmless = r#", "use_dora": false, "modules_to_save": null, "bias": "none",
            "lora_dropout": 0.1, "alora_invocation_tokens": null, "qalora_group_size": 16"#;
        parse(harmless).unwrap();
        for kept in ["gaussian", "Gaussian", "eva", "orthogonal", "mica"] {
            parse(&format!(r#", "init_lora_weights": "{kept}""#)).unwrap();
        }
        let long = format!(r#", "modules_to_save": ["{}"]"#, "x".repeat(5000));
        assert!(parse(&long).unwrap_err().len() < 400);
    }
}
