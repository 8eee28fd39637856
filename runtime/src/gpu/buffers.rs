//! What passes over a device's layers write: as [`crate::model::Saved`] and [`crate::model::Scratch`] on the
//! processor.

use graft_gpu::{Arena, Device, Part, Recorder, Tensor};

use crate::Result;
use crate::model::LlamaShape;

/// Declares a struct of arrays, with the bytes they take and their taking side by side.
macro_rules! arrays {
    ($(#[$about:meta])* $name:ident, $part:expr, ($shape:ident, $tokens:ident),
     { $($(#[$doc:meta])* $field:ident: [$rows:expr, $width:expr],)* }) => {
        $(#[$about])*
        #[derive(Debug)]
        pub(super) struct $name {
            $($(#[$doc])* pub $field: Tensor,)*
        }

        impl $name {
            /// Bytes that they take.
            pub fn bytes(device: &Device, $shape: &LlamaShape, $tokens: usize) -> u64 {
                [$(device.tensor_bytes($rows, $width),)*].iter().sum()
            }

            /// Floats in them.
            #[allow(dead_code)] // only some go to the processor
            pub fn floats($shape: &LlamaShape, $tokens: usize) -> usize {
                [$($rows * $width,)*].iter().sum()
            }

            /// The floats that a pass of so many tokens uses, those at the beginning of each array.
            ///
            /// # Errors
            /// If there are not as many.
            #[allow(dead_code)] // only some go to the processor
            pub fn used(&self, $shape: &LlamaShape, $tokens: usize) -> Result<Vec<Tensor>> {
                let arrays = [$((&self.$field, $rows * $width),)*].into_iter();
                let used = arrays.map(|(all, floats)| {
                    Ok(all.reshape(all.len(), 1)?.slice(0..floats)?)
                });
                used.collect()
            }

            /// Takes them.
            ///
            /// # Errors
            /// If the budget or the device has no room.
            pub fn new(device: &Device, $shape: &LlamaShape, $tokens: usize) -> Result<Self> {
                let runs = [$(device.tensor_bytes($rows, $width),)*];
                Self::cut(&device.arena_of($part, runs)?, $shape, $tokens)
            }

            /// Takes them from an arena that has room for them.
            ///
            /// # Errors
            /// If it has not.
            pub fn cut(arena: &Arena, $shape: &LlamaShape, $tokens: usize) -> Result<Self> {
                Ok(Self {
                    $($field: arena.tensor($rows, $width)?,)*
                })
            }
        }
    };
}

arrays! {
    /// What a layer's forward leaves for its backward, of up to T tokens.
    Saved, Part::SavedActivations, (shape, tokens), {
        /// `[T, 1]`.
        inv_rms_in: [tokens, 1],
        /// `[T, H * D]`, rotated.
        queries: [tokens, query(shape)],
        /// `[T, H * D]`.
        attended: [tokens, query(shape)],
        /// `[H, length]` of each sequence, one behind the other.
        lse: [1, shape.heads * tokens],
        /// The residual stream after attention, `[T, W]`.
        middle: [tokens, shape.width],
        /// `[T, 1]`.
        inv_rms_middle: [tokens, 1],
        /// `[T, F]`.
        gate: [tokens, shape.feed_forward],
        /// `[T, F]`.
        up: [tokens, shape.feed_forward],
    }
}

arrays! {
    /// What is meaningless between two layers.
    Scratch, Part::LayerBuffers, (shape, tokens), {
        /// `[T, W]`.
        normed: [tokens, shape.width],
        /// `[T, W]`.
        update: [tokens, shape.width],
        /// `[T, F]`.
        active: [tokens, shape.feed_forward],
    }
}

arrays! {
    /// Gradients inside a layer.
    BackwardScratch, Part::LayerBuffers, (shape, tokens), {
        /// `[T, F]`.
        dactive: [tokens, shape.feed_forward],
        /// `[T, F]`.
        dgate: [tokens, shape.feed_forward],
        /// `[T, F]`.
        dup: [tokens, shape.feed_forward],
        /// `[T, W]`.
        dnormed: [tokens, shape.width],
        /// `[T, H * D]`.
        dattended: [tokens, query(shape)],
        /// `[T, H * D]`.
        dqueries: [tokens, query(shape)],
        /// `[T, K * D]`.
        dkeys: [tokens, shape.kv_width()],
        /// `[T, K * D]`.
        dvalues: [tokens, shape.kv_width()],
        /// `[H, length]` of each sequence.
        delta: [1, shape.heads * tokens],
    }
}

arrays! {
    /// Keys and values of one layer, `[T, K * D]` each.
    KeysAndValues, Part::KeysAndValues, (shape, tokens), {
        /// After rotation.
        keys: [tokens, shape.kv_width()],
        /// As they are.
        values: [tokens, shape.kv_width()],
    }
}

fn query(shape: &LlamaShape) -> usize {
    shape.heads * shape.head_width
}

/// Room for the low-rank terms of passes; grows with the rank.
#[derive(Debug, Default)]
pub(super) struct LoraScratch {
    /// `A x`, what comes back through B, and what [`Recorder::lora_scratch`] asks for.
    arrays: Option<[Tensor; 3]>,
    rank: usize,
}

/// The arrays of one term.
pub(super) struct LoraArrays {
    /// `[tokens, rank]`.
    pub ax: Tensor,
    /// `[tokens, rank]`.
    pub h: Tensor,
    pub scratch: Tensor,
}

impl LoraScratch {
    /// The widest rows that terms of the language model read or write.
    pub fn widest(shape: &LlamaShape) -> usize {
        shape.widest_input().max(shape.vocabulary)
    }

    /// Bytes for terms of up to this rank on this many rows of up to `widest` floats.
    pub fn bytes(device: &Device, widest: usize, tokens: usize, rank: usize) -> u64 {
        Self::sizes(widest, tokens, rank)
            .map(|floats| device.tensor_bytes(floats, 1))
            .iter()
            .sum()
    }

    fn sizes(widest: usize, tokens: usize, rank: usize) -> [usize; 3] {
        let scratch = Recorder::lora_scratch(tokens, widest, widest, rank);
        [tokens * rank, tokens * rank, scratch]
    }

    /// Makes room.
    ///
    /// # Errors
    /// If the budget or the device has none.
    pub fn reserve(
        &mut self,
        device: &Device,
        widest: usize,
        tokens: usize,
        rank: usize,
    ) -> Result<()> {
        if rank <= self.rank {
            return Ok(());
        }
        (self.arrays, self.rank) = (None, 0);
        let sizes = Self::sizes(widest, tokens, rank);
        let runs = sizes.map(|floats| device.tensor_bytes(floats, 1));
        let arena = device.arena_of(Part::LayerBuffers, runs)?;
        let [ax, h, scratch] = sizes;
        let tensor = |floats| arena.tensor(floats, 1);
        self.arrays = Some([tensor(ax)?, tensor(h)?, tensor(scratch)?]);
        self.rank = rank;
        Ok(())
    }

    /// The arrays for a term of this rank on this many rows.
    ///
    /// # Errors
    /// If less was reserved.
    pub fn of(&self, tokens: usize, rank: usize) -> Result<LoraArrays> {
        let Some([ax, h, scratch]) = &self.arrays else {
            let what = format!("no room was made for terms of rank {rank}");
            return Err(graft_gpu::GpuError::Shape { op: "lora", what }.into());
        };
        let cut = |all: &Tensor| all.slice(0..tokens * rank)?.reshape(tokens, rank);
        Ok(LoraArrays {
            ax: cut(ax)?,
            h: cut(h)?,
            scratch: scratch.reshape(1, scratch.len())?,
        })
    }
}
