//! The trait `Evaluator`, and the run over a dataset.

pub mod evaluator;

pub use evaluator::{
    EvaluateError, EvaluateHost, Evaluator, EvaluatorDescription, EvaluatorRun, Metric, Prediction,
    Score,
};
