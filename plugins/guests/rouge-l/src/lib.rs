//! ROUGE-L of one sentence: what share of the words stands in the same order in answer and
//! reference, as google-research's `rouge_score` computes it without a stemmer.
//!
//! Words are the runs of `a` to `z` and `0` to `9` in the lower-cased text; everything else
//! separates them. A text in another script has no words and scores 0.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

mod subsequence;

use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Mean, Parts, score};
use graft_plugin::{
    Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator, reference,
};

use subsequence::longest;

const METRICS: [&str; 3] = ["rougeL", "rougeL-precision", "rougeL-recall"];
/// Most cells of the table, over all answers of a sample: two texts of 100,000 words.
const CELLS: u64 = 10_000_000_000;

/// One run of the evaluator.
pub struct RougeL {
    answers: String,
    breakdown: Breakdown,
    means: [Parts<Mean>; 3],
}

/// How much of answer and reference is in common.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// Common words as a share of the answer's.
    pub precision: f64,
    /// Common words as a share of the reference's.
    pub recall: f64,
}

impl Evaluator for RougeL {
    const METRICS: &'static [Metric] = &[
        Metric {
            name: METRICS[0],
            unit: "",
            higher_is_better: true,
        },
        Metric {
            name: METRICS[1],
            unit: "",
            higher_is_better: true,
        },
        Metric {
            name: METRICS[2],
            unit: "",
            higher_is_better: true,
        },
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "answers": {"type": "string", "default": "answers",
      "description": "the field with all answers that are right; the best counts"},
    "by": {"type": "string", "default": "",
      "description": "fields, between commas, for each of whose values the means are told as well"}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &["answers", "by"])?;
        Ok(Self {
            answers: options.text("answers")?.unwrap_or("answers").to_owned(),
            breakdown: Breakdown::by(options.text("by")?.unwrap_or("")),
            means: Default::default(),
        })
    }
}

impl Run for RougeL {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let said = reference::said(sample, predicted)?;
        let answers = reference::answers(sample, &self.answers)?;
        let parts = self.breakdown.parts(sample)?;
        let Some(best) = best(&answers, said) else {
            let message = "and its answer are too long to be compared word by word";
            return Err(reference::unusable(sample, "too-long", message));
        };
        let values = [best.f_measure(), best.precision, best.recall];
        for (means, value) in self.means.iter_mut().zip(values) {
            means.update(&parts, |mean| mean.add(value));
        }
        let scores = METRICS.iter().zip(values);
        Ok(scores.map(|(metric, value)| score(metric, value)).collect())
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        let metrics = METRICS.iter().zip(&self.means);
        Ok(metrics
            .flat_map(|(metric, means)| means.scores(metric))
            .collect())
    }
}

impl Overlap {
    /// The harmonic mean of precision and recall.
    pub fn f_measure(self) -> f64 {
        let sum = self.precision + self.recall;
        match sum > 0.0 {
            true => 2.0 * self.precision * self.recall / sum,
            false => 0.0,
        }
    }
}

/// The overlap of `said` with the one of `answers` that gives the largest F-measure, the first of
/// several; none if that would take too long to find out.
pub fn best(answers: &[String], said: &str) -> Option<Overlap> {
    let said = said.to_lowercase();
    let said: Vec<&str> = words(&said).collect();
    let mut best: Option<Overlap> = None;
    let mut cells = 0u64;
    for answer in answers {
        let answer = answer.to_lowercase();
        let answer: Vec<&str> = words(&answer).collect();
        cells = cells.saturating_add((answer.len() as u64).saturating_mul(said.len() as u64));
        if cells > CELLS {
            return None;
        }
        let overlap = overlap(&answer, &said);
        if best.is_none_or(|best| overlap.f_measure() > best.f_measure()) {
            best = Some(overlap);
        }
    }
    Some(best.unwrap_or_default())
}

fn overlap(answer: &[&str], said: &[&str]) -> Overlap {
    if answer.is_empty() || said.is_empty() {
        return Overlap::default();
    }
    let common = longest(answer, said) as f64;
    Overlap {
        precision: common / said.len() as f64,
        recall: common / answer.len() as f64,
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
    words.filter(|word| !word.is_empty())
}

export_evaluator!(RougeL);

#[cfg(test)]
mod tests {
    use super::*;

    fn rouge(answers: &[&str], said: &str) -> Overlap {
        let answers: Vec<String> = answers.iter().map(|&answer| answer.into()).collect();
        best(&answers, said).unwrap()
    }

    #[test]
    fn words_in_the_same_order_count() {
        let found = rouge(&["The quick brown fox"], "the brown quick-fox jumps");
        assert_eq!((found.precision, found.recall), (0.6, 0.75));
        assert!((found.f_measure() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(rouge(&["It's 3.5"], "IT S 3 5!").f_measure(), 1.0);
        for nothing in ["", "中文", "?!"] {
            assert_eq!(rouge(&[nothing], nothing), Overlap::default());
        }
    }

    #[test]
    fn the_best_reference_counts_the_first_of_equals() {
        let found = rouge(&["x", "a b", "a b c d"], "a b c");
        assert_eq!((found.precision, found.recall), (1.0, 0.75));
        let found = rouge(&["a b x y z u", "a b"], "a b c d");
        assert_eq!((found.precision, found.recall), (0.5, 1.0));
        assert_eq!(rouge(&["a x", "b y"], "a b"), rouge(&["a x"], "a b"));
    }

    #[test]
    fn texts_too_long_to_compare_are_refused() {
        let long = "a b ".repeat(60_000);
        assert_eq!(best(std::slice::from_ref(&long), &long), None);
        assert!(RougeL::start(r#"{"stemmer": true}"#, 0).is_err());
    }
}
