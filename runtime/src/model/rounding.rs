//! Inputs of linear layers rounded to 8 or 14 bits, for inference: see [`graft_kernels::rounded`].
//!
//! An input is rounded once for all layers that read it. A language model in training has no [`Rounding`] and
//! multiplies floats; a vision tower, and a projector that stays as it is, have one wherever they run.

use graft_kernels::Kernels;
use graft_kernels::rounded::{GROUP, Grain, Parts, Rounded, RoundedMut, TILE};

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
    /// them can use it. Layers that want another grain than the first that can have its own read floats.
    ///
    /// # Panics
    /// If the room is too small.
    pub fn rounded<'b>(
        floats: &'a [f32],
        room: Option<&'a mut Rounding>,
        readers: impl IntoIterator<Item = &'b Linear>,
    ) -> Self {
        let coarse = room.is_some();
        let finely = room.as_ref().is_some_and(|room| room.finely);
        let grain_of = |linear: &Linear| {
            let inputs = linear.inputs();
            let grain = linear.grain(floats.len() / inputs)?;
            (grain == Grain::Bytes || finely).then_some((grain, inputs))
        };
        let grain = readers.into_iter().find_map(grain_of);
        let rounded = room
            .zip(grain)
            .map(|(room, (grain, inputs))| room.round(grain, floats, inputs));
        Self {
            floats,
            rounded,
            coarse,
        }
    }
}

/// Floats of the widest inputs that are rounded to bytes, and of those that are rounded to words.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Widest {
    bytes: usize,
    words: usize,
}

impl Widest {
    /// Of layers that read so many rows.
    pub fn of<'a>(linears: impl IntoIterator<Item = &'a Linear>, rows: usize) -> Self {
        let mut widest = Self::default();
        for linear in linears {
            let floats = match linear.grain(rows) {
                Some(Grain::Bytes) => &mut widest.bytes,
                Some(Grain::Words) => &mut widest.words,
                None => continue,
            };
            *floats = (*floats).max(rows * linear.inputs());
        }
        widest
    }

    /// Of any layers of a language model that read so many floats: those in F16 and BF16 multiply floats.
    pub fn bytes(floats: usize) -> Self {
        Self {
            bytes: floats,
            words: 0,
        }
    }

    /// Whether nothing is rounded.
    pub fn is_none(self) -> bool {
        self == Self::default()
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
    /// Whether there is room for inputs in words.
    finely: bool,
}

impl Rounding {
    /// Room for such inputs.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(widest: Widest, part: Part, arena: &Arena) -> Result<Self, ArenaError> {
        let [bytes, words, units] = Self::groups(widest);
        Ok(Self {
            levels: arena.buffer(part, bytes)?,
            words: arena.buffer(part, words)?,
            units: arena.buffer(part, units)?,
            sums: arena.buffer(part, bytes)?,
            halves: arena.buffer(part, bytes)?,
            parts: arena.buffer(part, bytes)?,
            finely: widest.words > 0,
        })
    }

    /// Bytes that [`Rounding::new`] allocates.
    pub fn bytes(widest: Widest) -> usize {
        let [bytes, words, units] = Self::groups(widest);
        bytes * (GROUP + 3 * size_of::<f32>() + size_of::<Parts>())
            + words * GROUP * size_of::<i16>()
            + units * size_of::<f32>()
    }

    /// Groups in bytes, in words, and in either.
    fn groups(widest: Widest) -> [usize; 3] {
        let [bytes, words] = [widest.bytes, widest.words].map(|floats| floats.div_ceil(GROUP));
        let units = bytes.max(words);
        match Kernels::detect().rounds_to_words() {
            true => [bytes, units, units],
            false => [bytes, words, units],
        }
    }

    /// As [`Rounding::new`]; `None` if nobody reads rounded inputs.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn if_any(widest: Widest, part: Part, arena: &Arena) -> Result<Option<Self>, ArenaError> {
        (!widest.is_none())
            .then(|| Self::new(widest, part, arena))
            .transpose()
    }

    fn round(&mut self, grain: Grain, x: &[f32], inputs: usize) -> Rounded<'_> {
        let kernels = Kernels::detect();
        let groups = x.len() / GROUP;
        if grain == Grain::Words {
            let (words, units) = (&mut self.words[..groups], &mut self.units[..groups]);
            round_pieces_finely(kernels, words, units, x, inputs);
            return Rounded {
                grain,
                levels: &[],
                words,
                units,
                sums: &[],
                halves: &[],
                parts: &[],
                inputs,
            };
        }
        let words = match kernels.rounds_to_words() {
            true => groups,
            false => 0,
        };
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
            grain,
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

/// The same for words.
fn round_pieces_finely(
    kernels: &Kernels,
    words: &mut [[i16; GROUP]],
    units: &mut [f32],
    x: &[f32],
    inputs: usize,
) {
    let tokens = x.len() / inputs;
    if tokens <= PIECE_TOKENS {
        kernels.round_finely(words, units, x, inputs);
        return;
    }
    let left = (tokens / 2).next_multiple_of(TILE);
    let (words_a, words_b) = words.split_at_mut(left * inputs / GROUP);
    let (units_a, units_b) = units.split_at_mut(left * inputs / GROUP);
    let (x_a, x_b) = x.split_at(left * inputs);
    rayon::join(
        || round_pieces_finely(kernels, words_a, units_a, x_a, inputs),
        || round_pieces_finely(kernels, words_b, units_b, x_b, inputs),
    );
}

/// Tokens that are worth a piece of their own.
const PIECE_TOKENS: usize = 16;
