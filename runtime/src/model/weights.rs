//! GGUF tensors bound to typed fields; every shape is checked here and nowhere else.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use graft_kernels::{Kernels, QuantType};

use super::{LlamaShape, ModelError, SiteKind};
use crate::gguf::Gguf;

/// A frozen matrix inside a model file, or some of its rows; clones share the file.
#[derive(Clone, Debug)]
pub struct Weight {
    gguf: Arc<Gguf>,
    tensor: usize,
    rows: Range<usize>,
    inputs: usize,
    quant_type: QuantType,
}

impl Weight {
    /// Binds the matrix `name`, which must be `[outputs, inputs]`.
    ///
    /// # Errors
    /// If it is absent or of another shape.
    pub fn bind(
        gguf: &Arc<Gguf>,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, ModelError> {
        let tensor = position(gguf, name, &[inputs, outputs])?;
        Ok(Self {
            quant_type: gguf.tensors()[tensor].quant_type,
            gguf: Arc::clone(gguf),
            tensor,
            rows: 0..outputs,
            inputs,
        })
    }

    /// Binds a tensor of more axes whose last is `outputs` and whose others hold `inputs` values.
    ///
    /// # Errors
    /// If it is absent or of another shape.
    pub fn bind_flattened(
        gguf: &Arc<Gguf>,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, ModelError> {
        let missing = || ModelError::MissingTensor(name.to_owned());
        let tensor = gguf.position(name).ok_or_else(missing)?;
        let info = &gguf.tensors()[tensor];
        let fits = info.shape.last() == Some(&outputs)
            && info.elements() == outputs * inputs
            && info.quant_type.block_len() == 1;
        if !fits {
            return Err(ModelError::TensorShape {
                tensor: name.to_owned(),
                expected: vec![inputs, outputs],
                found: info.shape.clone(),
            });
        }
        Ok(Self {
            quant_type: info.quant_type,
            gguf: Arc::clone(gguf),
            tensor,
            rows: 0..outputs,
            inputs,
        })
    }

    /// How it is stored.
    pub fn quant_type(&self) -> QuantType {
        self.quant_type
    }

    /// Rows: the width of a product with it.
    pub fn outputs(&self) -> usize {
        self.rows.len()
    }

    /// Columns: the width of what it is multiplied with.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.quant_type
            .row_bytes(self.inputs)
            .expect("the reader refuses rows of incomplete blocks")
    }

    /// The stored bytes, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.gguf.data(self.tensor)[self.range()]
    }

    /// Asks the system to read the rows soon, in the background. Only a hint.
    pub fn prefetch(&self) {
        self.gguf.prefetch(self.tensor, self.range());
    }

    /// Lets the memory of the rows go until they are touched again. Only a hint.
    pub fn release(&self) {
        self.gguf.release(self.tensor, self.range());
    }

    /// Which bytes of the tensor's data the rows are.
    fn range(&self) -> Range<usize> {
        let row = self.row_bytes();
        self.rows.start * row..self.rows.end * row
    }

    /// Some of the rows as a matrix of their own, without copying.
    ///
    /// # Panics
    /// If the range is not inside `0..outputs()`.
    pub fn narrow(&self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.outputs());
        Self {
            rows: self.rows.start + rows.start..self.rows.start + rows.end,
            ..self.clone()
        }
    }

    /// Decodes row `row` into `out` (`[inputs]`).
    pub fn decode_row(&self, row: usize, out: &mut [f32], kernels: &Kernels) {
        let bytes = self.row_bytes();
        kernels.decode(self.quant_type, &self.bytes()[row * bytes..][..bytes], out);
    }
}

/// A vector stored as floats (norms, biases, rotary factors), decoded once.
///
/// # Errors
/// If it is absent, of another length, or stored in a block type.
pub fn vector(gguf: &Arc<Gguf>, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
    let tensor = position(gguf, name, &[len])?;
    let found = gguf.tensors()[tensor].quant_type;
    if found.block_len() != 1 {
        return Err(ModelError::TensorType {
            tensor: name.to_owned(),
            found,
        });
    }
    let mut out = vec![0.0; len];
    graft_kernels::blocks::decode(found, gguf.data(tensor), &mut out);
    Ok(out)
}

/// Index of a tensor of exactly this shape; trailing axes of length 1 do not count.
fn position(gguf: &Gguf, name: &str, shape: &[usize]) -> Result<usize, ModelError> {
    let index = gguf
        .position(name)
        .ok_or_else(|| ModelError::MissingTensor(name.to_owned()))?;
    let mut found = gguf.tensors()[index].shape.as_slice();
    while found.len() > shape.len() && found.last() == Some(&1) {
        found = &found[..found.len() - 1];
    }
    if found != shape {
        return Err(ModelError::TensorShape {
            tensor: name.to_owned(),
            expected: shape.to_vec(),
            found: found.to_vec(),
        });
    }
    Ok(index)
}

/// All tensors of a LLaMA model.
#[derive(Debug)]
pub struct LlamaWeights {
    /// Sizes, with the vocabulary taken from the embedding.
    pub shape: LlamaShape,
    /// `[V, W]`.
    pub embedding: Weight,
    /// Bottom up.
    pub layers: Vec<LayerWeights>,
    /// `[W]`.
    pub output_norm: Vec<f32>,
    /// `[V, W]`; the embedding itself where the file has no other.
    pub output: Weight,
    /// Divisors of the rotary frequencies, `[D / 2]`, where the file has them (LLaMA 3).
    pub rope_factors: Option<Vec<f32>>,
}

/// The tensors of one layer.
#[derive(Debug)]
pub struct LayerWeights {
    /// `[W]`.
    pub attention_norm: Vec<f32>,
    /// `[W]`.
    pub feed_forward_norm: Vec<f32>,
    /// In the order of [`SiteKind::ALL`].
    pub linears: [Weight; 7],
}

impl LlamaWeights {
    /// Finds and checks every tensor.
    ///
    /// # Errors
    /// Whatever [`LlamaShape::from_metadata`] refuses; a tensor that is missing, of the
    /// wrong shape, or that nothing here would use (a bias, an expert).
    pub fn bind(gguf: &Arc<Gguf>) -> Result<Self, ModelError> {
        // Reading the metadata first lets a file of another architecture say so.
        let rows = gguf.position("token_embd.weight").map_or(0, |tensor| {
            gguf.tensors()[tensor].shape.get(1).copied().unwrap_or(1)
        });
        let shape = LlamaShape::from_metadata(gguf.metadata(), rows)?;
        let mut names = Names::default();
        let bound = Self {
            embedding: Weight::bind(gguf, names.of("token_embd"), rows, shape.width)?,
            layers: (0..shape.layers)
                .map(|layer| LayerWeights::bind(gguf, &mut names, &shape, layer))
                .collect::<Result<_, _>>()?,
            output_norm: vector(gguf, names.of("output_norm"), shape.width)?,
            output: match gguf.position("output.weight") {
                Some(_) => Weight::bind(gguf, names.of("output"), rows, shape.width)?,
                None => Weight::bind(gguf, names.of("token_embd"), rows, shape.width)?,
            },
            rope_factors: match gguf.position("rope_freqs.weight") {
                Some(_) => Some(rope_factors(gguf, names.of("rope_freqs"), &shape)?),
                None => None,
            },
            shape,
        };
        match gguf
            .tensors()
            .iter()
            .find(|t| !names.known.contains(&t.name))
        {
            Some(stranger) => Err(ModelError::UnknownTensor(stranger.name.clone())),
            None => Ok(bound),
        }
    }
}

impl LayerWeights {
    fn bind(
        gguf: &Arc<Gguf>,
        names: &mut Names,
        shape: &LlamaShape,
        layer: usize,
    ) -> Result<Self, ModelError> {
        let linears: Vec<Weight> = SiteKind::ALL
            .into_iter()
            .map(|kind| {
                let (outputs, inputs) = shape.linear(kind);
                let name = names.of(&format!("blk.{layer}.{}", kind.gguf_name()));
                Weight::bind(gguf, name, outputs, inputs)
            })
            .collect::<Result<_, _>>()?;
        let mut norm = |name| vector(gguf, names.of(&format!("blk.{layer}.{name}")), shape.width);
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            feed_forward_norm: norm("ffn_norm")?,
            linears: linears.try_into().expect("seven kinds, seven weights"),
        })
    }
}

fn rope_factors(gguf: &Arc<Gguf>, name: &str, shape: &LlamaShape) -> Result<Vec<f32>, ModelError> {
    let factors = vector(gguf, name, shape.head_width / 2)?;
    match factors.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
        Some(bad) => Err(ModelError::Inconsistent(format!(
            "tensor {name} holds the rotary factor {bad}"
        ))),
        None => Ok(factors),
    }
}

/// The names asked for so far; a file may hold no others.
#[derive(Default)]
struct Names {
    known: HashSet<String>,
    last: String,
}

impl Names {
    fn of(&mut self, stem: &str) -> &str {
        self.last = format!("{stem}.weight");
        self.known.insert(self.last.clone());
        &self.last
    }
}
