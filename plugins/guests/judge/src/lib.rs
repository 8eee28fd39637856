//! A model judges whether an answer is right: it sees the question, the answer hoped for and the
//! answer given, and says yes or no, or a number from 1 to 5.
//!
//! The same samples, options and seed put the same questions, in whatever order the samples come;
//! graft replies greedily, so the scores are repeatable as well.

// The error is a record of the interface; it is made once for a sample that cannot be scored.
#![allow(clippy::result_large_err)]

mod question;
mod scale;

use graft_plugin::model::{Ask, Granted, Question};
use graft_plugin::options::Options;
use graft_plugin::parts::{Breakdown, Mean, Parts, score};
use graft_plugin::template::Template;
use graft_plugin::{
    Diagnostic, Error, Evaluator, Metric, Prediction, Run, Sample, Score, export_evaluator,
    reference, remark,
};

pub use question::{Fence, Wording, seed_of};
pub use scale::Scale;

const JUDGE: &str = "judge";
const UNPARSED: &str = "unparsed";

const OPTIONS: [&str; 6] = ["scale", "template", "answers", "images", "max_tokens", "by"];

/// One run of the evaluator, with a model to ask.
pub struct Judge<A = Granted> {
    model: A,
    seed: u64,
    scale: Scale,
    wording: Wording,
    answers: String,
    shows_images: bool,
    max_tokens: u32,
    breakdown: Breakdown,
    verdicts: Parts<Mean>,
    unparsed: Parts<Mean>,
    remarks: Vec<Diagnostic>,
}

impl<A: Ask> Judge<A> {
    /// Begins a run in which `model` judges.
    pub fn with(model: A, options: &str, seed: u64) -> Result<Self, Error> {
        let options = Options::parse(options, &OPTIONS)?;
        let scale = match options.choice("scale", &["yes-no", "1-5"])? {
            "1-5" => Scale::OneToFive,
            _ => Scale::YesNo,
        };
        let template = options.text("template")?.unwrap_or(scale.template());
        Ok(Self {
            model,
            seed,
            scale,
            wording: Wording::new(Template::parse("template", template)?)?,
            answers: options.text("answers")?.unwrap_or("answers").to_owned(),
            shows_images: options.flag("images", false)?,
            max_tokens: options.number("max_tokens", 16.0, 1.0, 4096.0)? as u32,
            breakdown: Breakdown::by(options.text("by")?.unwrap_or_default()),
            verdicts: Parts::default(),
            unparsed: Parts::default(),
            remarks: Vec::new(),
        })
    }

    /// The model that judges.
    pub fn model(&self) -> &A {
        &self.model
    }

    fn question(&self, sample: &Sample, predicted: &Prediction) -> Result<Question, Error> {
        let said = reference::said(sample, predicted)?;
        let seed = seed_of(self.seed, &sample.id);
        let text = self.wording.ask(sample, &self.answers, said, seed)?;
        let question = Question {
            seed,
            ..Question::text(text, self.max_tokens)
        };
        Ok(match self.shows_images {
            true => question.showing(&sample.images),
            false => question,
        })
    }
}

impl Evaluator for Judge {
    const METRICS: &'static [Metric] = &[
        Metric {
            name: JUDGE,
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
    "scale": {"enum": ["yes-no", "1-5"], "default": "yes-no"},
    "template": {"type": "string",
      "description": "the question to the judge, with {answer} and, if wanted, {question} and {reference}"},
    "answers": {"type": "string", "default": "answers",
      "description": "the field with the right answers; without it the last answer of the conversation"},
    "images": {"type": "boolean", "default": false,
      "description": "shows the judge the images of the sample"},
    "max_tokens": {"type": "integer", "minimum": 1, "maximum": 4096, "default": 16,
      "description": "most tokens of what the judge says"},
    "by": {"type": "string", "default": "",
      "description": "fields, between commas, for each of whose values all metrics are told as well"}
  }
}"#;

    fn start(options: &str, seed: u64) -> Result<Self, Error> {
        Self::with(Granted, options, seed)
    }
}

impl<A: Ask> Run for Judge<A> {
    fn score(&mut self, sample: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let parts = self.breakdown.parts(sample)?;
        let question = self.question(sample, predicted)?;
        let reply = self.model.ask(&question).map_err(|error| match error {
            // This question cannot be put, the next may be.
            Error::Unsupported(reason) => {
                let message = format!("cannot be judged: {reason}");
                reference::unusable(sample, "not-judged", &message)
            }
            other => other,
        })?;
        let verdict = self.scale.read(&reply.text);
        let is_unparsed = f64::from(u8::from(verdict.is_none()));
        self.unparsed.update(&parts, |mean| mean.add(is_unparsed));
        let mut scores = vec![score(UNPARSED, is_unparsed)];
        match verdict {
            Some(value) => {
                self.verdicts.update(&parts, |mean| mean.add(value));
                scores.insert(0, score(JUDGE, value));
            }
            None => {
                let wanted = self.scale.wanted();
                let said = excerpt(&reply.text);
                let message = format!("the judge was to say {wanted} and said {said:?}");
                self.remarks.push(remark(sample, "no-verdict", message));
            }
        }
        Ok(scores)
    }

    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        let mut scores = self.verdicts.scores(JUDGE);
        scores.extend(self.unparsed.scores(UNPARSED));
        Ok(scores)
    }

    fn remarks(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.remarks)
    }
}

/// The beginning of what somebody said.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(LONGEST).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

export_evaluator!(Judge);

#[cfg(test)]
mod tests;
