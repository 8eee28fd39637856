//! The values of one matrix of a pair: floats of its own, or as an adapter file stores them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use graft_kernels::{QuantType, blocks};

use crate::gguf::Gguf;
use crate::model::LowRank;

/// Floats. Those of a file stay in it, mapped and in its type, as long as only products want them; who reads
/// them as a slice has them decoded once, who writes them gets a copy.
#[derive(Clone)]
pub struct Values(Kind);

#[derive(Clone)]
enum Kind {
    Own(Vec<f32>),
    Stored {
        gguf: Arc<Gguf>,
        tensor: usize,
        floats: OnceLock<Vec<f32>>,
    },
}

impl Values {
    /// Those of tensor number `tensor` of a file, which stays open.
    pub(super) fn stored(gguf: &Arc<Gguf>, tensor: usize) -> Self {
        Self(Kind::Stored {
            gguf: Arc::clone(gguf),
            tensor,
            floats: OnceLock::new(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Own(values) => values.len(),
            Kind::Stored { gguf, tensor, .. } => gguf.tensors()[*tensor].elements(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take where they are.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Own(values) => size_of_val(&values[..]),
            Kind::Stored { gguf, tensor, .. } => gguf.data(*tensor).len(),
        }
    }

    /// As products take them.
    pub fn low_rank(&self) -> LowRank<'_> {
        match &self.0 {
            Kind::Own(values) => LowRank::Floats(values),
            Kind::Stored { gguf, tensor, .. } => LowRank::Stored {
                quant_type: gguf.tensors()[*tensor].quant_type,
                bytes: gguf.data(*tensor),
            },
        }
    }

    /// Where the first value is that is not finite.
    pub(super) fn not_finite(&self) -> Option<usize> {
        let (quant_type, bytes) = match &self.0 {
            Kind::Own(values) => return values.iter().position(|v| !v.is_finite()),
            Kind::Stored { gguf, tensor, .. } => {
                (gguf.tensors()[*tensor].quant_type, gguf.data(*tensor))
            }
        };
        // All bits of the exponent are set in infinities and in what is no number.
        let halves = |exponent: u16| {
            let bad = |half: &[u8; 2]| u16::from_le_bytes(*half) & exponent == exponent;
            first_of(bytes.as_chunks().0, bad)
        };
        match quant_type {
            QuantType::F16 => halves(0x7c00),
            QuantType::BF16 => halves(0x7f80),
            QuantType::F32 => {
                first_of(bytes.as_chunks().0, |v| !f32::from_le_bytes(*v).is_finite())
            }
            _ => self.iter().position(|v| !v.is_finite()),
        }
    }
}

/// The first for which `is` holds; runs without any are looked at without branches.
fn first_of<const N: usize>(values: &[[u8; N]], is: impl Fn(&[u8; N]) -> bool) -> Option<usize> {
    const RUN: usize = 1024;
    let any = |run: &[[u8; N]]| run.iter().fold(false, |any, v| any | is(v));
    let run = values.chunks(RUN).position(any)?;
    let within = values[run * RUN..].iter().position(is)?;
    Some(run * RUN + within)
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Kind::Own(values) => values,
            Kind::Stored {
                gguf,
                tensor,
                floats,
            } => floats.get_or_init(|| {
                let info = &gguf.tensors()[*tensor];
                let mut values = vec![0.0; info.elements()];
                blocks::decode(info.quant_type, gguf.data(*tensor), &mut values);
                values
            }),
        }
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        if let Kind::Stored { .. } = self.0 {
            self.0 = Kind::Own(self.to_vec());
        }
        match &mut self.0 {
            Kind::Own(values) => values,
            Kind::Stored { .. } => unreachable!("just replaced"),
        }
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self(Kind::Own(values))
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.len())
    }
}
