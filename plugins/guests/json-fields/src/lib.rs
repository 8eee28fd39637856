//! Answers that are JSON, as document labelling asks for: every value under its path is right,
//! wrong, missing or extra.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

mod counts;
mod fields;
mod strict;

use std::collections::{BTreeMap, HashMap};

use graft_plugin::blanks::strip;
use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Parts, part, score, score_of};
use graft_plugin::{
    Diagnostic, Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator,
    reference, remark,
};

use counts::{Pair, compare};
use fields::Fields;

const F1: &str = "f1";
const PRECISION: &str = "precision";
const RECALL: &str = "recall";
const EXACT_F1: &str = "exact-f1";
const EXACT_PRECISION: &str = "exact-precision";
const EXACT_RECALL: &str = "exact-recall";
const DOCUMENTS: &str = "perfect-documents";
const MISSING: &str = "missing";
const EXTRA: &str = "extra";
const MALFORMED: &str = "malformed";

/// Most paths that are counted one by one, and most that are told.
const PATHS: usize = 100_000;
const TOLD: usize = 1000;
/// Characters after which paths are the same.
const LONGEST: usize = 100;
const LONG_NAMES: &str = "its names are too long";

/// One run of the evaluator.
pub struct JsonFields {
    fences: bool,
    breakdown: Breakdown,
    documents: Parts<Documents>,
    paths: HashMap<String, Pair>,
    remarks: Vec<Diagnostic>,
}

/// Documents and what they add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Documents {
    documents: u64,
    perfect: u64,
    malformed: u64,
    sums: Pair,
}

const fn measure(name: &'static str, unit: &'static str, higher_is_better: bool) -> Metric {
    Metric {
        name,
        unit,
        higher_is_better,
    }
}

impl Evaluator for JsonFields {
    const METRICS: &'static [Metric] = &[
        measure(F1, "", true),
        measure(PRECISION, "", true),
        measure(RECALL, "", true),
        measure(EXACT_F1, "", true),
        measure(EXACT_PRECISION, "", true),
        measure(EXACT_RECALL, "", true),
        measure(DOCUMENTS, "", true),
        measure(MISSING, " values", false),
        measure(EXTRA, " values", false),
        measure(MALFORMED, " answers", false),
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "fences": {"type": "boolean", "default": true,
      "description": "take off a Markdown code fence around the JSON; else such an answer is malformed"},
    "by": {"type": "string", "default": "",
      "description": "fields of the record, between commas, for each of whose values all metrics are told as well"}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &["fences", "by"])?;
        Ok(Self {
            fences: options.flag("fences", true)?,
            breakdown: Breakdown::by(options.text("by")?.unwrap_or("")),
            documents: Parts::default(),
            paths: HashMap::new(),
            remarks: Vec::new(),
        })
    }
}

impl Run for JsonFields {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let said = reference::said(sample, predicted)?;
        let hoped = reference::hoped(sample)?;
        let refuse = |reason: String| {
            let message = format!("has an answer that is no JSON: {reason}");
            reference::unusable(sample, "bad-reference", &message)
        };
        let hoped = strict::parse(&hoped).map_err(refuse)?;
        let mut hoped = Fields::of(hoped.root()).ok_or_else(|| refuse(LONG_NAMES.into()))?;
        let parts = self.breakdown.parts(sample)?;
        let text = match self.fences {
            true => without_fence(said),
            false => said,
        };
        let tree = strict::parse(text);
        let given = match &tree {
            Ok(tree) => Fields::of(tree.root()).ok_or(LONG_NAMES),
            Err(reason) => Err(reason.as_str()),
        };
        if let Err(reason) = &given {
            let message = format!("the answer is no JSON: {reason}");
            self.remarks.push(remark(sample, "malformed-json", message));
        }
        let is_malformed = given.is_err();
        let mut given: Fields<'_> = given.unwrap_or_default();
        let mut sums = Pair::default();
        compare(&mut hoped, &mut given, |path, pair| {
            sums.add(pair);
            count(&mut self.paths, path, pair);
        });
        let document = Documents {
            documents: 1,
            perfect: u64::from(!is_malformed && sums.normalised.is_perfect()),
            malformed: u64::from(is_malformed),
            sums,
        };
        self.documents.update(&parts, |all| all.add(document));
        let values = Self::METRICS.iter().zip(document.values());
        Ok(values
            .map(|(metric, value)| score(metric.name, value))
            .collect())
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        let counted = self.documents.iter().filter(|(_, all)| all.documents > 0);
        let mut scores: Vec<Score> = counted
            .flat_map(|(part, all)| {
                let values = Self::METRICS.iter().zip(all.values());
                values.map(move |(m, value)| score_of(m.name, part, value, all.documents as f64))
            })
            .collect();
        let mut paths = BTreeMap::<String, Pair>::new();
        for (path, pair) in &self.paths {
            paths.entry(part("field", path)).or_default().add(*pair);
        }
        let told = paths.iter().filter(|(_, pair)| pair.normalised.hoped > 0);
        for (path, Pair { normalised, exact }) in told.take(TOLD) {
            let weight = normalised.hoped as f64;
            let mut tell = |metric, value| scores.push(score_of(metric, path, value, weight));
            tell(F1, normalised.f1());
            tell(PRECISION, normalised.precision());
            tell(RECALL, normalised.recall());
            tell(EXACT_F1, exact.f1());
        }
        Ok(scores)
    }

    fn remarks(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.remarks)
    }
}

/// Adds `pair` to the counts of a path.
fn count(paths: &mut HashMap<String, Pair>, path: &str, pair: Pair) {
    let path = match path.char_indices().nth(LONGEST) {
        Some((end, _)) if path.len() > LONGEST => &path[..end],
        _ => path,
    };
    let room = paths.len() < PATHS;
    match paths.get_mut(path) {
        Some(sum) => sum.add(pair),
        None if room => drop(paths.insert(path.to_owned(), pair)),
        None => {}
    }
}

impl Documents {
    fn add(&mut self, other: Self) {
        self.documents += other.documents;
        self.perfect += other.perfect;
        self.malformed += other.malformed;
        self.sums.add(other.sums);
    }

    /// In the order of the metrics.
    fn values(self) -> [f64; 10] {
        let Pair { normalised, exact } = self.sums;
        [
            normalised.f1(),
            normalised.precision(),
            normalised.recall(),
            exact.f1(),
            exact.precision(),
            exact.recall(),
            self.perfect as f64 / self.documents.max(1) as f64,
            normalised.missing as f64,
            normalised.extra as f64,
            self.malformed as f64,
        ]
    }
}

/// What stands between the lines of a Markdown code fence around all of `text`.
fn without_fence(text: &str) -> &str {
    let inside = strip(text)
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"));
    match inside.and_then(|inside| inside.split_once('\n')) {
        Some((language, inside)) if !language.contains('`') => inside,
        _ => text,
    }
}

export_evaluator!(JsonFields);

#[cfg(test)]
mod tests;
