//! Asking the held-out questions and letting the evaluator plugin judge the answers.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use graft::adapter::Attached;
use graft::cancel::Cancel;
use graft::dataset::{ImageFolder, Sample};
use graft::evaluate::{
    AnswerOptions, Answerer, EvaluateOptions, EvaluateReport, Remarks, Scorer, run,
};
use graft::model::Model;
use graft_plugins::{Grants, Host, WasmEvaluator};

use crate::failure::Failure;
use crate::progress::Progress;

const EVALUATOR: &str = "exact-match";
/// Enough for a word; the base likes to talk.
const MAX_TOKENS: usize = 16;

/// The questions, and who judges.
pub struct Judge<'a> {
    evaluator: WasmEvaluator,
    questions: &'a [Sample],
    images: &'a ImageFolder,
    folder: &'a Path,
    cancel: &'a Cancel,
}

/// How well a model answered.
pub struct Scored {
    /// Share of right answers.
    pub accuracy: f64,
    /// Question, hoped for and said, one for each.
    pub answers: Vec<[String; 3]>,
    seconds: f64,
}

impl<'a> Judge<'a> {
    /// A judge of `questions`; what was said is noted in `folder`.
    pub fn new(
        host: &Host,
        questions: &'a [Sample],
        images: &'a ImageFolder,
        folder: &'a Path,
        cancel: &'a Cancel,
    ) -> Result<Self, Failure> {
        let plugin = host.load(Path::new(EVALUATOR), &Grants::default())?;
        Ok(Self {
            evaluator: plugin.into_evaluator()?,
            questions,
            images,
            folder,
            cancel,
        })
    }

    /// Asks everything; `name` names the file of what was said.
    pub fn score(
        &self,
        model: &Arc<Model>,
        adapters: Attached,
        name: &str,
    ) -> Result<Scored, Failure> {
        let remarks = Arc::new(Remarks::new(self.cancel.clone()));
        let scorer =
            Scorer::start(&self.evaluator, "{}", 0, remarks).map_err(graft::Error::from)?;
        let options = AnswerOptions {
            max_tokens: MAX_TOKENS,
            context_length: 512,
            ..AnswerOptions::default()
        };
        let template = model.chat_template(None)?;
        let mut answerer = Answerer::new(model, template, self.images.clone(), options)?;
        answerer.set_adapters(adapters)?;
        let predictions = self.folder.join(format!("{name}.jsonl"));
        let options = EvaluateOptions {
            evaluator: EVALUATOR.into(),
            limit: 0,
            predictions: Some(predictions.clone()),
            report: Some(self.folder.join(format!("{name}.json"))),
        };
        let mut progress = Progress::new("asking", self.questions.len() as u64);
        let report = run(
            &mut answerer,
            self.questions,
            &options,
            scorer,
            self.cancel,
            |at| {
                let (done, left) = (at.done as u64, at.remaining);
                let note = at
                    .running
                    .as_ref()
                    .map(|(_, v)| format!("{:.0} %", 100.0 * v));
                progress.at_with(done, left, &note.unwrap_or_default());
            },
        );
        progress.finish();
        let report = report?;
        Ok(Scored {
            accuracy: accuracy(&report),
            answers: answers(&predictions)?,
            seconds: report.seconds,
        })
    }
}

fn accuracy(report: &EvaluateReport) -> f64 {
    report.metrics.first().map_or(0.0, |m| m.value)
}

fn answers(predictions: &Path) -> Result<Vec<[String; 3]>, Failure> {
    let unreadable = |e: &dyn std::fmt::Display| {
        Failure::Work(format!("cannot read {}: {e}", predictions.display()))
    };
    let text = std::fs::read_to_string(predictions).map_err(|e| unreadable(&e))?;
    let answer = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).map_err(|e| unreadable(&e))?;
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        Ok([field("question"), field("expected"), field("predicted")])
    };
    text.lines().map(answer).collect()
}

impl Scored {
    /// Says how it went, with the first three answers.
    pub fn say(&self, out: &mut impl Write, who: &str) -> std::io::Result<()> {
        for [question, hoped, said] in self.answers.iter().take(3) {
            writeln!(out, "  {question}  {said:?}, should be {hoped:?}")?;
        }
        writeln!(
            out,
            "  {who}: {:.1} % of {} right, {:.1} s",
            100.0 * self.accuracy,
            self.answers.len(),
            self.seconds
        )
    }
}
