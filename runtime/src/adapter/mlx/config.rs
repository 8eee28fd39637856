//! What mlx-lm's `adapter_config.json` says: all arguments of the training, of which few matter.

use serde_json::{Map, Value};

use crate::model::Site;

/// Parameters of a LoRA that are understood; others may be of next year and mean anything.
const PARAMETERS: &[&str] = &["rank", "scale", "dropout", "keys", "alpha"];

/// The numbers of a LoRA and where it is.
#[derive(Debug)]
pub(super) struct Config {
    pub base_model: Option<String>,
    pub rank: usize,
    /// The factor of `B A`.
    pub scale: f32,
    /// Layers from the top; 0 means all.
    layers: usize,
    /// Modules, from their layer on or whole paths; `None` means every linear one.
    keys: Option<Vec<String>>,
}

impl Config {
    /// Reads the JSON document.
    ///
    /// # Errors
    /// A sentence: what is malformed, or what graft cannot represent and what to do instead.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let file: Map<String, Value> =
            serde_json::from_slice(text).map_err(|e| format!("it is not a JSON object: {e}"))?;
        let kind = file.get("fine_tune_type");
        let kind = kind.filter(|kind| !kind.is_null());
        refuse_kind(kind, file.get("use_dora"))?;
        let parameters = file.get("lora_parameters").and_then(Value::as_object);
        let parameters = parameters.ok_or(
            "lora_parameters is missing; graft reads adapters that mlx_lm.lora trained, with rank \
             and scale in it",
        )?;
        if let Some(key) = (parameters.keys()).find(|key| !PARAMETERS.contains(&key.as_str())) {
            return Err(format!(
                "lora_parameters has {key:?}, which graft does not know and which may change what \
                 the adapter computes"
            ));
        }
        let number = |key: &str| {
            let value = parameters.get(key).unwrap_or(&Value::Null);
            let number = value.as_f64().filter(|n| n.is_finite());
            number.ok_or_else(|| format!("lora_parameters has {key} {value}, not a number"))
        };
        let (rank, scale) = (number("rank")?, number("scale")?);
        if rank < 1.0 || rank.fract() != 0.0 || rank > f64::from(u32::MAX) {
            return Err(format!("lora_parameters has the rank {rank}"));
        }
        // The first versions multiplied by alpha / rank as well; those that write fine_tune_type do not,
        // whether or not there is an alpha.
        if kind.is_none() && parameters.contains_key("alpha") && number("alpha")? != rank {
            return Err(format!(
                "lora_parameters has an alpha beside its scale, as mlx-lm before 0.19 wrote it: up \
                 to 0.14 the factor was scale * alpha / rank ({}), after that scale ({scale}); put \
                 the right one into scale and remove alpha",
                scale * number("alpha")? / rank
            ));
        }
        let count = file.get("num_layers").or(file.get("lora_layers"));
        let layers = match count {
            None | Some(Value::Null) => 0,
            Some(count) => {
                let count = count.as_i64();
                let count = count.ok_or("num_layers is not a whole number")?;
                count.max(0) as usize
            }
        };
        let keys = match parameters.get("keys") {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => {
                let text = |item: &Value| item.as_str().map(str::to_owned);
                let keys = items.iter().map(text).collect::<Option<_>>();
                Some(keys.ok_or("keys of lora_parameters holds something that is no name")?)
            }
            Some(_) => return Err("keys of lora_parameters is not a list of names".into()),
        };
        Ok(Self {
            base_model: file.get("model").and_then(Value::as_str).map(str::to_owned),
            rank: rank as usize,
            scale: scale as f32,
            layers,
            keys,
        })
    }

    /// Why mlx-lm would make no pair at a module of a model with `layers` layers; `None` if it would.
    pub fn why_not(&self, module: &str, site: Site, layers: usize) -> Option<&'static str> {
        let path = site.hf_path();
        let inner = path.split('.').skip(3).collect::<Vec<_>>().join(".");
        let keys = self.keys.as_deref();
        let has = |name: &str| keys.is_some_and(|keys| keys.iter().any(|key| key == name));
        if has(module) {
            return None;
        }
        if site.in_layer().is_none() {
            return Some("it is outside the layers and not among the keys of lora_parameters");
        }
        if keys.is_some() && !has(&inner) {
            return Some("it is not among the keys of lora_parameters");
        }
        let below = |(layer, _)| self.layers > 0 && layer + self.layers < layers;
        (site.in_layer().is_some_and(below)).then_some("its layer is not among the top num_layers")
    }
}

fn refuse_kind(kind: Option<&Value>, use_dora: Option<&Value>) -> Result<(), String> {
    let dora = use_dora.is_some_and(|dora| *dora != Value::Bool(false) && !dora.is_null());
    let advice = match kind.map(|kind| kind.as_str().unwrap_or("")) {
        Some("lora") | None if !dora => return Ok(()),
        Some("dora") | Some("lora") | None => {
            "DoRA divides every row of the changed weights by its norm, which cannot be done beside \
             a frozen quantized base; fuse it with mlx_lm.fuse and convert the model"
        }
        Some("full") => {
            "whole trained weights are no adapter; fuse them with mlx_lm.fuse and convert the \
             model (graft adapter difference then makes an adapter of it)"
        }
        Some(_) => "graft does not know this kind; train with fine_tune_type lora",
    };
    match kind {
        Some(kind) if !dora => Err(format!("fine_tune_type is {kind}: {advice}")),
        _ => Err(format!("use_dora is set: {advice}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SiteKind;

    fn parse(parameters: &str, more: &str) -> Result<Config, String> {
        Config::parse(format!(r#"{{"lora_parameters": {parameters}{more}}}"#).as_bytes())
    }

    #[test]
    fn the_scale_is_the_whole_factor() {
        let plain = r#"{"rank": 8, "dropout": 0.1, "scale": 20.0}"#;
        let config = parse(plain, r#", "fine_tune_type": "lora""#).unwrap();
        assert_eq!((config.rank, config.scale), (8, 20.0));
        let both = r#"{"rank": 8, "alpha": 16, "scale": 10.0}"#;
        let config = parse(both, r#", "fine_tune_type": "lora", "model": "m""#).unwrap();
        assert_eq!(
            (config.scale, config.base_model.as_deref()),
            (10.0, Some("m"))
        );
        let reason = parse(both, r#", "use_dora": false"#).unwrap_err();
        assert!(
            reason.contains("(20)") && reason.contains("(10)"),
            "{reason}"
        );
        parse(r#"{"rank": 8, "alpha": 8, "scale": 10.0}"#, "").unwrap();
    }

    #[test]
    fn what_is_no_plain_lora_is_refused() {
        let plain = r#"{"rank": 8, "scale": 20.0}"#;
        for (parameters, more, says) in [
            (plain, r#", "fine_tune_type": "dora""#, "DoRA"),
            (plain, r#", "use_dora": true"#, "use_dora is set"),
            (plain, r#", "fine_tune_type": "full""#, "whole trained"),
            (plain, r#", "fine_tune_type": "x""#, "does not know"),
            (plain, r#", "fine_tune_type": 3"#, "does not know"),
            (plain, r#", "num_layers": "x""#, "num_layers"),
            (r#"{"rank": 8, "alpha": 16}"#, "", "scale null"),
            (r#"{"rank": 0, "scale": 1}"#, "", "rank 0"),
            (r#"{"rank": 1.5, "scale": 1}"#, "", "rank 1.5"),
            (r#"{"rank": 1, "scale": "1"}"#, "", "not a number"),
            (r#"{"rank": 1, "scale": 1, "rslora": true}"#, "", "rslora"),
            (r#"{"rank": 1, "scale": 1, "keys": "q"}"#, "", "keys"),
            (r#"{"rank": 1, "scale": 1, "keys": [1]}"#, "", "keys"),
            ("[]", "", "missing"),
        ] {
            let reason = parse(parameters, more).unwrap_err();
            assert!(reason.contains(says), "{parameters}{more}: {reason}");
        }
        assert!(Config::parse(b"[").is_err() && Config::parse(b"{}").is_err());
    }

    #[test]
    fn places_are_those_of_mlx() {
        let parameters = r#"{"rank": 1, "scale": 1, "keys": ["self_attn.q_proj",
            "model.layers.0.mlp.up_proj"]}"#;
        let config = parse(parameters, r#", "num_layers": 2"#).unwrap();
        let why_not = |layer, linear| {
            let site = Site::Layer { layer, linear };
            config.why_not(&site.hf_path(), site, 4)
        };
        assert_eq!(why_not(2, SiteKind::Q), None);
        assert_eq!(why_not(0, SiteKind::Up), None);
        assert!(why_not(1, SiteKind::Q).unwrap().contains("num_layers"));
        assert!(why_not(3, SiteKind::Up).unwrap().contains("keys"));
        let all = parse(r#"{"rank": 1, "scale": 1}"#, r#", "num_layers": -1"#).unwrap();
        let site = Site::Layer {
            layer: 0,
            linear: SiteKind::V,
        };
        assert_eq!(all.why_not(&site.hf_path(), site, 4), None);
    }
}
