//! From samples to [`Example`]s: prompts with labels, and each image through the frozen tower once.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Example, TrainError};
use crate::Result;
use crate::cancel::Cancel;
use crate::dataset::{ImageFolder, Sample, prompt};
use crate::model::{Model, VisionWork, llava};
use crate::tokenizer::ChatTemplate;

/// Samples ready for training, and what was noticed on the way.
#[derive(Debug)]
pub struct Prepared {
    /// One for each sample, in order.
    pub examples: Vec<Example>,
    /// One sentence for each sample that will not teach what its author meant.
    pub warnings: Vec<String>,
}

/// How far [`prepare`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrepareProgress {
    /// Samples done.
    pub samples: usize,
    /// Images seen by the vision tower; the same image in two samples counts once.
    pub images: usize,
}

/// Makes examples of at most `max_len` positions from `samples`.
///
/// The features of every different image stay in memory: `4 P Wv` bytes each.
///
/// # Errors
/// If an image cannot be read, the template refuses a conversation, the model has no vision part for
/// an image, or `cancel` is raised.
pub fn prepare(
    model: &Model,
    template: &ChatTemplate,
    samples: &[Sample],
    images: &ImageFolder,
    max_len: usize,
    cancel: &Cancel,
    mut progress: impl FnMut(PrepareProgress),
) -> Result<Prepared> {
    let tokenizer = model.tokenizer()?;
    let mut features = Features::new(model, images);
    let mut prepared = Prepared {
        examples: Vec::with_capacity(samples.len()),
        warnings: Vec::new(),
    };
    for sample in samples {
        cancel.check()?;
        let (prompt, warning) = prompt::training(sample, template, tokenizer)?;
        let id = &sample.id;
        let shown = prompt.images();
        if shown != sample.images.len() {
            let listed = sample.images.len();
            return Err(TrainError::Images {
                id: id.clone(),
                shown,
                listed,
            }
            .into());
        }
        let patches = model.vision().map_or(0, |v| v.tower().shape().patches());
        let sequence = llava::splice(&prompt.ids, &prompt.labels, patches, max_len);
        let full = prompt.ids.len() + shown * patches.saturating_sub(1);
        if warning.is_some() {
            prepared.warnings.push(format!(
                "sample {id}: a text holds a role's name, so nothing of it is learned"
            ));
        } else if sequence.targets().next().is_none() {
            prepared.warnings.push(format!(
                "sample {id}: no answer within {max_len} tokens, so nothing of it is learned"
            ));
        } else if sequence.len() < full {
            prepared.warnings.push(format!(
                "sample {id}: cut from {full} to {max_len} tokens (--max-len)"
            ));
        }
        prepared.examples.push(Example {
            id: id.clone(),
            sequence,
            features: features.of(sample)?,
        });
        progress(PrepareProgress {
            samples: prepared.examples.len(),
            images: features.known.len(),
        });
    }
    if let Some(vision) = model.vision() {
        // The tower has seen everything it will see.
        vision.release();
    }
    Ok(prepared)
}

/// Tower features by what the image's bytes are.
struct Features<'a> {
    model: &'a Model,
    folder: &'a ImageFolder,
    known: HashMap<[u8; 32], Arc<Vec<f32>>>,
    work: Option<VisionWork>,
}

impl<'a> Features<'a> {
    fn new(model: &'a Model, folder: &'a ImageFolder) -> Self {
        Self {
            model,
            folder,
            known: HashMap::new(),
            work: model.vision().map(|v| VisionWork::new(v.tower().shape())),
        }
    }

    fn of(&mut self, sample: &Sample) -> Result<Vec<Arc<Vec<f32>>>> {
        let mut all = Vec::with_capacity(sample.images.len());
        for image in &sample.images {
            let (Some(vision), Some(work)) = (self.model.vision(), &mut self.work) else {
                let id = sample.id.clone();
                return Err(TrainError::NoVision { id }.into());
            };
            let file = self.folder.read(image, &sample.id)?;
            let digest = file.digest();
            let features = match self.known.get(&digest) {
                Some(features) => Arc::clone(features),
                None => {
                    let image = file.decode()?;
                    let pool = self.model.llama().pool();
                    let features = Arc::new(pool.run(|| vision.features(&image, work)));
                    self.known.insert(digest, Arc::clone(&features));
                    features
                }
            };
            all.push(features);
        }
        Ok(all)
    }
}
