//! `graft demo`: the whole story on a model and data that the program carries.
//!
//! Nothing in it is fixed but the files: every figure it prints is measured in the run.

mod files;
mod live;
mod picture;
mod scoring;

use std::io::{Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use graft::adapter::{Adapter, Attached, MergeOptions, merge};
use graft::dataset::{DataSet, Sample};
use graft::model::{Model, ModelOptions};
use graft::quantize::Mix;
use graft::train::{RunEnd, Setup, TrainOptions, checkpoint, pace};
use graft_plugins::{Cache, Grants, Host, Limits};

use crate::Setting;
use crate::commands::plan::write_parts;
use crate::conversion::convert;
use crate::device_arguments::DeviceArguments;
use crate::failure::Failure;
use crate::model_arguments::threads;
use crate::progress::{counted, short, short_bytes};
use crate::run_config::RunConfig;
use crate::training::{Trained, open, train};
use scoring::{Judge, Scored};

/// The whole story, on a model and data that ship inside: needs no network and no file
///
/// A tiny LLaVA knows drawn shapes, strokes and letters, and has never seen a digit. Scans of
/// handwritten digits, labelled in a UBIAI export, teach it to read them. The demo converts the
/// export with the WebAssembly plugin, plans the memory, asks the base about held-out scans,
/// trains an adapter on the 4-bit base, asks again, switches the adapter in a live chat, and
/// merges it into a new model file.
///
///   graft demo --keep my-demo
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct DemoArguments {
    /// Learn from fewer scans: in a quarter of the time, a worse reader
    #[arg(long)]
    fast: bool,
    /// Seed of the adapter and the order of the samples
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Keep every file of the demo in this new folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    threads: usize,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Runs the command.
pub fn run(arguments: &DemoArguments, setting: &Setting) -> Result<(), Failure> {
    let temporary;
    let folder = match &arguments.keep {
        Some(folder) if folder.exists() => {
            let reason = format!("{} exists; name a new folder", folder.display());
            return Err(Failure::Usage(reason));
        }
        Some(folder) => folder.as_path(),
        None => {
            temporary = tempfile::tempdir()
                .map_err(|e| Failure::Work(format!("cannot make a temporary folder: {e}")))?;
            temporary.path()
        }
    };
    if let Err(error) = files::unpack(folder) {
        // It did not exist before; half a demo is of no use.
        let _ = std::fs::remove_dir_all(folder);
        let reason = format!("cannot write to {}: {error}", folder.display());
        return Err(Failure::Work(reason));
    }
    let story = Story {
        folder,
        arguments,
        setting,
        host: Host::new(Limits::default(), Cache::of_user())?,
        begun: Instant::now(),
    };
    story.tell(&mut std::io::stdout())
}

/// One telling.
struct Story<'a> {
    folder: &'a Path,
    arguments: &'a DemoArguments,
    setting: &'a Setting,
    host: Host,
    begun: Instant,
}

impl Story<'_> {
    fn tell(&self, out: &mut Stdout) -> Result<(), Failure> {
        writeln!(
            out,
            "A small LLaVA that never saw a digit learns to read handwriting.\n"
        )?;
        let model_file = self.folder.join("model.gguf");
        let mmproj = self.folder.join("mmproj.gguf");
        let options = ModelOptions {
            mmproj: Some(mmproj.clone()),
            threads: self.arguments.threads,
            ..ModelOptions::default()
        };

        self.heading(
            out,
            "The labels: a UBIAI export becomes LLaVA JSON in a WebAssembly plugin",
        )?;
        let learning = self.part(out, "train")?;
        let held_out = self.part(out, "held-out")?;

        let config = self.config(&model_file, &mmproj, &learning);
        let mut setup = Setup {
            data: Arc::new(DataSet {
                samples: self.fewer(&learning.samples, 300),
                ..learning.clone()
            }),
            ..open(&config, self.arguments.threads)?
        };
        self.heading(out, "The plan: what training will take")?;
        self.show_plan(out, &setup)?;

        self.heading(
            out,
            "Before: the base is asked about scans it will never learn from",
        )?;
        let questions = self.fewer(&held_out.samples, 50);
        let judge = Judge::new(
            &self.host,
            &questions,
            &held_out.images,
            self.folder,
            &self.setting.cancel,
        )?;
        let base = judge.score(&setup.model, Attached::default(), "base")?;
        base.say(out, "base")?;

        self.heading(out, "Training: a LoRA adapter on the 4-bit base")?;
        let run = self.folder.join("run");
        let trained = train(
            &config,
            &mut setup,
            &run,
            None,
            &self.arguments.device,
            &self.setting.cancel,
        )?;
        if trained.end != RunEnd::Done {
            return Err(Failure::Interrupted(None));
        }
        self.show_training(out, &trained)?;

        self.heading(out, "After: the same questions with the adapter attached")?;
        let adapter = Adapter::open(&run.join(checkpoint::ADAPTER), &setup.model)?;
        let attached = Attached::new([(Arc::clone(&adapter), 1.0)]);
        let with = judge.score(&setup.model, attached.clone(), "adapter")?;
        with.say(out, "with the adapter")?;

        self.heading(
            out,
            "Live: one chat session; the adapter comes and goes between two answers",
        )?;
        live::chat(out, &setup.model, &adapter, &questions[0], &held_out.images)?;

        self.heading(
            out,
            "Merged: the adapter baked into a model file of its own",
        )?;
        let merged_file = self.folder.join("merged.gguf");
        let merge_options = MergeOptions {
            mix: Some(Mix::Q8_0),
            threads: self.arguments.threads,
            cancel: Some(&self.setting.cancel),
            ..MergeOptions::default()
        };
        merge(&model_file, &attached, &merged_file, &merge_options)?;
        let merged_model = Model::open(&merged_file, &options)?;
        let merged = judge.score(&merged_model, Attached::default(), "merged")?;
        merged.say(out, "merged, Q8_0")?;
        let same = merged
            .answers
            .iter()
            .zip(&with.answers)
            .filter(|(a, b)| a[2] == b[2]);
        let same = same.count();
        writeln!(
            out,
            "  {same} of {} answers are those of the attached adapter",
            with.answers.len()
        )?;

        self.table(out, &trained, [&base, &with, &merged], &adapter)
    }

    fn heading(&self, out: &mut Stdout, text: &str) -> Result<(), Failure> {
        self.setting.cancel.check()?;
        writeln!(out, "\n{text}")?;
        Ok(out.flush()?)
    }

    /// With `--fast`, the first `most` samples; else all.
    fn fewer(&self, samples: &[Sample], most: usize) -> Vec<Sample> {
        let most = if self.arguments.fast {
            most
        } else {
            samples.len()
        };
        samples.iter().take(most).cloned().collect()
    }

    /// Converts one of the two exports.
    fn part(&self, out: &mut Stdout, name: &str) -> Result<DataSet, Failure> {
        let plugin = self.host.load(Path::new("ubiai"), &Grants::default())?;
        let export = self.folder.join("digits").join(name);
        let images = export.join("images");
        let data = export.join("samples.json");
        let converted = convert(
            &plugin.into_converter()?,
            &export.join("export.json"),
            &images,
            &data,
            "{}",
            &self.setting.cancel,
        )?;
        for diagnostic in &converted.diagnostics {
            writeln!(out, "  {diagnostic}")?;
        }
        let (records, samples) = (converted.summary.records, converted.summary.samples);
        writeln!(out, "  {name:10}{records} documents, {samples} samples")?;
        Ok(DataSet::open(&data, Some(&images)).map_err(graft::Error::from)?)
    }

    fn config(&self, model: &Path, mmproj: &Path, learning: &DataSet) -> RunConfig {
        RunConfig {
            graft: env!("CARGO_PKG_VERSION").into(),
            model: model.into(),
            mmproj: Some(mmproj.into()),
            data: learning.path.clone(),
            image_dir: None,
            eval_data: None,
            eval_every: 0,
            early_stop: None,
            early_stop_delta: None,
            keep_best: false,
            log_dir: None,
            feature_cache: None,
            template: None,
            init_adapter: None,
            memory: None,
            output: self.folder.join("adapter.gguf"),
            options: TrainOptions {
                epochs: if self.arguments.fast { 3 } else { 4 },
                batch: 4,
                lr: 1e-3,
                seed: self.arguments.seed,
                ..TrainOptions::default()
            },
        }
    }

    fn show_plan(&self, out: &mut Stdout, setup: &Setup) -> Result<(), Failure> {
        let work = setup.workload()?;
        let planned = setup.plan(&work)?;
        write_parts(out, &planned)?;
        writeln!(
            out,
            "  {:42}{:>12}",
            "peak",
            short_bytes(planned.peak_bytes)
        )?;
        let pace = pace(&setup.model, &setup.options, &work, &planned)?;
        let whole = short(pace.whole(&planned, &work));
        writeln!(
            out,
            "  {} of {}, about {whole} on this machine",
            counted(planned.steps, "update"),
            counted(setup.options.batch as u64, "sample")
        )?;
        Ok(())
    }

    fn show_training(&self, out: &mut Stdout, trained: &Trained) -> Result<(), Failure> {
        let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.3}"));
        let duration = std::time::Duration::from_secs_f64(trained.seconds);
        writeln!(
            out,
            "  {} updates in {}, {:.0} tokens/s, loss {} to {}",
            trained.steps,
            short(duration),
            trained.tokens as f64 / trained.seconds.max(1e-9),
            number(trained.first_loss),
            number(trained.last_loss)
        )?;
        Ok(())
    }

    fn table(
        &self,
        out: &mut Stdout,
        trained: &Trained,
        [base, with, merged]: [&Scored; 3],
        adapter: &Adapter,
    ) -> Result<(), Failure> {
        let peak = graft::memory::peak_bytes();
        if self.setting.json {
            let document = serde_json::json!({
                "questions": base.answers.len(),
                "base_accuracy": base.accuracy,
                "adapter_accuracy": with.accuracy,
                "merged_accuracy": merged.accuracy,
                "train_seconds": trained.seconds,
                "seconds": self.begun.elapsed().as_secs_f64(),
                "peak_bytes": peak,
            });
            writeln!(out, "{document}")?;
            return Ok(());
        }
        let percent = |s: &Scored| format!("{:.1} %", 100.0 * s.accuracy);
        let rows = [
            (
                format!("accuracy on {} held-out scans", base.answers.len()),
                String::new(),
            ),
            ("  base".into(), percent(base)),
            ("  with the adapter".into(), percent(with)),
            ("  merged".into(), percent(merged)),
            ("trained values".into(), adapter.parameters().to_string()),
            (
                "training time".into(),
                short(std::time::Duration::from_secs_f64(trained.seconds)),
            ),
            (
                "peak memory of the whole demo".into(),
                peak.map_or("unknown".into(), short_bytes),
            ),
            ("time in all".into(), short(self.begun.elapsed())),
        ];
        writeln!(out, "\n{}", "-".repeat(52))?;
        for (name, value) in rows {
            writeln!(out, "{name:38}{value:>14}")?;
        }
        writeln!(out, "{}", "-".repeat(52))?;
        match &self.arguments.keep {
            Some(folder) => writeln!(out, "Everything is in {}.", folder.display())?,
            None => writeln!(out, "`graft demo --keep DIR` keeps the files.")?,
        }
        Ok(())
    }
}
