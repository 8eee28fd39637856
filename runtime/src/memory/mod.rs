//! Who may use how many bytes, decided before anyone does.

mod plan;
mod process;

pub use plan::{MemoryPlan, Part, Phase};
pub use process::peak_bytes;
