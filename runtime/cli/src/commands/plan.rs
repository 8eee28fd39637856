//! `graft plan`: what a training run will take, before it takes it.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use graft::memory::Phase;
use graft::model::{DeviceReport, ModelOptions};
use graft::session::{Session, SessionOptions};
use graft::train::{GradientPlace, Pace, Place, TrainPlan, Workload, pace};

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{check_context, open_model};
use crate::progress::{counted, short, short_bytes};
use crate::run_config::RunArguments;
use crate::training::{on_device, open, planned as plan_of, workload};

/// Show what a training run or a conversation will take: bytes per part, time per update
///
///   graft plan -m llava-7b-Q4_K_M.gguf --mmproj mmproj.gguf --data train.json --memory 6GiB
///   graft plan -m llava-7b-Q4_K_M.gguf --mmproj mmproj.gguf --ctx 4096
///
/// Takes the arguments of `graft train`; with --ctx instead of --data, it looks at a conversation of so
/// many positions. Maps the model without reading its weights.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct PlanArguments {
    #[command(flatten)]
    run: RunArguments,
    /// Positions of a conversation, to plan that instead of training; 0 for what the model was made for
    #[arg(long, value_name = "N", conflicts_with = "data")]
    ctx: Option<usize>,
}

/// Runs the command.
pub fn run(arguments: &PlanArguments, setting: &Setting) -> Result<(), Failure> {
    let run = &arguments.run;
    if run.resume.is_some() {
        let reason = "plan looks at a run before it starts: leave --resume out";
        return Err(Failure::Usage(reason.into()));
    }
    if let Some(context_length) = arguments.ctx {
        return conversation(run, context_length, setting);
    }
    run.check_data()?;
    let config = run.config(std::path::Path::new(""), run.options(0, 0));
    let mut setup = open(&config, run.threads)?;
    let work = workload(&setup)?;
    on_device(&mut setup, &work, &run.device)?;
    let planned = plan_of(&setup, &work)?;
    let device = setup.model.llama().device().map(|device| device.report());
    // What is measured is the processor.
    let pace = match device {
        Some(_) => None,
        None => Some(pace(&setup.model, &setup.options, &work, &planned)?),
    };
    let mut out = std::io::stdout().lock();
    if setting.json {
        let bottleneck = pace.as_ref().and_then(Pace::bottleneck);
        let document = serde_json::json!({
            "plan": planned,
            "work": work,
            "pace": pace,
            "bottleneck": bottleneck.map(|part| part.name),
            "device": device.as_ref().map(report_document),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    write_work(&mut out, &work, &planned, config.options.packing)?;
    write_parts(&mut out, &planned)?;
    let budget = match run.memory {
        Some(budget) => format!(" of {}", short_bytes(budget)),
        None => String::new(),
    };
    let peak = short_bytes(planned.peak_bytes);
    writeln!(out, "{:44}{peak:>12}{budget}\n", "peak")?;
    if let Some(device) = &device {
        write_device(&mut out, device, &planned)?;
    }
    if let Some(pace) = &pace {
        write_pace(&mut out, pace, &planned, &work)?;
    }
    writeln!(out)?;
    let chosen = choices(&planned);
    match chosen.as_slice() {
        [] => writeln!(out, "everything stays in memory and is computed once")?,
        chosen => {
            let fastest = short_bytes(planned.fastest_bytes);
            writeln!(out, "the fastest way would take {fastest}; to need less,")?;
            for (choice, saves) in chosen {
                writeln!(out, "  {choice:60}{:>12}", short_bytes(*saves))?;
            }
        }
    }
    let smallest = short_bytes(planned.smallest_bytes);
    writeln!(out, "the smallest budget that works is {smallest}")?;
    Ok(())
}

/// What a session takes, all at once.
fn conversation(run: &RunArguments, ctx: usize, setting: &Setting) -> Result<(), Failure> {
    let options = ModelOptions {
        mmproj: run.mmproj.clone(),
        threads: run.threads,
        ..ModelOptions::default()
    };
    let model = open_model(&run.model.clone().unwrap_or_default(), &options)?;
    check_context(&model, ctx)?;
    let options = SessionOptions::with_context(ctx);
    let memory = Session::plan(&model, &options);
    let all: u64 = memory.parts().map(|(_, bytes)| bytes).sum();
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({ "memory": memory, "peak_bytes": all });
        writeln!(out, "{document}")?;
    } else {
        for (part, bytes) in memory.parts() {
            writeln!(out, "  {:42}{:>12}", part.name(), short_bytes(bytes))?;
        }
        writeln!(out, "{:44}{:>12}", "all", short_bytes(all))?;
    }
    match run.memory {
        Some(budget) if all > budget => Err(Failure::Work(format!(
            "this takes {} and the budget is {}: choose a smaller --ctx or a model of fewer bits",
            short_bytes(all),
            short_bytes(budget)
        ))),
        _ => Ok(()),
    }
}

fn write_work(
    out: &mut impl Write,
    work: &Workload,
    planned: &TrainPlan,
    packing: bool,
) -> std::io::Result<()> {
    writeln!(
        out,
        "{} with something to learn, {} tokens, the longest {}; {}",
        counted(work.examples as u64, "sample"),
        work.tokens,
        work.longest,
        counted(work.images as u64, "image")
    )?;
    if packing {
        writeln!(
            out,
            "they run in {}, the longest of {} tokens",
            counted(planned.packs as u64, "pack"),
            planned.rows
        )?;
    }
    Ok(())
}

/// What was chosen so that the run fits, in words, and the bytes that each choice saves.
fn choices(planned: &TrainPlan) -> Vec<(String, u64)> {
    let on_disk = |place| place == Some(Place::Disk);
    let (levers, saved) = (&planned.levers, &planned.savings);
    let mut said = Vec::new();
    let mut say = |pulled: bool, text: &str, saves: u64| {
        if pulled {
            said.push((text.to_owned(), saves));
        }
    };
    let weights = "weights are read layer by layer, each for its turn";
    say(on_disk(levers.weights), weights, saved.weights);
    let again = planned.visited_layers - planned.kept_layers;
    let twice = match again {
        1 => "1 layer is computed twice, its values are not kept".to_owned(),
        _ => format!("{again} layers are computed twice, their values are not kept"),
    };
    say(again > 0, &twice, saved.kept_layers);
    let inputs = "inputs of layers lie on the disk";
    say(on_disk(levers.inputs), inputs, saved.inputs);
    let moments = "AdamW's moments lie on the disk";
    say(on_disk(levers.moments), moments, saved.moments);
    let gradients = "a layer's gradients are used as soon as they are complete";
    let by_layer = levers.gradients == Some(GradientPlace::Layer);
    say(by_layer, gradients, saved.gradients);
    let features = "features of images lie on the disk";
    say(on_disk(levers.features), features, saved.features);
    said
}

/// The parts of a plan, one a line.
pub fn write_parts(out: &mut impl Write, planned: &TrainPlan) -> std::io::Result<()> {
    for (part, bytes) in planned.memory.parts() {
        let phase = match part.phase() {
            Phase::Always | Phase::Work => "",
            Phase::Images => "  before training",
        };
        let bytes = short_bytes(bytes);
        writeln!(out, "  {:42}{bytes:>12}{phase}", part.name())?;
    }
    Ok(())
}

fn report_document(report: &DeviceReport) -> serde_json::Value {
    let parts = report.parts.iter();
    let parts = parts.map(|(name, bytes)| serde_json::json!({"part": name, "bytes": bytes}));
    serde_json::json!({
        "device": report.device,
        "layers": report.layers,
        "output": report.output,
        "budget": report.budget,
        "parts": parts.collect::<Vec<_>>(),
    })
}

/// What a device's memory holds once the model is there, one part a line.
fn write_device(
    out: &mut impl Write,
    report: &DeviceReport,
    planned: &TrainPlan,
) -> std::io::Result<()> {
    writeln!(
        out,
        "on {}, which runs {} layers:",
        report.device, report.layers
    )?;
    for &(part, bytes) in &report.parts {
        writeln!(out, "  {part:42}{:>12}", short_bytes(bytes))?;
    }
    let held = report.parts.iter().map(|(_, bytes)| bytes).sum();
    let (held, budget) = (short_bytes(held), short_bytes(report.budget));
    writeln!(
        out,
        "{:44}{held:>12} of {budget}; the run takes the rest",
        "the model there"
    )?;
    if planned.beside_device_bytes > 0 {
        let bytes = short_bytes(planned.beside_device_bytes);
        let what = "what it leaves in the system's memory";
        writeln!(out, "{what:44}{bytes:>12}")?;
    }
    writeln!(out)
}

/// Where the time goes, one part a line.
fn write_pace(
    out: &mut impl Write,
    pace: &Pace,
    planned: &TrainPlan,
    work: &Workload,
) -> std::io::Result<()> {
    let time = |seconds: f64| short(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    for part in &pace.parts {
        let share = 100.0 * part.seconds / pace.seconds_per_step;
        let seconds = time(part.seconds);
        writeln!(out, "  {:42}{seconds:>12}{share:>5.0} %", part.name)?;
    }
    let step = time(pace.seconds_per_step);
    writeln!(out, "{:44}{step:>12}", "an update, as measured now")?;
    let updates = counted(planned.steps, "update");
    let whole = short(pace.whole(planned, work));
    let images = match work.images {
        0 => String::new(),
        n => {
            let each = time(pace.seconds_per_image);
            let images = counted(n as u64, "image");
            format!(", {images} of about {each} in the vision tower among them")
        }
    };
    writeln!(out, "the run of {updates} takes about {whole}{images}")?;
    if let Some(part) = pace.bottleneck() {
        writeln!(out, "most of the time goes to: {}", part.name)?;
    }
    Ok(())
}
