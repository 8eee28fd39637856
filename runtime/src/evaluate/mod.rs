//! The trait `Evaluator` and the run over a dataset.
