//! AdamW's moments in 8 bits: blocks of 256 values share a scale, and the codes are dense near zero.
//!
//! ```text
//! mean    sign and one of 128 sizes     m = scale * size
//! square  one of 256 sizes              v = scale * size²
//! ```
//! The scale is the block's largest size, so that decoding and encoding again gives the same bits: a
//! run that is saved as floats goes on as if it had not been. A square that is not zero never becomes
//! zero, which would make the next update as large as `1 / eps`.
//!
//! Source: Dettmers et al. 2022, <https://arxiv.org/abs/2110.02861>, section 2 (dynamic tree quantization),
//! here symmetric and, for the square, of its root, whose range is half as many decades.

use std::sync::LazyLock;

use crate::memory::{Arena, ArenaError, Buffer, Floats, Part};

/// Values that share a scale.
pub const BLOCK: usize = 256;

/// Sizes from 0 to 1 that a code can mean, and the way from a size to its nearest code.
struct Codebook {
    sizes: Vec<f32>,
    /// Half-way between each size and the next.
    middles: Vec<f32>,
    /// For the upper bits of a float: the code of the smallest size that it can round to.
    first: Vec<u8>,
}

/// Smallest float whose upper bits have an entry of their own; below it all are alike.
const LOWEST: f32 = 1.0 / (1 << 26) as f32;

/// Upper bits of a float: sign, exponent and 7 bits of the fraction.
fn upper(size: f32) -> usize {
    (size.max(LOWEST).to_bits() >> 16) as usize - (LOWEST.to_bits() >> 16) as usize
}

impl Codebook {
    /// With `2^bits` codes: in each of seven decades the middles of 1, 2, 4, … equal pieces (times
    /// `2^(bits - 7)`), then zero below them and one instead of the largest.
    fn new(bits: u32) -> Self {
        let mut sizes = vec![0.0];
        for decade in 0..7 {
            let pieces = 1 << (decade + bits - 7);
            let unit = 10.0_f64.powi(decade as i32 - 6);
            let middle = |i| 0.1 + 0.9 * (f64::from(i) + 0.5) / f64::from(pieces);
            sizes.extend((0..pieces).map(|i| (unit * middle(i)) as f32));
        }
        // Rounding up to one, the scale itself is exact.
        *sizes.last_mut().expect("zero is there") = 1.0;
        let middles: Vec<f32> = sizes.windows(2).map(|w| 0.5 * (w[0] + w[1])).collect();
        let entries = 0..=upper(1.0);
        let first = entries.map(|bits| {
            let least = f32::from_bits(((LOWEST.to_bits() >> 16) + bits as u32) << 16);
            let least = if bits == 0 { 0.0 } else { least };
            middles.partition_point(|&middle| middle < least) as u8
        });
        Self {
            first: first.collect(),
            sizes,
            middles,
        }
    }

    /// The code of the nearest size; `size` is from 0 to 1.
    fn code(&self, size: f32) -> u8 {
        let mut code = usize::from(self.first[upper(size)]);
        while self.middles.get(code).is_some_and(|&middle| middle < size) {
            code += 1;
        }
        code as u8
    }
}

static MEANS: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(7));
static SQUARES: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(8));

/// The moments of one array.
#[derive(Debug)]
pub struct EightBitMoments {
    means: Buffer<u8>,
    squares: Buffer<u8>,
    /// Of each block, of the means and of the squares.
    scales: Floats,
}

impl EightBitMoments {
    /// Zeros for `len` values.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(len: usize, arena: &Arena) -> Result<Self, ArenaError> {
        Ok(Self {
            means: arena.buffer(Part::Optimizer, len)?,
            squares: arena.buffer(Part::Optimizer, len)?,
            scales: arena.floats(Part::Optimizer, 2 * len.div_ceil(BLOCK))?,
        })
    }

    /// Bytes that [`EightBitMoments::new`] takes.
    pub fn bytes(len: usize) -> usize {
        2 * len + 2 * len.div_ceil(BLOCK) * size_of::<f32>()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.means.len()
    }

    /// Decodes the values from number `first`, a multiple of [`BLOCK`], on.
    pub fn decode(&self, first: usize, mean: &mut [f32], square: &mut [f32]) {
        let blocks = mean.chunks_mut(BLOCK).zip(square.chunks_mut(BLOCK));
        for (block, (mean, square)) in (first / BLOCK..).zip(blocks) {
            let at = block * BLOCK;
            let (m, v) = (self.scales[2 * block], self.scales[2 * block + 1]);
            for (value, &code) in mean.iter_mut().zip(&self.means[at..]) {
                let size = MEANS.sizes[usize::from(code & 0x7f)];
                *value = if code & 0x80 == 0 {
                    m * size
                } else {
                    -m * size
                };
            }
            for (value, &code) in square.iter_mut().zip(&self.squares[at..]) {
                let size = SQUARES.sizes[usize::from(code)];
                *value = v * (size * size);
            }
        }
    }

    /// Encodes values, finite ones, in the place of those from number `first`, a multiple of
    /// [`BLOCK`], on.
    pub fn encode(&mut self, first: usize, mean: &[f32], square: &[f32]) {
        let blocks = mean.chunks(BLOCK).zip(square.chunks(BLOCK));
        for (block, (mean, square)) in (first / BLOCK..).zip(blocks) {
            let at = block * BLOCK;
            let m = mean.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
            let v = square.iter().fold(0.0_f32, |most, &v| most.max(v));
            (self.scales[2 * block], self.scales[2 * block + 1]) = (m, v);
            for (code, &value) in self.means[at..].iter_mut().zip(mean) {
                let size = if m > 0.0 { value.abs() / m } else { 0.0 };
                let nearest = MEANS.code(size);
                let negative = value < 0.0 && nearest > 0;
                *code = nearest | (u8::from(negative) << 7);
            }
            for (code, &value) in self.squares[at..].iter_mut().zip(square) {
                let size = if v > 0.0 { (value / v).sqrt() } else { 0.0 };
                *code = SQUARES.code(size).max(u8::from(value > 0.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, decades: f32) -> Vec<f32> {
        let value = |i: usize| {
            let size = 10.0_f32.powf(-decades * ((i * 37 % 101) as f32 / 101.0));
            if i.is_multiple_of(3) { -size } else { size }
        };
        (0..len).map(|i| 0.37 * value(i)).collect()
    }

    fn round(mean: &[f32], square: &[f32]) -> (EightBitMoments, Vec<f32>, Vec<f32>) {
        let mut moments = EightBitMoments::new(mean.len(), &Arena::unlimited()).unwrap();
        moments.encode(0, mean, square);
        let (mut m, mut v) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
        moments.decode(0, &mut m, &mut v);
        (moments, m, v)
    }

    #[test]
    fn codes_mean_the_nearest_size() {
        for (book, bits) in [(&*MEANS, 7), (&*SQUARES, 8)] {
            assert_eq!(book.sizes.len(), 1 << bits);
            assert!(book.sizes.is_sorted());
            for i in 0..=20_000 {
                let size = (i as f32 / 20_000.0).powi(5);
                let got = book.sizes[usize::from(book.code(size))];
                let nearest = book
                    .sizes
                    .iter()
                    .map(|s| (s - size).abs())
                    .fold(1.0, f32::min);
                assert_eq!((got - size).abs(), nearest, "{size}");
            }
        }
    }

    #[test]
    fn values_near_the_largest_keep_two_digits_and_none_vanishes() {
        let mean = wave(3 * BLOCK + 11, 2.0);
        let square: Vec<f32> = mean.iter().map(|m| m * m).collect();
        let (_, m, v) = round(&mean, &square);
        for (got, want) in m.iter().zip(&mean) {
            assert!(
                (got - want).abs() <= 0.05 * want.abs() + 1e-4,
                "{got} {want}"
            );
        }
        for (got, want) in v.iter().zip(&square) {
            assert!((got - want).abs() <= 0.06 * want, "{got} {want}");
        }
        let tiny = round(&[0.0; 2], &[1.0, 1e-30]).2;
        assert!(tiny[0] == 1.0 && tiny[1] > 0.0, "{tiny:?}");
    }

    #[test]
    fn what_was_decoded_is_encoded_as_it_was() {
        for decades in [0.5, 3.0, 9.0] {
            let mean = wave(2 * BLOCK + 100, decades);
            let square: Vec<f32> = mean.iter().map(|m| m * m * 0.3).collect();
            let (first, m, v) = round(&mean, &square);
            let (again, m2, v2) = round(&m, &v);
            assert_eq!(first.means[..], again.means[..]);
            assert_eq!(first.squares[..], again.squares[..]);
            assert_eq!(
                (first.scales[..].to_vec(), m, v),
                (again.scales[..].to_vec(), m2, v2)
            );
        }
        let (_, m, v) = round(&[0.0; 300], &[0.0; 300]);
        assert!(m.iter().chain(&v).all(|&x| x == 0.0));
    }
}
