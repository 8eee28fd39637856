//! What can go wrong while training.

use std::path::PathBuf;

use crate::model::Site;

/// Why training could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // each variant's sentence names its fields
pub enum TrainError {
    #[error(
        "no sample has a learned token within {max_tokens} tokens: check the data and --max-len"
    )]
    NothingToLearn { max_tokens: usize },
    #[error(
        "no linear layer matches the targets {targets}; try all-linear or names such as q_proj,v_proj"
    )]
    NoTargets { targets: String },
    #[error("the targets {pattern:?} are not a regular expression: {reason}")]
    Pattern { pattern: String, reason: String },
    #[error("option {option} is {value}: {reason}")]
    Option {
        option: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("the options as JSON cannot be used: {reason}")]
    OptionsJson { reason: String },
    #[error(
        "the adapter to begin from has a pair at {site}, which training does not reach; it trains pairs in the layers of the language model, and the projector as a whole"
    )]
    NotTrained { site: Site },
    #[error("sample {id} has an image, but the model has no vision part: give --mmproj")]
    NoVision { id: String },
    #[error("--train-projector needs the model's vision part: give --mmproj")]
    NoProjector,
    #[error("no sample shows an image, so the projector has nothing to learn from")]
    NoImages,
    #[error(
        "sample {id} lists {listed} images and shows {shown}: each needs one <image> in its text"
    )]
    Images {
        id: String,
        shown: usize,
        listed: usize,
    },
    #[error(
        "step {step}: {tensor} is not finite; lower the learning rate, or check the data. The last checkpoint is kept"
    )]
    NotFinite { step: u64, tensor: String },
    #[error(
        "this run needs {:.1} MiB and the budget is {:.1} MiB; the smallest budget that works is {:.1} MiB{}",
        mib(.needed), mib(.budget), mib(.smallest), less(.ways)
    )]
    Budget {
        needed: u64,
        budget: u64,
        smallest: u64,
        ways: Vec<(String, u64)>,
    },
    #[error(
        "this run leaves values in the system's memory that the device has no room for and needs {:.1} MiB there; {:.1} MiB are free for it: close other programs, give the device more memory, or train shorter samples with --max-len",
        mib(.needed), mib(.available)
    )]
    SystemMemory { needed: u64, available: u64 },
    #[error(
        "update {step} stopped half-way and what was learned is no longer whole: go on from the last checkpoint"
    )]
    Torn { step: u64 },
    #[error("{path} already holds a run: go on with --resume, or name another folder")]
    RunExists { path: PathBuf },
    #[error("a run is at work in {path}: wait for its end, or name another folder")]
    RunBusy { path: PathBuf },
    #[error("{path} is not a checkpoint of this run: {reason}")]
    Checkpoint { path: PathBuf, reason: String },
    #[error("{path} changed while the run used it: run again, it will be made anew")]
    Features { path: PathBuf },
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

/// What would make a budget do that is smaller still.
fn less(ways: &[(String, u64)]) -> String {
    let one = |(option, bytes): &(String, u64)| format!("{option} ({:.1} MiB)", mib(bytes));
    match ways {
        [] => String::new(),
        ways => {
            let ways: Vec<String> = ways.iter().map(one).collect();
            format!("; less would do with {}", ways.join(" or "))
        }
    }
}

fn mib(bytes: &u64) -> f64 {
    *bytes as f64 / (1u64 << 20) as f64
}
