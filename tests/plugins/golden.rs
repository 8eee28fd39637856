//! Cases that Python computed, as tests/golden/plugins/cases.py writes them.

use std::path::PathBuf;
use std::sync::Arc;

use graft::dataset::{ImageRef, Role, Sample, Turn};
use graft::evaluate::{Evaluator, Prediction, Remarks, Score, Scorer};
use serde_json::{Map, Value};

use crate::desk::evaluators;

/// How far a value may be from Python's.
const TOLERANCE: f64 = 1e-9;

/// Holds the evaluator `name`, in all its builds, against `file`; gives the number of cases.
pub fn check(name: &str, file: &str) -> usize {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/plugins");
    let text = std::fs::read(path.join(file)).unwrap();
    let groups: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let mut cases = 0;
    for evaluator in evaluators(name) {
        cases = groups
            .iter()
            .map(|group| check_group(&evaluator, group))
            .sum();
    }
    cases
}

fn check_group(evaluator: &dyn Evaluator, group: &Value) -> usize {
    let options = group["options"].to_string();
    let mut run = Scorer::start(evaluator, &options, 0, Arc::new(Remarks::default())).unwrap();
    let cases = group["cases"].as_array().unwrap();
    for (index, case) in cases.iter().enumerate() {
        let (sample, said) = (sample(index, case), prediction(&text(&case[2])));
        let scores = run.score(&sample, &said).unwrap();
        let hoped = case[3].as_object().unwrap();
        let which = || format!("{options} {index}: {sample:?} {:?}", case[2]);
        assert_eq!(scores.len(), hoped.len(), "{}", which());
        for Score { metric, value, .. } in &scores {
            let hoped = &hoped[metric];
            let hoped = hoped
                .as_f64()
                .or(hoped.as_bool().map(|flag| f64::from(u8::from(flag))));
            let error = value - hoped.unwrap();
            assert!(error.abs() < TOLERANCE, "{metric} is {value}: {}", which());
        }
    }
    let totals = run.finish().unwrap();
    let hoped = group["totals"].as_object().unwrap();
    for Score {
        metric,
        value,
        weight,
    } in &totals
    {
        let hoped = hoped.get(metric);
        let hoped = hoped.unwrap_or_else(|| panic!("{options}: {metric} is {value}, not nothing"));
        let error = value - hoped[0].as_f64().unwrap();
        assert!(
            error.abs() < TOLERANCE,
            "{options}: {metric} is {value}, not {hoped}"
        );
        assert_eq!(
            *weight,
            hoped[1].as_f64().unwrap(),
            "{options}: weight of {metric}"
        );
    }
    let told = |name: &&String| totals.iter().any(|total| total.metric == **name);
    let missing: Vec<_> = hoped.keys().filter(|name| !told(name)).collect();
    assert!(missing.is_empty(), "{options}: nothing of {missing:?}");
    cases.len()
}

/// The sample of a case: `id` and `images` of its fields are the sample's own.
fn sample(index: usize, case: &Value) -> Sample {
    let mut extra: Map<String, Value> = case[1].as_object().unwrap().clone();
    extra.values_mut().for_each(expand);
    let id = extra.remove("id").map_or(index.to_string(), |id| text(&id));
    let images = extra.remove("images").map_or(0, |n| n.as_u64().unwrap());
    let image = |_| ImageRef::Path("a.png".into());
    Sample {
        id,
        images: (0..images).map(image).collect(),
        turns: vec![
            Turn::text(Role::User, "?"),
            Turn::text(Role::Assistant, text(&case[0])),
        ],
        origin: None,
        extra,
    }
}

/// What a model said.
pub fn prediction(text: &str) -> Prediction {
    Prediction {
        text: text.into(),
        ..Prediction::default()
    }
}

fn text(value: &Value) -> String {
    let mut value = value.clone();
    expand(&mut value);
    value.as_str().unwrap().to_owned()
}

/// Long texts, written as what they repeat, in full.
fn expand(value: &mut Value) {
    let of = value.get("of").and_then(Value::as_str);
    let times = value.get("times").and_then(Value::as_u64);
    if let (Some(of), Some(times)) = (of, times) {
        *value = of.repeat(times as usize).into();
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(expand),
        Value::Object(members) => members.values_mut().for_each(expand),
        _ => {}
    }
}
