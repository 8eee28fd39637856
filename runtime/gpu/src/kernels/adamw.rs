//! AdamW with decoupled weight decay.

use super::File;
use crate::shader::Key;
use crate::{Recorder, Result, Tensor};

/// One update's numbers, the same as of the runtime's `AdamW`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Decay of the mean.
    pub beta1: f64,
    /// Decay of the mean square.
    pub beta2: f64,
    /// Keeps the division finite.
    pub eps: f64,
    /// Decoupled decay, times the learning rate.
    pub weight_decay: f64,
    /// Learning rate of this update.
    pub learning_rate: f64,
    /// What gradients are multiplied by first.
    pub gradient_scale: f32,
    /// Number of the update, from 1.
    pub step: u64,
}

impl Recorder {
    /// Updates `parameters` and the running `mean` and mean `square` of its gradient.
    ///
    /// # Errors
    /// If lengths differ, arrays overlap, or the device refuses.
    pub fn adamw(
        &mut self,
        parameters: &Tensor,
        [mean, square]: [&Tensor; 2],
        gradients: &Tensor,
        step: &AdamWStep,
    ) -> Result<()> {
        let power = i32::try_from(step.step).unwrap_or(i32::MAX);
        // Differences are taken before rounding, as PyTorch does.
        let numbers = [
            f64::from(step.gradient_scale),
            1.0 - step.learning_rate * step.weight_decay,
            1.0 - step.beta1,
            step.beta2,
            1.0 - step.beta2,
            step.learning_rate / (1.0 - step.beta1.powi(power)),
            (1.0 - step.beta2.powi(power)).sqrt(),
            step.eps,
        ];
        let words = numbers.map(|number| (number as f32).to_bits());
        let arrays = [(0, parameters), (1, mean), (2, square), (3, gradients)];
        let key = Key::of(File::AdamW, "update");
        self.elementwise("adamw", key, &arrays, 3, &words)
    }
}
