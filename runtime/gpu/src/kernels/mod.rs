//! One WGSL file per kernel, forward and backward together, and beside it the operators of
//! [`crate::Recorder`] that run it.
//!
//! Names, shapes and meaning are those of `graft_kernels::ops`, whose portable versions are what tests
//! compare with: a forward writes, a backward adds to its gradients. A kernel's immediate data begins
//! with the offset of each of its arrays, in words, because arrays begin anywhere and bindings at
//! multiples of up to 256 bytes. Arrays that hold anything but matrices are all bound as writable,
//! which they must be as they may lie in the same buffer.

mod mm_q;
mod mv_q;
mod rows_q;
#[cfg(test)]
mod tests;

pub use mm_q::Weights;

use graft_kernels::QuantType;

/// A kernel's file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum File {
    MmQ,
    MvQ,
    RowsQ,
}

impl File {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::MmQ, Self::MvQ, Self::RowsQ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MmQ => "mm_q",
            Self::MvQ => "mv_q",
            Self::RowsQ => "rows_q",
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::MmQ => include_str!("mm_q.wgsl"),
            Self::MvQ => include_str!("mv_q.wgsl"),
            Self::RowsQ => include_str!("rows_q.wgsl"),
        }
    }

    #[cfg(test)]
    pub(crate) fn entries(self) -> &'static [&'static str] {
        match self {
            Self::MmQ => &["forward", "backward"],
            Self::MvQ | Self::RowsQ => &["forward"],
        }
    }

    /// Arrays that the file numbers, each with its offset at the head of the immediate data.
    pub(crate) fn arrays(self) -> usize {
        match self {
            Self::MmQ | Self::MvQ | Self::RowsQ => 3,
        }
    }

    /// A constant that its variants differ in.
    pub(crate) fn constant(self) -> Option<&'static str> {
        match self {
            Self::MvQ => Some("TOKENS"),
            Self::MmQ | Self::RowsQ => None,
        }
    }

    /// Whether array 0 is a stored matrix.
    #[cfg(test)]
    pub(crate) fn reads_weights(self) -> bool {
        matches!(self, Self::MmQ | Self::MvQ | Self::RowsQ)
    }
}
/// The text that reads weights of a type: `decode4(row, i)`, from an array bound with `access`.
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
        QuantType::Q4K => include_str!("blocks/q4_k.wgsl"),
        QuantType::Q5K => include_str!("blocks/q5_k.wgsl"),
        QuantType::Q6K => include_str!("blocks/q6_k.wgsl"),
        QuantType::IQ4NL => include_str!("blocks/iq4_nl.wgsl"),
        QuantType::IQ4XS => include_str!("blocks/iq4_xs.wgsl"),
    };
    let words = include_str!("blocks/words.wgsl").replace("ACCESS", access);
    words + text
}
