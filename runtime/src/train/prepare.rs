//! From samples to [`Example`]s: prompts with labels, and each image through the frozen tower once.

use std::collections::HashMap;

use super::{Example, FeatureCache, Features, TrainError};
use crate::Result;
use crate::cancel::Cancel;
use crate::dataset::check::Lost;
use crate::dataset::{ImageFile, ImageFolder, Sample, prompt};
use crate::memory::Arena;
use crate::model::{ImageEncoder, Model, Unadapted, llava};
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

/// What examples are made with.
#[derive(Clone, Copy, Debug)]
pub struct Preparation<'a> {
    /// The base model.
    pub model: &'a Model,
    /// Turns conversations into text.
    pub template: &'a ChatTemplate,
    /// Where the images are.
    pub images: &'a ImageFolder,
    /// Where features of images are kept; in memory without one.
    pub cache: Option<&'a FeatureCache>,
    /// Most positions of an example.
    pub max_len: usize,
    /// Where the tower's buffers come from.
    pub arena: &'a Arena,
}

/// Makes examples from `samples`.
///
/// The features of every different image, `4 P Wv` bytes each, stay in memory or lie in the cache; what
/// is there already does not go through the tower.
///
/// # Errors
/// If an image cannot be read, the template refuses a conversation, the model has no vision part for
/// an image, or `cancel` is raised.
pub fn prepare(
    preparation: &Preparation<'_>,
    samples: &[Sample],
    cancel: &Cancel,
    mut progress: impl FnMut(PrepareProgress),
) -> Result<Prepared> {
    let Preparation {
        model,
        template,
        images,
        cache,
        max_len,
        arena,
    } = *preparation;
    let tokenizer = model.tokenizer()?;
    let mut seen = Seen {
        model,
        folder: images,
        cache,
        arena,
        known: HashMap::new(),
        encoder: None,
    };
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
        if let Some(lost) = Lost::of(&prompt, warning, &sequence, patches, max_len) {
            prepared.warnings.push(format!("sample {id}: {lost}"));
        }
        prepared.examples.push(Example {
            id: id.clone(),
            sequence,
            features: seen.of(sample)?,
        });
        progress(PrepareProgress {
            samples: prepared.examples.len(),
            images: seen.known.len(),
        });
    }
    if let Some(vision) = model.vision() {
        // The tower has seen everything it will see.
        vision.release();
    }
    Ok(prepared)
}

/// Features by what the image's bytes are.
struct Seen<'a> {
    model: &'a Model,
    folder: &'a ImageFolder,
    cache: Option<&'a FeatureCache>,
    arena: &'a Arena,
    known: HashMap<[u8; 32], Features>,
    /// Made when the first image has to go through the tower.
    encoder: Option<ImageEncoder>,
}

impl Seen<'_> {
    fn of(&mut self, sample: &Sample) -> Result<Vec<Features>> {
        if self.model.vision().is_none() && !sample.images.is_empty() {
            let id = sample.id.clone();
            return Err(TrainError::NoVision { id }.into());
        }
        let mut all = Vec::with_capacity(sample.images.len());
        for image in &sample.images {
            let file = self.folder.read(image, &sample.id)?;
            let digest = file.digest();
            let features = match self.known.get(&digest) {
                Some(features) => features.clone(),
                None => {
                    let found = self.cache.and_then(|cache| cache.find(&digest));
                    let features = match found {
                        Some(features) => features,
                        None => self.look(&file, &digest)?,
                    };
                    let features = features.of_image(digest);
                    self.known.insert(digest, features.clone());
                    features
                }
            };
            all.push(features);
        }
        Ok(all)
    }

    fn look(&mut self, file: &ImageFile, digest: &[u8; 32]) -> Result<Features> {
        let vision = self.model.vision();
        let vision = vision.expect("images were refused without one");
        let image = file.decode()?;
        let llama = self.model.llama();
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(ImageEncoder::new(llama, vision, self.arena)?),
        };
        let pixels = llama.pool().run(|| vision.pixels(&image));
        let features = encoder.features((llama, vision), &pixels, &Unadapted, &|| Ok(()))?;
        match self.cache {
            Some(cache) => cache.keep(digest, &features),
            None => Ok(Features::new(features)),
        }
    }
}
