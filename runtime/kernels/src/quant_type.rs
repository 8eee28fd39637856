//! How a tensor's elements are stored: block length and bytes of every type.

use crate::blocks;

/// How a tensor's elements are stored, floats included.
///
/// The discriminant is the type's number in GGUF files.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs)] // the names are the format's own
pub enum QuantType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2K = 10,
    Q3K = 11,
    Q4K = 12,
    Q5K = 13,
    Q6K = 14,
    IQ4NL = 20,
    IQ4XS = 23,
    BF16 = 30,
}

impl QuantType {
    /// Every type, in the order of their GGUF numbers.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::BF16,
    ];

    /// The type with this number in GGUF files, if graft reads it.
    pub fn from_gguf(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.gguf_id() == id)
    }

    /// The type's number in GGUF files.
    pub fn gguf_id(self) -> u32 {
        self as u32
    }

    /// The name used in files and on the command line, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::IQ4NL => "IQ4_NL",
            Self::IQ4XS => "IQ4_XS",
        }
    }

    /// Whether it stores blocks of small integers with scales, and no floats.
    pub const fn has_blocks(self) -> bool {
        self.block_len() > 1
    }

    /// Weights per block; 1 for the float types.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 => blocks::q4_0::LEN,
            Self::Q4_1 => blocks::q4_1::LEN,
            Self::Q5_0 => blocks::q5_0::LEN,
            Self::Q5_1 => blocks::q5_1::LEN,
            Self::Q8_0 => blocks::q8_0::LEN,
            Self::Q2K => blocks::q2_k::LEN,
            Self::Q3K => blocks::q3_k::LEN,
            Self::Q4K => blocks::q4_k::LEN,
            Self::Q5K => blocks::q5_k::LEN,
            Self::Q6K => blocks::q6_k::LEN,
            Self::IQ4NL => blocks::iq4_nl::LEN,
            Self::IQ4XS => blocks::iq4_xs::LEN,
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => blocks::q4_0::BYTES,
            Self::Q4_1 => blocks::q4_1::BYTES,
            Self::Q5_0 => blocks::q5_0::BYTES,
            Self::Q5_1 => blocks::q5_1::BYTES,
            Self::Q8_0 => blocks::q8_0::BYTES,
            Self::Q2K => blocks::q2_k::BYTES,
            Self::Q3K => blocks::q3_k::BYTES,
            Self::Q4K => blocks::q4_k::BYTES,
            Self::Q5K => blocks::q5_k::BYTES,
            Self::Q6K => blocks::q6_k::BYTES,
            Self::IQ4NL => blocks::iq4_nl::BYTES,
            Self::IQ4XS => blocks::iq4_xs::BYTES,
        }
    }

    /// Bytes of `width` consecutive weights, or `None` if they do not fill whole
    /// blocks or the count overflows.
    pub fn row_bytes(self, width: usize) -> Option<usize> {
        if !width.is_multiple_of(self.block_len()) {
            return None;
        }
        (width / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for QuantType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
