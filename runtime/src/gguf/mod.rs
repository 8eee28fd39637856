//! The GGUF container format, and nothing about models.
