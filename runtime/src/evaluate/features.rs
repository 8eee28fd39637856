//! Image features by what the image's bytes are, so that each image goes through the tower once for all sets of
//! adapters that leave the vision half as it is or change it in the same way.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Result;
use crate::adapter::{Attached, VisionPart};
use crate::dataset::{ImageFolder, ImageRef};
use crate::image::RgbImage;
use crate::memory::Arena;
use crate::model::{ImageEncoder, Model};
use crate::session::SessionError;

/// SHA-256 of an image file.
pub(super) type Digest = [u8; 32];

/// The images of a data set as rows for the model.
#[derive(Debug)]
pub(super) struct ImageRows {
    folder: ImageFolder,
    /// Tower features, `[P, Wv]` each: a quarter of the size of the projected rows.
    features: HashMap<Digest, Arc<Vec<f32>>>,
    budget: usize,
    used: usize,
    /// Projected rows of the sample before: the same rows let a session keep what it computed.
    recent: Vec<(Digest, Arc<Vec<f32>>)>,
    encoder: Option<ImageEncoder>,
    computed: u64,
    /// What adapters added to the features that are kept.
    part: VisionPart,
}

impl ImageRows {
    /// Nothing computed yet; features of up to `budget` bytes are kept.
    pub(super) fn new(folder: ImageFolder, budget: usize) -> Self {
        Self {
            folder,
            features: HashMap::new(),
            budget,
            used: 0,
            recent: Vec::new(),
            encoder: None,
            computed: 0,
            part: VisionPart::default(),
        }
    }

    /// How often the vision tower ran.
    pub(super) fn computed(&self) -> u64 {
        self.computed
    }

    /// The digests and projected rows of a sample's images under a set of adapters, in order.
    pub(super) fn of(
        &mut self,
        model: &Model,
        adapters: &Attached,
        images: &[ImageRef],
        sample: &str,
    ) -> Result<Vec<(Digest, Arc<Vec<f32>>)>> {
        let part = adapters.vision_part();
        if part != self.part {
            self.features.clear();
            self.recent.clear();
            (self.part, self.used) = (part, 0);
        }
        let mut rows: Vec<(Digest, Arc<Vec<f32>>)> = Vec::with_capacity(images.len());
        for image in images {
            let file = self.folder.read(image, sample)?;
            let digest = file.digest();
            let mut known = rows.iter().chain(&self.recent);
            let found = match known.find(|(other, _)| *other == digest) {
                Some((_, found)) => Arc::clone(found),
                None => {
                    let features = match self.features.get(&digest) {
                        Some(features) => Arc::clone(features),
                        None => {
                            let features = self.features(model, adapters, &file.decode()?)?;
                            self.keep(digest, &features);
                            features
                        }
                    };
                    self.project(model, adapters, &features)?
                }
            };
            rows.push((digest, found));
        }
        self.recent.clone_from(&rows);
        Ok(rows)
    }

    /// When the budget is used up the first images stay: of data sets that are gone through from
    /// the beginning again, throwing the oldest out would keep none.
    fn keep(&mut self, digest: Digest, features: &Arc<Vec<f32>>) {
        let bytes = size_of_val(features.as_slice());
        if self.used + bytes <= self.budget {
            self.used += bytes;
            self.features.insert(digest, Arc::clone(features));
        }
    }

    fn features(
        &mut self,
        model: &Model,
        adapters: &Attached,
        image: &RgbImage,
    ) -> Result<Arc<Vec<f32>>> {
        let vision = model.vision().ok_or(SessionError::NoVision)?;
        let pixels = vision.pixels(image);
        let encoder = made(&mut self.encoder, model)?;
        let of = (model.llama(), vision);
        let features = encoder.features(of, &pixels, adapters, &|| Ok(()))?;
        self.computed += 1;
        Ok(Arc::new(features))
    }

    fn project(
        &mut self,
        model: &Model,
        adapters: &Attached,
        features: &[f32],
    ) -> Result<Arc<Vec<f32>>> {
        let vision = model.vision().ok_or(SessionError::NoVision)?;
        let encoder = made(&mut self.encoder, model)?;
        let rows = encoder.project((model.llama(), vision), features, adapters)?;
        Ok(Arc::new(rows))
    }
}

/// What runs the tower and the projector.
fn made<'a>(encoder: &'a mut Option<ImageEncoder>, model: &Model) -> Result<&'a mut ImageEncoder> {
    if let Some(encoder) = encoder {
        return Ok(encoder);
    }
    let vision = model.vision().ok_or(SessionError::NoVision)?;
    let made = ImageEncoder::new(model.llama(), vision, &Arena::unlimited())?;
    Ok(encoder.insert(made))
}
