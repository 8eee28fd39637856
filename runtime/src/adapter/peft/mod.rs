//! Adapters as PEFT folders, in and out.
//!
//! ```text
//! adapter_config.json         peft_type "LORA", r, lora_alpha, target_modules, …
//! adapter_model.safetensors   base_model.model.<path>.lora_A.weight   [R, inputs]
//!                                               …lora_B.weight   [outputs, R]
//!                             base_model.model.<path of the embedding>.lora_embedding_A   [R, V]
//!                                                                     …lora_embedding_B   [W, R]
//! ```
//! `<path>` depends on the class the adapter was trained in: see [`Layout`]. GGUF files keep the
//! rows of query and key matrices in another order, and so do graft's adapters: B's rows of those
//! two are reordered (not in a vision tower, which rotates nothing). Beside pairs of the embedding or the output
//! PEFT puts the frozen matrix itself; its shape is looked at. What a folder says beyond this is refused, never
//! ignored.

mod config;
mod export;
mod extensions;
mod import;
mod modules;
mod targets;

pub use export::{ExportOptions, write};
pub use import::read;
pub(super) use modules::site_of;

/// The name of the file with the matrices.
pub(super) const TENSORS: &str = "adapter_model.safetensors";
/// What stands before every tensor's module.
const WRAPPER: &str = "base_model.model.";

/// How the class that the adapter is for names its modules.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Layout {
    /// `LlamaForCausalLM`, and the original LLaVA code: `model.layers`.
    #[default]
    CausalLm,
    /// `LlavaForConditionalGeneration` since transformers 5: `model.language_model.layers`.
    Llava,
    /// The same class in transformers 4.52 and later of 4, whose vision tower has a `vision_model` in between.
    LlavaBefore5,
    /// The same class before: `language_model.model.layers`.
    LlavaBefore452,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 4] = [
        Self::CausalLm,
        Self::Llava,
        Self::LlavaBefore5,
        Self::LlavaBefore452,
    ];
}
