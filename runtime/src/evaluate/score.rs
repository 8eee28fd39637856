//! Scores as an evaluator gives them, checked and added up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::evaluator::{JudgeReply, JudgeRequest};
use super::{
    EvaluateError, EvaluateHost, Evaluator, EvaluatorRun, Judge, JudgeUsed, Metric, Prediction,
    Score,
};
use crate::cancel::Cancel;
use crate::dataset::converter::LogLevel;
use crate::dataset::{Diagnostic, Sample};

/// One pass of an [`Evaluator`]: every score must be of a metric that it names, or of a part of the
/// data set under one, and a number.
///
/// The metric of a part is called `metric[part]`, as `accuracy[question_type=what color]`, and comes
/// behind its metric in [`Scorer::finish`].
pub struct Scorer {
    run: Box<dyn EvaluatorRun>,
    host: Arc<dyn EvaluateHost>,
    options: Value,
    seed: u64,
    metrics: Vec<Metric>,
    sums: BTreeMap<String, Mean>,
}

/// Most parts of a data set, all metrics together.
const PARTS: usize = 20_000;
/// Most bytes of a part's name with its metric.
const PART_NAME: usize = 400;

/// The metric that a score counts under: for a part of the data set what stands before its bracket.
pub(super) fn metric_of(name: &str) -> &str {
    match name.split_once('[') {
        Some((metric, part)) if part.ends_with(']') => metric,
        _ => name,
    }
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
            run: evaluator.start(options, seed, Arc::clone(&host))?,
            host,
            // The evaluator took them, so they are JSON.
            options: serde_json::from_str(options).unwrap_or_default(),
            seed,
            metrics,
            sums: BTreeMap::new(),
        })
    }

    /// What it measures.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// The evaluator's options, and the seed of its chance.
    pub(super) fn setting(&self) -> (Value, u64) {
        (self.options.clone(), self.seed)
    }

    /// What surrounds the evaluator; it knows of a judge when [`Scorer::finish`] is through as well.
    pub(super) fn host(&self) -> Arc<dyn EvaluateHost> {
        Arc::clone(&self.host)
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
        check_parts(self.sums.len())?;
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

    /// The value and weight of each metric over all answers, and behind it those of its parts in the
    /// order of their names: the evaluator's own, else the weighted mean. A metric without any score
    /// is left out.
    ///
    /// # Errors
    /// If the evaluator fails, or gives a score that is not usable.
    pub fn finish(mut self) -> Result<Vec<Score>, EvaluateError> {
        let mut totals = BTreeMap::new();
        for total in self.run.finish()? {
            self.check(&total)?;
            if let Some(first) = totals.insert(total.metric.clone(), total) {
                let reason = format!("two values of {} for the whole set", first.metric);
                return Err(EvaluateError::BadScore(reason));
            }
        }
        for (metric, mean) in self.sums {
            if let Some(value) = mean.value() {
                let weight = mean.weight;
                totals.entry(metric.clone()).or_insert(Score {
                    metric,
                    value,
                    weight,
                });
            }
        }
        check_parts(totals.len())?;
        let at = |name: &str| self.metrics.iter().position(|m| m.name == name);
        let place = |name: &str| at(name).or_else(|| at(metric_of(name)));
        let mut totals: Vec<Score> = totals.into_values().collect();
        // Stable, so that parts stay in the order of their names, behind their metric.
        totals.sort_by_key(|total| place(&total.metric));
        Ok(totals)
    }

    fn check(&self, score: &Score) -> Result<(), EvaluateError> {
        let Score {
            metric,
            value,
            weight,
        } = score;
        let is_known = |name: &str| self.metrics.iter().any(|m| m.name == name);
        let is_part = metric_of(metric) != metric.as_str();
        let reason = if !is_known(metric) && !is_known(metric_of(metric)) {
            format!("the metric {metric} is not among those it describes")
        } else if is_part && (metric.len() > PART_NAME || metric.contains(char::is_control)) {
            let metric = metric_of(metric);
            format!("a part of {metric} has a name that is too long or not plain text")
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

/// Refuses more entries than a report can show.
fn check_parts(known: usize) -> Result<(), EvaluateError> {
    match known <= PARTS {
        true => Ok(()),
        false => Err(EvaluateError::BadScore(format!(
            "it splits the data set into more than {PARTS} parts"
        ))),
    }
}

/// A host that keeps what an evaluator remarks, and grants it a model only if it is told to.
#[derive(Debug, Default)]
pub struct Remarks {
    cancel: Cancel,
    kept: Mutex<Vec<Diagnostic>>,
    judge: Mutex<Option<Judge>>,
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
        locked(&self.kept).clone()
    }

    /// Lets the evaluator ask `judge` from now on.
    pub fn grant(&self, judge: Judge) {
        *locked(&self.judge) = Some(judge);
    }
}

/// A lock that a panic of its last holder does not close.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EvaluateHost for Remarks {
    fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    fn report(&self, diagnostic: Diagnostic) {
        let mut kept = locked(&self.kept);
        if kept.len() < Self::MOST {
            kept.push(diagnostic);
        }
    }

    fn log(&self, level: LogLevel, message: &str) {
        level.log(message);
    }

    fn generate(&self, request: &JudgeRequest) -> Result<JudgeReply, EvaluateError> {
        match &mut *locked(&self.judge) {
            Some(judge) => judge.generate(request, &self.cancel),
            None => Err(EvaluateError::no_model()),
        }
    }

    fn judge(&self) -> Option<JudgeUsed> {
        locked(&self.judge).as_ref().map(Judge::used)
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
    fn parts_of_the_data_set_come_behind_their_metric() {
        let mut scorer = scorer(vec![
            vec![score("recall[kind=b]", 1.0, 1.0), score("words", 2.0, 1.0)],
            vec![score("recall[kind=b]", 0.0, 1.0), score("recall", 1.0, 1.0)],
            vec![
                score("words[kind=a]", 3.0, 1.0),
                score("recall[a]", 0.5, 1.0),
            ],
        ]);
        let (sample, said) = (Sample::default(), Prediction::default());
        scorer.score(&sample, &said).unwrap();
        scorer.score(&sample, &said).unwrap();
        let hoped = [
            score("recall", 1.0, 1.0),
            score("recall[a]", 0.5, 1.0),
            score("recall[kind=b]", 0.5, 2.0),
            score("words", 2.0, 1.0),
            score("words[kind=a]", 3.0, 1.0),
        ];
        assert_eq!(scorer.finish().unwrap(), hoped);
    }

    #[test]
    fn parts_are_bounded_in_name_and_number() {
        let part = |name: String| score(&format!("recall[{name}]"), 1.0, 1.0);
        for bad in ["x".repeat(500), "a\u{1b}[2J".into()] {
            assert!(scorer(vec![vec![part(bad)]]).finish().is_err());
        }
        let many = |n: usize| vec![(0..n).map(|i| part(i.to_string())).collect()];
        assert!(scorer(many(PARTS)).finish().is_ok());
        let error = scorer(many(PARTS + 1)).finish().unwrap_err();
        assert!(
            error.to_string().contains("more than 20000 parts"),
            "{error}"
        );
        let mut single = scorer(many(PARTS + 1));
        assert!(
            single
                .score(&Sample::default(), &Prediction::default())
                .is_err()
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
