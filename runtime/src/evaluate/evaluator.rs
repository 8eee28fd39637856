//! Scoring what a model said against what it should have said.
//!
//! An [`Evaluator`] is native code or a WebAssembly plugin; who calls it cannot tell. It has no
//! clock and no randomness but the seed it is given, so a report can be repeated.

use std::sync::Arc;
use std::time::Duration;

use super::JudgeUsed;
use crate::cancel::Cancel;
use crate::dataset::converter::LogLevel;
use crate::dataset::{Diagnostic, ImageRef, Sample, Turn};

/// A rule of scoring.
pub trait Evaluator: Send + Sync {
    /// What it measures, and the options it knows.
    fn describe(&self) -> Result<EvaluatorDescription, EvaluateError>;

    /// Begins a run over one data set. `options` is a JSON object as text.
    fn start(
        &self,
        options: &str,
        seed: u64,
        host: Arc<dyn EvaluateHost>,
    ) -> Result<Box<dyn EvaluatorRun>, EvaluateError>;
}

/// One pass over a data set.
pub trait EvaluatorRun: Send {
    /// Scores one answer. The last assistant turn of `reference` is the answer hoped for.
    fn score(
        &mut self,
        reference: &Sample,
        predicted: &Prediction,
    ) -> Result<Vec<Score>, EvaluateError>;

    /// Scores of the whole data set. A metric that is missing here is the weighted mean of its
    /// scores of single answers.
    fn finish(&mut self) -> Result<Vec<Score>, EvaluateError>;
}

/// What an evaluator says about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EvaluatorDescription {
    /// The measures it gives.
    pub metrics: Vec<Metric>,
    /// JSON Schema (2020-12) of its options.
    pub options_schema: String,
}

/// A measure.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Metric {
    /// Stable name: `accuracy`.
    pub name: String,
    /// Unit for people: `%`, `words`, or empty for a plain ratio.
    pub unit: String,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// What the model said to one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// The text.
    pub text: String,
    /// Why it ended: `end`, `length`, …, see [`crate::session::Finish::name`].
    pub finish_reason: String,
    /// How long it took.
    pub duration: Duration,
    /// Further fields of the prediction file.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// The value of one metric, for one answer or for the whole data set.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// Name of the [`Metric`], or `metric[part]` for a part of the data set:
    /// `accuracy[question_type=what color]`.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// Its weight in the mean, usually 1.
    pub weight: f64,
}

/// What surrounds an evaluation.
pub trait EvaluateHost: Send + Sync {
    /// Raised when the evaluation should end.
    fn cancel(&self) -> Cancel;

    /// Takes a remark about a sample or prediction.
    fn report(&self, diagnostic: Diagnostic);

    /// Takes a line for the log.
    fn log(&self, level: LogLevel, message: &str);

    /// Asks the model itself, for evaluators that judge with it.
    ///
    /// The default refuses: a model is granted to an evaluator, never assumed.
    fn generate(&self, request: &JudgeRequest) -> Result<JudgeReply, EvaluateError> {
        let _ = request;
        Err(EvaluateError::no_model())
    }

    /// The model that [`EvaluateHost::generate`] asks and how much it was asked; none by default.
    fn judge(&self) -> Option<JudgeUsed> {
        None
    }
}

/// A question of an evaluator to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeRequest {
    /// The conversation so far.
    pub turns: Vec<Turn>,
    /// Its images.
    pub images: Vec<ImageRef>,
    /// The most tokens of the answer; 0 for as many as the host allows.
    pub max_tokens: u32,
    /// Seed of the sampling.
    pub seed: u64,
}

/// The model's answer to a [`JudgeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeReply {
    /// The text.
    pub text: String,
    /// Tokens of the question.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub generated_tokens: u32,
}

/// Why an evaluation ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The caller asked to stop.
    #[error("the evaluation was interrupted")]
    Cancelled,
    /// A limit of the caller was reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// A sample or prediction cannot be scored.
    #[error("{0}")]
    InvalidInput(Box<Diagnostic>),
    /// The options are not what the evaluator's schema allows.
    #[error("invalid evaluator options: {0}")]
    InvalidOptions(String),
    /// Something that was not granted.
    #[error("{0}")]
    Denied(String),
    /// Something this host cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// A metric was scored that [`Evaluator::describe`] does not name, or with a value that is
    /// no number.
    #[error("the evaluator's score is not usable: {0}")]
    BadScore(String),
    /// There are not as many predictions as samples, or they belong to others.
    #[error("{0}")]
    Mismatch(String),
    /// There is nothing to ask.
    #[error("there are no samples to evaluate")]
    NoSamples,
    /// Every single sample failed.
    #[error("none of the {samples} samples could be scored; the first, {id}: {reason}")]
    NothingScored {
        /// Samples asked.
        samples: usize,
        /// The first sample.
        id: String,
        /// Why it failed.
        reason: String,
    },
    /// Reading or writing predictions failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, and on which file.
        what: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The evaluator itself failed.
    #[error("the evaluator failed: {0}")]
    Internal(String),
    /// The plugin broke a rule of its sandbox; the error inside says which.
    #[error(transparent)]
    Plugin(Box<dyn std::error::Error + Send + Sync>),
}

impl EvaluateError {
    /// Nothing but a grant gives an evaluator a model.
    pub(super) fn no_model() -> Self {
        Self::Denied("this evaluation grants no model to the evaluator".into())
    }
}
