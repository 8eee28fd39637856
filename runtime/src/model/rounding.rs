//! Inputs of linear layers rounded to 8 bits, for inference: see [`graft_kernels::rounded`].
//!
//! An input is rounded once for all layers that read it. A language model in training has no [`Rounding`] and
//! multiplies floats; a vision tower, and a projector that stays as it is, have one wherever they run.

use graft_kernels::Kernels;
use graft_kernels::rounded::{GROUP, Parts, Rounded, RoundedMut, TILE};

use super::Linear;
use crate::memory::{Arena, ArenaError, Buffer, Floats, Part};

/// What a linear layer reads: `[T, inputs]`.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub(super) floats: &'a [f32],
    pub(super) rounded: Option<Rounded<'a>>,
    /// Whether a layer may round the floats itself.
    pub(super) coarse: bool,
}

impl<'a> Input<'a> {
    /// Floats as they are.
    pub fn exact(floats: &'a [f32]) -> Self {
        Self {
            floats,
            rounded: None,
            coarse: false,
        }
    }

    /// The same in integers as well, if there is room for that and one of the layers that will read
    /// them can use it.
    ///
    /// # Panics
    /// If the room is too small.
    pub fn rounded<'b>(
        floats: &'a [f32],
        room: Option<&'a mut Rounding>,
        readers: impl IntoIterator<Item = &'b Linear>,
    ) -> Self {
        let coarse = room.is_some();
        let mut readers = readers.into_iter();
        let reader = readers.find(|linear| linear.multiplies_rounded());
        let rounded = room
            .zip(reader)
            .map(|(room, reader)| room.round(floats, reader.inputs()));
        Self {
            floats,
            rounded,
            coarse,
        }
    }
}

/// Room for one rounded input at a time.
#[derive(Debug)]
pub struct Rounding {
    levels: Buffer<[i8; GROUP]>,
    words: Buffer<[i16; GROUP]>,
    units: Floats,
    sums: Floats,
    halves: Buffer<[f32; 2]>,
    parts: Buffer<Parts>,
}

impl Rounding {
    /// Room for inputs of up to `floats` floats.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(floats: usize, part: Part, arena: &Arena) -> Result<Self, ArenaError> {
        let (groups, words) = Self::groups(floats);
        Ok(Self {
            levels: arena.buffer(part, groups)?,
            words: arena.buffer(part, words)?,
            units: arena.buffer(part, groups)?,
            sums: arena.buffer(part, groups)?,
            halves: arena.buffer(part, groups)?,
            parts: arena.buffer(part, groups)?,
        })
    }

    /// Bytes that [`Rounding::new`] allocates.
    pub fn bytes(floats: usize) -> usize {
        let (groups, words) = Self::groups(floats);
        groups * (GROUP + 4 * size_of::<f32>() + size_of::<Parts>())
            + words * GROUP * size_of::<i16>()
    }

    /// Groups, and those of them that are kept in words as well.
    fn groups(floats: usize) -> (usize, usize) {
        let groups = floats.div_ceil(GROUP);
        match Kernels::detect().rounds_to_words() {
            true => (groups, groups),
            false => (groups, 0),
        }
    }

    /// As [`Rounding::new`]; `None` if `floats` is 0, when nobody reads rounded inputs.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn if_any(floats: usize, part: Part, arena: &Arena) -> Result<Option<Self>, ArenaError> {
        (floats > 0)
            .then(|| Self::new(floats, part, arena))
            .transpose()
    }

    fn round(&mut self, x: &[f32], inputs: usize) -> Rounded<'_> {
        let kernels = Kernels::detect();
        let groups = x.len() / GROUP;
        let words = groups.min(self.words.len());
        let out = RoundedMut {
            levels: &mut self.levels[..groups],
            words: &mut self.words[..words],
            units: &mut self.units[..groups],
            sums: &mut self.sums[..groups],
            halves: &mut self.halves[..groups],
            parts: &mut self.parts[..groups],
        };
        round_pieces(kernels, out, x, inputs);
        Rounded {
            levels: &self.levels[..groups],
            words: &self.words[..words],
            units: &self.units[..groups],
            sums: &self.sums[..groups],
            halves: &self.halves[..groups],
            parts: &self.parts[..groups],
            inputs,
        }
    }
}

/// Cuts the tokens into pieces for threads.
fn round_pieces(kernels: &Kernels, out: RoundedMut<'_>, x: &[f32], inputs: usize) {
    let tokens = x.len() / inputs;
    if tokens <= PIECE_TOKENS {
        kernels.round(out, x, inputs);
        return;
    }
    let left = (tokens / 2).next_multiple_of(TILE);
    let (a, b) = out.split_at(left * inputs / GROUP);
    let (x_a, x_b) = x.split_at(left * inputs);
    rayon::join(
        || round_pieces(kernels, a, x_a, inputs),
        || round_pieces(kernels, b, x_b, inputs),
    );
}

/// Tokens that are worth a piece of their own.
const PIECE_TOKENS: usize = 16;
