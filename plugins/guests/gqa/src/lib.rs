//! GQA: accuracy, in all and by type of question, and the measures of its official script that need
//! more than one answer: consistency over entailed questions and the distance of distributions.
//!
//! The fields of GQA's question file are read where records carry them: `types`, `groups`,
//! `isBalanced`, `semantic`, `question`, `entailed`; and `valid` and `plausible` of its choices file.
//! What a record lacks is left out of the measures that need it.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

mod distribution;
mod question;

use std::collections::HashMap;

use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Mean, Parts, part, score, score_of};
use graft_plugin::{
    Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator, reference,
};

use distribution::Distribution;
use question::Question;

const ACCURACY: &str = "accuracy";
const BINARY: &str = "binary";
const OPEN: &str = "open";
const VALIDITY: &str = "validity";
const PLAUSIBILITY: &str = "plausibility";
const CONSISTENCY: &str = "consistency";
const DISTRIBUTION: &str = "distribution";

/// One run of the evaluator.
pub struct Gqa {
    settings: Settings,
    accuracy: Parts<Mean>,
    validity: Parts<Mean>,
    plausibility: Parts<Mean>,
    distribution: Distribution,
    /// Whether each question was answered right, by its id.
    right: HashMap<String, bool>,
    /// What the questions entail that were answered right.
    entailed: Vec<Vec<String>>,
}

struct Settings {
    answer: String,
    normalise: bool,
    consistency: bool,
    breakdown: Breakdown,
}

const fn measure(name: &'static str, higher_is_better: bool) -> Metric {
    Metric {
        name,
        unit: "",
        higher_is_better,
    }
}

impl Evaluator for Gqa {
    const METRICS: &'static [Metric] = &[
        measure(ACCURACY, true),
        measure(BINARY, true),
        measure(OPEN, true),
        measure(VALIDITY, true),
        measure(PLAUSIBILITY, true),
        measure(CONSISTENCY, true),
        measure(DISTRIBUTION, false),
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "answer": {"type": "string", "default": "answer",
      "description": "the field with the right answer; without it the last answer of the conversation"},
    "normalise": {"type": "boolean", "default": true,
      "description": "lower case, no full stops at the end, as LLaVA hands answers to the script"},
    "consistency": {"type": "boolean", "default": false,
      "description": "tell how often questions are answered right that follow from one answered right"},
    "by": {"type": "string", "default": "types.structural,types.semantic",
      "description": "fields, between commas, for each of whose values the accuracy is told as well; steps and words are those of the question"}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let known = ["answer", "normalise", "consistency", "by"];
        let options = Options::parse(options, &known)?;
        let by = options.text("by")?;
        let settings = Settings {
            answer: options.text("answer")?.unwrap_or("answer").to_owned(),
            normalise: options.flag("normalise", true)?,
            consistency: options.flag("consistency", false)?,
            breakdown: Breakdown::by(by.unwrap_or("types.structural,types.semantic")),
        };
        Ok(Self {
            settings,
            accuracy: Parts::default(),
            validity: Parts::default(),
            plausibility: Parts::default(),
            distribution: Distribution::default(),
            right: HashMap::new(),
            entailed: Vec::new(),
        })
    }
}

impl Run for Gqa {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let settings = &self.settings;
        let said = reference::said(sample, predicted)?;
        let gold = reference::answers(sample, &settings.answer)?.swap_remove(0);
        let (gold, said) = match settings.normalise {
            true => (plain(&gold), plain(said)),
            false => (gold, said.to_owned()),
        };
        let right = gold == said;
        let question = Question::of(sample)?;
        let mut parts = settings.breakdown.parts(sample)?;
        parts.extend(question.steps.map(|n| part("steps", &n.to_string())));
        parts.extend(question.words.map(|n| part("words", &n.to_string())));
        if settings.consistency {
            self.right.insert(sample.id.clone(), right);
        }
        if !question.is_balanced {
            return Ok(Vec::new());
        }
        let value = |flag: bool| f64::from(u8::from(flag));
        let mut scores = vec![score(ACCURACY, value(right))];
        self.accuracy.update(&parts, |mean| mean.add(value(right)));
        if let Some(is_open) = question.is_open {
            let kind = if is_open { OPEN } else { BINARY };
            scores.push(score(kind, value(right)));
        }
        let belongs = |group: &Option<Vec<String>>| {
            let group = group.as_ref()?;
            let holds = match question.is_common {
                true => matches!(said.as_str(), "color" | "material" | "shape"),
                false => group.contains(&said),
            };
            Some(value(holds))
        };
        let groups = [
            (VALIDITY, &question.valid, &mut self.validity),
            (PLAUSIBILITY, &question.plausible, &mut self.plausibility),
        ];
        for (metric, group, means) in groups {
            if let Some(value) = belongs(group) {
                means.update(&[], |mean| mean.add(value));
                scores.push(score(metric, value));
            }
        }
        if let Some(group) = &question.group {
            self.distribution.add(group, &gold, &said);
        }
        if settings.consistency && right && !question.entailed.is_empty() {
            self.entailed.push(question.entailed);
        }
        Ok(scores)
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        let mut scores = self.accuracy.scores(ACCURACY);
        scores.extend(self.validity.scores(VALIDITY));
        scores.extend(self.plausibility.scores(PLAUSIBILITY));
        let mut consistency = Parts::<Mean>::default();
        for entailed in &self.entailed {
            let mut mean = Mean::default();
            let asked = entailed.iter().filter_map(|id| self.right.get(id));
            asked.for_each(|&right| mean.add(f64::from(u8::from(right))));
            if mean.count > 0 {
                let value = mean.sum / mean.count as f64;
                consistency.update(&[], |all| all.add(value));
            }
        }
        scores.extend(consistency.scores(CONSISTENCY));
        if let Some((value, answers)) = self.distribution.distance() {
            scores.push(score_of(DISTRIBUTION, "", value, answers as f64));
        }
        Ok(scores)
    }
}

/// As LLaVA's script hands answers to GQA's.
fn plain(answer: &str) -> String {
    answer.trim_end_matches('.').to_lowercase()
}

export_evaluator!(Gqa);

#[cfg(test)]
mod tests;
