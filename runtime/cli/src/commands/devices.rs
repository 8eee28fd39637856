//! `graft devices`: what this machine computes with.

use std::io::Write;

use clap::Args;
use graft_kernels::Kernels;

use crate::Setting;
use crate::failure::Failure;
use crate::machine;
use crate::progress::short_bytes;
use crate::table::cut;

/// Show the devices of this machine: processor and graphics cards, memory, instruction sets, limits
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
        let mut devices = vec![serde_json::json!({
            "name": "cpu",
            "processor": processor,
            "architecture": std::env::consts::ARCH,
            "threads": threads,
            "memory": memory,
            "kernels": kernels,
            "kernels_available": available,
            "features": features,
        })];
        devices.extend(cards::documents());
        let document = serde_json::json!({ "devices": devices });
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
    cards::write(&mut out)?;
    Ok(())
}

/// Graphics devices, as this build knows them.
#[cfg(feature = "gpu")]
mod cards {
    use std::io::{self, Write};

    use graft::gpu::{AdapterReport, adapters};

    use crate::progress::short_bytes;

    pub fn documents() -> Vec<serde_json::Value> {
        let document = |card: &AdapterReport| {
            let (limits, features) = (&card.limits, &card.features);
            serde_json::json!({
                "name": format!("gpu:{}", card.index),
                "card": card.name,
                "kind": card.kind.name(),
                "interface": card.interface,
                "driver": card.driver,
                "memory": card.memory(),
                "binding_bytes": limits.binding_bytes,
                "buffer_bytes": limits.buffer_bytes,
                "workgroup_bytes": limits.workgroup_bytes,
                "f16": features.f16,
                "subgroups": features.subgroups,
                "cooperative_matrices": features.cooperative_matrices,
                "timestamps": features.timestamps,
            })
        };
        adapters().iter().map(document).collect()
    }

    pub fn write(out: &mut impl Write) -> io::Result<()> {
        let cards = adapters();
        for card in &cards {
            writeln!(out, "gpu:{}", card.index)?;
            writeln!(out, "  {:12}{} ({})", "card", card.name, card.kind.name())?;
            writeln!(out, "  {:12}{}, {}", "driver", card.interface, card.driver)?;
            if let Some(bytes) = card.memory() {
                writeln!(out, "  {:12}{}", "memory", short_bytes(bytes))?;
            }
            let limits = &card.limits;
            writeln!(
                out,
                "  {:12}arrays of {}, buffers of {}",
                "limits",
                short_bytes(limits.binding_bytes),
                short_bytes(limits.buffer_bytes)
            )?;
            let features = [
                ("f16", card.features.f16),
                ("subgroups", card.features.subgroups),
                ("cooperative matrices", card.features.cooperative_matrices),
                ("timestamps", card.features.timestamps),
            ];
            let features = features.iter().filter(|(_, has)| *has);
            let features: Vec<_> = features.map(|(name, _)| *name).collect();
            if !features.is_empty() {
                writeln!(out, "  {:12}{}", "features", features.join(", "))?;
            }
        }
        if cards.is_empty() {
            writeln!(out, "no graphics device was found")?;
        }
        Ok(())
    }
}

/// This build has no part for graphics devices.
#[cfg(not(feature = "gpu"))]
mod cards {
    use std::io::{self, Write};

    pub fn documents() -> Vec<serde_json::Value> {
        Vec::new()
    }

    pub fn write(out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "graphics devices: not in this build (feature gpu)")
    }
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
