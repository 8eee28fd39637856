//! A layer's matrices and norms in a device's memory.

use graft_gpu::{Arena, Device, Matrix, Recorder, Tensor};

use crate::Result;
use crate::model::{Layer, SiteKind, Weight};

/// One layer.
#[derive(Clone, Debug)]
pub(super) struct LayerWeights {
    /// In the order of [`SiteKind::ALL`].
    matrices: Vec<Matrix>,
    /// `[1, W]`.
    pub attention_norm: Tensor,
    /// `[1, W]`.
    pub feed_forward_norm: Tensor,
}

impl LayerWeights {
    /// Bytes that its matrices take.
    pub fn bytes(device: &Device, layer: &Layer) -> u64 {
        let linears = layer.linears().map(|linear| linear.weight());
        let bytes = linears.map(|weight| {
            let (ty, outputs) = (weight.quant_type(), weight.outputs());
            device.matrix_bytes(ty, outputs, weight.inputs())
        });
        // A matrix that no kernel can see refuses itself when it is cut.
        bytes.map(Option::unwrap_or_default).sum()
    }

    /// Bytes that its norms take.
    pub fn norm_bytes(device: &Device, width: usize) -> u64 {
        2 * device.tensor_bytes(1, width)
    }

    /// The matrix of a linear layer.
    pub fn matrix(&self, linear: SiteKind) -> &Matrix {
        &self.matrices[linear as usize]
    }
}

/// Where a layer's weights come from: the model's mapped file, and norms that were decoded once.
#[derive(Debug)]
pub(super) struct LayerSource {
    matrices: Vec<Weight>,
    norms: [Vec<f32>; 2],
}

impl LayerSource {
    /// A layer's.
    pub fn of(layer: &Layer) -> Self {
        Self {
            matrices: layer
                .linears()
                .map(|linear| linear.weight().clone())
                .collect(),
            norms: layer.norms().map(<[f32]>::to_vec),
        }
    }

    /// Cuts a layer's arrays and records that they are written.
    ///
    /// # Errors
    /// If they do not fit the arenas, or the device is lost.
    pub fn write(
        &self,
        recorder: &mut Recorder,
        (matrices, norms): (&Arena, &Arena),
    ) -> Result<LayerWeights> {
        let mut norm = |values: &Vec<f32>| -> Result<Tensor> {
            let tensor = norms.tensor(1, values.len())?;
            recorder.write(&tensor, values)?;
            Ok(tensor)
        };
        let [attention_norm, feed_forward_norm] = self.norms.each_ref().map(&mut norm);
        let (attention_norm, feed_forward_norm) = (attention_norm?, feed_forward_norm?);
        let mut cut = Vec::with_capacity(SiteKind::ALL.len());
        for weight in &self.matrices {
            let (ty, outputs) = (weight.quant_type(), weight.outputs());
            let matrix = matrices.matrix(ty, outputs, weight.inputs())?;
            recorder.write_matrix(&matrix, weight.bytes())?;
            cut.push(matrix);
        }
        Ok(LayerWeights {
            matrices: cut,
            attention_norm,
            feed_forward_norm,
        })
    }
}
