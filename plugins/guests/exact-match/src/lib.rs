//! Exact match: an answer is right if it equals the reference after both are normalised.

use graft_plugin::options::Options;
use graft_plugin::{
    Error, Evaluator, Metric, Part, Prediction, Role, Run, Sample, Score, export_evaluator,
};

/// One run of the evaluator.
pub struct ExactMatch {
    rules: Normalisation,
    right: u64,
    scored: u64,
}

/// What is made equal before two answers are compared.
#[derive(Clone, Copy, Debug)]
pub struct Normalisation {
    /// Upper and lower case.
    pub ignore_case: bool,
    /// Everything but letters, digits and blanks.
    pub ignore_punctuation: bool,
    /// Runs of blanks become one, those at the ends go.
    pub ignore_whitespace: bool,
    /// One full stop at the end.
    pub ignore_final_period: bool,
}

const OPTIONS: [&str; 4] = [
    "ignore_case",
    "ignore_punctuation",
    "ignore_whitespace",
    "ignore_final_period",
];

impl Evaluator for ExactMatch {
    const METRICS: &'static [Metric] = &[Metric {
        name: "accuracy",
        unit: "",
        higher_is_better: true,
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "ignore_case": {"type": "boolean", "default": true},
    "ignore_punctuation": {"type": "boolean", "default": false},
    "ignore_whitespace": {"type": "boolean", "default": true},
    "ignore_final_period": {"type": "boolean", "default": true}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &OPTIONS)?;
        let rules = Normalisation {
            ignore_case: options.flag("ignore_case", true)?,
            ignore_punctuation: options.flag("ignore_punctuation", false)?,
            ignore_whitespace: options.flag("ignore_whitespace", true)?,
            ignore_final_period: options.flag("ignore_final_period", true)?,
        };
        Ok(Self {
            rules,
            right: 0,
            scored: 0,
        })
    }
}

impl Run for ExactMatch {
    fn score(&mut self, reference: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let Some(hoped) = answer(reference) else {
            let message = format!("sample {:?} has no answer to compare with", reference.id);
            let at = reference.origin.clone();
            return Err(graft_plugin::invalid_input("no-reference", message, at));
        };
        let right = self.rules.apply(&hoped) == self.rules.apply(&predicted.text);
        self.right += u64::from(right);
        self.scored += 1;
        Ok(vec![accuracy(f64::from(u8::from(right)), 1.0)])
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        match self.scored {
            0 => Ok(Vec::new()),
            scored => Ok(vec![accuracy(
                self.right as f64 / scored as f64,
                scored as f64,
            )]),
        }
    }
}

impl Normalisation {
    /// What is left of `text` to compare.
    pub fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| c.is_alphanumeric() || c.is_whitespace());
        }
        if self.ignore_whitespace {
            text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if self.ignore_final_period {
            let kept = text.strip_suffix('.').unwrap_or(&text).trim_end();
            text.truncate(kept.len());
        }
        text
    }
}

fn accuracy(value: f64, weight: f64) -> Score {
    let metric = "accuracy".into();
    Score {
        metric,
        value,
        weight,
    }
}

/// The text of the last assistant turn.
fn answer(sample: &Sample) -> Option<String> {
    let mut turns = sample.turns.iter().rev();
    let last = turns.find(|turn| turn.role == Role::Assistant)?;
    let texts = last.content.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Image(_) => None,
    });
    Some(texts.collect())
}

export_evaluator!(ExactMatch);

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::Turn;

    fn right(options: &str, hoped: &str, said: &str) -> bool {
        let mut run = ExactMatch::start(options, 0).unwrap();
        let score = run.score(&reference(hoped), &prediction(said)).unwrap();
        score[0].value == 1.0
    }

    fn reference(answer: &str) -> Sample {
        let content = vec![Part::Text(answer.into())];
        let role = Role::Assistant;
        Sample {
            id: "s".into(),
            images: vec![],
            turns: vec![Turn { role, content }],
            origin: None,
            extra: vec![],
        }
    }

    fn prediction(text: &str) -> Prediction {
        Prediction {
            text: text.into(),
            finish_reason: "stop".into(),
            millis: 1,
            extra: vec![],
        }
    }

    #[test]
    fn each_difference_can_be_forgiven_or_counted() {
        assert!(right("{}", "seven", " Seven.\n"));
        assert!(!right("{}", "seven", "seven!"));
        assert!(right(
            r#"{"ignore_punctuation": true}"#,
            "seven",
            "\"seven!\""
        ));
        assert!(!right(r#"{"ignore_case": false}"#, "seven", "Seven"));
        assert!(!right(
            r#"{"ignore_whitespace": false}"#,
            "two cats",
            "two  cats"
        ));
        assert!(!right(
            r#"{"ignore_final_period": false}"#,
            "seven",
            "seven."
        ));
        assert!(!right("{}", "seven", "seventy"));
        assert!(right("{}", "STRASSE", "strasse"));
    }

    #[test]
    fn the_whole_set_is_the_share_of_right_answers() {
        let mut run = ExactMatch::start("{}", 0).unwrap();
        assert!(run.finish().unwrap().is_empty());
        for said in ["seven", "six", "Seven", "nine"] {
            run.score(&reference("seven"), &prediction(said)).unwrap();
        }
        let total = run.finish().unwrap();
        assert_eq!((total[0].value, total[0].weight), (0.5, 4.0));
    }

    #[test]
    fn what_cannot_be_scored_is_said() {
        assert!(ExactMatch::start(r#"{"ignore_cases": true}"#, 0).is_err());
        assert!(ExactMatch::start(r#"{"ignore_case": 1}"#, 0).is_err());
        let mut run = ExactMatch::start("{}", 0).unwrap();
        let mut empty = reference("x");
        empty.turns.clear();
        assert!(run.score(&empty, &prediction("x")).is_err());
    }
}
