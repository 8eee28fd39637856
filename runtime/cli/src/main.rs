//! The `graft` command: arguments in, progress on stderr, results on stdout, an exit status.

mod commands;
mod conversion;
mod demo;
mod failure;
mod progress;
mod run_config;
mod training;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use graft::cancel::Cancel;

use failure::Failure;

/// Train small adapters for big quantized models, inside the program that uses them.
#[derive(Parser)]
#[command(name = "graft", version, arg_required_else_help = true)]
struct Arguments {
    /// Print the result as one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArguments),
    Train(commands::train::TrainArguments),
    Plan(commands::plan::PlanArguments),
    Convert(commands::convert::ConvertArguments),
    Quantize(commands::quantize::QuantizeArguments),
    ConvertHf(commands::convert_hf::ConvertHfArguments),
}

/// What every command is given besides its own arguments.
pub struct Setting {
    /// Results go to stdout as one JSON document.
    pub json: bool,
    /// Raised by Ctrl-C.
    pub cancel: Cancel,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("GRAFT_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let setting = Setting {
        json: arguments.json,
        cancel: Cancel::new(),
    };
    let cancel = setting.cancel.clone();
    // The second Ctrl-C ends the process at once: the first may be waiting for a long step.
    let handler = move || {
        if cancel.is_raised() {
            std::process::exit(Failure::INTERRUPTED.into());
        }
        cancel.raise();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("graft: Ctrl-C will not save anything: {error}");
    }
    let done = match &arguments.command {
        Command::Demo(arguments) => demo::run(arguments, &setting),
        Command::Train(arguments) => commands::train::run(arguments, &setting),
        Command::Plan(arguments) => commands::plan::run(arguments, &setting),
        Command::Convert(arguments) => commands::convert::run(arguments, &setting),
        Command::Quantize(arguments) => commands::quantize::run(arguments, &setting),
        Command::ConvertHf(arguments) => commands::convert_hf::run(arguments, &setting),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
