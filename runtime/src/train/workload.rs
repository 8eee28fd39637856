//! What there is to learn from, as far as memory and time depend on it.

use std::collections::HashSet;

use serde::Serialize;

use super::packs::{Extent, Pack, nothing_to_learn, packs};
use super::{Example, Features, TrainError, TrainOptions};
use crate::Result;
use crate::dataset::{Sample, prompt};
use crate::model::{LlamaShape, Model, SiteKind, llava};
use crate::tokenizer::ChatTemplate;

/// Sizes of the examples of a run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Workload {
    /// Examples with something to learn.
    pub examples: usize,
    /// Positions of the longest.
    pub longest: usize,
    /// Positions of all.
    pub tokens: usize,
    /// Learned positions of all.
    pub learned: usize,
    /// Different images.
    pub images: usize,
    /// What is only looked at on the way.
    pub evaluation: Evaluated,
    /// Of each example that counts.
    #[serde(skip)]
    extents: Vec<Extent>,
}

/// Sizes of the examples that a run does not learn from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Evaluated {
    /// Their number.
    pub examples: usize,
    /// Positions of the longest.
    pub longest: usize,
    /// Positions of all.
    pub tokens: usize,
    /// Different images.
    pub images: usize,
}

impl Workload {
    /// Of prepared examples.
    pub fn of(examples: &[Example]) -> Self {
        let features = examples.iter().flat_map(|e| e.features.iter());
        let images: HashSet<_> = features.map(Features::identity).collect();
        Self::new(examples.iter().map(Example::extent), images.len())
    }

    /// Of samples, without looking at their images.
    ///
    /// # Errors
    /// If the template refuses a conversation or the vocabulary cannot spell it.
    pub fn measure(
        model: &Model,
        template: &ChatTemplate,
        samples: &[Sample],
        max_len: usize,
    ) -> Result<Self> {
        let tokenizer = model.tokenizer()?;
        let patches = model.vision().map_or(0, |v| v.tower().shape().patches());
        let mut extents = Vec::with_capacity(samples.len());
        let mut images = HashSet::new();
        for sample in samples {
            let (prompt, _) = prompt::training(sample, template, tokenizer)?;
            let sequence = llava::splice(&prompt.ids, &prompt.labels, patches, max_len);
            extents.push(Extent::of(&sequence));
            images.extend(sample.images.iter().map(|image| format!("{image:?}")));
        }
        Ok(Self::new(extents, images.len()))
    }

    /// Of examples of these extents, with so many different images.
    pub fn new(extents: impl IntoIterator<Item = Extent>, images: usize) -> Self {
        let mut work = Self {
            examples: 0,
            longest: 0,
            tokens: 0,
            learned: 0,
            images,
            evaluation: Evaluated::default(),
            extents: extents.into_iter().filter(|e| e.learned > 0).collect(),
        };
        for &Extent {
            tokens, learned, ..
        } in &work.extents
        {
            work.examples += 1;
            work.longest = work.longest.max(tokens);
            work.tokens += tokens;
            work.learned += learned;
        }
        work
    }

    /// The same with other examples to look at on the way.
    pub fn with_evaluation(self, other: &Self) -> Self {
        Self {
            evaluation: Evaluated {
                examples: other.examples,
                longest: other.longest,
                tokens: other.tokens,
                images: other.images,
            },
            ..self
        }
    }

    /// The same with every example cut to so many positions.
    pub(super) fn cut(&self, tokens: usize) -> Self {
        let cut = |extent: &Extent| Extent {
            tokens: extent.tokens.min(tokens),
            ..*extent
        };
        let mut evaluation = self.evaluation;
        evaluation.longest = evaluation.longest.min(tokens);
        Self {
            evaluation,
            ..Self::new(self.extents.iter().map(cut), self.images)
        }
    }

    /// Different images, those that are only looked at among them.
    pub(super) fn all_images(&self) -> usize {
        self.images + self.evaluation.images
    }

    /// Bytes of the examples' ids and labels, and of what belongs to each.
    pub(super) fn sample_bytes(&self) -> usize {
        const EACH: usize = 256;
        let tokens = self.tokens + self.evaluation.tokens;
        let examples = self.examples + self.evaluation.examples;
        tokens * (size_of::<u32>() + size_of::<i32>()) + examples * EACH
    }
}

/// What of a workload a run with some options sees, a pack at a time.
pub(super) struct Load {
    /// How many packs; samples, without packing.
    pub packs: usize,
    /// Rows of the longest pack.
    pub rows: usize,
    /// Positions of the longest sample.
    pub longest: usize,
    /// Positions of an average pack.
    pub tokens: f64,
    /// The sum of the squares of its samples' lengths.
    pub squares: f64,
    /// Its learned positions.
    pub learned: f64,
    /// Different images, per pack.
    pub images: f64,
}

impl Load {
    pub fn new(work: &Workload, options: &TrainOptions) -> Result<Self, TrainError> {
        let all = || work.extents.iter().copied();
        let taught: Vec<Extent> = all().filter(|e| e.teaches(options)).collect();
        if taught.is_empty() {
            return Err(nothing_to_learn(all(), options));
        }
        let packs = packs(&taught, options, options.max_len);
        let mean = |of: fn(&Extent) -> f64| {
            let sum: f64 = taught.iter().map(of).sum();
            sum / packs.len() as f64
        };
        let rows = packs.iter().map(Pack::rows).max().unwrap_or(0);
        let longest = taught.iter().map(|e| e.tokens).max().unwrap_or(0);
        Ok(Self {
            rows: rows.max(work.evaluation.longest),
            longest: longest.max(work.evaluation.longest),
            tokens: mean(|e| e.tokens as f64),
            squares: mean(|e| (e.tokens as f64).powi(2)),
            learned: mean(|e| e.learned as f64),
            images: work.images as f64 / packs.len() as f64,
            packs: packs.len(),
        })
    }

    /// Multiplications and additions of an average pack, where backward visits the layers from `lowest` on and the top
    /// `kept` of them are not computed twice.
    pub fn flops(&self, shape: &LlamaShape, lowest: usize, kept: usize) -> f64 {
        let linear = |kinds: &[SiteKind]| {
            let sizes = kinds.iter().map(|&kind| shape.linear(kind));
            let weights: usize = sizes.map(|(outputs, inputs)| outputs * inputs).sum();
            2.0 * weights as f64 * self.tokens
        };
        let (linear, down) = (linear(&SiteKind::ALL), linear(&[SiteKind::Down]));
        // Every position looks at half of its sample's on average, once for scores and once for values.
        let attention = 2.0 * self.squares * shape.query_width() as f64;
        let forward = linear + attention;
        let (layers, visited) = (shape.layers as f64, (shape.layers - lowest) as f64);
        let recomputed = visited - (kept as f64).min(visited);
        // Frozen weights have no gradient, so backward costs a forward; attention's costs 2.5.
        let backward = linear + 2.5 * attention;
        let output = 4.0 * shape.width as f64 * shape.vocabulary as f64 * self.learned;
        // The last product of a layer is not computed a second time.
        let again = forward - down;
        forward * layers + again * recomputed + backward * visited + output
    }
}
