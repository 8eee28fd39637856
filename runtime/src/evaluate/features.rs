//! Image features by what the image's bytes are, so that each image goes through the tower once for all sets of
//! adapters that leave the vision half as it is or change it in the same way.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Result;
use crate::adapter::{Attached, VisionPart};
use crate::dataset::{ImageFolder, ImageRef};
use crate::image::RgbImage;
use crate::memory::Arena;
use crate::model::{Model, ProjectorSaved, VisionWork};
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
    work: Option<(VisionWork, ProjectorSaved)>,
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
            work: None,
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
        let (work, _) = made(&mut self.work, model)?;
        let pool = model.llama().pool();
        let pixels = vision.pixels(image);
        let features = pool.run(|| vision.features_adapted(&pixels, adapters, work));
        self.computed += 1;
        Ok(Arc::new(features))
    }

    fn project(
        &mut self,
        model: &Model,
        adapters: &Attached,
        features: &[f32],
    ) -> Result<Arc<Vec<f32>>> {
        let projector = model.vision().ok_or(SessionError::NoVision)?.projector();
        let (_, saved) = made(&mut self.work, model)?;
        let width = model.llama().shape().width;
        let mut rows = vec![0.0; features.len() / projector.inputs() * width];
        let pool = model.llama().pool();
        pool.run(|| projector.forward_adapted(&mut rows, features, adapters, saved));
        Ok(Arc::new(rows))
    }
}

/// Working memory of the tower and the projector. Callers have checked that the model sees; one
/// that does not gets none.
fn made<'a>(
    work: &'a mut Option<(VisionWork, ProjectorSaved)>,
    model: &Model,
) -> Result<&'a mut (VisionWork, ProjectorSaved)> {
    if let Some(work) = work {
        return Ok(work);
    }
    let width = model.llama().shape().width;
    let vision = model.vision().expect("only models that see have images");
    let patches = vision.tower().shape().patches();
    let rounding = vision.projector().rounding(patches);
    let arena = Arena::unlimited();
    Ok(work.insert((
        VisionWork::new(vision.tower(), &arena)?,
        ProjectorSaved::new(patches, width, rounding, &arena)?,
    )))
}
