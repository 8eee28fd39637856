//! ANLS, the measure of DocVQA, InfographicVQA and ST-VQA: one minus the edit distance between the
//! model's answer and the nearest right one, as a share of the longer of the two; 0 below a
//! threshold.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

mod distance;

use graft_plugin::blanks::collapse;
use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Mean, Parts, score};
use graft_plugin::{
    Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator, reference,
};

use distance::levenshtein;

const ANLS: &str = "anls";
/// Most cells of the distance's table, over all answers of a sample: two texts of 100,000 letters.
const CELLS: u64 = 10_000_000_000;

/// One run of the evaluator.
pub struct Anls {
    answers: String,
    threshold: f64,
    breakdown: Breakdown,
    means: Parts<Mean>,
}

/// An answer as it is compared.
struct Text {
    /// Lower case, single blanks.
    letters: Vec<char>,
    /// What the distance is a share of: as the official script has it, the letters of the answer as
    /// it came, in upper case.
    length: usize,
}

impl Evaluator for Anls {
    const METRICS: &'static [Metric] = &[Metric {
        name: ANLS,
        unit: "",
        higher_is_better: true,
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5,
      "description": "a similarity below it counts as 0"},
    "answers": {"type": "string", "default": "answers",
      "description": "the field with all answers that are right"},
    "by": {"type": "string", "default": "question_types,answer_type",
      "description": "fields, between commas, for each of whose values the mean is told as well"}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &["threshold", "answers", "by"])?;
        let by = options.text("by")?.unwrap_or("question_types,answer_type");
        Ok(Self {
            threshold: options.number("threshold", 0.5, 0.0, 1.0)?,
            answers: options.text("answers")?.unwrap_or("answers").to_owned(),
            breakdown: Breakdown::by(by),
            means: Parts::default(),
        })
    }
}

impl Run for Anls {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let said = reference::said(sample, predicted)?;
        let answers = reference::answers(sample, &self.answers)?;
        let parts = self.breakdown.parts(sample)?;
        let Some(value) = similarity(&answers, said, self.threshold) else {
            let message = "and its answer are too long to be compared letter by letter";
            return Err(reference::unusable(sample, "too-long", message));
        };
        self.means.update(&parts, |mean| mean.add(value));
        Ok(vec![score(ANLS, value)])
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        Ok(self.means.scores(ANLS))
    }
}

/// The similarity of `said` and the nearest of `answers`, 0 below `threshold`; none if that would
/// take too long to find out.
pub fn similarity(answers: &[String], said: &str, threshold: f64) -> Option<f64> {
    let said = Text::new(said);
    let mut nearest = 1.0f64;
    let mut cells = 0u64;
    for answer in answers {
        let answer = Text::new(answer);
        let length = answer.length.max(said.length);
        if length == 0 {
            nearest = 0.0;
            continue;
        }
        let share = |distance: usize| distance as f64 / length as f64;
        let at_least = share(answer.letters.len().abs_diff(said.letters.len()));
        if at_least >= nearest || 1.0 - at_least < threshold {
            continue;
        }
        let (rows, columns) = (answer.letters.len() as u64, said.letters.len() as u64);
        cells = cells.saturating_add(rows.saturating_mul(columns));
        if cells > CELLS {
            return None;
        }
        nearest = nearest.min(share(levenshtein(&answer.letters, &said.letters)));
    }
    let similarity = 1.0 - nearest;
    Some(if similarity < threshold {
        0.0
    } else {
        similarity
    })
}

impl Text {
    fn new(text: &str) -> Self {
        Self {
            letters: collapse(&text.to_lowercase()).chars().collect(),
            length: text.to_uppercase().chars().count(),
        }
    }
}

export_evaluator!(Anls);

#[cfg(test)]
mod tests {
    use super::*;

    fn anls(answers: &[&str], said: &str) -> f64 {
        let answers: Vec<String> = answers.iter().map(|&answer| answer.into()).collect();
        similarity(&answers, said, 0.5).unwrap()
    }

    #[test]
    fn the_nearest_answer_counts_from_the_threshold_on() {
        assert_eq!(anls(&["1 May"], " 1  may "), 1.0);
        assert_eq!(anls(&["abcd", "xyz"], "abcx"), 0.75);
        assert_eq!(anls(&["abcd"], "abxy"), 0.5);
        assert_eq!(anls(&["abcd"], "axyz"), 0.0);
        assert_eq!(anls(&["", "a"], ""), 1.0);
        assert_eq!(anls(&["a"], ""), 0.0);
        // Upper case counts two letters in the share: one of six is exchanged.
        assert!((anls(&["maß"], "mas") - 0.75).abs() < 1e-12);
        assert_eq!(similarity(&["abcd".into()], "axyz", 0.0), Some(0.25));
        assert_eq!(similarity(&["abcd".into()], "abcx", 0.8), Some(0.0));
    }

    #[test]
    fn texts_too_long_to_compare_are_refused_and_hopeless_ones_are_not_compared() {
        let (long, other) = ("ab".repeat(60_000), "ba ".repeat(40_000));
        assert_eq!(similarity(std::slice::from_ref(&long), &other, 0.5), None);
        assert_eq!(similarity(&[long], "ab", 0.5), Some(0.0));
        assert_eq!(similarity(&["x".into()], &other, 0.5), Some(0.0));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            r#"{"threshold": 2}"#,
            r#"{"threshold": "a"}"#,
            r#"{"answers": 1}"#,
        ] {
            assert!(Anls::start(bad, 0).is_err(), "{bad}");
        }
    }
}
