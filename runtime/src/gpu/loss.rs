//! The loss of training on a device: final norm, output matrix, softmax and cross-entropy, and their gradients.
//!
//! Only rows that carry a label are normed and multiplied, some at a time, with the output matrix in parts of the
//! vocabulary. On the way up the parts' logits go into each row's maximum and sum; on the way down they are computed
//! again, become gradients and are multiplied with the part. The topmost part is still there when the way turns, so
//! of a matrix in one part nothing is computed twice.

use std::ops::Range;

use graft_gpu::{Arena, Device, GpuError, Ids, LossRows, Matrix, Part, Recorder, Tensor};
use graft_kernels::QuantType;

use super::layers::GpuLayers;
use super::placement::OUTPUT_ROWS;
use crate::Result;
use crate::model::{LlamaShape, Weight};

/// How rows and the output matrix are gone through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LossPlace {
    /// Labelled rows at once.
    rows: usize,
    /// Tokens of a part of the matrix.
    part: usize,
    /// Whether the matrix stays on the device, whole.
    pub stays: bool,
}

impl LossPlace {
    /// Ways for passes of `tokens` rows, the fastest first. What is written to the device again for each pass serves
    /// as many rows as there are; they are bounded because a kernel must see their logits whole.
    pub fn ways(shape: &LlamaShape, tokens: usize) -> impl Iterator<Item = Self> {
        const MOST_ROWS: usize = 2048;
        let vocabulary = shape.vocabulary;
        let staying = [128, 32, OUTPUT_ROWS].into_iter().map(move |rows| Self {
            rows: rows.min(tokens).max(1),
            part: vocabulary,
            stays: true,
        });
        let passing = [8192, 2048, 512].into_iter().map(move |part| Self {
            rows: tokens.clamp(1, MOST_ROWS),
            part: vocabulary.min(part),
            stays: false,
        });
        staying.chain(passing)
    }

    /// Bytes of what training takes for it; the matrix is not among them where it stays.
    pub fn bytes(
        self,
        device: &Device,
        shape: &LlamaShape,
        ty: QuantType,
        tokens: usize,
    ) -> Option<u64> {
        let part = match self.stays {
            true => 0,
            false => device.matrix_bytes(ty, self.part, shape.width)?,
        };
        let norm = device.tensor_bytes(1, shape.width);
        Some(norm + part + self.runs(device, shape, tokens).iter().sum::<u64>())
    }

    /// Bytes of each array of [`GpuLoss`], in the order in which they are taken.
    fn runs(self, device: &Device, shape: &LlamaShape, tokens: usize) -> [u64; 9] {
        let row = |width| device.tensor_bytes(self.rows, width);
        let [positions, labels] = [device.tensor_bytes(1, self.rows); 2];
        let [rows, normed, dnormed] = [row(shape.width); 3];
        let (inv_rms, logits, state) = (row(1), row(self.part), row(3));
        let losses = device.tensor_bytes(tokens, 1);
        [
            rows, normed, dnormed, inv_rms, logits, state, positions, labels, losses,
        ]
    }
}

/// Buffers of the loss, and the final norm.
#[derive(Debug)]
pub(super) struct GpuLoss {
    place: LossPlace,
    /// The output matrix in the model's file, and room for a part of it if it does not stay.
    weight: Weight,
    passing: Option<Arena>,
    /// Whether what was read of the file leaves memory.
    release: bool,
    /// `[1, W]`.
    norm: Tensor,
    /// Before and after the norm, and the gradient of the latter, `[rows, W]`.
    rows: Tensor,
    normed: Tensor,
    dnormed: Tensor,
    /// `[rows, 1]`.
    inv_rms: Tensor,
    /// Of a part, `[rows, part]`.
    logits: Tensor,
    /// `[rows, 3]`.
    state: Tensor,
    /// `[rows]`.
    positions: Ids,
    labels: Ids,
    /// Of each labelled row, `[T, 1]`.
    losses: Tensor,
}

impl GpuLoss {
    /// Room for the loss of passes of up to `tokens` rows.
    ///
    /// # Errors
    /// If the device was not to compute it, or the budget or the device has no room.
    pub fn new(layers: &GpuLayers, tokens: usize, release: bool) -> Result<Self> {
        let (device, shape, head) = (&layers.device, &layers.shape, &layers.head);
        let Some(place) = head.loss else {
            let what = "no room was made for the loss".to_owned();
            return Err(GpuError::Shape { op: "loss", what }.into());
        };
        let place = LossPlace {
            rows: place.rows.min(tokens).max(1),
            ..place
        };
        let passing = match place.stays {
            true => None,
            false => {
                let ty = head.weight.quant_type();
                let bytes = device.matrix_bytes(ty, place.part, shape.width);
                Some(device.arena(Part::StreamedWeights, bytes.unwrap_or_default())?)
            }
        };
        let norms = device.arena(Part::Norms, device.tensor_bytes(1, shape.width))?;
        let norm = norms.tensor(1, shape.width)?;
        let mut recorder = Recorder::new(device)?;
        recorder.write(&norm, &head.norm)?;
        recorder.submit()?;
        let arena = device.arena_of(Part::Loss, place.runs(device, shape, tokens))?;
        Ok(Self {
            weight: head.weight.clone(),
            passing,
            release,
            norm,
            rows: arena.tensor(place.rows, shape.width)?,
            normed: arena.tensor(place.rows, shape.width)?,
            dnormed: arena.tensor(place.rows, shape.width)?,
            inv_rms: arena.tensor(place.rows, 1)?,
            logits: arena.tensor(place.rows, place.part)?,
            state: arena.tensor(place.rows, 3)?,
            positions: arena.ids(place.rows)?,
            labels: arena.ids(place.rows)?,
            losses: arena.tensor(tokens, 1)?,
            place,
        })
    }

    /// The summed loss over `targets` (position, label) of rows `x` `[T, W]`. Its gradient times the scale replaces
    /// what is in `dx`, where one is given.
    ///
    /// # Errors
    /// If there is no such position or label, there are more than rows, or the device is lost.
    pub fn run(
        &self,
        layers: &GpuLayers,
        x: &Tensor,
        dx: Option<(&Tensor, f32)>,
        targets: &[(usize, i32)],
    ) -> Result<f64> {
        let losses = self.losses.slice(0..targets.len())?;
        if let Some((dx, _)) = dx {
            let mut recorder = Recorder::new(&layers.device)?;
            recorder.fill(dx, 0.0)?;
            recorder.submit()?;
        }
        for (i, targets) in targets.chunks(self.place.rows).enumerate() {
            let first = i * self.place.rows;
            let losses = losses.slice(first..first + targets.len())?;
            self.some_rows(layers, x, dx, targets, &losses)?;
        }
        let mut values = vec![0.0; targets.len()];
        layers.device.read(&losses, &mut values)?;
        Ok(values.into_iter().map(f64::from).sum())
    }

    /// The same for as many targets as there are rows for; their losses go to `losses`.
    fn some_rows(
        &self,
        layers: &GpuLayers,
        x: &Tensor,
        dx: Option<(&Tensor, f32)>,
        targets: &[(usize, i32)],
        losses: &Tensor,
    ) -> Result<()> {
        let (device, shape, n) = (&layers.device, &layers.shape, targets.len());
        let numbers = targets.iter().map(|&(position, _)| position as i32);
        let (positions, labels) = (self.positions.slice(0..n)?, self.labels.slice(0..n)?);
        let mut recorder = Recorder::new(device)?;
        recorder.write_ids(&positions, &numbers.collect::<Vec<_>>(), x.rows())?;
        let numbers = targets.iter().map(|&(_, label)| label);
        recorder.write_ids(&labels, &numbers.collect::<Vec<_>>(), shape.vocabulary)?;
        let (rows, normed) = (self.rows.slice(0..n)?, self.normed.slice(0..n)?);
        let inv_rms = self.inv_rms.slice(0..n)?;
        recorder.gather(&rows, x, &positions)?;
        let eps = f64::from(shape.norm_eps);
        recorder.rms_norm(&normed, &inv_rms, &rows, &self.norm, eps)?;
        let seen = LossRows {
            labels,
            state: self.state.slice(0..n)?,
        };

        let mut last: Option<Matrix> = None;
        for part in self.parts() {
            // Its place is the next one's.
            drop(last.take());
            let matrix = self.matrix(layers, &part, &mut recorder)?;
            let logits = self.logits_of(n, part.len())?;
            recorder.linear(&logits, &normed, &matrix)?;
            recorder.softmax_observe(&logits, &seen, part.start)?;
            recorder = submitted(recorder)?;
            last = Some(matrix);
        }
        recorder.softmax_cross_entropy(losses, &seen)?;
        let Some((dx, scale)) = dx else {
            recorder.submit()?;
            return Ok(());
        };
        let dnormed = self.dnormed.slice(0..n)?;
        recorder.fill(&dnormed, 0.0)?;
        for part in self.parts().rev() {
            let logits = self.logits_of(n, part.len())?;
            let matrix = match last.take() {
                Some(matrix) => matrix,
                None => {
                    let matrix = self.matrix(layers, &part, &mut recorder)?;
                    recorder.linear(&logits, &normed, &matrix)?;
                    matrix
                }
            };
            let scale = f64::from(scale);
            recorder.softmax_cross_entropy_backward(&logits, &seen, part.start, scale)?;
            recorder.mm_q_backward(&dnormed, &logits, &matrix)?;
            recorder = submitted(recorder)?;
        }
        // The normed rows have been read for the last time.
        let drows = normed;
        recorder.fill(&drows, 0.0)?;
        recorder.rms_norm_backward(&drows, &dnormed, &rows, &self.norm, &inv_rms)?;
        recorder.gather_backward(dx, &drows, &positions)?;
        recorder.submit()?;
        Ok(())
    }

    /// The parts of the vocabulary.
    fn parts(&self) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let (vocabulary, part) = (self.weight.outputs(), self.place.part.max(1));
        let parts = 0..vocabulary.div_ceil(part);
        parts.map(move |i| i * part..vocabulary.min((i + 1) * part))
    }

    fn logits_of(&self, rows: usize, part: usize) -> Result<Tensor> {
        let all = self.logits.reshape(self.logits.len(), 1)?;
        Ok(all.slice(0..rows * part)?.reshape(rows, part)?)
    }

    /// A part of the output matrix, for commands recorded next; where it does not stay, it is written first.
    fn matrix(
        &self,
        layers: &GpuLayers,
        part: &Range<usize>,
        recorder: &mut Recorder,
    ) -> Result<Matrix> {
        match (&layers.head.resident, &self.passing) {
            (_, Some(passing)) => {
                let weight = self.weight.narrow(part.clone());
                let matrix = passing.matrix(weight.quant_type(), part.len(), weight.inputs())?;
                recorder.write_matrix(&matrix, weight.bytes())?;
                if self.release {
                    weight.release();
                }
                Ok(matrix)
            }
            (Some((matrix, _)), None) => Ok(matrix.clone()),
            (None, None) => unreachable!("what does not stay has room to pass"),
        }
    }
}

/// Submits what was recorded and begins anew.
fn submitted(recorder: Recorder) -> Result<Recorder> {
    let next = Recorder::new(recorder.device())?;
    recorder.submit()?;
    Ok(next)
}
