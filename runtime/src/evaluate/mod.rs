//! Asking a model every question of a data set and scoring what it says.
//!
//! An [`Answerer`] turns a sample into the model's answer, a [`Scorer`] holds an [`Evaluator`] to
//! its word, a [`Judge`] lets it ask a model, and [`run`] brings the two together and writes predictions and report.

mod answer;
pub mod evaluator;
mod features;
mod judge;
mod report;
mod run;
mod score;

pub use answer::{Answer, AnswerOptions, Answerer};
pub use evaluator::{
    EvaluateError, EvaluateHost, Evaluator, EvaluatorDescription, EvaluatorRun, Metric, Prediction,
    Score,
};
pub use judge::Judge;
pub use report::{AdapterUsed, EvaluateReport, FailedSample, JudgeUsed, MetricValue, ModelUsed};
pub use run::{EvaluateOptions, EvaluateProgress, run};
pub use score::{Remarks, Scorer};
