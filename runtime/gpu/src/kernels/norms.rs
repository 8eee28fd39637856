//! RMS norm and layer norm.

use super::File;
use crate::recorder::{Call, Groups, same, shaped};
use crate::shader::Key;
use crate::{Recorder, Result, Tensor};

impl Recorder {
    /// Writes `y = x / rms(x) * weight` and keeps `1 / rms` of each token in `inv_rms`. Shapes: `x`, `y`
    /// are `[tokens, width]`, `weight` is `width` floats, `inv_rms` is `tokens` floats.
    ///
    /// # Errors
    /// If shapes do not fit each other, arrays overlap, or the device refuses.
    pub fn rms_norm(
        &mut self,
        y: &Tensor,
        inv_rms: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        eps: f64,
    ) -> Result<()> {
        let arrays = [(0, y), (1, inv_rms), (2, x), (3, weight)];
        let key = Key::of(File::RmsNorm, "forward");
        self.norm("rms_norm", key, &arrays, 2, eps)
    }

    /// Adds to `dx`. The weight is frozen, so it has no gradient.
    ///
    /// # Errors
    /// As [`Recorder::rms_norm`].
    pub fn rms_norm_backward(
        &mut self,
        dx: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        inv_rms: &Tensor,
    ) -> Result<()> {
        let arrays = [(4, dx), (0, dy), (2, x), (3, weight), (1, inv_rms)];
        let key = Key::of(File::RmsNorm, "backward");
        self.norm("rms_norm_backward", key, &arrays, 1, 0.0)
    }

    /// Writes `y = (x - mean) / deviation * weight + bias` and keeps mean and inverse deviation of each
    /// token in `saved` `[tokens, 2]`. Other shapes as of [`Recorder::rms_norm`].
    ///
    /// # Errors
    /// As [`Recorder::rms_norm`].
    pub fn layer_norm(
        &mut self,
        y: &Tensor,
        saved: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
    ) -> Result<()> {
        let arrays = [(0, y), (1, saved), (2, x), (3, weight), (4, bias)];
        let key = Key::of(File::LayerNorm, "forward");
        self.norm("layer_norm", key, &arrays, 2, eps)
    }

    /// Adds to `dx`. Weight and bias are frozen, so they have no gradient.
    ///
    /// # Errors
    /// As [`Recorder::rms_norm`].
    pub fn layer_norm_backward(
        &mut self,
        dx: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        saved: &Tensor,
    ) -> Result<()> {
        let arrays = [(5, dx), (0, dy), (2, x), (3, weight), (1, saved)];
        let key = Key::of(File::LayerNorm, "backward");
        self.norm("layer_norm_backward", key, &arrays, 1, 0.0)
    }

    /// Runs a norm. Array 1 is what forward keeps of each token, 2 is `x`, 3 and 4 of a forward are
    /// `width` floats; the others are as `x`.
    fn norm(
        &mut self,
        op: &'static str,
        key: Key,
        arrays: &[(usize, &Tensor)],
        written: usize,
        eps: f64,
    ) -> Result<()> {
        let kept = match key.file {
            File::LayerNorm => 2,
            _ => 1,
        };
        let is_vector = |number| number == 3 || (number == 4 && key.file == File::LayerNorm);
        let x = arrays[2].1;
        let (tokens, width) = (x.rows(), x.width());
        for (number, array) in arrays {
            match number {
                1 => same(op, "saved floats", array.len(), kept * tokens)?,
                &number if is_vector(number) => same(op, "weights", array.len(), width)?,
                _ => shaped(op, "an array", array, [tokens, width])?,
            }
        }
        let at_once = self.rows_at_once(width);
        for first in (0..tokens).step_by(at_once) {
            let rows = first..tokens.min(first + at_once);
            let parts = arrays.iter().map(|(number, array)| {
                let part = match number {
                    1 => array.reshape(tokens, kept)?.slice(rows.clone())?,
                    &number if is_vector(number) => (*array).clone(),
                    _ => array.slice(rows.clone())?,
                };
                Ok((*number, part))
            });
            let parts: Vec<_> = parts.collect::<Result<_>>()?;
            let bound: Vec<_> = parts.iter().map(|(n, part)| (*n, part.into())).collect();
            self.run(&Call {
                op,
                key,
                arrays: &bound,
                written,
                words: &[rows.len() as u32, width as u32, (eps as f32).to_bits()],
                groups: Groups::Line(rows.len()),
            })?;
        }
        Ok(())
    }
}
