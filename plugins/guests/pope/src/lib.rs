//! POPE (polling-based object probing): questions whether an object is in the image. The positive
//! class is yes, so precision falls with every object that the model only imagines.
//!
//! An answer is read as the evaluation script of LLaVA reads it: only what stands before the first
//! full stop counts, and it means no if one of its words is `No`, `no` or `not`; else it means yes.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

use graft_plugin::blanks::strip;
use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Parts, score, score_of};
use graft_plugin::{
    Diagnostic, Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator,
    reference, remark,
};

const ACCURACY: &str = "accuracy";
const YES_RATIO: &str = "yes-ratio";

/// One run of the evaluator.
pub struct Pope {
    label: String,
    breakdown: Breakdown,
    counts: Parts<Counts>,
    remarks: Vec<Diagnostic>,
}

/// Answers by what they say and what is so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    true_yes: u64,
    false_yes: u64,
    true_no: u64,
    false_no: u64,
}

const fn ratio(name: &'static str, higher_is_better: bool) -> Metric {
    Metric {
        name,
        unit: "",
        higher_is_better,
    }
}

impl Evaluator for Pope {
    const METRICS: &'static [Metric] = &[
        ratio(ACCURACY, true),
        ratio("precision", true),
        ratio("recall", true),
        ratio("f1", true),
        ratio(YES_RATIO, false),
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "label": {"type": "string", "default": "label",
      "description": "the field with yes or no; without it the last answer of the conversation"},
    "by": {"type": "string", "default": "category",
      "description": "fields, between commas, for each of whose values all metrics are told as well"}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &["label", "by"])?;
        Ok(Self {
            label: options.text("label")?.unwrap_or("label").to_owned(),
            breakdown: Breakdown::by(options.text("by")?.unwrap_or("category")),
            counts: Parts::default(),
            remarks: Vec::new(),
        })
    }
}

impl Run for Pope {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let said = reference::said(sample, predicted)?;
        let label = reference::answers(sample, &self.label)?.swap_remove(0);
        let Some(is_so) = label_of(&label) else {
            let message = "is labelled neither yes nor no";
            return Err(reference::unusable(sample, "bad-label", message));
        };
        let parts = self.breakdown.parts(sample)?;
        let says_yes = says_yes(said);
        if says_yes && !names_yes(said) {
            let message = "the answer says neither yes nor no and counts as yes";
            self.remarks
                .push(remark(sample, "neither-yes-nor-no", message));
        }
        self.counts
            .update(&parts, |counts| counts.add(says_yes, is_so));
        let one = |flag: bool| f64::from(u8::from(flag));
        Ok(vec![
            score(ACCURACY, one(says_yes == is_so)),
            score(YES_RATIO, one(says_yes)),
        ])
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        let counted = self.counts.iter().filter(|(_, counts)| counts.all() > 0);
        let scores = counted.flat_map(|(part, counts)| {
            let metrics = Self::METRICS.iter().zip(counts.values());
            metrics.map(move |(m, value)| score_of(m.name, part, value, counts.all() as f64))
        });
        Ok(scores.collect())
    }

    fn remarks(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.remarks)
    }
}

impl Counts {
    fn add(&mut self, says_yes: bool, is_so: bool) {
        let count = match (says_yes, is_so) {
            (true, true) => &mut self.true_yes,
            (true, false) => &mut self.false_yes,
            (false, false) => &mut self.true_no,
            (false, true) => &mut self.false_no,
        };
        *count += 1;
    }

    fn all(self) -> u64 {
        self.true_yes + self.false_yes + self.true_no + self.false_no
    }

    /// In the order of the metrics. A share of nothing is 0, where the script divides by zero.
    fn values(self) -> [f64; 5] {
        let share = |some: u64, of: u64| {
            if of == 0 {
                0.0
            } else {
                some as f64 / of as f64
            }
        };
        let precision = share(self.true_yes, self.true_yes + self.false_yes);
        let recall = share(self.true_yes, self.true_yes + self.false_no);
        let f1 = match precision + recall > 0.0 {
            true => 2.0 * precision * recall / (precision + recall),
            false => 0.0,
        };
        let accuracy = share(self.true_yes + self.true_no, self.all());
        let yes_ratio = share(self.true_yes + self.false_yes, self.all());
        [accuracy, precision, recall, f1, yes_ratio]
    }
}

/// Whether an answer means yes.
pub fn says_yes(answer: &str) -> bool {
    !first_words(answer).any(|word| matches!(word.as_str(), "No" | "no" | "not"))
}

fn names_yes(answer: &str) -> bool {
    first_words(answer).any(|word| strip(&word).eq_ignore_ascii_case("yes"))
}

/// The words before the first full stop, commas taken out.
fn first_words(answer: &str) -> impl Iterator<Item = String> {
    let sentence = answer.split('.').next().unwrap_or_default();
    sentence.split(' ').map(|word| word.replace(',', ""))
}

/// What a label says: `yes` or `no` in any case, with or without a full stop.
fn label_of(label: &str) -> Option<bool> {
    let label = strip(label).to_lowercase();
    match strip(label.trim_end_matches('.')) {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

export_evaluator!(Pope);

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::{Part, Role, Turn, Value};

    fn sample(hoped: &str, category: &str) -> Sample {
        let content = vec![Part::Text(hoped.into())];
        let role = Role::Assistant;
        Sample {
            id: "s".into(),
            images: vec![],
            turns: vec![Turn { role, content }],
            origin: None,
            extra: vec![("category".into(), Value::Text(category.into()))],
        }
    }

    fn said(text: &str) -> Prediction {
        Prediction {
            text: text.into(),
            finish_reason: "end".into(),
            millis: 1,
            extra: vec![],
        }
    }

    #[test]
    fn no_is_found_only_as_a_word_of_the_first_sentence() {
        for (answer, yes) in [
            ("Yes", true),
            ("no", false),
            ("No, there is none.", false),
            ("There is not.", false),
            ("Yes. There is no doubt", true),
            ("NO", true),
            ("nothing", true),
            ("No\nYes", true),
            ("no,", false),
            ("n,o", false),
            ("", true),
            (". no", true),
        ] {
            assert_eq!(says_yes(answer), yes, "{answer:?}");
        }
    }

    #[test]
    fn a_run_counts_by_category() {
        let mut run = Pope::start("{}", 0).unwrap();
        assert!(run.finish().unwrap().is_empty());
        for (hoped, answer, category) in [
            ("yes", "Yes", "random"),
            ("No.", "Yes, it is", "random"),
            ("no", "No", "popular"),
            ("yes", "no", "popular"),
        ] {
            run.score(&sample(hoped, category), &said(answer)).unwrap();
        }
        let totals = run.finish().unwrap();
        let value = |name: &str| {
            let found = totals.iter().find(|s| s.metric == name);
            found.map(|s| (s.value, s.weight))
        };
        assert_eq!(value("accuracy"), Some((0.5, 4.0)));
        assert_eq!(value("yes-ratio"), Some((0.5, 4.0)));
        assert_eq!(value("f1"), Some((0.5, 4.0)));
        assert_eq!(value("precision[category=popular]"), Some((0.0, 2.0)));
        assert_eq!(value("recall[category=random]"), Some((1.0, 2.0)));
        assert_eq!(totals.len(), 15);
    }

    #[test]
    fn what_says_nothing_is_remarked_and_a_bad_label_refused() {
        let mut run = Pope::start("{}", 0).unwrap();
        run.score(&sample("yes", "c"), &said("A bus")).unwrap();
        run.score(&sample("yes", "c"), &said("yes")).unwrap();
        let codes: Vec<_> = run.remarks().into_iter().map(|r| r.code).collect();
        assert_eq!(codes, ["neither-yes-nor-no"]);
        assert!(run.remarks().is_empty());
        assert!(run.score(&sample("maybe", "c"), &said("yes")).is_err());
        assert!(Pope::start(r#"{"labels": "x"}"#, 0).is_err());
    }
}
