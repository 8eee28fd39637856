//! Who may use how many bytes, decided before anyone does.

mod process;

pub use process::peak_bytes;
