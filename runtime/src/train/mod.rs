//! The low-memory trainer: LoRA pairs, and if asked for the projector, over a frozen quantized base.

pub mod checkpoint;
mod error;
mod features;
mod levers;
mod loss;
mod loss_curve;
mod moments;
mod optimizer;
mod options;
mod order;
mod packs;
mod parameters;
mod plan;
mod prepare;
mod run;
mod schedule;
mod sequence_step;
mod state_file;
mod tensorboard;
mod trainer;

pub use error::TrainError;
pub use features::{FeatureCache, Features};
pub use levers::{Levers, Place};
pub use moments::{MomentStore, Moments};
pub use optimizer::AdamW;
pub use options::TrainOptions;
pub use packs::{Extent, Pack, packs};
pub use parameters::{Gradients, Group, Parameters, Training};
pub use plan::{PLAN_SLACK, TrainPlan, Workload, measured_flops, plan};
pub use prepare::{Preparation, PrepareProgress, Prepared, prepare};
pub use run::{Evaluation, RunEnd, RunEvent, RunFolder, run};
pub use schedule::{Schedule, ScheduleKind};
pub use sequence_step::{Example, SequenceBuffers};
pub use trainer::{StepReport, Trainer};
