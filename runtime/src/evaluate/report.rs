//! What an evaluation leaves behind: a line for every sample, and one report.
//!
//! ```text
//! predictions.jsonl   {"id", "question", "expected", "predicted", "score": {"accuracy": 1.0}, …}
//! report.json         metrics, counts, times, and what was measured on what
//! ```

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::score::metric_of;
use super::{Answer, Metric, Score};
use crate::adapter::{Adapter, Attached};
use crate::atomic_file::AtomicFile;
use crate::dataset::{ImageRef, Part, Sample};
use crate::model::Model;
use crate::{Error, Result};

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluateReport {
    /// Value of each metric over all scored samples.
    pub metrics: Vec<MetricValue>,
    /// The evaluator, as the caller calls it.
    pub evaluator: String,
    /// Its options, as they were given.
    pub options: serde_json::Value,
    /// Seed of what it leaves to chance.
    pub seed: u64,
    /// Samples asked.
    pub samples: usize,
    /// Samples with a score.
    pub scored: usize,
    /// Samples without: their question could not be put, or their answer not be scored.
    pub failed: usize,
    /// The first failures.
    pub failures: Vec<FailedSample>,
    /// The model that answered.
    pub model: ModelUsed,
    /// The adapters at work.
    pub adapters: Vec<AdapterUsed>,
    /// The model that the evaluator asked, if it was granted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeUsed>,
    /// SHA-256 over the samples asked, the bytes of their images included.
    pub data_sha256: String,
    /// Most tokens an answer could have; 0 for no limit but the context's.
    pub max_tokens: usize,
    /// How many answers ended for which reason.
    pub finish: BTreeMap<&'static str, usize>,
    /// Positions of all prompts, image tokens included.
    pub prompt_tokens: usize,
    /// Those of them that had to be computed; the rest was shared with the prompt before.
    pub computed_tokens: usize,
    /// Tokens of all answers.
    pub generated_tokens: usize,
    /// Images that went through the vision tower during this evaluation.
    pub images_computed: u64,
    /// Seconds spent answering.
    pub answer_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// Version of this library.
    pub graft_version: &'static str,
}

/// A metric of the whole data set, or of a part of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricValue {
    /// Its name; that of a part is `metric[part]`.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Sum of the weights behind it; for plain means the number of answers.
    pub weight: f64,
    /// Its unit, empty for a plain ratio.
    pub unit: String,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// Names a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelUsed {
    /// Its own name.
    pub name: String,
    /// [`Model::fingerprint`].
    pub fingerprint: String,
    /// [`crate::model::Vision::fingerprint`] of its vision half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision_fingerprint: Option<String>,
}

/// Names an adapter and how strongly it counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterUsed {
    /// Its name.
    pub name: String,
    /// What its terms were multiplied by.
    pub strength: f32,
    /// SHA-256 over its sites, scales and values.
    pub sha256: String,
}

/// Who judged, and how much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeUsed {
    /// The model.
    pub model: ModelUsed,
    /// The adapters at work in it.
    pub adapters: Vec<AdapterUsed>,
    /// Questions that it replied to.
    pub requests: u64,
    /// Positions of all questions, image tokens included.
    pub prompt_tokens: u64,
    /// Tokens of all replies.
    pub generated_tokens: u64,
    /// Seconds spent on them.
    pub seconds: f64,
}

/// A sample without a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedSample {
    /// Its place in the data set, from 0.
    pub index: usize,
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
}

impl ModelUsed {
    pub(super) fn of(model: &Model) -> Self {
        Self {
            name: model.name(),
            fingerprint: model.fingerprint().into(),
            vision_fingerprint: model.vision().map(|v| v.fingerprint().into()),
        }
    }
}

impl AdapterUsed {
    pub(super) fn all(attached: &Attached) -> Vec<Self> {
        let used = |(adapter, strength): &(std::sync::Arc<Adapter>, f32)| Self {
            name: adapter.name().into(),
            strength: *strength,
            sha256: adapter_digest(adapter),
        };
        attached.entries().iter().map(used).collect()
    }
}

impl MetricValue {
    pub(super) fn all(metrics: &[Metric], totals: &[Score]) -> Vec<Self> {
        let value = |total: &Score| {
            let name = metric_of(&total.metric);
            let metric = metrics
                .iter()
                .find(|m| m.name == total.metric || m.name == name)?;
            Some(Self {
                name: total.metric.clone(),
                value: total.value,
                weight: total.weight,
                unit: metric.unit.clone(),
                higher_is_better: metric.higher_is_better,
            })
        };
        totals.iter().filter_map(value).collect()
    }
}

impl EvaluateReport {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).expect("a report is plain values");
        text.push(b'\n');
        AtomicFile::write(path, &text)
    }
}

fn adapter_digest(adapter: &Adapter) -> String {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    for (site, pair) in adapter.iter() {
        hash.update(format!("{site} {} {}\n", pair.rank(), pair.scale));
        for values in [&pair.a, &pair.b] {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            hash.update(&bytes);
        }
    }
    hex(hash)
}

/// SHA-256 over samples as they are asked.
pub(super) struct DataDigest(Sha256);

impl DataDigest {
    pub(super) fn new() -> Self {
        let mut hash = Sha256::new();
        hash.update(b"graft samples 1\n");
        Self(hash)
    }

    /// Takes a sample in; `images` are the digests of its images, none if they cannot be read.
    pub(super) fn add(&mut self, sample: &Sample, images: &[[u8; 32]]) {
        self.text(&sample.id);
        for turn in &sample.turns {
            self.0.update(format!("{:?} ", turn.role));
            for part in &turn.content {
                match part {
                    Part::Text(text) => self.text(text),
                    Part::Image(image) => self.0.update(format!("image {image}\n")),
                }
            }
        }
        match images {
            [] => sample.images.iter().for_each(|image| match image {
                ImageRef::Path(path) => self.text(&path.to_string_lossy()),
                ImageRef::Bytes(bytes) => self.0.update(Sha256::digest(bytes)),
            }),
            known => known.iter().for_each(|digest| self.0.update(digest)),
        }
    }

    pub(super) fn finish(self) -> String {
        hex(self.0)
    }

    /// With its length in front, so that no two lists of texts look alike.
    fn text(&mut self, text: &str) {
        self.0.update(format!("{} {text}\n", text.len()));
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A line of the predictions.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    question: &'a str,
    expected: &'a str,
    predicted: Option<&'a str>,
    score: BTreeMap<&'a str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The file of predictions while it grows; it appears when the evaluation is done.
pub(super) struct Predictions(BufWriter<AtomicFile>);

impl Predictions {
    pub(super) fn create(path: &Path) -> Result<Self> {
        AtomicFile::create(path).map(|file| Self(BufWriter::new(file)))
    }

    /// Adds a line; `answered` and `error` are what happened to the sample.
    pub(super) fn add(
        &mut self,
        (sample, question, expected): (&Sample, &str, &str),
        answer: Option<&Answer>,
        scores: &[Score],
        error: Option<&str>,
    ) -> Result<()> {
        let line = Line {
            id: &sample.id,
            question,
            expected,
            predicted: answer.map(|a| a.text.as_str()),
            score: scores.iter().map(|s| (&*s.metric, s.value)).collect(),
            finish: answer.map(|a| a.finish.name()),
            seconds: answer.map(|a| a.duration.as_secs_f64()),
            error,
        };
        let mut text = serde_json::to_vec(&line).expect("a line is plain values");
        text.push(b'\n');
        let written = self.0.write_all(&text);
        written.map_err(|source| self.failed(source))
    }

    pub(super) fn commit(self) -> Result<()> {
        let path = self.0.get_ref().path().to_owned();
        let file = self.0.into_inner().map_err(|e| Error::Io {
            action: "write",
            path,
            source: e.into_error(),
        })?;
        file.commit()
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Io {
            action: "write",
            path: self.0.get_ref().path().to_owned(),
            source,
        }
    }
}
