//! VQA accuracy: how many of several people gave the model's answer.
//!
//! With `k` of `n` people agreeing the accuracy of a question is the mean over the `n` people of
//! `min(1, others who agree / 3)`, where `others` leaves that person out. Answers are compared after
//! the normalisation (`normalise.rs`) of the official evaluation, its oddities included.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

mod contractions;
mod digits;
mod normalise;

use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Mean, Parts, score};
use graft_plugin::{
    Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator, reference,
};

use normalise::{normalise, one_line};

const ACCURACY: &str = "accuracy";

/// One run of the evaluator.
pub struct VqaAccuracy {
    answers: String,
    always: bool,
    breakdown: Breakdown,
    means: Parts<Mean>,
}

impl Evaluator for VqaAccuracy {
    const METRICS: &'static [Metric] = &[Metric {
        name: ACCURACY,
        unit: "",
        higher_is_better: true,
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "answers": {"type": "string", "default": "answers",
      "description": "the field with the answers of several people"},
    "normalise": {"enum": ["official", "always"], "default": "official",
      "description": "official leaves answers as they are where all people gave the same"},
    "by": {"type": "string", "default": "question_type,answer_type",
      "description": "fields, between commas, for each of whose values the accuracy is told as well"}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &["answers", "normalise", "by"])?;
        let by = options.text("by")?.unwrap_or("question_type,answer_type");
        Ok(Self {
            answers: options.text("answers")?.unwrap_or("answers").to_owned(),
            always: options.choice("normalise", &["official", "always"])? == "always",
            breakdown: Breakdown::by(by),
            means: Parts::default(),
        })
    }
}

impl Run for VqaAccuracy {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let said = reference::said(sample, predicted)?;
        let answers = reference::answers(sample, &self.answers)?;
        let parts = self.breakdown.parts(sample)?;
        let value = accuracy(&answers, said, self.always);
        self.means.update(&parts, |mean| mean.add(value));
        Ok(vec![score(ACCURACY, value)])
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        Ok(self.means.scores(ACCURACY))
    }
}

/// The accuracy of `said` beside people's `answers`.
///
/// One answer alone has no others to agree with: it is compared after normalisation, and the
/// accuracy is 1 or 0. Where several people all gave the same answer the official script compares
/// without normalising, unless `always`.
pub fn accuracy(answers: &[String], said: &str, always: bool) -> f64 {
    let answers: Vec<String> = answers.iter().map(|answer| one_line(answer)).collect();
    let said = one_line(said);
    let differ = answers.windows(2).any(|pair| pair[0] != pair[1]);
    let agreeing = if differ || always || answers.len() < 2 {
        let said = normalise(&said);
        answers
            .iter()
            .filter(|answer| normalise(answer) == said)
            .count()
    } else {
        answers.iter().filter(|answer| **answer == said).count()
    };
    let people = answers.len();
    if people < 2 {
        return agreeing as f64;
    }
    let with_others = |others: usize| (others as f64 / 3.0).min(1.0);
    let of_agreeing = agreeing as f64 * with_others(agreeing.saturating_sub(1));
    let of_rest = (people - agreeing) as f64 * with_others(agreeing);
    (of_agreeing + of_rest) / people as f64
}

export_evaluator!(VqaAccuracy);

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::{Part, Role, Turn, Value};

    fn people(agreeing: usize, others: usize) -> Vec<String> {
        let mut answers = vec!["Red.".to_owned(); agreeing];
        answers.extend((0..others).map(|i| format!("colour {i}")));
        answers
    }

    #[test]
    fn three_others_who_agree_make_an_answer_right() {
        for (agreeing, hoped) in [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)] {
            let found = accuracy(&people(agreeing, 10 - agreeing), "the red", false);
            assert!((found - hoped).abs() < 1e-12, "{agreeing}: {found}");
        }
    }

    #[test]
    fn people_who_all_agree_are_taken_at_their_word() {
        assert_eq!(accuracy(&people(10, 0), "red", false), 0.0);
        assert_eq!(accuracy(&people(10, 0), "\tRed.\n", false), 1.0);
        assert_eq!(accuracy(&people(10, 0), "red", true), 1.0);
        assert_eq!(accuracy(&people(1, 0), "red", false), 1.0);
        assert_eq!(accuracy(&[], "red", false), 0.0);
    }

    fn sample(extra: Vec<(&str, Value)>) -> Sample {
        let content = vec![Part::Text("red".into())];
        Sample {
            id: "s".into(),
            images: vec![],
            turns: vec![Turn {
                role: Role::Assistant,
                content,
            }],
            origin: None,
            extra: extra.into_iter().map(|(k, v)| (k.into(), v)).collect(),
        }
    }

    #[test]
    fn a_run_tells_the_accuracy_of_each_type() {
        let said = Prediction {
            text: "Red".into(),
            finish_reason: "end".into(),
            millis: 1,
            extra: vec![],
        };
        let mut run = VqaAccuracy::start("{}", 0).unwrap();
        assert!(run.finish().unwrap().is_empty());
        let kind = |kind: &str| ("answer_type", Value::Text(kind.into()));
        let right = run.score(&sample(vec![kind("other")]), &said).unwrap();
        assert_eq!(right[0].value, 1.0);
        let answers = Value::Json(r#"["blue", "green"]"#.into());
        let wrong = sample(vec![("answers", answers), kind("number")]);
        assert_eq!(run.score(&wrong, &said).unwrap()[0].value, 0.0);
        let totals = run.finish().unwrap();
        let totals: Vec<_> = totals
            .iter()
            .map(|s| (s.metric.as_str(), s.value))
            .collect();
        let hoped = [
            ("accuracy", 0.5),
            ("accuracy[answer_type=number]", 0.0),
            ("accuracy[answer_type=other]", 1.0),
        ];
        assert_eq!(totals, hoped);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [r#"{"normalise": "never"}"#, r#"{"by": 1}"#, r#"{"x": 1}"#] {
            assert!(VqaAccuracy::start(bad, 0).is_err(), "{bad}");
        }
    }
}
