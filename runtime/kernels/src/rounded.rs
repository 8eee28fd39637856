//! Products of a stored matrix with activations rounded to 8 bits, for inference.
//!
//! A block type stores small integers and a scale for each 16 or 32 of them: `w = scale * level - min`.
//! With activations that are integers times a unit as well, a product is
//! `sum_j unit_j (scale_j (sum level a)_j - min_j (sum a)_j)`, where the inner sums are of integers:
//! processors multiply and add 32 pairs of bytes where they take 8 of floats. Each 32 activations
//! share a unit, the largest of them over 127, and minimums are multiplied with the sums of the
//! rounded activations, so that they cancel as they should. Rounding so costs what it costs in ggml
//! (its K types round 256 at a time); training, which wants gradients of the function it computes,
//! keeps floats.
//!
//! Many tokens: a strip of rows is unpacked into bytes in the order in which a micro-kernel reads
//! them ([`Strip`], which stays in the first-level cache) and multiplied with all tokens. A few
//! tokens: each byte of the matrix is read once and used in registers.
//!
//! The integer sums are exact. What is left of rounding is in f32, always in the order of the inputs.

use crate::product::MatMut;
use crate::tiled::linear::Stored;
use crate::{Isa, Kernels, QuantType};

/// Activations that share a unit.
pub const GROUP: usize = 32;
/// Tokens whose groups lie side by side.
pub const TILE: usize = 4;

/// Sums of a group's integers: of both halves and of all, then 32 times those of both halves. Each is two: of
/// the first two of each four integers, and of the last two.
pub type Parts = [[i16; 2]; 5];

/// All of a group's from those of its halves.
pub(crate) fn parts(a: [i16; 2], b: [i16; 2]) -> Parts {
    let all = [a[0] + b[0], a[1] + b[1]];
    [a, b, all, a.map(|sum| 32 * sum), b.map(|sum| 32 * sum)]
}

/// Activations of some tokens in integers, in the order in which products read them: tiles of [`TILE`]
/// tokens (the last may have fewer), of each tile its groups of 32 inputs, of each group its tokens.
#[derive(Clone, Copy, Debug)]
pub struct Rounded<'a> {
    /// The integers, -127 to 127.
    pub levels: &'a [[i8; GROUP]],
    /// The same in 16 bits if [`Kernels::rounds_to_words`], else empty.
    pub words: &'a [[i16; GROUP]],
    /// What an integer of each group is worth; NaN if one of its activations is not finite, which
    /// integers cannot show.
    pub units: &'a [f32],
    /// The sums of each group's rounded activations.
    pub sums: &'a [f32],
    /// The sums of both its halves.
    pub halves: &'a [[f32; 2]],
    /// The same of the integers, in parts.
    pub parts: &'a [Parts],
    /// Activations of a token, whole groups.
    pub inputs: usize,
}

impl<'a> Rounded<'a> {
    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.units.len() / (self.inputs / GROUP).max(1)
    }

    /// `groups` groups, from `from` on, of the tile of `tokens` tokens that begins with token `first`.
    pub(crate) fn tile(&self, first: usize, tokens: usize, from: usize, groups: usize) -> Self {
        let at = first * (self.inputs / GROUP) + from * tokens;
        let end = at + groups * tokens;
        Self {
            levels: &self.levels[at..end],
            words: self.words.get(at..end).unwrap_or_default(),
            units: &self.units[at..end],
            sums: &self.sums[at..end],
            halves: &self.halves[at..end],
            parts: &self.parts[at..end],
            inputs: groups * GROUP,
        }
    }
}

/// A group of the tokens of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupOf<'a, const T: usize> {
    pub levels: &'a [[i8; GROUP]; T],
    pub units: &'a [f32; T],
    sums: &'a [f32; T],
    halves: &'a [[f32; 2]; T],
    /// Only for products that take levels without sign.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub parts: &'a [Parts; T],
}

impl<'a> Rounded<'a> {
    /// The groups of a tile of `T` tokens.
    #[inline]
    pub(crate) fn groups_of<const T: usize>(&self) -> impl Iterator<Item = GroupOf<'a, T>> {
        let levels = self
            .levels
            .as_chunks()
            .0
            .iter()
            .zip(self.units.as_chunks().0);
        let sums = self
            .sums
            .as_chunks()
            .0
            .iter()
            .zip(self.halves.as_chunks().0);
        let all = levels.zip(sums).zip(self.parts.as_chunks().0);
        all.map(|(((levels, units), (sums, halves)), parts)| GroupOf {
            levels,
            units,
            sums,
            halves,
            parts,
        })
    }
}

impl<const T: usize> GroupOf<'_, T> {
    /// The sum of a token's activations in part `sub` of `SUBS`, 1 or 2.
    #[inline]
    pub fn sum_of<const SUBS: usize>(&self, token: usize, sub: usize) -> f32 {
        match SUBS {
            1 => self.sums[token],
            _ => self.halves[token][sub],
        }
    }
}

/// Where [`Kernels::round`] writes; the fields are those of [`Rounded`].
#[derive(Debug)]
#[allow(missing_docs)]
pub struct RoundedMut<'a> {
    pub levels: &'a mut [[i8; GROUP]],
    pub words: &'a mut [[i16; GROUP]],
    pub units: &'a mut [f32],
    pub sums: &'a mut [f32],
    pub halves: &'a mut [[f32; 2]],
    pub parts: &'a mut [Parts],
}

impl<'a> RoundedMut<'a> {
    /// The first `groups` groups, and the others.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn split_at(self, groups: usize) -> (Self, Self) {
        let (levels, other_levels) = self.levels.split_at_mut(groups);
        let (words, other_words) = self.words.split_at_mut(groups.min(self.words.len()));
        let (units, other_units) = self.units.split_at_mut(groups);
        let (sums, other_sums) = self.sums.split_at_mut(groups);
        let (halves, other_halves) = self.halves.split_at_mut(groups);
        let (parts, other_parts) = self.parts.split_at_mut(groups);
        let first = Self {
            levels,
            words,
            units,
            sums,
            halves,
            parts,
        };
        let others = Self {
            levels: other_levels,
            words: other_words,
            units: other_units,
            sums: other_sums,
            halves: other_halves,
            parts: other_parts,
        };
        (first, others)
    }
}

/// Where each group of `x` `[tokens, inputs]` lies in a [`Rounded`].
pub(crate) fn places(tokens: usize, inputs: usize) -> impl Iterator<Item = usize> {
    let width = inputs / GROUP;
    (0..tokens).flat_map(move |token| {
        let first = token / TILE * TILE;
        let together = TILE.min(tokens - first);
        (0..width).map(move |group| first * width + group * together + token % TILE)
    })
}

/// How the integers of a block type are multiplied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Form {
    /// What is added to a level to leave none below zero, where a processor multiplies only such levels;
    /// 128 for bytes with a sign.
    pub bias: u8,
    /// Bits of a level then.
    pub bits: u8,
    /// Levels that share a scale: 16 or 32.
    pub sub: usize,
    /// Whether there are minimums; there is no bias then.
    pub min: bool,
}

impl Form {
    /// How `ty` is multiplied; for types of floats, zeros.
    pub const fn of(ty: QuantType) -> Self {
        let (bias, bits, sub) = match ty {
            QuantType::F32 | QuantType::F16 | QuantType::BF16 => (0, 0, 0),
            QuantType::Q4_0 => (8, 4, 32),
            QuantType::Q4_1 | QuantType::Q4K => (0, 4, 32),
            QuantType::Q5_0 => (16, 5, 32),
            QuantType::Q5_1 | QuantType::Q5K => (0, 5, 32),
            QuantType::Q2K => (0, 2, 16),
            QuantType::Q3K => (4, 3, 16),
            QuantType::Q6K => (32, 6, 16),
            QuantType::Q8_0 | QuantType::IQ4NL | QuantType::IQ4XS => (128, 8, 32),
        };
        let min = bias == 0 && bits < 8;
        Self {
            bias,
            bits,
            sub,
            min,
        }
    }
}

/// Bytes of levels that a [`Strip`] holds.
const STRIP_BYTES: usize = 32 * 1024;
/// Most levels of a row in a strip; whole blocks of every type.
pub(crate) const DEPTH: usize = 1024;
/// Numbers that scale them: one for 16 levels or more.
const SCALES: usize = STRIP_BYTES / 16;
/// Blocks of 256 levels.
const BLOCKS: usize = STRIP_BYTES / 256;

/// Begins with a cache line, so that no vector in it lies in two.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Lines<T>(pub T);

impl<T> std::ops::Deref for Lines<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Some rows of a matrix, a part of each, as a micro-kernel reads them.
#[derive(Debug)]
pub struct Strip {
    /// `[depth / 4][rows][4]` bytes, or `[depth / 2][rows][2]` words; NEON has its own order.
    pub(crate) levels: Box<Lines<[u8; STRIP_BYTES]>>,
    /// `[depth / sub][rows]`.
    pub(crate) scales: Box<Lines<[f32; SCALES]>>,
    /// The same, in types that have them.
    pub(crate) mins: Box<Lines<[f32; SCALES]>>,
    /// Where a scale is an integer times a float of its block: that integer, twice, `[depth / sub][rows]`,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) factors: Box<Lines<[[i16; 2]; SCALES]>>,
    /// and that float, `[depth / 256][rows]`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) blocks: Box<Lines<[f32; BLOCKS]>>,
    /// Where rows are unpacked.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) unpacked: Box<Lines<Unpacked>>,
    /// Levels of a row.
    pub(crate) depth: usize,
}

/// Eight rows before they are brought into a strip's order.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) struct Unpacked {
    /// Levels of each, in groups.
    pub levels: [[[u8; GROUP]; DEPTH / GROUP]; 8],
    /// Scales of each.
    pub scales: [[f32; DEPTH / 16]; 8],
    /// Minimums of each.
    pub mins: [[f32; DEPTH / 16]; 8],
}

impl Strip {
    /// Bytes of one.
    pub const BYTES: usize =
        STRIP_BYTES + size_of::<f32>() * (3 * SCALES + BLOCKS) + size_of::<Unpacked>();
}

impl Default for Strip {
    fn default() -> Self {
        Self {
            levels: Box::new(Lines([0; _])),
            scales: Box::new(Lines([0.0; _])),
            mins: Box::new(Lines([0.0; _])),
            factors: Box::new(Lines([[0; 2]; _])),
            blocks: Box::new(Lines([0.0; _])),
            unpacked: Box::new(Lines(Unpacked {
                levels: [[[0; _]; _]; _],
                scales: [[0.0; _]; _],
                mins: [[0.0; _]; _],
            })),
            depth: 0,
        }
    }
}

/// The part of each row of a matrix that goes into a strip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// Whole rows, one after the other.
    pub rows: &'a [u8],
    /// Bytes of a row.
    pub row_bytes: usize,
    /// Where the part begins in its row, and its length.
    pub from: usize,
    pub bytes: usize,
}

impl<'a> Part<'a> {
    /// The part of row `i`, if there is such a row.
    pub fn of(&self, i: usize) -> Option<&'a [u8]> {
        let row = self.rows.chunks_exact(self.row_bytes).nth(i)?;
        Some(&row[self.from..][..self.bytes])
    }
}

/// One instruction set's entries.
#[derive(Debug)]
pub(crate) struct RoundedKernels {
    /// Rows of a strip.
    pub rows: usize,
    /// Whether signed bytes are multiplied as words.
    pub words: bool,
    /// See [`Kernels::round`].
    pub round: unsafe fn(&mut RoundedMut<'_>, &[f32], usize),
    /// Fills a strip, whose depth is set.
    pub fill: unsafe fn(QuantType, &mut Strip, &Part<'_>),
    /// `c (+)= strip x` for all tokens, from a group on; `c` `[T, at most rows]`.
    pub multiply: unsafe fn(&Form, MatMut<'_>, &Strip, &Rounded<'_>, usize),
    /// See [`Kernels::thin_rounded`].
    pub thin: unsafe fn(&mut [f32], usize, &Rounded<'_>, QuantType, &[u8]),
}

impl Kernels {
    /// Whether matrices of this type are multiplied with rounded activations, if their rows are whole groups; if not, with floats.
    pub fn rounds(&self, ty: QuantType) -> bool {
        self.rounded.is_some() && ty.has_blocks()
    }

    /// The most tokens for which [`Kernels::thin_rounded`] is faster than [`Kernels::linear_rounded`], as
    /// `bench-kernels rounded` measures it; at most [`TILE`].
    pub fn thin_rounded_tokens(&self, ty: QuantType) -> usize {
        match self.isa {
            // To bring words into a strip takes longer than to multiply them.
            Isa::Avx2 if self.rounds_to_words() && Form::of(ty).bits == 8 => TILE,
            Isa::Avx2 | Isa::Avx512 => 2,
            Isa::Portable | Isa::Neon => TILE,
        }
    }

    /// Whether [`Rounded::words`] are needed.
    pub fn rounds_to_words(&self) -> bool {
        self.rounded.is_some_and(|rounded| rounded.words)
    }

    /// Rounds `x` `[T, inputs]`. What a whole number of tiles becomes does not depend on the tokens
    /// behind it.
    ///
    /// # Panics
    /// If this table has no products with rounded activations, inputs are no whole groups, or a buffer
    /// has another length than `x` demands.
    #[allow(unsafe_code)] // a call through the table
    pub fn round(&self, mut out: RoundedMut<'_>, x: &[f32], inputs: usize) {
        let rounded = self.rounded.expect("a table with rounded products");
        let groups = x.len() / GROUP;
        assert!(inputs > 0 && inputs.is_multiple_of(GROUP), "whole groups");
        assert!(x.len().is_multiple_of(inputs), "whole tokens");
        assert_eq!(out.levels.len(), groups, "levels");
        let words = if rounded.words { groups } else { 0 };
        assert_eq!(out.words.len(), words, "words");
        assert_eq!(out.units.len(), groups, "units");
        assert_eq!((out.sums.len(), out.halves.len()), (groups, groups), "sums");
        assert_eq!(out.parts.len(), groups, "parts of sums");
        // SAFETY: a table leaves the crate only after its instruction set was detected
        // (`Kernels::available`), which is the entry's only requirement.
        unsafe { (rounded.round)(&mut out, x, inputs) }
    }

    /// Writes `y` `[T, outputs]`, the product of `x` and the transposed matrix. Efficient for
    /// outputs in multiples of 32.
    ///
    /// # Panics
    /// If this table does not multiply this type, or sizes contradict each other.
    #[allow(unsafe_code)] // calls through the table
    pub fn linear_rounded(
        &self,
        mut y: MatMut<'_>,
        x: &Rounded<'_>,
        weight: &Stored<'_>,
        strip: &mut Strip,
    ) {
        let rounded = self.rounded.expect("a table with rounded products");
        let ty = weight.quant_type;
        let form = Form::of(ty);
        assert!(self.rounds(ty), "{ty} has levels");
        self.check(x, weight);
        let (outputs, inputs) = (y.cols(), x.inputs);
        let row_bytes = ty.row_bytes(inputs).expect("whole blocks");
        assert_eq!(y.rows(), x.tokens(), "a row of results for each token");
        assert_eq!(weight.bytes.len(), outputs * row_bytes, "whole rows");
        let level_bytes = match form.bits {
            8 if rounded.words => 2,
            bits => usize::from(bits.div_ceil(8)),
        };
        let depth = DEPTH.min(STRIP_BYTES / (rounded.rows * level_bytes));
        for from in (0..inputs).step_by(depth) {
            strip.depth = depth.min(inputs - from);
            let bytes = |weights| ty.row_bytes(weights).expect("whole blocks");
            for row in (0..outputs).step_by(rounded.rows) {
                let cols = rounded.rows.min(outputs - row);
                let part = Part {
                    rows: &weight.bytes[row * row_bytes..][..cols * row_bytes],
                    row_bytes,
                    from: bytes(from),
                    bytes: bytes(strip.depth),
                };
                // SAFETY: as in `round`.
                unsafe {
                    (rounded.fill)(ty, strip, &part);
                    (rounded.multiply)(&form, y.col_range(row, cols), strip, x, from / GROUP);
                }
            }
        }
    }

    /// The same for 1 to [`TILE`] tokens, reading each byte of the matrix once:
    /// `y[t * y_stride + r] = sum_i w[r, i] * x[t, i]`.
    ///
    /// # Panics
    /// As [`Kernels::linear_rounded`]; and if `y` has no place for every row of every token.
    #[allow(unsafe_code)] // a call through the table
    pub fn thin_rounded(&self, y: &mut [f32], y_stride: usize, x: &Rounded<'_>, w: &Stored<'_>) {
        let rounded = self.rounded.expect("a table with rounded products");
        let ty = w.quant_type;
        assert!(self.rounds(ty), "{ty} has levels");
        self.check(x, w);
        let row_bytes = ty.row_bytes(x.inputs).expect("whole blocks");
        let (tokens, rows) = (x.tokens(), w.bytes.len() / row_bytes);
        assert_eq!(w.bytes.len(), rows * row_bytes, "whole rows");
        assert!((1..=TILE).contains(&tokens), "{tokens} tokens");
        assert!(tokens == 1 || y_stride >= rows, "tokens overlap in y");
        assert!(
            y.len() >= (tokens - 1) * y_stride + rows,
            "a place for every result"
        );
        // SAFETY: as in `round`.
        unsafe { (rounded.thin)(y, y_stride, x, ty, w.bytes) }
    }

    fn check(&self, x: &Rounded<'_>, weight: &Stored<'_>) {
        let groups = x.units.len();
        assert!(
            x.inputs > 0 && x.inputs.is_multiple_of(GROUP),
            "whole groups"
        );
        assert_eq!(x.inputs, weight.inputs, "inputs");
        assert_eq!(groups, x.tokens() * x.inputs / GROUP, "whole tokens");
        assert_eq!(x.levels.len(), groups, "levels");
        assert_eq!((x.sums.len(), x.halves.len()), (groups, groups), "sums");
        assert_eq!(x.parts.len(), groups, "parts of sums");
        let words = if self.rounds_to_words() { groups } else { 0 };
        assert_eq!(x.words.len(), words, "words");
    }
}

#[cfg(test)]
mod tests;
