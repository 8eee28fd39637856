//! `graft devices`: what this machine computes with.

use std::io::Write;

use clap::Args;
use graft_kernels::Kernels;

use crate::Setting;
use crate::failure::Failure;
use crate::machine;
use crate::progress::short_bytes;
use crate::table::cut;

/// Show the devices of this machine: processor, memory, instruction sets
///
///   graft devices --json
///
/// GRAFT_CPU=portable (or avx2) makes graft use a slower set of kernels, to compare.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct DevicesArguments {}

/// Runs the command.
pub fn run(_: &DevicesArguments, setting: &Setting) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = graft::memory::memory();
    let kernels = Kernels::detect().name;
    let available: Vec<_> = Kernels::available().map(|table| table.name).collect();
    let features = machine::features();
    let processor = graft::memory::processor().unwrap_or_else(|| "unknown".into());
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({"devices": [{
            "name": "cpu",
            "processor": processor,
            "architecture": std::env::consts::ARCH,
            "threads": threads,
            "memory": memory,
            "kernels": kernels,
            "kernels_available": available,
            "features": features,
        }]});
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(out, "cpu")?;
    writeln!(out, "  {:12}{}", "processor", cut(&processor, 64))?;
    writeln!(out, "  {:12}{threads}", "threads")?;
    if let Some(memory) = memory {
        let (total, free) = (short_bytes(memory.total), short_bytes(memory.available));
        writeln!(out, "  {:12}{total}, {free} available", "memory")?;
    }
    writeln!(
        out,
        "  {:12}{kernels} (of {})",
        "kernels",
        available.join(", ")
    )?;
    for (i, line) in wrapped(&features, 64).iter().enumerate() {
        let label = if i == 0 { "features" } else { "" };
        writeln!(out, "  {label:12}{line}")?;
    }
    Ok(())
}

/// Words in lines of at most `width` characters.
fn wrapped(words: &[&str], width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push((*word).into());
        } else {
            let blank = if line.is_empty() { "" } else { " " };
            line.push_str(&format!("{blank}{word}"));
        }
    }
    lines
}
