//! Plans: what work will take, before it takes it.

use graft::memory::MemoryPlan;
use graft::session::{Session, SessionOptions};
use graft::train::{Setup, TrainError, TrainPlan, Workload};
use serde_json::{Value, json};

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::dataset::DatasetObject;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::model::ModelObject;
use crate::pointer::{In, Out, OutStruct};
use crate::runtime::Runtime;
use crate::status::graft_status;
use crate::structs::{CStruct, c_struct, number};
use crate::train_options::graft_train_options;
use crate::trainer::setup;

/// No session has more positions.
const MOST_CONTEXT: u32 = 1 << 24;

c_struct! {
    /// What some work will take.
    graft_plan {
        /// 1 if it fits the budget and what the runtime has left, else 0.
        fits: u32,
        /// Most bytes at once, mapped files included.
        peak_bytes: u64,
        /// Most bytes at once that are no pages of a file: what the runtime's limit counts.
        anonymous_bytes: u64,
        /// The smallest budget that works.
        smallest_bytes: u64,
        /// The budget above which nothing gets faster.
        fastest_bytes: u64,
        /// Updates of the run.
        steps: u64,
        /// Values that learn.
        n_trained: u64,
        /// Samples with something to learn.
        n_samples: u64,
        /// Their positions.
        tokens: u64,
        /// Different images, those of the evaluation data among them.
        n_images: u64,
        /// Positions of the longest sequence.
        longest: u32,
        /// Layers that are computed twice.
        recomputed_layers: u32,
    }
}

impl graft_plan {
    fn new(memory: &MemoryPlan, runtime: &Runtime, budget: Option<u64>) -> Self {
        let (peak, anonymous) = (memory.peak(), memory.anonymous_peak());
        let left = runtime.budget().limit();
        let left = left.saturating_sub(runtime.budget().reserved());
        Self {
            fits: (budget.is_none_or(|budget| peak <= budget) && anonymous <= left).into(),
            peak_bytes: peak,
            anonymous_bytes: anonymous,
            smallest_bytes: peak,
            fastest_bytes: peak,
            ..Self::zeroed()
        }
    }

    fn of_training(
        plan: &TrainPlan,
        work: &Workload,
        runtime: &Runtime,
        budget: Option<u64>,
    ) -> Self {
        Self {
            smallest_bytes: plan.smallest_bytes,
            fastest_bytes: plan.fastest_bytes,
            steps: plan.steps,
            n_trained: plan.parameters as u64,
            n_samples: work.examples as u64,
            tokens: work.tokens as u64,
            n_images: (work.images + work.evaluation.images) as u64,
            longest: number(plan.rows),
            recomputed_layers: number(plan.visited_layers.saturating_sub(plan.kept_layers)),
            ..Self::new(&plan.memory, runtime, budget)
        }
    }
}

/// The plan, or the leanest for a budget that is too small, or a system with too little memory.
fn training(setup: &mut Setup, work: &Workload) -> Result<TrainPlan, Fault> {
    match setup.plan(work) {
        Err(graft::Error::Train(TrainError::SystemMemory { .. })) => {
            setup.budget = Some(0);
            training(setup, work)
        }
        Err(graft::Error::Train(TrainError::Budget { smallest, .. })) => {
            setup.budget = Some(smallest);
            Ok(setup.plan(work)?)
        }
        planned => Ok(planned?),
    }
}

fn details(out: &Out<Handle<Buffer>>, details: impl FnOnce() -> Value) -> Result<(), Fault> {
    match out.check("details") {
        Ok(()) => out.give(buffer::json(&details())),
        // Nobody wants them.
        Err(_) => Ok(()),
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plan_session(
    model: Handle<ModelObject>,
    n_context: u32,
    n_chunk: u32,
    memory_budget: u64,
    out: OutStruct<graft_plan>,
    parts: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_plan_session", err, || {
        let model = model.get()?;
        out.check("out")?;
        if n_context > MOST_CONTEXT {
            let message = format!("n_context is {n_context}; {MOST_CONTEXT} is the most");
            return Err(Fault::argument(message).with("field", "n_context"));
        }
        let options = SessionOptions {
            context_length: n_context as usize,
            chunk: n_chunk as usize,
        };
        let memory = Session::plan(model.model(), &options);
        let budget = (memory_budget > 0).then_some(memory_budget);
        details(&parts, || json!({ "memory": memory }))?;
        out.set(&graft_plan::new(&memory, model.runtime(), budget))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plan_training(
    model: Handle<ModelObject>,
    data: Handle<DatasetObject>,
    eval_data: Handle<DatasetObject>,
    options: In<graft_train_options>,
    out: OutStruct<graft_plan>,
    parts: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_plan_training", err, || {
        let model = model.get()?;
        out.check("out")?;
        let mut setup = setup(&model, data, eval_data, &options.read()?)?;
        let budget = setup.budget;
        let work = setup.workload()?;
        setup.place(None, &work)?;
        let plan = training(&mut setup, &work)?;
        details(&parts, || json!({ "plan": plan, "work": work }))?;
        let runtime = model.runtime();
        out.set(&graft_plan::of_training(&plan, &work, runtime, budget))?;
        DONE
    })
}
