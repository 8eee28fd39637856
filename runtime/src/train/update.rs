//! From gradients to new parameters: clipping, learning rates and decay of each array, AdamW.

use super::moments::MomentStore;
use super::optimizer::AdamW;
use super::parameters::Group;
use super::{TrainError, TrainOptions};
use crate::Result;

/// What an update does to each array.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Name and group of each array.
    pub groups: &'a [(String, Group)],
    /// Number of the update, from 1.
    pub step: u64,
    /// Learning rate of the pairs.
    pub lr: f64,
    /// Learning rate of the projector.
    pub projector_lr: f64,
    /// Decoupled decay, times the learning rate.
    pub weight_decay: f64,
}

impl<'a> Update<'a> {
    /// Number `step`, whose learning rates the schedule multiplies by `factor`.
    pub fn new(
        options: &TrainOptions,
        groups: &'a [(String, Group)],
        step: u64,
        factor: f64,
    ) -> Self {
        Self {
            groups,
            step,
            lr: options.lr * factor,
            projector_lr: options.projector_lr * factor,
            weight_decay: options.weight_decay,
        }
    }

    /// The sum of the squares of an array's gradient.
    ///
    /// # Errors
    /// If it is not finite.
    pub fn square(&self, array: usize, gradient: &[f32]) -> Result<f64, TrainError> {
        let square: f64 = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
        match square.is_finite() {
            true => Ok(square),
            false => Err(TrainError::NotFinite {
                step: self.step,
                tensor: format!("the gradient of {}", self.groups[array].0),
            }),
        }
    }

    /// Changes an array by its gradient, which is multiplied by `gradient_scale` first.
    ///
    /// # Errors
    /// If the disk refuses the moments.
    pub fn apply(
        &self,
        array: usize,
        parameters: &mut [f32],
        gradients: &[f32],
        gradient_scale: f32,
        moments: &mut MomentStore,
    ) -> Result<()> {
        let (name, group) = &self.groups[array];
        let rate = match group {
            Group::Adapter => self.lr,
            Group::Projector => self.projector_lr,
        };
        let optimizer = AdamW {
            // As PyTorch's trainers group parameters: biases do not decay.
            weight_decay: match name.ends_with(".bias") {
                true => 0.0,
                false => self.weight_decay,
            },
            ..AdamW::default()
        };
        moments.update(array, |first, mean, square| {
            let piece = first..first + mean.len();
            let (parameters, gradients) = (&mut parameters[piece.clone()], &gradients[piece]);
            let moments = (mean, square);
            let step = self.step;
            optimizer.update(parameters, moments, gradients, gradient_scale, rate, step);
            Ok(())
        })
    }
}

/// What a gradient of this norm is multiplied by so that it is no longer than `clip`, as PyTorch's
/// `clip_grad_norm_` does; 0 is no limit.
pub fn clipped(norm: f64, clip: f64) -> f32 {
    if clip > 0.0 {
        (clip / (norm + 1e-6)).min(1.0) as f32
    } else {
        1.0
    }
}
