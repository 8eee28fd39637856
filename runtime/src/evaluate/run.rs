//! The run over a data set: ask, score, write down.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::report::{DataDigest, Predictions};
use super::{
    AdapterUsed, Answer, Answerer, EvaluateError, EvaluateReport, FailedSample, MetricValue,
    ModelUsed, Prediction, Score, Scorer,
};
use crate::atomic_file::AtomicFile;
use crate::cancel::Cancel;
use crate::dataset::Sample;
use crate::tokenizer::Role;
use crate::{Error, Result};

/// What of a data set is asked, and where the results go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvaluateOptions {
    /// The evaluator, as the report calls it.
    pub evaluator: String,
    /// Ask only this many samples, from the first on; 0 for all.
    pub limit: usize,
    /// Where a line for every sample goes.
    pub predictions: Option<PathBuf>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
}

/// How far [`run`] is.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateProgress {
    /// Samples done.
    pub done: usize,
    /// Samples in all.
    pub samples: usize,
    /// Those without a score.
    pub failed: usize,
    /// The first metric and its mean so far.
    pub running: Option<(String, f64)>,
    /// How long the rest will take at the pace so far.
    pub remaining: Duration,
}

/// Failures that the report tells in full.
const FAILURES_TOLD: usize = 20;

/// Puts every sample's last question to the model and scores the answers.
///
/// A sample whose question cannot be put, or whose answer the evaluator calls invalid, is noted as
/// failed and left out of the metrics. The files appear when everything is done.
///
/// # Errors
/// If there are no samples, none of them could be scored, the evaluator fails, the disk refuses, or
/// `cancel` is raised; no file is written then.
pub fn run(
    answerer: &mut Answerer,
    samples: &[Sample],
    options: &EvaluateOptions,
    mut scorer: Scorer,
    cancel: &Cancel,
    mut progress: impl FnMut(&EvaluateProgress),
) -> Result<EvaluateReport> {
    let begun = Instant::now();
    let limit = match options.limit {
        0 => samples.len(),
        limit => limit.min(samples.len()),
    };
    let samples = &samples[..limit];
    if samples.is_empty() {
        return Err(EvaluateError::NoSamples.into());
    }
    let predictions = options.predictions.as_deref().map(Predictions::create);
    let mut predictions = predictions.transpose()?;
    if let Some(path) = &options.report {
        // Better now than when every question has been answered.
        drop(AtomicFile::create(path)?);
    }
    let mut tally = Tally::default();
    let mut data = DataDigest::new();
    let images_before = answerer.images_computed();
    for (index, sample) in samples.iter().enumerate() {
        cancel.check()?;
        let outcome = ask(answerer, sample, &mut scorer, cancel)?;
        let digests = outcome.answer.as_ref().map(|a| a.image_digests.as_slice());
        data.add(sample, digests.unwrap_or(&[]));
        if let Some(file) = &mut predictions {
            let (messages, expected) = answerer.question(sample);
            let question = messages.iter().rev().find(|m| m.role == Role::User);
            let question = question.map_or("", |m| m.text.as_str());
            let error = outcome.error.as_deref();
            let answer = outcome.answer.as_ref();
            file.add(
                (sample, question, &expected),
                answer,
                &outcome.scores,
                error,
            )?;
        }
        tally.add(index, sample, outcome);
        let left = (samples.len() - index - 1) as f64 / (index + 1) as f64;
        progress(&EvaluateProgress {
            done: index + 1,
            samples: samples.len(),
            failed: tally.failed,
            running: scorer.running().map(|(name, v)| (name.to_owned(), v)),
            remaining: begun.elapsed().mul_f64(left),
        });
    }
    if let (true, Some(first)) = (tally.failed == samples.len(), tally.failures.first()) {
        return Err(EvaluateError::NothingScored {
            samples: samples.len(),
            id: first.id.clone(),
            reason: first.reason.clone(),
        }
        .into());
    }
    let metrics = scorer.metrics().to_vec();
    let host = scorer.host();
    let (evaluator_options, seed) = scorer.setting();
    let totals = scorer.finish().map_err(interrupted)?;
    let report = EvaluateReport {
        metrics: MetricValue::all(&metrics, &totals),
        evaluator: options.evaluator.clone(),
        options: evaluator_options,
        seed,
        samples: samples.len(),
        scored: samples.len() - tally.failed,
        failed: tally.failed,
        failures: tally.failures,
        model: ModelUsed::of(answerer.model()),
        adapters: AdapterUsed::all(answerer.adapters()),
        judge: host.judge(),
        data_sha256: data.finish(),
        max_tokens: answerer.options().max_tokens,
        finish: tally.finish,
        prompt_tokens: tally.prompt_tokens,
        computed_tokens: tally.computed_tokens,
        generated_tokens: tally.generated_tokens,
        images_computed: answerer.images_computed() - images_before,
        answer_seconds: tally.answering.as_secs_f64(),
        seconds: begun.elapsed().as_secs_f64(),
        graft_version: env!("CARGO_PKG_VERSION"),
    };
    if let Some(file) = predictions {
        file.commit()?;
    }
    if let Some(path) = &options.report {
        report.write(path)?;
    }
    Ok(report)
}

/// What became of one sample.
struct Outcome {
    answer: Option<Answer>,
    scores: Vec<Score>,
    error: Option<String>,
}

/// Asks and scores one sample; an error is one that ends the run.
fn ask(
    answerer: &mut Answerer,
    sample: &Sample,
    scorer: &mut Scorer,
    cancel: &Cancel,
) -> Result<Outcome> {
    let answer = match answerer.answer(sample, cancel) {
        Ok(answer) => answer,
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => {
            return Ok(Outcome {
                answer: None,
                scores: Vec::new(),
                error: Some(error.to_string()),
            });
        }
    };
    let predicted = Prediction {
        text: answer.text.clone(),
        finish_reason: answer.finish.name().into(),
        duration: answer.duration,
        extra: serde_json::Map::new(),
    };
    let (scores, error) = match scorer.score(sample, &predicted) {
        Ok(scores) => (scores, None),
        Err(EvaluateError::InvalidInput(diagnostic)) => (Vec::new(), Some(diagnostic.to_string())),
        Err(error) => return Err(interrupted(error)),
    };
    Ok(Outcome {
        answer: Some(answer),
        scores,
        error,
    })
}

/// One way to say that the caller stopped it.
fn interrupted(error: EvaluateError) -> Error {
    match error {
        EvaluateError::Cancelled => Error::Cancelled,
        other => other.into(),
    }
}

/// What adds up over the samples.
#[derive(Default)]
struct Tally {
    failed: usize,
    failures: Vec<FailedSample>,
    finish: BTreeMap<&'static str, usize>,
    prompt_tokens: usize,
    computed_tokens: usize,
    generated_tokens: usize,
    answering: Duration,
}

impl Tally {
    fn add(&mut self, index: usize, sample: &Sample, outcome: Outcome) {
        if let Some(answer) = outcome.answer {
            *self.finish.entry(answer.finish.name()).or_default() += 1;
            self.prompt_tokens += answer.prompt_tokens;
            self.computed_tokens += answer.computed_tokens;
            self.generated_tokens += answer.generated_tokens;
            self.answering += answer.duration;
        }
        if let Some(reason) = outcome.error {
            self.failed += 1;
            if self.failures.len() < FAILURES_TOLD {
                self.failures.push(FailedSample {
                    index,
                    id: sample.id.clone(),
                    reason,
                });
            }
        }
    }
}
