//! `graft eval`: how well a model, with its adapters, answers a data set.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use graft::dataset::{ImageFolder, llava_json};
use graft::evaluate::{
    AnswerOptions, Answerer, EvaluateOptions, EvaluateReport, Remarks, Scorer, run as evaluate,
};
use graft::train::TrainError;
use graft_plugins::{Cache, Host, Limits};
use serde_json::{Map, Value};

use super::convert::option;
use super::run::rate;
use crate::Setting;
use crate::failure::Failure;
use crate::judge_arguments::{JudgeArguments, Shared};
use crate::model_arguments::{ModelArguments, check_context};
use crate::progress::{Progress, short};
use crate::table::{Table, cut};
use crate::trust_arguments::TrustArguments;

/// Ask every question of a data set and score the answers
///
///   graft eval -m model.gguf --mmproj mmproj.gguf --adapter invoices.gguf \
///     --data held-out.json --metric exact-match --report report.json
///   graft eval -m model.gguf --data held-out.json --metric judge --judge self
///
/// The last turn of each sample is the answer hoped for; the turns before it are the question. A
/// metric is a WebAssembly plugin: the name of a shipped one (exact-match, vqa-accuracy, anls,
/// rouge-l, json-fields, pope, gqa, science-qa, judge) or a file. One that asks a model, as judge
/// does, gets the one that --judge or --judge-model grants it.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct EvalArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Samples as LLaVA JSON
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where relative image names count from [default: the folder of --data]
    #[arg(long, value_name = "DIR")]
    image_dir: Option<PathBuf>,
    /// What scores the answers: the name of a shipped plugin, or a file
    #[arg(long, value_name = "NAME_OR_PLUGIN")]
    metric: PathBuf,
    /// An option of the metric; `graft plugin check` lists them
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, Value)>,
    /// A line for every sample goes here: question, expected, predicted, score
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// The result and everything it depends on goes here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Ask only the first N samples
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: usize,
    /// Conversation template: vicuna_v1, llama_2, … [default: the model's]
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Instructions in place of the template's own
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of an answer; 0 for as many as the context holds
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    /// Positions the context holds [default: the model's own, at most 4096]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    ctx: usize,
    /// Of what the metric leaves to chance
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    trust: TrustArguments,
    #[command(flatten)]
    judging: JudgeArguments,
}

/// Runs the command.
pub fn run(arguments: &EvalArguments, setting: &Setting) -> Result<(), Failure> {
    let samples = llava_json::read(&arguments.data).map_err(graft::Error::from)?;
    let host = Host::new(Limits::default(), Cache::of_user())?;
    let (grants, trust) = (arguments.judging.grants(), arguments.trust.trust()?);
    let metric = host
        .load_trusted(&arguments.metric, &grants, &trust)
        .map_err(|error| arguments.judging.refusal(&arguments.metric, error))?
        .into_evaluator()?;
    arguments.judging.check(metric.info())?;
    let remarks = Arc::new(Remarks::new(setting.cancel.clone()));
    let options: Map<String, Value> = arguments.options.iter().cloned().collect();
    let options = Value::Object(options).to_string();
    let told = Arc::clone(&remarks);
    let scorer = Scorer::start(&metric, &options, arguments.seed, told);
    let scorer = scorer.map_err(graft::Error::from)?;
    let opened = arguments.model.open()?;
    check_context(&opened.model, arguments.ctx)?;
    if opened.model.vision().is_none()
        && let Some(sample) = samples.iter().find(|sample| !sample.images.is_empty())
    {
        let id = sample.id.clone();
        return Err(graft::Error::from(TrainError::NoVision { id }).into());
    }
    let template = opened.model.chat_template(arguments.template.as_deref())?;
    let images = match &arguments.image_dir {
        Some(folder) => ImageFolder::new(folder),
        None => ImageFolder::beside(&arguments.data),
    };
    let asking = AnswerOptions {
        max_tokens: arguments.max_tokens,
        context_length: arguments.ctx,
        system: arguments.system.clone(),
        ..AnswerOptions::default()
    };
    let judge = arguments.judging.open(Shared {
        opened: &opened,
        template: arguments.template.as_deref(),
        images: images.clone(),
        context: arguments.ctx,
        threads: arguments.model.threads,
    })?;
    if let Some(judge) = judge {
        remarks.grant(judge);
    }
    let mut answerer = Answerer::new(&opened.model, template, images, asking)?;
    answerer.set_adapters(opened.attached())?;
    let options = EvaluateOptions {
        evaluator: arguments.metric.display().to_string(),
        limit: arguments.limit,
        predictions: arguments.predictions.clone(),
        report: arguments.report.clone(),
    };
    let count = match arguments.limit {
        0 => samples.len(),
        limit => limit.min(samples.len()),
    };
    let mut progress = Progress::new("asking", count as u64);
    let report = evaluate(
        &mut answerer,
        &samples,
        &options,
        scorer,
        &setting.cancel,
        |done| {
            let note = done
                .running
                .as_ref()
                .map(|(name, value)| format!("{name} {value:.4}"));
            progress.at_with(done.done as u64, done.remaining, &note.unwrap_or_default());
        },
    );
    progress.finish();
    for remark in remarks.remarks() {
        eprintln!("{remark}");
    }
    show(&report?, arguments, setting)
}

fn show(
    report: &EvaluateReport,
    arguments: &EvalArguments,
    setting: &Setting,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::to_string(report).expect("a report is plain values");
        writeln!(out, "{document}")?;
        return Ok(());
    }
    for failure in &report.failures {
        let named = format!("sample {}: ", failure.id);
        let reason = failure.reason.strip_prefix(&named);
        let reason = cut(reason.unwrap_or(&failure.reason), 200);
        eprintln!("warning: sample {} was left out: {reason}", failure.id);
    }
    let mut table = Table::new(["metric", "value", "answers"], &[false, true, true]);
    for metric in &report.metrics {
        let value = format!("{:.4}{}", metric.value, metric.unit);
        table.row([metric.name.clone(), value, metric.weight.to_string()]);
    }
    table.write(&mut out)?;
    writeln!(out)?;
    let samples = match report.failed {
        0 => report.samples.to_string(),
        failed => format!("{}, {failed} of them left out", report.samples),
    };
    writeln!(out, "{:14}{samples}", "samples")?;
    writeln!(out, "{:14}{}", "model", report.model.name)?;
    for adapter in &report.adapters {
        writeln!(
            out,
            "{:14}{} x {}",
            "adapter", adapter.name, adapter.strength
        )?;
    }
    let answering = std::time::Duration::from_secs_f64(report.answer_seconds);
    writeln!(
        out,
        "{:14}{}, {} tokens of prompts, {} of answers ({:.1} tokens/s)",
        "time",
        short(answering),
        report.prompt_tokens,
        report.generated_tokens,
        rate((report.prompt_tokens + report.generated_tokens, answering))
    )?;
    if let Some(judge) = &report.judge {
        let judging = std::time::Duration::from_secs_f64(judge.seconds);
        writeln!(
            out,
            "{:14}{}, {} questions in {}, {} tokens of them, {} of replies",
            "judge",
            judge.model.name,
            judge.requests,
            short(judging),
            judge.prompt_tokens,
            judge.generated_tokens
        )?;
    }
    for path in [&arguments.predictions, &arguments.report]
        .into_iter()
        .flatten()
    {
        writeln!(out, "{:14}{}", "written", path.display())?;
    }
    Ok(())
}
