//! The low-memory trainer.
