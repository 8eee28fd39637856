//! `graft bench`: how fast a model runs here, and how fast it could.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use graft::session::Session;

use crate::Setting;
use crate::failure::Failure;
use crate::machine;
use crate::model_arguments::ModelArguments;
use crate::progress::{Progress, short_bytes};
use crate::table::Table;

/// Measure the speed of a model: a prompt, then token by token, beside the machine's limit
///
///   graft bench -m model-Q4_K_M.gguf --prompt 512 --generate 64
///
/// A token cannot come faster than its weights are read from memory, so generation is compared with
/// the memory speed, measured in the same run. The best of --rounds counts.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct BenchArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    prompt: u32,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..1 << 20))]
    generate: u32,
    /// How often to measure
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..1000))]
    rounds: u32,
}

/// Runs the command.
pub fn run(arguments: &BenchArguments, setting: &Setting) -> Result<(), Failure> {
    let opened = arguments.model.open()?;
    let (prompt, generate) = (arguments.prompt as usize, arguments.generate as usize);
    let model = &opened.model;
    let mut session = opened.session(prompt + generate)?;
    let llama = model.llama();
    let threads = llama.pool().threads();
    let read_rate = machine::read_gigabytes_per_second(threads);
    let vocabulary = llama.shape().vocabulary as u32;
    // Any tokens will do: the arithmetic does not depend on which.
    let ids: Vec<u32> = (0..prompt as u32)
        .map(|i| (3 + i * 7919) % vocabulary)
        .collect();
    let mut progress = Progress::new("measuring", u64::from(arguments.rounds));
    let (mut reading, mut writing) = (Duration::MAX, Duration::MAX);
    for round in 0..arguments.rounds {
        session.reset();
        reading = reading.min(timed(|| feed(&mut session, &ids, setting))?);
        let mut next = ids[0];
        let mut each = |session: &mut Session| {
            for _ in 0..generate {
                session.feed(&[next])?;
                next = likeliest(session.logits()?);
                setting.cancel.check()?;
            }
            Ok(())
        };
        writing = writing.min(timed(|| each(&mut session))?);
        progress.at(u64::from(round) + 1, "");
    }
    progress.finish();
    // Of the embedding only one row is read; where it is also the output, all of it is.
    let tensors = model.gguf().tensors();
    let tied = model.gguf().position("output.weight").is_none();
    let weights = tensors
        .iter()
        .filter(|t| tied || t.name != "token_embd.weight");
    let bytes: usize = weights.map(|t| t.bytes).sum();
    let prompt_rate = prompt as f64 / reading.as_secs_f64();
    let token_rate = generate as f64 / writing.as_secs_f64();
    let used_rate = token_rate * bytes as f64 / 1e9;
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({
            "model": model.name(),
            "threads": threads,
            "prompt_tokens": prompt,
            "prompt_tokens_per_second": prompt_rate,
            "generated_tokens": generate,
            "generated_tokens_per_second": token_rate,
            "weight_bytes_per_token": bytes,
            "weight_gigabytes_per_second": used_rate,
            "memory_read_gigabytes_per_second": read_rate,
            "peak_bytes": graft::memory::peak_bytes(),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(out, "{}, {threads} threads", model.name())?;
    let mut table = Table::new(
        ["", "tokens", "tokens/s", "per token"],
        &[false, true, true, true],
    );
    for (name, tokens, rate) in [
        ("prompt", prompt, prompt_rate),
        ("generation", generate, token_rate),
    ] {
        let each = format!("{:.2} ms", 1e3 / rate);
        table.row([name.into(), tokens.to_string(), format!("{rate:.1}"), each]);
    }
    table.write(&mut out)?;
    writeln!(
        out,
        "each token reads {} of weights: {used_rate:.1} of {read_rate:.1} GB/s ({:.0} %)",
        short_bytes(bytes as u64),
        100.0 * used_rate / read_rate
    )?;
    if bytes < 64 << 20 {
        writeln!(
            out,
            "(a model this small stays in the caches: memory is not its limit)"
        )?;
    }
    Ok(())
}

fn feed(session: &mut Session, ids: &[u32], setting: &Setting) -> graft::Result<()> {
    for ids in ids.chunks(512) {
        setting.cancel.check()?;
        session.feed(ids)?;
    }
    session.logits().map(|_| ())
}

fn timed(work: impl FnOnce() -> graft::Result<()>) -> graft::Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(i, _)| i as u32)
}
