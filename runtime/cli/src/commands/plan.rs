//! `graft plan`: what a training run will take, before it takes it.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use graft::memory::Phase;
use graft::train::{Place, TrainPlan, measured_flops};

use crate::Setting;
use crate::failure::Failure;
use crate::progress::{counted, short, short_bytes};
use crate::run_config::RunArguments;
use crate::training::{Subject, pace};

/// Show what a training run will take: bytes per part, time per update
///
///   graft plan -m llava-7b-Q4_K_M.gguf --mmproj mmproj.gguf --data train.json --memory 6GiB
///
/// Takes the arguments of `graft train`. Maps the model without reading its weights.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct PlanArguments {
    #[command(flatten)]
    run: RunArguments,
}

/// Runs the command.
pub fn run(arguments: &PlanArguments, setting: &Setting) -> Result<(), Failure> {
    let run = &arguments.run;
    if run.resume.is_some() {
        let reason = "plan looks at a run before it starts: leave --resume out";
        return Err(Failure::Usage(reason.into()));
    }
    let config = run.config(std::path::Path::new(""), run.options(0, 0));
    let subject = Subject::open(&config, run.threads)?;
    let work = subject.workload(&config)?;
    let planned = subject.plan(&config, &work)?;
    let flops = measured_flops(&subject.model);
    let (step, whole) = pace(&planned, flops);
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({
            "plan": planned,
            "work": work,
            "seconds_per_step": step,
            "measured_flops_per_second": flops,
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{} with something to learn, {} tokens, the longest {}; {}",
        counted(work.examples as u64, "sample"),
        work.tokens,
        work.longest,
        counted(work.images as u64, "image")
    )?;
    if config.options.packing {
        writeln!(
            out,
            "they run in {}, the longest of {} tokens",
            counted(planned.packs as u64, "pack"),
            planned.rows
        )?;
    }
    write_parts(&mut out, &planned)?;
    let budget = match run.memory {
        Some(budget) => format!(" of {}", short_bytes(budget)),
        None => String::new(),
    };
    writeln!(
        out,
        "{:44}{:>12}{budget}",
        "peak",
        short_bytes(planned.peak_bytes)
    )?;
    writeln!(
        out,
        "\n{} of about {}: {whole} (products at {:.0} GFLOP/s, measured now)",
        counted(planned.steps, "update"),
        short(Duration::from_secs_f64(step)),
        flops / 1e9
    )?;
    for choice in choices(&planned) {
        writeln!(out, "{choice}")?;
    }
    writeln!(
        out,
        "the smallest budget that works is {}",
        short_bytes(planned.smallest_bytes)
    )?;
    Ok(())
}

/// What was chosen so that the run fits, in words.
pub fn choices(planned: &TrainPlan) -> Vec<String> {
    let on_disk = |place| place == Some(Place::Disk);
    let levers = &planned.levers;
    let mut said = Vec::new();
    if on_disk(levers.weights) {
        said.push("weights are read layer by layer, and leave memory after their turn".into());
    }
    if on_disk(levers.moments) {
        said.push("AdamW's moments lie on the disk".into());
    }
    if on_disk(levers.features) {
        said.push("features of images lie on the disk".into());
    }
    if on_disk(levers.inputs) {
        said.push("inputs of layers lie on the disk".into());
    }
    match planned.layers - planned.kept_layers {
        0 => {}
        n => said.push(format!(
            "{n} of {} layers are computed twice, so that their values need not be kept",
            planned.layers
        )),
    }
    if said.is_empty() {
        said.push("everything stays in memory and is computed once".into());
    }
    said
}

/// The parts of a plan, one a line.
pub fn write_parts(out: &mut impl Write, planned: &TrainPlan) -> std::io::Result<()> {
    for part in planned.memory.parts() {
        let phase = match part.phase {
            Phase::Always | Phase::Work => "",
            Phase::Images => "  before training",
        };
        let bytes = short_bytes(part.bytes);
        writeln!(out, "  {:42}{bytes:>12}{phase}", part.name)?;
    }
    Ok(())
}
