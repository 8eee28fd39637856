//! Where training stands, as programs see it.

use graft::train::{Lack, Run};

use crate::structs::{CStruct, c_struct};

/// Nothing was done yet, or a call has done what it was asked for.
pub const GRAFT_TRAIN_READY: u32 = 0;
/// A call is at work.
pub const GRAFT_TRAIN_RUNNING: u32 = 1;
/// It was paused or cancelled after a whole update.
pub const GRAFT_TRAIN_PAUSED: u32 = 2;
/// A call waits for room on the disk, and goes on by itself; `lack` says what is lacking.
pub const GRAFT_TRAIN_WAITING: u32 = 3;
/// Nothing is left to do.
pub const GRAFT_TRAIN_FINISHED: u32 = 4;
/// A call has failed.
pub const GRAFT_TRAIN_FAILED: u32 = 5;

/// Nothing is lacking.
pub const GRAFT_LACK_NONE: u32 = 0;
/// The disk is full.
pub const GRAFT_LACK_SPACE: u32 = 1;
/// The user's quota is used up.
pub const GRAFT_LACK_QUOTA: u32 = 2;
/// A file may not grow longer.
pub const GRAFT_LACK_LENGTH: u32 = 3;

c_struct! {
    /// Where training stands.
    #[derive(Clone, Copy)]
    graft_train_metrics {
        /// [`GRAFT_TRAIN_READY`] and its like.
        state: u32,
        /// Updates done.
        step: u64,
        /// Updates of the whole run.
        steps: u64,
        /// Positions of the latest update.
        tokens: u64,
        /// Learned ones among them.
        learned_tokens: u64,
        /// Positions since the trainer was made or went back to a checkpoint.
        all_tokens: u64,
        /// The update after which the evaluation data were looked at last; 0 for none.
        eval_step: u64,
        /// The update after which their loss was lowest; 0 for none.
        best_step: u64,
        /// Most bytes that the run takes at once, mapped files included.
        planned_bytes: u64,
        /// Mean loss of the latest update.
        loss: f64,
        /// A running mean of the losses.
        mean_loss: f64,
        /// Learning rate of the latest update.
        learning_rate: f64,
        /// Norm of its gradient before clipping.
        grad_norm: f64,
        /// How long it took.
        step_seconds: f64,
        /// How long the rest will take; 0 where that is not known.
        remaining_seconds: f64,
        /// Mean loss on the evaluation data after `eval_step`.
        eval_loss: f64,
        /// The lowest, after `best_step`.
        best_loss: f64,
        /// Evaluations since the last improvement.
        eval_since_best: u32,
        /// [`GRAFT_LACK_NONE`] and its like.
        lack: u32,
    }
}

impl graft_train_metrics {
    /// Where `run` stands.
    pub fn of(run: &Run, state: u32) -> Self {
        let (trainer, tally, standing) = (run.trainer(), run.tally(), run.trainer().standing());
        let mut metrics = Self {
            struct_size: size_of::<Self>() as u32,
            state,
            step: trainer.done(),
            steps: trainer.steps(),
            all_tokens: tally.tokens,
            planned_bytes: trainer.plan().peak_bytes,
            mean_loss: tally.mean_loss.unwrap_or(0.0),
            remaining_seconds: tally.remaining.as_secs_f64(),
            eval_since_best: u32::try_from(standing.since).unwrap_or(u32::MAX),
            ..Self::zeroed()
        };
        if let Some(last) = tally.last {
            (metrics.tokens, metrics.learned_tokens) = (last.tokens, last.learned_tokens);
            (metrics.loss, metrics.learning_rate) = (last.loss, last.lr);
            metrics.grad_norm = last.grad_norm;
            metrics.step_seconds = last.duration.as_secs_f64();
        }
        if let Some(evaluated) = tally.evaluated {
            (metrics.eval_step, metrics.eval_loss) = (evaluated.step, evaluated.loss);
        }
        if let Some(best) = standing.best {
            (metrics.best_step, metrics.best_loss) = (best.step, best.loss);
        }
        metrics
    }
}

/// The number of what is lacking.
pub fn lack(lack: Lack) -> u32 {
    match lack {
        Lack::Space => GRAFT_LACK_SPACE,
        Lack::Quota => GRAFT_LACK_QUOTA,
        Lack::Length => GRAFT_LACK_LENGTH,
    }
}
