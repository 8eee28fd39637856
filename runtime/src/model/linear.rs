//! A frozen linear layer, `y = x W^T + b`, and the products it is made of, cut for threads.
//!
//! `W` stays as the file stores it. A few tokens (generation) stream its bytes through
//! [`Kernels::product_thin`]; more tokens (prompts, training) decode it tile by tile into a panel
//! that stays in a core's cache and is then multiplied with all of them; inference rounds its
//! activations and multiplies integers ([`graft_kernels::rounded`]). The same panels serve
//! `dx (+)= dy W`, whose tokens are cut for the number of threads. No sum is cut: what a row of results
//! is does not depend on the rows and columns beside it, so the results are the same bits for any number of
//! threads.

use std::ops::Range;

use graft_kernels::Kernels;
use graft_kernels::low_rank::LowRank;
use graft_kernels::product::{Mat, MatMut, product};
use graft_kernels::rounded::Rounded;
use graft_kernels::tiled::linear::{SCRATCH, Stored};
use graft_kernels::words::MOST_COLS;

use super::worker::{with_floats, with_strip, with_words};
use super::{Input, Weight, Words};

/// A frozen linear layer; the weight is any quant type, the bias (vision towers) floats.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Vec<f32>>,
    kernels: &'static Kernels,
}

impl Linear {
    /// A layer without bias.
    pub fn new(weight: Weight) -> Self {
        Self {
            weight,
            bias: None,
            kernels: Kernels::detect(),
        }
    }

    /// A layer that adds `bias` (`[outputs]`).
    ///
    /// # Panics
    /// If the bias has another length.
    pub fn with_bias(weight: Weight, bias: Vec<f32>) -> Self {
        assert_eq!(bias.len(), weight.outputs(), "one bias per output");
        Self {
            bias: Some(bias),
            ..Self::new(weight)
        }
    }

    /// The frozen matrix.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// What is added to every result; empty without a bias.
    pub fn bias(&self) -> &[f32] {
        self.bias.as_deref().unwrap_or_default()
    }

    /// Width of the result.
    pub fn outputs(&self) -> usize {
        self.weight.outputs()
    }

    /// Width of the input.
    pub fn inputs(&self) -> usize {
        self.weight.inputs()
    }

    /// Asks the system to read the weight soon, in the background. Only a hint.
    pub fn prefetch(&self) {
        self.weight.prefetch();
    }

    /// Lets the memory of the weight go until it is used again. Only a hint.
    pub fn release(&self) {
        self.weight.release();
    }

    /// Some of the outputs as a layer of their own (a chunk of the vocabulary); the matrix is shared.
    ///
    /// # Panics
    /// If the range is not inside `0..outputs()`.
    pub fn narrow(&self, outputs: Range<usize>) -> Self {
        Self {
            bias: self
                .bias
                .as_ref()
                .map(|bias| bias[outputs.clone()].to_vec()),
            weight: self.weight.narrow(outputs),
            kernels: self.kernels,
        }
    }

    /// Writes `y` `[T, outputs]` from `x` `[T, inputs]`.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn forward(&self, y: &mut [f32], x: &[f32]) {
        let tokens = tokens(x.len(), self.inputs());
        self.forward_to(MatMut::new(y, tokens, self.outputs()), x, Words::Never);
    }

    /// The same, as the input says.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn forward_input(&self, y: &mut [f32], x: &Input<'_>) {
        self.forward_adding(y, x, &[]);
    }

    /// The same with low-rank terms for a few tokens each.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn forward_adding(&self, y: &mut [f32], x: &Input<'_>, terms: &[Added<'_>]) {
        let tokens = tokens(x.floats.len(), self.inputs());
        let rows = Rows {
            linear: self,
            first: 0,
            terms,
        };
        let y = MatMut::new(y, tokens, self.outputs());
        match &x.rounded {
            Some(rounded) if self.rounds() => rows.rounded(y, rounded),
            _ if self.multiplies_words(tokens, x.words) => {
                rows.words(y, Mat::new(x.floats, tokens, self.inputs()));
            }
            _ if x.coarse && self.multiplies_halves(tokens) => {
                let x = Mat::new(x.floats, tokens, self.inputs());
                rows.thick(y, x, Kernels::linear_halves);
            }
            _ => rows.floats(y, x.floats),
        }
    }

    /// Whether [`Linear::forward_input`] multiplies rounded activations.
    pub fn rounds(&self) -> bool {
        self.kernels.rounds(self.weight.quant_type())
    }

    /// Whether so many tokens are multiplied in words where these layers are.
    pub(super) fn multiplies_words(&self, tokens: usize, words: Words) -> bool {
        let ty = self.weight.quant_type();
        let meant = match words {
            Words::Never => false,
            // However many, so that a sample computes in a pack what it would compute alone.
            Words::Blocks => ty.has_blocks() && tokens > 0,
            Words::Halves => !ty.has_blocks() && tokens >= FEWEST_WORDS,
        };
        meant && self.kernels.multiplies_words(ty)
    }

    /// Whether [`Linear::forward_input`] splits the activations of so many tokens where it may round.
    fn multiplies_halves(&self, tokens: usize) -> bool {
        let ty = self.weight.quant_type();
        (Kernels::THIN_TOKENS + 1..=Kernels::HALVES_TOKENS).contains(&tokens)
            && self.kernels.multiplies_halves(ty, self.inputs())
    }

    /// [`Linear::forward`] into columns of a wider matrix, and in words if these layers are.
    ///
    /// # Panics
    /// If the sizes do not fit together.
    pub fn forward_to(&self, y: MatMut<'_>, x: &[f32], words: Words) {
        let tokens = tokens(x.len(), self.inputs());
        assert_eq!((y.rows(), y.cols()), (tokens, self.outputs()));
        let rows = Rows {
            linear: self,
            first: 0,
            terms: &[],
        };
        match self.multiplies_words(tokens, words) {
            true => rows.words(y, Mat::new(x, tokens, self.inputs())),
            false => rows.floats(y, x),
        }
    }

    /// Writes `dy W` to `dx`, or adds it: `dx` `[T, inputs]`, `dy` `[T, outputs]`; in words if these layers are.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn backward(&self, dx: &mut [f32], accumulate: bool, dy: &[f32], words: Words) {
        let tokens = tokens(dy.len(), self.outputs());
        let dy = Mat::new(dy, tokens, self.outputs());
        self.backward_from(dx, accumulate, dy, words);
    }

    /// The same from columns of a wider matrix.
    ///
    /// # Panics
    /// If the sizes do not fit together.
    pub fn backward_from(&self, dx: &mut [f32], accumulate: bool, dy: Mat<'_>, words: Words) {
        assert_eq!(dy.cols(), self.outputs(), "a gradient for each output");
        if dy.rows() == 0 {
            return;
        }
        let dx = MatMut::new(dx, dy.rows(), self.inputs());
        let weight = self.stored(0..self.outputs());
        if self.multiplies_words(dy.rows(), words) {
            in_pieces(dx, dy, MOST_COLS, &|dx, dy, first| {
                with_words(|room| {
                    let kernels = self.kernels;
                    kernels.linear_backward_words(dx, accumulate, dy, &weight, first, room);
                });
            });
        } else {
            in_pieces(dx, dy, self.piece_cols(), &|dx, dy, first| {
                with_floats(SCRATCH, |scratch| {
                    let kernels = self.kernels;
                    kernels.linear_backward(dx, accumulate, dy, &weight, first, scratch);
                });
            });
        }
    }

    /// Columns of `dx` that one piece of a backward computes: whole blocks.
    fn piece_cols(&self) -> usize {
        PIECE_COLS.next_multiple_of(self.weight.quant_type().block_len())
    }

    /// Some rows of the weight, for the kernels.
    fn stored(&self, rows: Range<usize>) -> Stored<'_> {
        let row_bytes = self.weight.row_bytes();
        Stored {
            quant_type: self.weight.quant_type(),
            bytes: &self.weight.bytes()[rows.start * row_bytes..rows.end * row_bytes],
            inputs: self.inputs(),
        }
    }
}

/// A part of a product, the same rows of its left operand, and the part's first column.
trait Piece: Fn(MatMut<'_>, Mat<'_>, usize) + Sync {}
impl<F: Fn(MatMut<'_>, Mat<'_>, usize) + Sync> Piece for F {}

/// Does the work of a product `c` of rows `a` in pieces of `width` columns for the threads.
fn in_pieces(c: MatMut<'_>, a: Mat<'_>, width: usize, work: &impl Piece) {
    let cut = Cut::new(
        c.cols().div_ceil(width),
        a.rows(),
        rayon::current_num_threads(),
    );
    in_columns(c, a, (0, width), &cut, work);
}

/// Columns from `first` on. A thread that is free takes all that nobody has begun, so that pieces are begun in their
/// order and the smallest are the last.
fn in_columns(
    c: MatMut<'_>,
    a: Mat<'_>,
    (first, width): (usize, usize),
    cut: &Cut,
    work: &impl Piece,
) {
    let most = cut.most(first / width);
    if c.cols() > width {
        let (left, right) = c.split_columns(width);
        rayon::join(
            || in_rows(left, a, (first, most), work),
            || in_columns(right, a, (first + width, width), cut, work),
        );
    } else {
        in_rows(c, a, (first, most), work);
    }
}

/// A piece of columns, cut into pieces of `most` rows.
fn in_rows(c: MatMut<'_>, a: Mat<'_>, (first, most): (usize, usize), work: &impl Piece) {
    let rows = c.rows();
    if rows > most {
        let half = rows.div_ceil(most).div_ceil(2) * most;
        let (upper, lower) = c.split_rows(half);
        let (a_upper, a_lower) = (a.row_range(0, half), a.row_range(half, rows - half));
        rayon::join(
            || in_rows(upper, a_upper, (first, most), work),
            || in_rows(lower, a_lower, (first, most), work),
        );
    } else {
        work(c, a, first);
    }
}

/// How the rows of a product's columns are cut, each piece of which decodes what it multiplies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Cut {
    /// Pieces of columns before those that are too few to keep all threads busy.
    even: usize,
    /// Most tokens of each piece there, and after them.
    most: [usize; 2],
}

impl Cut {
    /// For so many pieces of columns: enough pieces to keep a thread busy until the others are done, if there are
    /// tokens for that; otherwise the columns that are left over after all threads had as many are cut so that they
    /// take the least time.
    fn new(columns: usize, tokens: usize, threads: usize) -> Self {
        let wanted = (PIECES_PER_THREAD * threads).div_ceil(columns);
        let pieces = wanted.min(tokens / PIECE_TOKENS).max(1);
        let most = tokens.div_ceil(pieces);
        let left = columns % threads;
        let time = |&pieces: &usize| {
            let rounds = (left * pieces).div_ceil(threads);
            rounds * (tokens.div_ceil(pieces) + DECODING)
        };
        let finer = (1..=threads).min_by_key(time).filter(|_| pieces == 1);
        Self {
            even: columns - left,
            most: [most, finer.map_or(most, |pieces| tokens.div_ceil(pieces))],
        }
    }

    /// Most tokens of a piece of these columns.
    fn most(&self, column: usize) -> usize {
        self.most[usize::from(column >= self.even)]
    }
}

/// A product of the kernels with many tokens.
type Multiply = fn(&Kernels, MatMut<'_>, Mat<'_>, &Stored<'_>, &[f32], &mut [f32]);

/// Some outputs of a layer, from `first` on, while its forward is cut into pieces.
#[derive(Clone, Copy)]
struct Rows<'a> {
    linear: &'a Linear,
    first: usize,
    terms: &'a [Added<'a>],
}

/// A low-rank term for a few tokens, which is added to each piece of the frozen product.
#[derive(Debug)]
pub struct Added<'a> {
    /// The tokens.
    pub rows: Range<usize>,
    /// R.
    pub rank: usize,
    /// `scale * A x` of each of them, `[rows, R]`.
    pub ax: Vec<f32>,
    /// `[outputs, R]`.
    pub b: LowRank<'a>,
}

impl<'a> Rows<'a> {
    /// The outputs from `by` on.
    fn skip(self, by: usize) -> Self {
        Self {
            first: self.first + by,
            ..self
        }
    }

    fn floats(self, y: MatMut<'_>, x: &[f32]) {
        match y.rows() {
            0 => {}
            1..=Kernels::THIN_TOKENS => self.thin(y, x),
            tokens => {
                let x = Mat::new(x, tokens, self.linear.inputs());
                self.thick(y, x, Kernels::linear_forward);
            }
        }
    }

    /// At most [`Kernels::THIN_TOKENS`] tokens: reads each byte of the weight once.
    fn thin(self, mut y: MatMut<'_>, x: &[f32]) {
        if y.cols() > THIN_ROWS {
            self.halve(y, THIN_ROWS, &|rows, y| rows.thin(y, x));
            return;
        }
        let weight = self.stored(y.cols());
        self.compute_here(&mut y, |kernels, piece, rows| {
            let (inputs, ty) = (weight.inputs, weight.quant_type);
            kernels.product_thin(piece, rows, x, inputs, ty, weight.bytes);
        });
        self.add_bias(y);
    }

    /// Many tokens in words.
    fn words(self, mut y: MatMut<'_>, x: Mat<'_>) {
        in_pieces(y.reborrow(), x, MOST_COLS, &|y, x, first| {
            let weight = self.linear.stored(first..first + y.cols());
            with_words(|room| {
                let kernels = self.linear.kernels;
                kernels.linear_forward_words(y, x, &weight, room);
            });
        });
        self.add_terms(y.reborrow());
        self.add_bias(y);
    }

    /// Any number of tokens, rounded.
    fn rounded(self, mut y: MatMut<'_>, x: &Rounded<'_>) {
        let ty = self.linear.weight.quant_type();
        let thin = y.rows() <= self.linear.kernels.thin_rounded_tokens(ty);
        let piece = match thin {
            true => THIN_ROWS,
            false => thick_rows(self.linear.outputs()),
        };
        if y.cols() > piece {
            self.halve(y, piece, &|rows, y| rows.rounded(y, x));
            return;
        }
        let weight = self.stored(y.cols());
        if thin {
            self.compute_here(&mut y, |kernels, piece, rows| {
                kernels.thin_rounded(piece, rows, x, &weight);
            });
        } else {
            with_strip(|strip| {
                let kernels = self.linear.kernels;
                kernels.linear_rounded(y.reborrow(), x, &weight, strip);
            });
            self.add_terms(y.reborrow());
        }
        self.add_bias(y);
    }

    /// Two halves of more than one piece of outputs, for two threads.
    fn halve(self, y: MatMut<'_>, piece: usize, work: &(impl Fn(Self, MatMut<'_>) + Sync)) {
        let left = (y.cols() / piece).div_ceil(2) * piece;
        let (a, b) = y.split_columns(left);
        rayon::join(|| work(self, a), || work(self.skip(left), b));
    }

    /// Other threads write the outputs between a piece's rows of `y`, so a kernel that wants them in one
    /// slice computes here: `[T, rows]`.
    fn compute_here(self, y: &mut MatMut<'_>, work: impl FnOnce(&Kernels, &mut [f32], usize)) {
        let (tokens, rows) = (y.rows(), y.cols());
        let mut piece = [0.0; Kernels::THIN_TOKENS * THIN_ROWS];
        let piece = &mut piece[..tokens * rows];
        work(self.linear.kernels, piece, rows);
        self.add_terms(MatMut::new(piece, tokens, rows));
        for (token, result) in piece.chunks_exact(rows).enumerate() {
            y.row_mut(token).copy_from_slice(result);
        }
    }

    /// The first `rows` outputs' part of the matrix.
    fn stored(self, rows: usize) -> Stored<'a> {
        self.linear.stored(self.first..self.first + rows)
    }

    /// Many tokens: decoded tiles, each multiplied with all tokens.
    fn thick(self, mut y: MatMut<'_>, x: Mat<'_>, multiply: Multiply) {
        let piece = thick_rows(self.linear.outputs()).min(FLOAT_ROWS);
        if y.cols() > piece {
            self.halve(y, piece, &|rows, y| rows.thick(y, x, multiply));
            return;
        }
        let (weight, bias) = (self.stored(y.cols()), self.bias(&y));
        with_floats(SCRATCH, |scratch| {
            let kernels = self.linear.kernels;
            multiply(kernels, y.reborrow(), x, &weight, bias, scratch);
        });
        self.add_terms(y);
    }

    /// Adds the terms to outputs from the first on.
    fn add_terms(self, mut y: MatMut<'_>) {
        for term in self.terms {
            let b = term.b.rows(self.first, y.cols(), term.rank);
            let each = term.ax.chunks_exact(term.rank);
            for (token, ax) in term.rows.clone().zip(each) {
                self.linear.kernels.low_rank_up(y.row_mut(token), ax, b);
            }
        }
    }

    /// What is added to the outputs of `y`; empty without a bias.
    fn bias(self, y: &MatMut<'_>) -> &'a [f32] {
        let bias = self.linear.bias.as_deref();
        bias.map_or(&[], |bias| &bias[self.first..][..y.cols()])
    }

    fn add_bias(self, mut y: MatMut<'_>) {
        let bias = self.bias(&y);
        if !bias.is_empty() {
            for token in 0..y.rows() {
                self.linear.kernels.add(y.row_mut(token), bias);
            }
        }
    }
}

/// `c = (accumulate ? c : 0) + alpha * a b` with any strides, cut into pieces for threads.
pub fn product_parallel(c: MatMut<'_>, accumulate: bool, alpha: f32, a: Mat<'_>, b: Mat<'_>) {
    let (m, n) = (c.rows(), c.cols());
    if m * n * a.cols() <= PIECE_PRODUCTS || m.max(n) < 2 * PIECE_SIDE {
        product(c, accumulate, alpha, a, b);
    } else if m >= n {
        let half = (m / 2).next_multiple_of(PIECE_SIDE);
        let (upper, lower) = c.split_rows(half);
        let (a_upper, a_lower) = (a.row_range(0, half), a.row_range(half, m - half));
        rayon::join(
            || product_parallel(upper, accumulate, alpha, a_upper, b),
            || product_parallel(lower, accumulate, alpha, a_lower, b),
        );
    } else {
        let half = (n / 2).next_multiple_of(PIECE_SIDE);
        let (left, right) = c.split_columns(half);
        let (b_left, b_right) = (b.col_range(0, half), b.col_range(half, n - half));
        rayon::join(
            || product_parallel(left, accumulate, alpha, a, b_left),
            || product_parallel(right, accumulate, alpha, a, b_right),
        );
    }
}

/// Fewest tokens of a vision tower that are worth words. They are faster than floats from 9 on (`bench-kernels rounded`), but
/// what has so few patches is small and may stay exact.
const FEWEST_WORDS: usize = 32;
/// Rows of a weight that one piece of a thin product reads.
const THIN_ROWS: usize = 128;
/// Columns of `dx` that one piece of a backward computes, if the blocks allow.
const PIECE_COLS: usize = 256;
/// Pieces of a backward that keep a thread busy until the others are done.
const PIECES_PER_THREAD: usize = 3;
/// Fewest tokens that are worth a piece of their own where all columns are cut.
const PIECE_TOKENS: usize = 128;
/// Tokens whose multiplication takes as long as decoding what they are multiplied with.
const DECODING: usize = 10;
/// Multiplications worth a piece of their own in [`product_parallel`].
const PIECE_PRODUCTS: usize = 1 << 20;
/// Shortest side of such a piece.
const PIECE_SIDE: usize = 16;

/// Rows of a weight that one piece of a thick product decodes: at most 256, about a sixteenth
/// of a narrow layer, so that a few threads share it evenly; whole strips of a panel.
fn thick_rows(outputs: usize) -> usize {
    outputs.div_ceil(16).next_multiple_of(64).min(256)
}

/// Most rows of a piece where floats are multiplied, which takes so long that threads would wait for the last.
const FLOAT_ROWS: usize = 128;

fn tokens(floats: usize, width: usize) -> usize {
    assert!(
        floats.is_multiple_of(width),
        "{floats} floats in rows of {width}"
    );
    floats / width
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that has nothing to do costs more than decoding some columns once more, unless tokens are few.
    #[test]
    fn columns_that_are_left_over_are_cut_for_all_threads() {
        for (columns, tokens, threads, even, most) in [
            (3, 512, 2, 2, [256, 256]),
            (3, 128, 2, 2, [128, 64]),
            (8, 128, 2, 8, [128, 128]),
            (3, 128, 4, 0, [128, 32]),
            (5, 100, 4, 4, [100, 25]),
            (3, 4, 4, 0, [4, 4]),
            (1, 1, 8, 0, [1, 1]),
        ] {
            let cut = Cut::new(columns, tokens, threads);
            assert_eq!(cut, Cut { even, most }, "{columns} {tokens} {threads}");
        }
    }
}
