//! Adapters as PEFT folders, in and out.
//!
//! ```text
//! adapter_config.json         peft_type "LORA", r, lora_alpha, target_modules, …
//! adapter_model.safetensors   base_model.model.<path>.<N>.self_attn.q_proj.lora_A.weight   [R, inputs]
//!                                                                      …lora_B.weight   [outputs, R]
//! ```
//! `<path>` depends on the class the adapter was trained in: see [`Layout`]. GGUF files keep the
//! rows of query and key matrices in another order, and so do graft's adapters: B's rows of those
//! two are reordered. What a folder says beyond this is refused, never ignored.

mod config;
mod export;
mod extensions;
mod import;
mod targets;

pub use export::{ExportOptions, write};
pub use import::read;
pub(super) use import::site_of;

/// The name of the file with the matrices.
pub(super) const TENSORS: &str = "adapter_model.safetensors";
/// What stands before every tensor's module.
const WRAPPER: &str = "base_model.model.";

/// Where the class that the adapter is for keeps its language model.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Layout {
    /// `LlamaForCausalLM`, and the original LLaVA code: `model.layers`.
    #[default]
    CausalLm,
    /// `LlavaForConditionalGeneration` since transformers 4.52: `model.language_model.layers`.
    Llava,
    /// The same class before: `language_model.model.layers`.
    LlavaBefore452,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 3] = [Self::CausalLm, Self::Llava, Self::LlavaBefore452];

    /// The path of the list of layers.
    fn layers(self) -> &'static str {
        match self {
            Self::CausalLm => "model.layers",
            Self::Llava => "model.language_model.layers",
            Self::LlavaBefore452 => "language_model.model.layers",
        }
    }
}
