//! The matrices of a folder, the places they belong to, and the pairs that they make.

use std::collections::BTreeMap;

use graft_kernels::{QuantType, blocks};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::rows;
use crate::adapter::pair::transposed;
use crate::adapter::{AdapterError, LoraPair};
use crate::model::{LlamaShape, Site};

/// `[rows, columns]`.
pub(in crate::adapter) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Decodes a tensor.
    ///
    /// # Errors
    /// A sentence: its shape or its type.
    pub fn read(name: &str, view: &TensorView<'_>) -> Result<Self, String> {
        let &[rows, columns] = view.shape() else {
            return Err(format!(
                "{name} has shape {:?}, not a matrix's",
                view.shape()
            ));
        };
        let quant_type = match view.dtype() {
            Dtype::F32 => QuantType::F32,
            Dtype::F16 => QuantType::F16,
            Dtype::BF16 => QuantType::BF16,
            other => return Err(format!("{name} is {other:?}; save it as F32, F16 or BF16")),
        };
        // The safetensors reader has checked that the data is as long as the shape says.
        let mut values = vec![0.0; view.data().len() / quant_type.block_bytes()];
        blocks::decode(quant_type, view.data(), &mut values);
        Ok(Self {
            rows,
            columns,
            values,
        })
    }

    /// Rows as columns.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            values: transposed(&self.values, self.columns),
        }
    }
}

/// The halves that were found so far, by place.
#[derive(Default)]
pub(in crate::adapter) struct Places(BTreeMap<Site, (String, [Option<Matrix>; 2])>);

impl Places {
    /// Adds A (`half` 0, `[R, inputs]`) or B (1, `[outputs, R]`) of a module.
    ///
    /// # Errors
    /// If the half is there already, or another module is at this place.
    pub fn add(
        &mut self,
        site: Site,
        module: &str,
        half: usize,
        matrix: Matrix,
    ) -> Result<(), AdapterError> {
        let entry = self.0.entry(site);
        let (known, halves) = entry.or_insert_with(|| (module.to_owned(), [None, None]));
        if known != module || halves[half].replace(matrix).is_some() {
            return Err(AdapterError::Twice { site });
        }
        Ok(())
    }

    /// The pairs in order, with the rank and scale that the configuration has for each module.
    ///
    /// # Errors
    /// A sentence that names the first module with one half only, or whose matrices differ from the
    /// configuration or the model.
    pub fn pairs(
        self,
        shape: &LlamaShape,
        rank_and_scale: impl Fn(&str) -> (usize, f32),
    ) -> Result<Vec<(Site, LoraPair)>, String> {
        let entries = self.0.into_iter().map(|(site, (module, halves))| {
            let [Some(a), Some(b)] = halves else {
                return Err(format!(
                    "{module} has only one of lora_A and lora_B; the file is incomplete"
                ));
            };
            let (rank, scale) = rank_and_scale(&module);
            let pair = pair(a, b, site, shape, rank, scale);
            Ok((site, pair.map_err(|reason| format!("{module}: {reason}"))?))
        });
        entries.collect()
    }
}

/// The pair at a site, from A `[R, inputs]` and B `[outputs, R]` in Hugging Face's order of rows. Sizes in the
/// vision half are compared when the adapter meets one.
///
/// # Errors
/// A sentence: where the matrices differ from the configuration or the model.
fn pair(
    a: Matrix,
    b: Matrix,
    site: Site,
    shape: &LlamaShape,
    rank: usize,
    scale: f32,
) -> Result<LoraPair, String> {
    if (a.rows, b.columns) != (rank, rank) {
        return Err(format!(
            "the configuration says rank {rank}, the tensors {} and {}",
            a.rows, b.columns
        ));
    }
    // A row of the embedding is a token's: looked up, its pair is that of the matrix transposed.
    let (a, b) = match site {
        Site::Embedding => (b.transposed(), a.transposed()),
        _ => (a, b),
    };
    if let Some((outputs, inputs)) = shape.sizes(site)
        && (b.rows, a.columns) != (outputs, inputs)
    {
        return Err(format!(
            "it is {inputs} to {outputs} in the model, {} to {} in the adapter; is this another base?",
            a.columns, b.rows
        ));
    }
    let b = rows::to_gguf(b.values, rank, shape, site);
    LoraPair::new(a.values, b, rank, scale).ok_or_else(|| "it is empty".into())
}
