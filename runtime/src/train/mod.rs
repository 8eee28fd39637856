//! The low-memory trainer: LoRA pairs, and if asked for the projector, over a frozen quantized base.

mod error;
mod loss;
mod optimizer;
mod options;
mod order;
mod parameters;
mod schedule;
mod sequence_step;
mod trainer;

pub use error::TrainError;
pub use optimizer::{AdamW, Moments};
pub use options::TrainOptions;
pub use parameters::{Gradients, Group, Parameters, Training};
pub use schedule::{Schedule, ScheduleKind};
pub use sequence_step::{Example, SequenceBuffers};
pub use trainer::{StepReport, Trainer};
