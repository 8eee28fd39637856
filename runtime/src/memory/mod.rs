//! Who may use how many bytes, decided before anyone does.

mod budget;
mod plan;
mod process;

pub use budget::{Budget, BudgetError, Reservation};
pub use plan::{MemoryPlan, Part, Phase};
pub use process::peak_bytes;
