//! A frozen linear layer for many tokens in words: what [`tiled::linear`](crate::tiled::linear) computes in f32, from
//! integers of 14 bits.
//!
//! 32 weights and the largest of them make integers and a scale, and so do 32 activations, or gradients, of a token.
//! The sum of 32 products of such integers is exact in 32 bits, and a processor with AVX2, or with AVX-512 and VNNI, adds up
//! two of them in the time of one product of floats. A number moves by half an integer at most, 2^-14 of the largest of the
//! 32; TF32 moves each by up to 2^-11 of itself. The gradient is that of the function without rounding.
//!
//! A panel of decoded and rounded weights stays in the second-level cache while all tokens go by, a block of them at a
//! time, rounded as well; a strip of the panel is multiplied with a tile of the block in registers.

use std::ops::Range;

use crate::product::{Mat, MatMut};
use crate::tiled::linear::Stored;
use crate::{Kernels, QuantType};

/// Numbers that share a scale.
pub(crate) const GROUP: usize = 32;
/// Columns of a strip.
pub(crate) const STRIP: usize = 16;
/// Tokens of a tile.
pub(crate) const TILE: usize = 6;
/// The largest integer: 32 products of two such are less than 2^31.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) const LARGEST: f32 = 8191.0;

/// Most columns of a panel: whole blocks of every type.
pub const MOST_COLS: usize = 256;
/// Most depth of a panel.
const DEPTH: usize = 1024;
/// Tiles whose numbers are rounded before the panel is multiplied with them.
const TILES: usize = 8;
/// Floats of a cache line.
const LINE: usize = 16;
/// Weights of a row that are decoded before the next row: whole blocks of every type.
const RUN: usize = 256;
/// From one decoded row to the next; a multiple of a page apart they would share cache sets.
pub(crate) const RUN_STRIDE: usize = RUN + 16;
/// Rows that are on their way while one is decoded for a gradient.
const ROWS_AHEAD: usize = 8;

/// A group of a strip: pairs of words of each column, and what a word of each is worth.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct PanelGroup {
    pub words: [[[i16; 2]; STRIP]; GROUP / 2],
    pub scales: [f32; STRIP],
}

/// A group of a tile: words of each token, and what one is worth; NaN if one of its numbers is not finite, which
/// integers cannot show.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct TileGroup {
    pub words: [[i16; GROUP]; TILE],
    pub units: [f32; TILE],
}

/// One instruction set's entries.
#[derive(Debug)]
pub(crate) struct WordKernels {
    /// Most strips that are multiplied at once.
    pub strips: usize,
    /// Rounds a tile of at most [`TILE`] tokens; what is missing of the last group, and tokens that are missing, are zeros.
    pub round: unsafe fn(&mut [TileGroup], Mat<'_>),
    /// Rounds decoded rows of [`STRIP`] columns of a product, [`RUN_STRIDE`] apart, a group of them for each of the strip's.
    pub pack_rows: unsafe fn(&mut [PanelGroup], &[f32]),
    /// Rounds [`GROUP`] decoded rows, [`RUN_STRIDE`] apart, whose first [`STRIP`] weights belong to as many columns.
    pub pack_columns: unsafe fn(&mut PanelGroup, &[f32]),
    /// `c (+)= tile strips`: as many tokens and columns as `c` has. Meanwhile some numbers are asked for that will be rounded.
    pub multiply: unsafe fn(MatMut<'_>, bool, &[TileGroup], &[PanelGroup], Mat<'_>),
}

/// Where a thread rounds and packs.
#[derive(Debug)]
pub struct WordRoom {
    panel: Box<[PanelGroup]>,
    tiles: Box<[TileGroup]>,
    decoded: Box<[f32]>,
}

impl WordRoom {
    const PANEL_GROUPS: usize = MOST_COLS / STRIP * DEPTH / GROUP;
    const TILE_GROUPS: usize = TILES * DEPTH / GROUP;
    const DECODED: usize = GROUP * RUN_STRIDE;

    /// Bytes of one.
    pub const BYTES: usize = Self::PANEL_GROUPS * size_of::<PanelGroup>()
        + Self::TILE_GROUPS * size_of::<TileGroup>()
        + Self::DECODED * size_of::<f32>();
}

impl Default for WordRoom {
    fn default() -> Self {
        let panel = PanelGroup {
            words: [[[0; _]; _]; _],
            scales: [0.0; _],
        };
        let tile = TileGroup {
            words: [[0; _]; _],
            units: [0.0; _],
        };
        Self {
            panel: vec![panel; Self::PANEL_GROUPS].into(),
            tiles: vec![tile; Self::TILE_GROUPS].into(),
            decoded: vec![0.0; Self::DECODED].into(),
        }
    }
}

impl Kernels {
    /// Whether [`Kernels::linear_forward_words`] and its gradient take weights of this type, all but F32.
    pub fn multiplies_words(&self, ty: QuantType) -> bool {
        self.words.is_some() && ty != QuantType::F32
    }

    /// [`Kernels::linear_forward`] in words, without a bias: writes `y` `[T, outputs]` from `x` `[T, inputs]`.
    ///
    /// # Panics
    /// If sizes contradict each other, there are more than [`MOST_COLS`] outputs, the columns of `x` or `y` are not
    /// adjacent, or this table does not [multiply words](Kernels::multiplies_words) of the type.
    #[allow(unsafe_code)] // a call through the table
    pub fn linear_forward_words(
        &self,
        mut y: MatMut<'_>,
        x: Mat<'_>,
        weight: &Stored<'_>,
        room: &mut WordRoom,
    ) {
        let kernels = self.word_kernels(weight.quant_type);
        let (outputs, inputs) = (y.cols(), weight.inputs);
        assert_eq!(x.cols(), inputs, "inputs");
        for from in (0..inputs).step_by(DEPTH) {
            let cols = from..inputs.min(from + DEPTH);
            let groups = cols.len().div_ceil(GROUP);
            let strips = room.panel.chunks_exact_mut(groups);
            for (row, strip) in (0..outputs).step_by(STRIP).zip(strips) {
                let rows = STRIP.min(outputs - row);
                for (run, strip) in cols.clone().step_by(RUN).zip(strip.chunks_mut(RUN / GROUP)) {
                    let len = RUN.min(cols.end - run);
                    let columns = weight.columns(run..run + len);
                    let decoded = room.decoded.chunks_exact_mut(RUN_STRIDE).take(rows);
                    for (i, out) in decoded.enumerate() {
                        columns.decode(self, &mut out[..len], row + i, STRIP);
                        out[len..len.next_multiple_of(GROUP)].fill(0.0);
                    }
                    // SAFETY: a table leaves the crate only after its instruction set was detected
                    // (`Kernels::available`), which is the entry's only requirement.
                    unsafe { (kernels.pack_rows)(strip, &room.decoded) }
                }
            }
            self.multiply_words(y.reborrow(), from > 0, x, cols, room);
        }
    }

    /// [`Kernels::linear_backward`] in words: writes to `dx` `[T, cols]`, or adds to it, what `dy` `[T, outputs]` and columns
    /// `first..first + cols` of the weight make; both are whole blocks.
    ///
    /// # Panics
    /// If sizes contradict each other, there are more than [`MOST_COLS`] columns, the columns of `dx` or `dy` are not
    /// adjacent, or this table does not [multiply words](Kernels::multiplies_words) of the type.
    #[allow(unsafe_code)] // a call through the table
    pub fn linear_backward_words(
        &self,
        mut dx: MatMut<'_>,
        accumulate: bool,
        dy: Mat<'_>,
        weight: &Stored<'_>,
        first: usize,
        room: &mut WordRoom,
    ) {
        let kernels = self.word_kernels(weight.quant_type);
        let (cols, outputs) = (dx.cols(), dy.cols());
        let columns = weight.columns(first..first + cols);
        for from in (0..outputs).step_by(DEPTH) {
            let rows = from..outputs.min(from + DEPTH);
            let groups = rows.len().div_ceil(GROUP);
            for (group, first) in rows.clone().step_by(GROUP).enumerate() {
                let decoded = room.decoded.chunks_exact_mut(RUN_STRIDE);
                for (row, out) in (first..).zip(decoded) {
                    let out = &mut out[..cols];
                    if row < outputs {
                        columns.decode(self, out, row, ROWS_AHEAD);
                    } else {
                        out.fill(0.0);
                    }
                }
                let strips = room.panel.chunks_exact_mut(groups);
                for (col, strip) in (0..cols).step_by(STRIP).zip(strips) {
                    // SAFETY: as in `linear_forward_words`.
                    unsafe { (kernels.pack_columns)(&mut strip[group], &room.decoded[col..]) }
                }
            }
            self.multiply_words(dx.reborrow(), accumulate || from > 0, dy, rows, room);
        }
    }

    fn word_kernels(&self, ty: QuantType) -> &'static WordKernels {
        assert!(self.multiplies_words(ty), "{} of {ty}", self.name);
        self.words.expect("a table with words")
    }

    /// `c (+)= x panel`, where the panel is that of columns `depth` of `x`.
    #[allow(unsafe_code)] // calls through the table
    fn multiply_words(
        &self,
        mut c: MatMut<'_>,
        accumulate: bool,
        x: Mat<'_>,
        depth: Range<usize>,
        room: &mut WordRoom,
    ) {
        let kernels = self.words.expect("a table with words");
        let (m, n) = (c.rows(), c.cols());
        assert_eq!(x.rows(), m, "rows of x and c");
        assert!(n <= MOST_COLS, "{n} columns at once");
        let groups = depth.len().div_ceil(GROUP);
        let x = x.col_range(depth.start, depth.len());
        let blocks = m.div_ceil(TILES * TILE).max(1);
        let block = m.div_ceil(blocks).next_multiple_of(TILE);
        for row in (0..m).step_by(block) {
            let rows = block.min(m - row);
            let tiles = || {
                (0..rows)
                    .step_by(TILE)
                    .map(|first| (first, TILE.min(rows - first)))
            };
            for ((first, tokens), tile) in tiles().zip(room.tiles.chunks_exact_mut(groups)) {
                // SAFETY: as in `linear_forward_words`.
                unsafe { (kernels.round)(tile, x.row_range(row + first, tokens)) }
            }
            let mut c = c.row_range(row, rows);
            let panel = &room.panel[..n.div_ceil(STRIP) * groups];
            let cols = kernels.strips * STRIP;
            for (col, strips) in (0..n)
                .step_by(cols)
                .zip(panel.chunks(kernels.strips * groups))
            {
                let mut c = c.col_range(col, cols.min(n - col));
                // Each of them asks for its share of the next block's columns.
                let share = x.cols().div_ceil(n.div_ceil(cols)).next_multiple_of(LINE);
                let from = (col / cols * share).min(x.cols());
                let next = x.col_range(from, share.min(x.cols() - from));
                for ((first, tokens), tile) in tiles().zip(room.tiles.chunks_exact(groups)) {
                    let c = c.row_range(first, tokens);
                    let from = (row + rows + first).min(m);
                    let next = next.row_range(from, TILE.min(m - from));
                    // SAFETY: as in `linear_forward_words`.
                    unsafe { (kernels.multiply)(c, accumulate, tile, strips, next) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
