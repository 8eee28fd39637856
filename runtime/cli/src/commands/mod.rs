//! One file per command.

pub mod adapter;
pub mod bench;
pub mod chat;
pub mod convert;
pub mod convert_hf;
pub mod devices;
pub mod eval;
pub mod inspect;
pub mod logits;
pub mod perplexity;
pub mod plan;
pub mod plugin;
pub mod quantize;
pub mod run;
pub mod tokenize;
pub mod train;
