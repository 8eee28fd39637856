//! The life of a LoRA adapter: files, generations, registry.
