//! From pixels to rows of the model's width: vision tower and projector, on the processor or on a device.

use std::fmt::Debug;

use super::{AdapterView, Llama, ProjectorSaved, Vision, VisionWork};
use crate::Result;
use crate::device::DeviceError;
use crate::memory::Arena;

/// A vision half on a device, with room for one image at a time. It is given the very [`Vision`] that it was opened
/// for; its weights are on the device as long as this lives, or are written for each image where there is little
/// room.
pub trait DeviceEncoder: Debug + Send {
    /// Writes the features `[P, Wv]` of normalised pixels `[3, S, S]`. `check` is asked after every block whether to
    /// go on.
    ///
    /// # Errors
    /// What `check` says; if a length is another, the adapters do not fit, or the device is lost.
    fn features(
        &mut self,
        vision: &Vision,
        features: &mut [f32],
        pixels: &[f32],
        adapters: &dyn AdapterView,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()>;

    /// Writes the projected rows `[P, W]` of features `[P, Wv]`.
    ///
    /// # Errors
    /// If a length is another, the adapters do not fit, or the device is lost.
    fn project(
        &mut self,
        vision: &Vision,
        rows: &mut [f32],
        features: &[f32],
        adapters: &dyn AdapterView,
    ) -> Result<()>;
}

/// Encodes images, one at a time, of the vision half that it was made for: on the device that runs the model, if that
/// has room.
#[derive(Debug)]
pub struct ImageEncoder(Place);

#[derive(Debug)]
enum Place {
    Device(Box<dyn DeviceEncoder>),
    Processor(Box<Buffers>),
}

#[derive(Debug)]
struct Buffers {
    tower: VisionWork,
    /// Made when features are projected.
    projector: Option<ProjectorSaved>,
    arena: Arena,
}

impl ImageEncoder {
    /// Opens the device for it, or takes buffers of the tower from `arena`.
    ///
    /// # Errors
    /// If the device is lost, or the arena refuses.
    pub fn new(llama: &Llama, vision: &Vision, arena: &Arena) -> Result<Self> {
        if let Some(device) = llama.device() {
            match device.open_encoder(vision) {
                Ok(encoder) => return Ok(Self(Place::Device(encoder))),
                Err(crate::Error::Device(DeviceError::NoMemory(why))) => {
                    tracing::info!(why, "the processor encodes images");
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Self(Place::Processor(Box::new(Buffers {
            tower: VisionWork::new(vision.tower(), arena)?,
            projector: None,
            arena: arena.clone(),
        }))))
    }

    /// Whether a device does it.
    pub fn on_device(&self) -> bool {
        matches!(self.0, Place::Device(_))
    }

    /// The features `[P, Wv]` of normalised pixels `[3, S, S]`, with what adapters add in the tower. `check` is asked
    /// after every block whether to go on.
    ///
    /// # Errors
    /// What `check` says; if the device fails.
    ///
    /// # Panics
    /// If the pixels are not an image of the tower's size.
    pub fn features(
        &mut self,
        (llama, vision): (&Llama, &Vision),
        pixels: &[f32],
        adapters: &dyn AdapterView,
        check: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Vec<f32>> {
        match &mut self.0 {
            Place::Processor(buffers) => {
                let work = &mut buffers.tower;
                let pool = llama.pool();
                pool.run(|| vision.features_checked(pixels, adapters, work, &check))
            }
            Place::Device(encoder) => {
                let shape = vision.tower().shape();
                let mut features = vec![0.0; shape.patches() * shape.width];
                encoder.features(vision, &mut features, pixels, adapters, check)?;
                Ok(features)
            }
        }
    }

    /// The rows `[P, W]` that the projector makes of features `[P, Wv]`, with what adapters add there.
    ///
    /// # Errors
    /// If the device fails, or the arena refuses.
    pub fn project(
        &mut self,
        (llama, vision): (&Llama, &Vision),
        features: &[f32],
        adapters: &dyn AdapterView,
    ) -> Result<Vec<f32>> {
        let projector = vision.projector();
        let mut rows = vec![0.0; features.len() / projector.inputs() * projector.outputs()];
        match &mut self.0 {
            Place::Processor(buffers) => {
                let saved = match &mut buffers.projector {
                    Some(saved) => saved,
                    none => {
                        let patches = vision.tower().shape().patches();
                        let (width, rounding) = (projector.outputs(), projector.rounding(patches));
                        none.insert(ProjectorSaved::new(
                            patches,
                            width,
                            rounding,
                            &buffers.arena,
                        )?)
                    }
                };
                let pool = llama.pool();
                pool.run(|| projector.forward_adapted(&mut rows, features, adapters, saved));
            }
            Place::Device(encoder) => encoder.project(vision, &mut rows, features, adapters)?,
        }
        Ok(rows)
    }
}
