//! How exactly linear layers are multiplied: with inputs rounded to 8 bits for inference ([`graft_kernels::rounded`]), in
//! words of 14 bits ([`graft_kernels::words`]), or in floats.
//!
//! An input is rounded to 8 bits once for all layers that read it. Training multiplies floats, or what lies in blocks in
//! words if it is asked to; a vision tower, and a projector that stays as it is, round wherever they run, to 8 bits for
//! blocks, and multiply what they store in 16 bits in words.

use graft_kernels::rounded::{GROUP, Parts, Rounded, RoundedMut, Strip, TILE};
use graft_kernels::words::WordRoom;
use graft_kernels::{Kernels, QuantType};

use super::Linear;
use crate::memory::{Arena, ArenaError, Buffer, Floats, Part};

/// Which layers that read floats multiply them in words, where the processor gains by it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Words {
    /// None.
    #[default]
    Never,
    /// Those in blocks.
    Blocks,
    /// Those of 16 bits.
    Halves,
}

/// What a linear layer reads: `[T, inputs]`.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub(super) floats: &'a [f32],
    pub(super) rounded: Option<Rounded<'a>>,
    /// Which layers multiply the floats in words.
    pub(super) words: Words,
    /// Whether a layer may split the floats in two of 16 bits.
    pub(super) coarse: bool,
}

impl<'a> Input<'a> {
    /// Floats as they are.
    pub fn exact(floats: &'a [f32]) -> Self {
        Self {
            floats,
            rounded: None,
            words: Words::Never,
            coarse: false,
        }
    }

    /// What training reads.
    pub fn learning(floats: &'a [f32], words: Words) -> Self {
        Self {
            words,
            ..Self::exact(floats)
        }
    }

    /// As the room says, if there is one: in integers as well if one of the layers that will read them can use it.
    ///
    /// # Panics
    /// If the room is too small.
    pub fn rounded<'b>(
        floats: &'a [f32],
        room: Option<&'a mut Rounding>,
        readers: impl IntoIterator<Item = &'b Linear>,
    ) -> Self {
        let Some(room) = room else {
            return Self::exact(floats);
        };
        let (words, learning) = (room.words, room.learning);
        let reader = readers.into_iter().find(|linear| linear.rounds());
        let reader = reader.filter(|_| !learning);
        Self {
            floats,
            rounded: reader.map(|linear| room.round(floats, linear.inputs())),
            words,
            coarse: !learning,
        }
    }
}

/// What layers need to round what they read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Widest {
    /// Floats of the widest input that is rounded to 8 bits.
    bytes: usize,
    /// Whether some are multiplied in words.
    words: bool,
}

impl Widest {
    /// Layers of a vision tower or projector that read so many rows.
    pub fn of<'a>(linears: impl IntoIterator<Item = &'a Linear>, rows: usize) -> Self {
        let mut widest = Self::default();
        for linear in linears {
            if linear.rounds() {
                widest.bytes = widest.bytes.max(rows * linear.inputs());
            }
            widest.words |= linear.multiplies_words(rows, Words::Halves);
        }
        widest
    }

    /// Any layers of a language model that read so many floats: those in F16 and BF16 multiply floats.
    pub fn bytes(floats: usize) -> Self {
        Self {
            bytes: floats,
            words: false,
        }
    }

    /// A language model in training.
    pub fn learning(words: Words) -> Self {
        let asked = words != Words::Never;
        Self {
            bytes: 0,
            words: asked && Kernels::detect().multiplies_words(QuantType::Q4_0),
        }
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            words: self.words || other.words,
        }
    }

    /// Whether nothing is rounded.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Bytes that each worker thread keeps for it.
    pub fn worker_bytes(self) -> usize {
        let bytes = if self.bytes > 0 { Strip::BYTES } else { 0 };
        let words = if self.words { WordRoom::BYTES } else { 0 };
        bytes + words
    }
}

/// How layers round, and room for one input in integers at a time.
#[derive(Debug)]
pub struct Rounding {
    levels: Buffer<[i8; GROUP]>,
    words_of_levels: Buffer<[i16; GROUP]>,
    units: Floats,
    sums: Floats,
    halves: Buffer<[f32; 2]>,
    parts: Buffer<Parts>,
    words: Words,
    /// Whether there is no room, and layers may only multiply words.
    learning: bool,
}

impl Rounding {
    /// Room for such inputs.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn new(widest: Widest, part: Part, arena: &Arena) -> Result<Self, ArenaError> {
        let [groups, words] = Self::groups(widest);
        Ok(Self {
            levels: arena.buffer(part, groups)?,
            words_of_levels: arena.buffer(part, words)?,
            units: arena.buffer(part, groups)?,
            sums: arena.buffer(part, groups)?,
            halves: arena.buffer(part, groups)?,
            parts: arena.buffer(part, groups)?,
            words: match widest.words {
                true => Words::Halves,
                false => Words::Never,
            },
            learning: false,
        })
    }

    /// As training rounds, which needs no room.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn learning(words: Words, part: Part, arena: &Arena) -> Result<Self, ArenaError> {
        Ok(Self {
            words,
            learning: true,
            ..Self::new(Widest::default(), part, arena)?
        })
    }

    /// Which layers that read floats multiply them in words.
    pub fn words(&self) -> Words {
        self.words
    }

    /// Bytes that [`Rounding::new`] allocates.
    pub fn bytes(widest: Widest) -> usize {
        let [groups, words] = Self::groups(widest);
        groups * (GROUP + 4 * size_of::<f32>() + size_of::<Parts>())
            + words * GROUP * size_of::<i16>()
    }

    /// Groups in integers, and those of them that are needed in 16 bits.
    fn groups(widest: Widest) -> [usize; 2] {
        let groups = widest.bytes.div_ceil(GROUP);
        match Kernels::detect().rounds_to_words() {
            true => [groups, groups],
            false => [groups, 0],
        }
    }

    /// As [`Rounding::new`]; `None` if nobody rounds.
    ///
    /// # Errors
    /// If the arena refuses.
    pub fn if_any(widest: Widest, part: Part, arena: &Arena) -> Result<Option<Self>, ArenaError> {
        (!widest.is_none())
            .then(|| Self::new(widest, part, arena))
            .transpose()
    }

    fn round(&mut self, x: &[f32], inputs: usize) -> Rounded<'_> {
        let kernels = Kernels::detect();
        let groups = x.len() / GROUP;
        let words = match kernels.rounds_to_words() {
            true => groups,
            false => 0,
        };
        let out = RoundedMut {
            levels: &mut self.levels[..groups],
            words: &mut self.words_of_levels[..words],
            units: &mut self.units[..groups],
            sums: &mut self.sums[..groups],
            halves: &mut self.halves[..groups],
            parts: &mut self.parts[..groups],
        };
        round_pieces(kernels, out, x, inputs);
        Rounded {
            levels: &self.levels[..groups],
            words: &self.words_of_levels[..words],
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
