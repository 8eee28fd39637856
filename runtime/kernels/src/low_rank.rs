//! Low-rank terms for a few tokens: `y += B (scale * A x)`, where reading `A` and `B` is what takes time.
//!
//! `B` has as many columns as the rank, so few that adding up a row costs more than multiplying it; rows are
//! therefore taken eight at a time. `ops/lora.rs` says what is computed; for many tokens it is products
//! ([`crate::product`]).

#[cfg(target_arch = "x86_64")]
use crate::Isa;
use crate::{Kernels, QuantType, blocks};

/// A matrix of a low-rank term, rows one after the other.
#[derive(Clone, Copy, Debug)]
pub enum LowRank<'a> {
    /// In f32, as training has it.
    Floats(&'a [f32]),
    /// As a file stores it.
    Stored {
        /// How.
        quant_type: QuantType,
        /// Whole rows.
        bytes: &'a [u8],
    },
}

impl<'a> LowRank<'a> {
    /// Rows `first..first + rows` of `width` elements.
    ///
    /// # Panics
    /// If there are not that many, or they are no whole blocks.
    pub fn rows(self, first: usize, rows: usize, width: usize) -> Self {
        match self {
            Self::Floats(values) => Self::Floats(&values[first * width..][..rows * width]),
            Self::Stored { quant_type, bytes } => {
                let row = quant_type.row_bytes(width).expect("whole blocks");
                Self::Stored {
                    quant_type,
                    bytes: &bytes[first * row..][..rows * row],
                }
            }
        }
    }

    /// As `len` floats; what is stored is decoded into `room`, which grows if it must.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn floats<'r>(self, kernels: &Kernels, room: &'r mut Vec<f32>, len: usize) -> &'r [f32]
    where
        'a: 'r,
    {
        match self {
            Self::Floats(values) => values,
            Self::Stored { quant_type, bytes } => {
                room.resize(len.max(room.len()), 0.0);
                let room = &mut room[..len];
                kernels.decode(quant_type, bytes, room);
                room
            }
        }
    }
}

impl Kernels {
    /// Writes `ax` `[T, rank]`: `scale * A x`, with `x` `[T, inputs]` and `a` `[rank, inputs]`. At most
    /// [`Kernels::THIN_TOKENS`] tokens.
    ///
    /// # Panics
    /// If sizes contradict each other.
    pub fn low_rank_down(
        &self,
        ax: &mut [f32],
        x: &[f32],
        a: LowRank<'_>,
        rank: usize,
        scale: f32,
    ) {
        let tokens = ax.len() / rank;
        let inputs = x.len() / tokens;
        match a {
            LowRank::Stored { quant_type, bytes } => {
                self.product_thin(ax, rank, x, inputs, quant_type, bytes);
            }
            LowRank::Floats(values) => {
                assert_eq!(values.len(), rank * inputs, "a matrix of {rank} x {inputs}");
                for (ax, x) in ax.chunks_exact_mut(rank).zip(x.chunks_exact(inputs)) {
                    for (ax, row) in ax.iter_mut().zip(values.chunks_exact(inputs)) {
                        *ax = self.dot(row, x);
                    }
                }
            }
        }
        for ax in ax {
            *ax *= scale;
        }
    }

    /// Adds `B ax` to `y` `[outputs]`, with `ax` `[rank]` and `b` `[outputs, rank]`, of one token. Results do not
    /// depend on where rows are cut.
    ///
    /// # Panics
    /// If sizes contradict each other.
    #[allow(unsafe_code)] // calls code compiled for an instruction set
    pub fn low_rank_up(&self, y: &mut [f32], ax: &[f32], b: LowRank<'_>) {
        let rank = ax.len();
        let fits = match b {
            LowRank::Floats(values) => values.len() == y.len() * rank,
            LowRank::Stored { quant_type, bytes } => {
                quant_type.row_bytes(rank).map(|row| row * y.len()) == Some(bytes.len())
            }
        };
        assert!(fits, "a matrix of {} x {rank}", y.len());
        match self.isa {
            // SAFETY: a table of this instruction set leaves the crate only after the processor was seen to
            // have it (`Kernels::available`); every processor with AVX-512 has AVX2.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 if rank.is_multiple_of(8) => unsafe {
                crate::avx2::low_rank::up(y, ax, b);
            },
            _ => up(y, ax, b),
        }
    }
}

/// The meaning of the kernels.
pub(crate) fn up(y: &mut [f32], ax: &[f32], b: LowRank<'_>) {
    let rank = ax.len();
    let add = |y: &mut f32, row: &[f32]| {
        *y += row.iter().zip(ax).map(|(b, x)| b * x).sum::<f32>();
    };
    match b {
        LowRank::Floats(values) => {
            let rows = values.chunks_exact(rank);
            y.iter_mut().zip(rows).for_each(|(y, row)| add(y, row));
        }
        LowRank::Stored { quant_type, bytes } => {
            let mut row = [0.0; 256];
            let whole = bytes.len() / y.len().max(1);
            let run = quant_type
                .row_bytes(256)
                .expect("every block length divides 256");
            for (y, bytes) in y.iter_mut().zip(bytes.chunks_exact(whole)) {
                for (bytes, ax) in bytes.chunks(run).zip(ax.chunks(256)) {
                    let row = &mut row[..ax.len()];
                    blocks::decode(quant_type, bytes, row);
                    *y += row.iter().zip(ax).map(|(b, x)| b * x).sum::<f32>();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::tests::{assert_close, random};

    /// Every instruction set, every type, ranks that are not whole vectors, tails of rows.
    #[test]
    fn low_rank_terms_are_the_products() {
        let floats = [QuantType::F32, QuantType::F16, QuantType::BF16];
        for (rank, inputs, outputs) in [(1, 7, 5), (16, 70, 37), (24, 64, 8), (300, 9, 9)] {
            for ty in floats.into_iter().map(Some).chain([None]) {
                let stored = |seed, n| {
                    let mut bytes = vec![0; n * ty.unwrap_or(QuantType::F32).row_bytes(1).unwrap()];
                    let ty = ty.unwrap_or(QuantType::F32);
                    blocks::encode(ty, &random(seed, n), &mut bytes).unwrap();
                    let mut values = vec![0.0; n];
                    blocks::decode(ty, &bytes, &mut values);
                    (bytes, values)
                };
                let ((a_bytes, a), (b_bytes, b)) =
                    (stored(1, rank * inputs), stored(2, outputs * rank));
                let of = |bytes, values| match ty {
                    Some(quant_type) => LowRank::Stored { quant_type, bytes },
                    None => LowRank::Floats(values),
                };
                let x = random(3, 2 * inputs);
                for kernels in Kernels::available() {
                    let mut ax = vec![f32::NAN; 2 * rank];
                    kernels.low_rank_down(&mut ax, &x, of(&a_bytes, &a), rank, 0.5);
                    let wide = |values: &[f32], x: &[f32]| {
                        let rows = values.chunks_exact(x.len());
                        let dot = |row: &[f32]| {
                            row.iter()
                                .zip(x)
                                .map(|(&w, &x)| f64::from(w) * f64::from(x))
                                .sum::<f64>()
                        };
                        rows.map(dot).collect::<Vec<_>>()
                    };
                    let want: Vec<_> = x
                        .chunks(inputs)
                        .flat_map(|x| wide(&a, x))
                        .map(|v| v * 0.5)
                        .collect();
                    assert_close(&ax, &want, 2e-6);
                    let mut y = vec![1.0; outputs];
                    kernels.low_rank_up(&mut y, &ax[..rank], of(&b_bytes, &b));
                    let want: Vec<_> = wide(&b, &ax[..rank]).into_iter().map(|v| v + 1.0).collect();
                    assert_close(&y, &want, 2e-6);
                    let (mut pieces, b) = (vec![1.0; outputs], of(&b_bytes, &b));
                    let (left, right) = pieces.split_at_mut(3);
                    kernels.low_rank_up(left, &ax[..rank], b.rows(0, 3, rank));
                    kernels.low_rank_up(right, &ax[..rank], b.rows(3, outputs - 3, rank));
                    assert_eq!(pieces, y, "{} {ty:?}", kernels.name);
                }
            }
        }
    }
}
