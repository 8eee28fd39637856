//! Operators that treat every element alike: sums, multiples, copies, constants, activations.

use super::File;
use crate::recorder::{Call, Groups, same};
use crate::shader::Key;
use crate::{Recorder, Result, Tensor};

/// Threads of a group.
pub(super) const THREADS: usize = 256;

impl Recorder {
    /// `y += factor * x`, of any shapes of as many floats.
    ///
    /// # Errors
    /// If lengths differ, arrays overlap, or the device refuses.
    pub fn add(&mut self, y: &Tensor, x: &Tensor, factor: f32) -> Result<()> {
        let key = Key::of(File::Elementwise, "add");
        self.elementwise("add", key, &[(0, y), (1, x)], 1, &[factor.to_bits()])
    }

    /// `y = x`, of any shapes of as many floats.
    ///
    /// # Errors
    /// As [`Recorder::add`].
    pub fn copy(&mut self, y: &Tensor, x: &Tensor) -> Result<()> {
        let key = Key::of(File::Elementwise, "copy");
        self.elementwise("copy", key, &[(0, y), (1, x)], 1, &[0])
    }

    /// `y *= factor`.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn scale(&mut self, y: &Tensor, factor: f32) -> Result<()> {
        let key = Key::of(File::Elementwise, "scale");
        self.elementwise("scale", key, &[(0, y)], 1, &[factor.to_bits()])
    }

    /// Makes every float of `y` the same; zero, before gradients are added.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn fill(&mut self, y: &Tensor, value: f32) -> Result<()> {
        let key = Key::of(File::Elementwise, "fill");
        self.elementwise("fill", key, &[(0, y)], 1, &[value.to_bits()])
    }

    /// Writes `y = silu(gate) * up`.
    ///
    /// # Errors
    /// As [`Recorder::add`].
    pub fn swiglu(&mut self, y: &Tensor, gate: &Tensor, up: &Tensor) -> Result<()> {
        let arrays = [(0, y), (1, gate), (2, up)];
        self.elementwise("swiglu", Key::of(File::Swiglu, "forward"), &arrays, 1, &[])
    }

    /// Adds to `dgate` and `dup`, given what forward was given.
    ///
    /// # Errors
    /// As [`Recorder::add`].
    pub fn swiglu_backward(
        &mut self,
        dgate: &Tensor,
        dup: &Tensor,
        dy: &Tensor,
        gate: &Tensor,
        up: &Tensor,
    ) -> Result<()> {
        let arrays = [(3, dgate), (4, dup), (0, dy), (1, gate), (2, up)];
        let key = Key::of(File::Swiglu, "backward");
        self.elementwise("swiglu_backward", key, &arrays, 2, &[])
    }

    /// Writes `y = x * P(x)`, GELU in its exact form.
    ///
    /// # Errors
    /// As [`Recorder::add`].
    pub fn gelu(&mut self, y: &Tensor, x: &Tensor) -> Result<()> {
        let key = Key::of(File::Gelu, "forward");
        self.elementwise("gelu", key, &[(0, y), (1, x)], 1, &[])
    }

    /// Adds to `dx`, given what forward was given.
    ///
    /// # Errors
    /// As [`Recorder::add`].
    pub fn gelu_backward(&mut self, dx: &Tensor, dy: &Tensor, x: &Tensor) -> Result<()> {
        let key = Key::of(File::Gelu, "backward");
        self.elementwise("gelu_backward", key, &[(2, dx), (0, dy), (1, x)], 1, &[])
    }

    /// Writes `y = x * sigmoid(1.702 x)`, CLIP's activation.
    ///
    /// # Errors
    /// As [`Recorder::add`].
    pub fn quick_gelu(&mut self, y: &Tensor, x: &Tensor) -> Result<()> {
        let key = Key::of(File::QuickGelu, "forward");
        self.elementwise("quick_gelu", key, &[(0, y), (1, x)], 1, &[])
    }

    /// Adds to `dx`, given what forward was given.
    ///
    /// # Errors
    /// As [`Recorder::add`].
    pub fn quick_gelu_backward(&mut self, dx: &Tensor, dy: &Tensor, x: &Tensor) -> Result<()> {
        let key = Key::of(File::QuickGelu, "backward");
        let arrays = [(2, dx), (0, dy), (1, x)];
        self.elementwise("quick_gelu_backward", key, &arrays, 1, &[])
    }

    /// Runs a kernel with a thread to each element of arrays of one length, a part at a time where they
    /// are longer than a kernel can see. Immediates are the part's length, then `words`.
    pub(super) fn elementwise(
        &mut self,
        op: &'static str,
        key: Key,
        arrays: &[(usize, &Tensor)],
        written: usize,
        words: &[u32],
    ) -> Result<()> {
        let len = arrays[0].1.len();
        for (_, array) in arrays {
            same(op, "floats", array.len(), len)?;
        }
        let at_once = self.rows_at_once(1);
        for first in (0..len).step_by(at_once) {
            let range = first..len.min(first + at_once);
            let parts = arrays.iter().map(|(number, array)| {
                let part = array.reshape(len, 1)?.slice(range.clone())?;
                Ok((*number, part))
            });
            let parts: Vec<_> = parts.collect::<Result<_>>()?;
            let bound: Vec<_> = parts.iter().map(|(n, part)| (*n, part.into())).collect();
            let words: Vec<_> = [range.len() as u32].iter().chain(words).copied().collect();
            self.run(&Call {
                op,
                key,
                arrays: &bound,
                written,
                words: &words,
                groups: Groups::Line(range.len().div_ceil(THREADS)),
            })?;
        }
        Ok(())
    }
}
