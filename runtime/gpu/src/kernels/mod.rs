//! One WGSL file per kernel, forward and backward together, and beside it the operators of
//! [`crate::Recorder`] that run it.
//!
//! Names, shapes and meaning are those of `graft_kernels::ops`, whose portable versions are what tests
//! compare with: a forward writes, a backward adds to its gradients. A kernel's immediate data begins
//! with the offset of each of its arrays, in words, because arrays begin anywhere and bindings at
//! multiples of up to 256 bytes. Arrays that hold anything but matrices are all bound as writable,
//! which they must be as they may lie in the same buffer.

mod adamw;
mod attention;
mod bf16;
mod bias;
mod elementwise;
mod gather;
mod low_rank;
mod mm_q;
mod mv_q;
mod norms;
mod rope;
mod rows_q;
mod softmax_cross_entropy;
mod sum_squares;
#[cfg(test)]
mod tests;

pub use adamw::AdamWStep;
pub use attention::{AttentionGradients, AttentionSaved};
pub use bf16::Bf16Tensor;
pub use low_rank::{LoraGradients, LoraLayer};
pub use mm_q::Weights;
pub use rope::RopeTurns;
pub use softmax_cross_entropy::LossRows;

use graft_kernels::QuantType;

#[cfg(test)]
use crate::Arithmetic;
use crate::{GpuError, Result, Tensor};

/// A kernel's file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum File {
    MmQ,
    MmHalf,
    MmMatrix8,
    MmMatrix16,
    MmDot4,
    RowScale,
    MvQ,
    MvDot4,
    RowsQ,
    RmsNorm,
    LayerNorm,
    Rope,
    Swiglu,
    Gelu,
    QuickGelu,
    Elementwise,
    Bf16,
    Bias,
    Gather,
    SoftmaxCrossEntropy,
    LowRank,
    Attention,
    AttentionThin,
    AdamW,
    SumSquares,
}

impl File {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 25] = [
        Self::MmQ,
        Self::MmHalf,
        Self::MmMatrix8,
        Self::MmMatrix16,
        Self::MmDot4,
        Self::RowScale,
        Self::MvQ,
        Self::MvDot4,
        Self::RowsQ,
        Self::RmsNorm,
        Self::LayerNorm,
        Self::Rope,
        Self::Swiglu,
        Self::Gelu,
        Self::QuickGelu,
        Self::Elementwise,
        Self::Bf16,
        Self::Bias,
        Self::Gather,
        Self::SoftmaxCrossEntropy,
        Self::LowRank,
        Self::Attention,
        Self::AttentionThin,
        Self::AdamW,
        Self::SumSquares,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MmQ => "mm_q",
            Self::MmHalf => "mm_half",
            Self::MmMatrix8 => "mm_half by matrix units of 8",
            Self::MmMatrix16 => "mm_half by matrix units of 16",
            Self::MmDot4 => "mm_dot4",
            Self::RowScale => "row_scale",
            Self::MvQ => "mv_q",
            Self::MvDot4 => "mv_dot4",
            Self::RowsQ => "rows_q",
            Self::RmsNorm => "rms_norm",
            Self::LayerNorm => "layer_norm",
            Self::Rope => "rope",
            Self::Swiglu => "swiglu",
            Self::Gelu => "gelu",
            Self::QuickGelu => "quick_gelu",
            Self::Elementwise => "elementwise",
            Self::Bf16 => "bf16",
            Self::Bias => "bias",
            Self::Gather => "gather",
            Self::SoftmaxCrossEntropy => "softmax_cross_entropy",
            Self::LowRank => "low_rank",
            Self::Attention => "attention",
            Self::AttentionThin => "attention_thin",
            Self::AdamW => "adamw",
            Self::SumSquares => "sum_squares",
        }
    }

    /// The file, without what [`File::prelude`] puts before it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::MmQ => include_str!("mm_q.wgsl"),
            Self::MmHalf | Self::MmMatrix8 | Self::MmMatrix16 => include_str!("mm_half.wgsl"),
            Self::MmDot4 => include_str!("mm_dot4.wgsl"),
            Self::RowScale => include_str!("row_scale.wgsl"),
            Self::MvQ => include_str!("mv_q.wgsl"),
            Self::MvDot4 => include_str!("mv_dot4.wgsl"),
            Self::RowsQ => include_str!("rows_q.wgsl"),
            Self::RmsNorm => include_str!("rms_norm.wgsl"),
            Self::LayerNorm => include_str!("layer_norm.wgsl"),
            Self::Rope => include_str!("rope.wgsl"),
            Self::Swiglu => include_str!("swiglu.wgsl"),
            Self::Gelu => include_str!("gelu.wgsl"),
            Self::QuickGelu => include_str!("quick_gelu.wgsl"),
            Self::Elementwise => include_str!("elementwise.wgsl"),
            Self::Bf16 => include_str!("bf16.wgsl"),
            Self::Bias => include_str!("bias.wgsl"),
            Self::Gather => include_str!("gather.wgsl"),
            Self::SoftmaxCrossEntropy => include_str!("softmax_cross_entropy.wgsl"),
            Self::LowRank => include_str!("low_rank.wgsl"),
            Self::Attention => include_str!("attention.wgsl"),
            Self::AttentionThin => include_str!("attention_thin.wgsl"),
            Self::AdamW => include_str!("adamw.wgsl"),
            Self::SumSquares => include_str!("sum_squares.wgsl"),
        }
    }

    /// What a device must have for it; most kernels need nothing that not every device has.
    #[cfg(test)]
    pub(crate) fn needs(self) -> wgpu::Features {
        match self {
            Self::MmHalf => Arithmetic::Half.needs(),
            Self::MmMatrix8 | Self::MmMatrix16 => Arithmetic::Matrix.needs(),
            _ => wgpu::Features::empty(),
        }
    }

    /// The extensions of WGSL that it uses.
    pub(crate) fn extensions(self) -> &'static str {
        match self {
            Self::MmHalf => "enable f16;\n",
            Self::MmMatrix8 | Self::MmMatrix16 => "enable f16;\nenable wgpu_cooperative_matrix;\n",
            _ => "",
        }
    }

    /// Functions that several files use, or that differ where the rest does not.
    pub(crate) fn prelude(self) -> &'static str {
        match self {
            Self::RmsNorm
            | Self::LayerNorm
            | Self::SoftmaxCrossEntropy
            | Self::SumSquares
            | Self::AttentionThin => include_str!("reduce.wgsl"),
            Self::Swiglu | Self::QuickGelu => include_str!("sigmoid.wgsl"),
            Self::MmQ => concat!(
                include_str!("product.wgsl"),
                include_str!("tile.wgsl"),
                include_str!("fours.wgsl")
            ),
            Self::MvQ => concat!(include_str!("product.wgsl"), include_str!("fours.wgsl")),
            Self::MmDot4 => concat!(
                include_str!("product.wgsl"),
                include_str!("tile.wgsl"),
                include_str!("round.wgsl")
            ),
            Self::MvDot4 => {
                concat!(include_str!("product.wgsl"), include_str!("round.wgsl"))
            }
            Self::MmHalf => concat!(include_str!("fours.wgsl"), include_str!("threads.wgsl")),
            Self::MmMatrix8 => concat!(
                include_str!("fours.wgsl"),
                include_str!("units_8.wgsl"),
                include_str!("units.wgsl")
            ),
            Self::MmMatrix16 => concat!(
                include_str!("fours.wgsl"),
                include_str!("units_16.wgsl"),
                include_str!("units.wgsl")
            ),
            _ => "",
        }
    }

    #[cfg(test)]
    pub(crate) fn entries(self) -> &'static [&'static str] {
        match self {
            Self::MmQ | Self::MmHalf | Self::MmMatrix8 | Self::MmMatrix16 => {
                &["forward", "backward"]
            }
            Self::RowScale => &["forward"],
            Self::MmDot4 | Self::MvQ | Self::MvDot4 => &["forward"],
            Self::RowsQ => &["forward"],
            Self::RmsNorm => &["forward", "backward"],
            Self::LayerNorm => &["forward", "backward"],
            Self::Rope => &["turn"],
            Self::Swiglu => &["forward", "backward"],
            Self::Gelu => &["forward", "backward"],
            Self::QuickGelu => &["forward", "backward"],
            Self::Elementwise => &["add", "copy", "scale", "fill"],
            Self::Bf16 => &["forward", "back"],
            Self::Bias => &["forward", "backward"],
            Self::Gather => &["forward", "backward"],
            Self::SoftmaxCrossEntropy => &["observe", "forward", "backward"],
            Self::LowRank => &["product", "sum"],
            Self::Attention => &["forward", "sum_delta", "backward_kv", "backward_q"],
            Self::AttentionThin => &["partial", "join"],
            Self::AdamW => &["update"],
            Self::SumSquares => &["partial", "finish"],
        }
    }

    /// Arrays that the file numbers, each with its offset at the head of the immediate data.
    pub(crate) fn arrays(self) -> usize {
        match self {
            Self::Rope | Self::Elementwise | Self::Bf16 | Self::Bias | Self::RowScale => 2,
            Self::MmQ
            | Self::MmDot4
            | Self::MvQ
            | Self::MvDot4
            | Self::RowsQ
            | Self::Gelu
            | Self::QuickGelu
            | Self::Gather
            | Self::LowRank
            | Self::SumSquares => 3,
            Self::MmHalf
            | Self::MmMatrix8
            | Self::MmMatrix16
            | Self::SoftmaxCrossEntropy
            | Self::AdamW => 4,
            Self::RmsNorm | Self::Swiglu | Self::AttentionThin => 5,
            Self::LayerNorm => 6,
            Self::Attention => 10,
        }
    }

    /// A constant that its variants differ in.
    pub(crate) fn constant(self) -> Option<&'static str> {
        match self {
            Self::MmQ | Self::MmDot4 => Some("LINES"),
            Self::MmMatrix8 | Self::MmMatrix16 => Some("LANES"),
            Self::MvQ | Self::MvDot4 => Some("TOKENS"),
            Self::LowRank => Some("KEEP"),
            Self::Attention | Self::AttentionThin => Some("HEAD_WIDTH"),
            _ => None,
        }
    }

    /// Whether array 0 is a stored matrix of this type.
    #[cfg(test)]
    pub(crate) fn reads(self, ty: QuantType) -> bool {
        match self {
            Self::MmQ | Self::MvQ | Self::RowsQ => true,
            Self::MmHalf | Self::MmMatrix8 | Self::MmMatrix16 => {
                !matches!(ty, QuantType::F32 | QuantType::BF16)
            }
            Self::MmDot4 | Self::MvDot4 => are_integers(ty),
            _ => false,
        }
    }
}

/// The first `floats` of an operator's scratch.
///
/// # Errors
/// If there are not as many.
fn scratch(op: &'static str, scratch: &Tensor, floats: usize) -> Result<Tensor> {
    let column = scratch.reshape(scratch.len(), 1)?;
    let first = column.slice(0..floats);
    first.map_err(|_| GpuError::Shape {
        op,
        what: format!(
            "{} floats of scratch where {floats} are needed",
            scratch.len()
        ),
    })
}

/// All text that products with a type are put together from, to tell versions of it apart.
pub(crate) fn trial_text(ty: QuantType) -> String {
    let products = [
        File::MmQ,
        File::MmHalf,
        File::MmMatrix8,
        File::MmMatrix16,
        File::RowScale,
        File::MmDot4,
        File::MvQ,
        File::MvDot4,
    ];
    let texts = products.map(|file| [file.prelude(), file.text()].concat());
    texts.concat() + &decode(ty, "read")
}

/// Whether weights of a type are stored as integers and scales.
pub(crate) fn are_integers(ty: QuantType) -> bool {
    !matches!(ty, QuantType::F32 | QuantType::F16 | QuantType::BF16)
}

/// The text that reads weights of a type, from an array bound with `access`: `decode8(row, i)`, `stored32` and
/// `eight_of`; and what `blocks/integers.wgsl` says, if they are integers.
pub(crate) fn decode(ty: QuantType, access: &str) -> String {
    let text = match ty {
        QuantType::F32 => include_str!("blocks/f32.wgsl"),
        QuantType::F16 => include_str!("blocks/f16.wgsl"),
        QuantType::BF16 => include_str!("blocks/bf16.wgsl"),
        QuantType::Q4_0 => include_str!("blocks/q4_0.wgsl"),
        QuantType::Q4_1 => include_str!("blocks/q4_1.wgsl"),
        QuantType::Q5_0 => include_str!("blocks/q5_0.wgsl"),
        QuantType::Q5_1 => include_str!("blocks/q5_1.wgsl"),
        QuantType::Q8_0 => include_str!("blocks/q8_0.wgsl"),
        QuantType::Q2K => include_str!("blocks/q2_k.wgsl"),
        QuantType::Q3K => include_str!("blocks/q3_k.wgsl"),
        QuantType::Q4K => concat!(
            include_str!("blocks/q4_k.wgsl"),
            include_str!("blocks/scales_k.wgsl")
        ),
        QuantType::Q5K => concat!(
            include_str!("blocks/q5_k.wgsl"),
            include_str!("blocks/scales_k.wgsl")
        ),
        QuantType::Q6K => include_str!("blocks/q6_k.wgsl"),
        QuantType::IQ4NL => include_str!("blocks/iq4_nl.wgsl"),
        QuantType::IQ4XS => include_str!("blocks/iq4_xs.wgsl"),
    };
    let words = include_str!("blocks/words.wgsl").replace("ACCESS", access);
    let kind = match are_integers(ty) {
        true => include_str!("blocks/integers.wgsl"),
        false => include_str!("blocks/floats.wgsl"),
    };
    [&words, kind, text].concat()
}
