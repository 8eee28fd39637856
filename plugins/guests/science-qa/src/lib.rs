//! ScienceQA: multiple choice, answered with a letter, which is read from the answer as LLaVA's
//! evaluation script reads it.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

use graft_plugin::blanks::strip;
use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Mean, Parts, score};
use graft_plugin::{
    Diagnostic, Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator,
    reference, remark,
};

const ACCURACY: &str = "accuracy";
/// Over the questions with an image: what is reported as SQA for LLaVA.
const IMAGE_ACCURACY: &str = "image-accuracy";
/// Share of answers in which no letter is found.
const UNPARSED: &str = "unparsed";

/// Letters of choices; the script knows no more.
const LETTERS: &str = "ABCDE";
const PHRASE: &str = "The answer is ";

/// One run of the evaluator.
pub struct ScienceQa {
    answer: String,
    choices: String,
    breakdown: Breakdown,
    accuracy: Parts<Mean>,
    image_accuracy: Parts<Mean>,
    unparsed: Parts<Mean>,
    remarks: Vec<Diagnostic>,
}

impl Evaluator for ScienceQa {
    const METRICS: &'static [Metric] = &[
        Metric {
            name: ACCURACY,
            unit: "",
            higher_is_better: true,
        },
        Metric {
            name: IMAGE_ACCURACY,
            unit: "",
            higher_is_better: true,
        },
        Metric {
            name: UNPARSED,
            unit: "",
            higher_is_better: false,
        },
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "answer": {"type": "string", "default": "answer",
      "description": "the field with the right choice, counted from 0 or as a letter; without it the letter in the last answer of the conversation"},
    "choices": {"type": "string", "default": "choices",
      "description": "the field with the choices; letters beyond them are no answer. Without it there are five"},
    "by": {"type": "string", "default": "subject,grade",
      "description": "fields, between commas, for each of whose values the accuracy is told as well"}
  }
}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &["answer", "choices", "by"])?;
        Ok(Self {
            answer: options.text("answer")?.unwrap_or("answer").to_owned(),
            choices: options.text("choices")?.unwrap_or("choices").to_owned(),
            breakdown: Breakdown::by(options.text("by")?.unwrap_or("subject,grade")),
            accuracy: Parts::default(),
            image_accuracy: Parts::default(),
            unparsed: Parts::default(),
            remarks: Vec::new(),
        })
    }
}

impl Run for ScienceQa {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let said = reference::said(sample, predicted)?;
        let right = self.right_choice(sample)?;
        let choices = reference::texts(sample, &self.choices)?;
        let choices = choices.map_or(LETTERS.len(), |choices| choices.len());
        let parts = self.breakdown.parts(sample)?;
        let choice = choice(said).filter(|&choice| choice < choices);
        if choice.is_none() {
            let message = "the answer names none of the choices and counts as wrong";
            self.remarks.push(remark(sample, "no-choice", message));
        }
        let accuracy = f64::from(u8::from(choice == Some(right)));
        let unparsed = f64::from(u8::from(choice.is_none()));
        self.accuracy.update(&parts, |mean| mean.add(accuracy));
        self.unparsed.update(&[], |mean| mean.add(unparsed));
        let mut scores = vec![score(ACCURACY, accuracy), score(UNPARSED, unparsed)];
        if !sample.images.is_empty() {
            self.image_accuracy.update(&[], |mean| mean.add(accuracy));
            scores.push(score(IMAGE_ACCURACY, accuracy));
        }
        Ok(scores)
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        let mut scores = self.accuracy.scores(ACCURACY);
        scores.extend(self.image_accuracy.scores(IMAGE_ACCURACY));
        scores.extend(self.unparsed.scores(UNPARSED));
        Ok(scores)
    }

    fn remarks(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.remarks)
    }
}

impl ScienceQa {
    fn right_choice(&self, sample: &Sample) -> Result<usize, Error> {
        let answer = reference::answers(sample, &self.answer)?.swap_remove(0);
        let index = strip(&answer).parse().ok();
        let found = index.or_else(|| choice(&answer));
        found.ok_or_else(|| {
            let message = "does not say which choice is right";
            reference::unusable(sample, "no-reference", message)
        })
    }
}

/// The choice that an answer names, counted from 0: a letter alone, a letter with a full stop and a
/// blank in front of more, or the letter behind `The answer is `, at best with a full stop.
pub fn choice(answer: &str) -> Option<usize> {
    let answer = answer.replace('\n', ". ");
    if let Some(alone) = only_letter(strip(&answer)) {
        return Some(alone);
    }
    if let Some(first) = answer.chars().next().and_then(letter)
        && answer[1..].starts_with(". ")
    {
        return Some(first);
    }
    let behind = || {
        let phrases = answer.match_indices(PHRASE);
        phrases.filter_map(|(at, _)| {
            let mut rest = answer[at + PHRASE.len()..].chars();
            Some((letter(rest.next()?)?, rest.next() == Some('.')))
        })
    };
    let ended = behind().find(|(_, full_stop)| *full_stop);
    ended.or_else(|| behind().next()).map(|(choice, _)| choice)
}

fn letter(c: char) -> Option<usize> {
    LETTERS.find(c)
}

fn only_letter(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let first = letter(characters.next()?)?;
    characters.next().is_none().then_some(first)
}

export_evaluator!(ScienceQa);

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::{ImageRef, Part, Role, Turn, Value};

    #[test]
    fn a_letter_is_read_as_the_script_reads_it() {
        for (answer, hoped) in [
            ("B", Some(1)),
            (" E\t", Some(4)),
            ("F", None),
            ("b", None),
            ("A. because", Some(0)),
            ("C\n", Some(2)),
            ("C\nbecause", Some(2)),
            ("C.", None),
            ("C because", None),
            ("So The answer is D.", Some(3)),
            ("The answer is A and The answer is B.", Some(1)),
            ("The answer is A and", Some(0)),
            ("The answer is Apples", Some(0)),
            ("the answer is A.", None),
            ("The answer is The answer is E", Some(4)),
            ("The answer is F. The answer is ", None),
            ("Ａ", None),
            ("", None),
        ] {
            assert_eq!(choice(answer), hoped, "{answer:?}");
        }
    }

    fn sample(hoped: &str, images: usize, extra: Vec<(&str, Value)>) -> Sample {
        let content = vec![Part::Text(hoped.into())];
        let role = Role::Assistant;
        Sample {
            id: "s".into(),
            images: vec![ImageRef::Asset("a.png".into()); images],
            turns: vec![Turn { role, content }],
            origin: None,
            extra: extra.into_iter().map(|(k, v)| (k.into(), v)).collect(),
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
    fn questions_with_images_are_told_apart() {
        let mut run = ScienceQa::start("{}", 0).unwrap();
        let choices = || ("choices", Value::Json(r#"["x", "y"]"#.into()));
        let subject = |name: &str| ("subject", Value::Text(name.into()));
        let right = sample("The answer is B.", 1, vec![choices(), subject("art")]);
        run.score(&right, &said("B")).unwrap();
        let beyond = sample("", 0, vec![choices(), ("answer", Value::Integer(1))]);
        run.score(&beyond, &said("C")).unwrap();
        let totals = run.finish().unwrap();
        let totals: Vec<_> = totals
            .iter()
            .map(|s| (s.metric.as_str(), s.value))
            .collect();
        let hoped = [
            ("accuracy", 0.5),
            ("accuracy[subject=art]", 1.0),
            ("image-accuracy", 1.0),
            ("unparsed", 0.5),
        ];
        assert_eq!(totals, hoped);
        assert_eq!(run.remarks()[0].code, "no-choice");
    }

    #[test]
    fn a_sample_without_a_right_choice_is_refused() {
        let mut run = ScienceQa::start("{}", 0).unwrap();
        let answers = [
            Value::Integer(-1),
            Value::Text("F".into()),
            Value::Json("[]".into()),
        ];
        for answer in answers {
            let sample = sample("A", 0, vec![("answer", answer)]);
            assert!(run.score(&sample, &said("A")).is_err());
        }
        assert!(run.score(&sample("none", 0, vec![]), &said("A")).is_err());
        assert!(ScienceQa::start(r#"{"by": []}"#, 0).is_err());
    }
}
