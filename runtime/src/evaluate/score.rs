//! Scores as an evaluator gives them, checked and added up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{EvaluateError, EvaluateHost, Evaluator, EvaluatorRun, Metric, Prediction, Score};
use crate::cancel::Cancel;
use crate::dataset::converter::LogLevel;
use crate::dataset::{Diagnostic, Sample};

/// One pass of an [`Evaluator`]: every score must be of a metric that it names, and a number.
pub struct Scorer {
    run: Box<dyn EvaluatorRun>,
    metrics: Vec<Metric>,
    sums: BTreeMap<String, Mean>,
}

/// A weighted mean as it grows.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn value(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

impl Scorer {
    /// Begins a pass. `options` is a JSON object as text.
    ///
    /// # Errors
    /// If the evaluator refuses the options, names no metric, or fails.
    pub fn start(
        evaluator: &dyn Evaluator,
        options: &str,
        seed: u64,
        host: Arc<dyn EvaluateHost>,
    ) -> Result<Self, EvaluateError> {
        let metrics = evaluator.describe()?.metrics;
        if metrics.is_empty() {
            let reason = "it describes no metric".into();
            return Err(EvaluateError::BadScore(reason));
        }
        Ok(Self {
            run: evaluator.start(options, seed, host)?,
            metrics,
            sums: BTreeMap::new(),
        })
    }

    /// What it measures.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// Scores one answer.
    ///
    /// # Errors
    /// [`EvaluateError::InvalidInput`] if this one cannot be scored; anything else ends the pass.
    pub fn score(
        &mut self,
        reference: &Sample,
        predicted: &Prediction,
    ) -> Result<Vec<Score>, EvaluateError> {
        let scores = self.run.score(reference, predicted)?;
        for score in &scores {
            self.check(score)?;
        }
        for score in &scores {
            let mean = self.sums.entry(score.metric.clone()).or_default();
            mean.sum += score.value * score.weight;
            mean.weight += score.weight;
        }
        Ok(scores)
    }

    /// The weighted mean so far of the first metric that has one.
    pub fn running(&self) -> Option<(&str, f64)> {
        let mut known = self.metrics.iter().filter_map(|metric| {
            let mean = self.sums.get(&metric.name)?;
            Some((metric.name.as_str(), mean.value()?))
        });
        known.next()
    }

    /// The value and weight of each metric over all answers: the evaluator's own, else the weighted
    /// mean. A metric without any score is left out.
    ///
    /// # Errors
    /// If the evaluator fails, or gives a score that is not usable.
    pub fn finish(mut self) -> Result<Vec<Score>, EvaluateError> {
        let totals = self.run.finish()?;
        for (i, total) in totals.iter().enumerate() {
            self.check(total)?;
            if totals[..i].iter().any(|t| t.metric == total.metric) {
                let reason = format!("two values of {} for the whole set", total.metric);
                return Err(EvaluateError::BadScore(reason));
            }
        }
        let value = |metric: &Metric| {
            let total = totals.iter().find(|t| t.metric == metric.name).cloned();
            let mean = || {
                let mean = self.sums.get(&metric.name)?;
                Some(Score {
                    metric: metric.name.clone(),
                    value: mean.value()?,
                    weight: mean.weight,
                })
            };
            total.or_else(mean)
        };
        Ok(self.metrics.iter().filter_map(value).collect())
    }

    fn check(&self, score: &Score) -> Result<(), EvaluateError> {
        let Score {
            metric,
            value,
            weight,
        } = score;
        let reason = if !self.metrics.iter().any(|m| m.name == *metric) {
            format!("the metric {metric} is not among those it describes")
        } else if !value.is_finite() {
            format!("{metric} is {value}")
        } else if !(weight.is_finite() && *weight >= 0.0) {
            format!("the weight of {metric} is {weight}")
        } else {
            return Ok(());
        };
        Err(EvaluateError::BadScore(reason))
    }
}

/// A host that keeps what an evaluator remarks and grants it no model.
#[derive(Debug, Default)]
pub struct Remarks {
    cancel: Cancel,
    kept: Mutex<Vec<Diagnostic>>,
}

impl Remarks {
    /// Most remarks kept; the rest would repeat them.
    const MOST: usize = 100;

    /// A host that stops the evaluator when `cancel` is raised.
    pub fn new(cancel: Cancel) -> Self {
        Self {
            cancel,
            ..Self::default()
        }
    }

    /// What was remarked, in order.
    pub fn remarks(&self) -> Vec<Diagnostic> {
        self.kept().clone()
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Diagnostic>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EvaluateHost for Remarks {
    fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    fn report(&self, diagnostic: Diagnostic) {
        let mut kept = self.kept();
        if kept.len() < Self::MOST {
            kept.push(diagnostic);
        }
    }

    fn log(&self, level: LogLevel, message: &str) {
        match level {
            LogLevel::Error => tracing::error!("{message}"),
            LogLevel::Warn => tracing::warn!("{message}"),
            LogLevel::Info => tracing::info!("{message}"),
            LogLevel::Debug => tracing::debug!("{message}"),
            LogLevel::Trace => tracing::trace!("{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::EvaluatorDescription;
    use super::*;

    /// Answers with the scores it was made with, one list for each call; the last at the end.
    struct Scripted(Vec<Vec<Score>>);

    impl Evaluator for Scripted {
        fn describe(&self) -> Result<EvaluatorDescription, EvaluateError> {
            let metric = |name: &str| Metric {
                name: name.into(),
                unit: String::new(),
                higher_is_better: true,
            };
            Ok(EvaluatorDescription {
                metrics: vec![metric("recall"), metric("words")],
                options_schema: "{}".into(),
            })
        }
        fn start(
            &self,
            _: &str,
            _: u64,
            _: Arc<dyn EvaluateHost>,
        ) -> Result<Box<dyn EvaluatorRun>, EvaluateError> {
            Ok(Box::new(Self(self.0.iter().rev().cloned().collect())))
        }
    }

    impl EvaluatorRun for Scripted {
        fn score(&mut self, _: &Sample, _: &Prediction) -> Result<Vec<Score>, EvaluateError> {
            Ok(self.0.pop().unwrap_or_default())
        }
        fn finish(&mut self) -> Result<Vec<Score>, EvaluateError> {
            Ok(self.0.pop().unwrap_or_default())
        }
    }

    fn score(metric: &str, value: f64, weight: f64) -> Score {
        Score {
            metric: metric.into(),
            value,
            weight,
        }
    }

    fn scorer(script: Vec<Vec<Score>>) -> Scorer {
        Scorer::start(&Scripted(script), "{}", 0, Arc::new(Remarks::default())).unwrap()
    }

    #[test]
    fn what_the_evaluator_leaves_out_is_the_weighted_mean() {
        let mut scorer = scorer(vec![
            vec![score("recall", 1.0, 3.0), score("words", 4.0, 1.0)],
            vec![score("recall", 0.0, 1.0), score("words", 9.0, 1.0)],
            vec![score("words", 7.0, 2.0)],
        ]);
        let (sample, said) = (Sample::default(), Prediction::default());
        assert_eq!(scorer.running(), None);
        scorer.score(&sample, &said).unwrap();
        scorer.score(&sample, &said).unwrap();
        assert_eq!(scorer.running(), Some(("recall", 0.75)));
        assert_eq!(
            scorer.finish().unwrap(),
            [score("recall", 0.75, 4.0), score("words", 7.0, 2.0)]
        );
    }

    #[test]
    fn a_metric_without_scores_has_no_value() {
        let mut none = scorer(vec![vec![score("words", 1.0, 0.0)], vec![]]);
        none.score(&Sample::default(), &Prediction::default())
            .unwrap();
        assert_eq!(none.finish().unwrap(), []);
    }

    #[test]
    fn unusable_scores_are_refused_with_the_reason() {
        let refusals = [
            (score("precision", 1.0, 1.0), "precision is not among"),
            (score("recall", f64::NAN, 1.0), "recall is NaN"),
            (score("recall", 1.0, -1.0), "weight of recall is -1"),
        ];
        for (bad, reason) in refusals {
            let mut single = scorer(vec![vec![bad.clone()]]);
            let error = single
                .score(&Sample::default(), &Prediction::default())
                .unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            let error = scorer(vec![vec![bad]]).finish().unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        let twice = vec![score("recall", 1.0, 1.0), score("recall", 0.0, 1.0)];
        assert!(scorer(vec![twice]).finish().is_err());
    }
}
