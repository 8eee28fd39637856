//! The `graft` command: arguments in, progress on stderr, results on stdout, an exit status.

/// Shadows the standard macro, which panics where nobody reads stderr any more.
macro_rules! eprintln {
    ($($what:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

mod commands;
#[path = "../../../plugins/build/src/component.rs"]
mod component;
mod conversion;
mod demo;
mod device_arguments;
mod divergence;
mod failure;
mod interrupt;
mod judge_arguments;
mod machine;
mod model_arguments;
mod npy;
mod positions;
mod progress;
mod prompting;
mod run_config;
mod scaffold;
mod table;
mod text_file;
mod training;
mod trust_arguments;
mod windows;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use graft::cancel::Cancel;
use graft_kernels::Kernels;

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
    Run(commands::run::RunArguments),
    Chat(commands::chat::ChatArguments),
    Train(commands::train::TrainArguments),
    Plan(commands::plan::PlanArguments),
    Eval(commands::eval::EvalArguments),
    Adapter(commands::adapter::AdapterArguments),
    Convert(commands::convert::ConvertArguments),
    Quantize(commands::quantize::QuantizeArguments),
    ConvertHf(commands::convert_hf::ConvertHfArguments),
    Inspect(commands::inspect::InspectArguments),
    Tokenize(commands::tokenize::TokenizeArguments),
    Logits(commands::logits::LogitsArguments),
    Perplexity(commands::perplexity::PerplexityArguments),
    Plugin(commands::plugin::PluginArguments),
    Bench(commands::bench::BenchArguments),
    Devices(commands::devices::DevicesArguments),
}

/// What every command is given besides its own arguments.
pub struct Setting {
    /// Results go to stdout as one JSON document.
    pub json: bool,
    /// Raised by Ctrl-C.
    pub cancel: Cancel,
}

/// Reads the command line. `-1` after an option is its value, so that the option itself says what it
/// cannot be.
fn arguments() -> Arguments {
    fn with_negative_numbers(command: clap::Command) -> clap::Command {
        command
            .mut_args(|argument| {
                let takes = argument.get_action().takes_values() && !argument.is_positional();
                match takes && !argument.is_allow_hyphen_values_set() {
                    true => argument.allow_negative_numbers(true),
                    false => argument,
                }
            })
            .mut_subcommands(with_negative_numbers)
    }
    let matches = with_negative_numbers(Arguments::command()).get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn main() -> ExitCode {
    let arguments = arguments();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("GRAFT_LOG"))
        .with_writer(std::io::stderr)
        .init();
    failure::leave_out_lost_devices();
    let setting = Setting {
        json: arguments.json,
        cancel: Cancel::new(),
    };
    if let Some(name) = Kernels::asked_for()
        && Kernels::named(&name).is_none()
    {
        let known: Vec<_> = Kernels::available().map(|table| table.name).collect();
        let (used, known) = (Kernels::detect().name, known.join(", "));
        eprintln!(
            "warning: GRAFT_CPU={name} is none of this processor's kernels ({known}); using {used}"
        );
    }
    if let Err(error) = interrupt::install(&setting.cancel) {
        eprintln!("graft: Ctrl-C will not save anything: {error}");
    }
    let done = match &arguments.command {
        Command::Demo(arguments) => demo::run(arguments, &setting),
        Command::Run(arguments) => commands::run::run(arguments, &setting),
        Command::Chat(arguments) => commands::chat::run(arguments, &setting),
        Command::Train(arguments) => commands::train::run(arguments, &setting),
        Command::Plan(arguments) => commands::plan::run(arguments, &setting),
        Command::Eval(arguments) => commands::eval::run(arguments, &setting),
        Command::Adapter(arguments) => commands::adapter::run(arguments, &setting),
        Command::Convert(arguments) => commands::convert::run(arguments, &setting),
        Command::Quantize(arguments) => commands::quantize::run(arguments, &setting),
        Command::ConvertHf(arguments) => commands::convert_hf::run(arguments, &setting),
        Command::Inspect(arguments) => commands::inspect::run(arguments, &setting),
        Command::Tokenize(arguments) => commands::tokenize::run(arguments, &setting),
        Command::Logits(arguments) => commands::logits::run(arguments, &setting),
        Command::Perplexity(arguments) => commands::perplexity::run(arguments, &setting),
        Command::Plugin(arguments) => commands::plugin::run(arguments, &setting),
        Command::Bench(arguments) => commands::bench::run(arguments, &setting),
        Command::Devices(arguments) => commands::devices::run(arguments, &setting),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
