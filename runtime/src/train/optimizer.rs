//! AdamW with decoupled weight decay, exactly as PyTorch computes it.
//!
//! ```text
//! p *= 1 - lr·wd      m += (1-b1)(g - m)      v = b2·v + (1-b2)·g²
//! p -= lr / (1 - b1^t) · m / (sqrt(v) / sqrt(1 - b2^t) + eps)
//! ```
//! Source: Loshchilov & Hutter 2019, <https://arxiv.org/abs/1711.05101>.

/// Hyperparameters that a run does not change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the mean.
    pub beta1: f64,
    /// Decay of the mean square.
    pub beta2: f64,
    /// Keeps the division finite.
    pub eps: f64,
    /// Decoupled decay, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl AdamW {
    /// Update number `t` (from 1) of an array or a piece of one, with the running mean of its gradient
    /// and of the square. Gradients are multiplied by `gradient_scale` first.
    ///
    /// # Panics
    /// If the arrays differ in length.
    pub fn update(
        &self,
        parameters: &mut [f32],
        (mean, square): (&mut [f32], &mut [f32]),
        gradients: &[f32],
        gradient_scale: f32,
        learning_rate: f64,
        t: u64,
    ) {
        assert_eq!(parameters.len(), gradients.len());
        assert_eq!(parameters.len(), mean.len());
        assert_eq!(parameters.len(), square.len());
        // Differences are taken before rounding, as PyTorch does.
        let (new1, new2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let b2 = self.beta2 as f32;
        let power = i32::try_from(t).unwrap_or(i32::MAX);
        let step = (learning_rate / (1.0 - self.beta1.powi(power))) as f32;
        let correction = (1.0 - self.beta2.powi(power)).sqrt() as f32;
        let keep = (1.0 - learning_rate * self.weight_decay) as f32;
        let eps = self.eps as f32;
        let arrays = parameters.iter_mut().zip(gradients);
        for ((p, g), (m, v)) in arrays.zip(mean.iter_mut().zip(square)) {
            let g = g * gradient_scale;
            *p *= keep;
            *m += new1 * (g - *m);
            *v = b2 * *v + new2 * g * g;
            *p -= step * *m / (v.sqrt() / correction + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three updates by `torch.optim.AdamW(lr=0.1, weight_decay=0.5)` of `p = [1, -2]` with gradients
    /// `[1, 0.5]`, `[-3, 0]`, `[0.1, 2]`; PyTorch 2.15, float32.
    #[test]
    fn three_updates_match_pytorch() {
        let adam = AdamW {
            weight_decay: 0.5,
            ..AdamW::default()
        };
        let (mut p, mut mean, mut square) = ([1.0, -2.0], [0.0; 2], [0.0; 2]);
        for (t, g) in [[1.0, 0.5], [-3.0, 0.0], [0.1, 2.0]].iter().enumerate() {
            let moments = (&mut mean[..], &mut square[..]);
            adam.update(&mut p, moments, g, 1.0, 0.1, t as u64 + 1);
        }
        for (p, want) in p.iter().zip([0.8502347_f32, -1.9431837_f32]) {
            assert!((p - want).abs() < 1e-6, "{p} {want}");
        }
    }
}
