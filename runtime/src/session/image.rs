//! An image as a session holds it: what the tower takes of it, and its features under the sets of adapters that
//! it was seen under.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::SessionError;
use crate::Result;
use crate::adapter::{Attached, VisionPart};
use crate::cancel::Cancel;
use crate::image::RgbImage;
use crate::memory::Arena;
use crate::model::{AdapterView, ImageEncoder, Model, Unadapted};

/// An image to be shown to a model. Its features depend on what adapters add in the vision half, so they are
/// computed when a session wants them, under the session's set. They are kept by what the set adds there: sets
/// that add nothing there, or the same, share them, and so do sessions that are shown the same image.
pub struct ShownImage {
    model: Arc<Model>,
    /// `[3, S, S]`.
    pixels: Vec<f32>,
    /// `[P, W]` each, the last used first.
    kept: Mutex<Vec<(VisionPart, Arc<Vec<f32>>)>>,
}

/// Features are kept under so many sets: two let adapters of the vision half be switched back and forth.
const KEPT: usize = 2;

impl ShownImage {
    /// Prepares an image for a model; the tower does not run yet.
    ///
    /// # Errors
    /// If the model has no vision part.
    pub fn new(model: &Arc<Model>, image: &RgbImage) -> Result<Arc<Self>> {
        let vision = model.vision().ok_or(SessionError::NoVision)?;
        Ok(Arc::new(Self {
            pixels: vision.pixels(image),
            model: Arc::clone(model),
            kept: Mutex::default(),
        }))
    }

    /// The model it was prepared for.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// P: positions that it takes.
    pub fn patches(&self) -> usize {
        let vision = self.model.vision();
        vision.map_or(0, |vision| vision.tower().shape().patches())
    }

    /// Its projected features under a set of adapters, `[P, W]`.
    ///
    /// # Errors
    /// If the system has no memory for the tower.
    pub fn rows(&self, adapters: &Attached) -> Result<Arc<Vec<f32>>> {
        self.rows_unless(adapters, &Cancel::new())
    }

    /// The same, unless the flag is raised before they are computed.
    ///
    /// # Errors
    /// As [`ShownImage::rows`], and if the flag is raised.
    pub fn rows_unless(&self, adapters: &Attached, cancel: &Cancel) -> Result<Arc<Vec<f32>>> {
        let part = adapters.vision_part();
        // Entries are whole before the lock is let go, so a panic elsewhere spoils nothing.
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = kept();
            if let Some(at) = kept.iter().position(|(of, _)| *of == part) {
                kept[..=at].rotate_right(1);
                return Ok(Arc::clone(&kept[0].1));
            }
        }
        let rows = encode(&self.model, &self.pixels, adapters, cancel)?;
        let mut kept = kept();
        kept.insert(0, (part, Arc::clone(&rows)));
        kept.truncate(KEPT);
        Ok(rows)
    }
}

impl fmt::Debug for ShownImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image of {} patches", self.patches())
    }
}

impl Model {
    /// An image as rows of the model's width, `[P, W]`, as the model alone sees it. [`ShownImage`] is for sessions
    /// whose adapters may change what is seen.
    ///
    /// # Errors
    /// If the model has no vision part.
    pub fn image_rows(&self, image: &RgbImage) -> Result<Arc<Vec<f32>>> {
        let vision = self.vision().ok_or(SessionError::NoVision)?;
        encode(self, &vision.pixels(image), &Unadapted, &Cancel::new())
    }
}

/// Pixels through the tower and the projector.
fn encode(
    model: &Model,
    pixels: &[f32],
    adapters: &dyn AdapterView,
    cancel: &Cancel,
) -> Result<Arc<Vec<f32>>> {
    let vision = model.vision().ok_or(SessionError::NoVision)?;
    let of = (model.llama(), vision);
    let mut encoder = ImageEncoder::new(model.llama(), vision, &Arena::unlimited())?;
    let features = encoder.features(of, pixels, adapters, &|| cancel.check())?;
    Ok(Arc::new(encoder.project(of, &features, adapters)?))
}
