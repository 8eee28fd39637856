//! Who may use how many bytes, decided before anyone does.

mod arena;
mod budget;
mod float_file;
mod machine;
mod plan;
mod process;

pub use arena::{Arena, ArenaError, Buffer, Floats, Hold};
pub use budget::{Budget, BudgetError, Reservation};
pub use float_file::FloatFile;
pub use machine::{Memory, memory, processor};
pub use plan::{MemoryPlan, PROGRAM_BYTES, Part, Phase};
pub use process::{anonymous_bytes, peak_bytes};
