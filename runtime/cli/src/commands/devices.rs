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
///   graft devices --try
///
/// A graphics card's products are computed in whichever numbers are right and fastest on it: f32, f16 by matrix units
/// (not of few tokens), or stored integers (dot4; only where nothing is trained). Which they are is tried when a model
/// is first opened on it, and kept. GRAFT_GPU_KERNELS=f32 (or matrix, dot4) takes one untried.
///
/// GRAFT_CPU=portable (or avx2) makes graft use a slower set of kernels, to compare.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct DevicesArguments {
    /// Try graphics cards' products now, software's too, whatever is kept of them
    #[arg(long = "try")]
    try_now: bool,
}

/// Runs the command.
pub fn run(arguments: &DevicesArguments, setting: &Setting) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = graft::memory::memory();
    let kernels = Kernels::detect().name;
    let available: Vec<_> = Kernels::available().map(|table| table.name).collect();
    let features = machine::features();
    let processor = graft::memory::processor().unwrap_or_else(|| "unknown".into());
    let cards = cards::listed(arguments.try_now);
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
        devices.extend(cards::documents(&cards));
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
    cards::write(&mut out, &cards)?;
    Ok(())
}

/// Graphics devices, as this build knows them.
#[cfg(feature = "gpu")]
mod cards {
    use std::io::{self, Write};
    use std::time::Duration;

    use graft::gpu::{
        AdapterKind, AdapterReport, Arithmetic, Product, Trial, adapters, cache_folder,
    };

    use crate::progress::short_bytes;

    /// A card, and what trying its products found or why it could not be tried; `None` if that was not done.
    pub type Card = (AdapterReport, Option<Result<Trial, String>>);

    pub fn listed(try_now: bool) -> Vec<Card> {
        let folder = cache_folder();
        let trial = |card: &AdapterReport| match (try_now, &folder) {
            (true, folder) => {
                let trial = Trial::again(card, folder.as_deref());
                Some(trial.map_err(|e| graft::Error::from(e).to_string()))
            }
            (false, Some(folder)) => Trial::kept(card, folder).map(Ok),
            (false, None) => None,
        };
        let cards = adapters().into_iter();
        cards.map(|card| (card.clone(), trial(&card))).collect()
    }

    /// The ways of computing a product that are right, the fastest first.
    fn times(trial: &Trial, product: Product) -> Vec<(&'static str, Duration)> {
        let ways = Arithmetic::ALL.into_iter();
        let timed = ways.filter_map(|way| Some((way.name(), trial.time(product, way)?)));
        let mut timed: Vec<_> = timed.collect();
        timed.sort_by_key(|&(_, time)| time);
        timed
    }

    pub fn documents(cards: &[Card]) -> Vec<serde_json::Value> {
        let trial = |trial: &Trial| {
            let products = Product::ALL.map(|product| {
                let times = times(trial, product).into_iter();
                let seconds = |time: Duration| serde_json::Value::from(time.as_secs_f64());
                let times = times.map(|(way, time)| (way.to_owned(), seconds(time)));
                (product.name().to_owned(), times.collect())
            });
            serde_json::Value::Object(products.into_iter().collect())
        };
        let document = |(card, tried): &Card| {
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
                "product_seconds": tried.as_ref().and_then(|t| t.as_ref().ok()).map(trial),
                "trial_error": tried.as_ref().and_then(|t| t.as_ref().err()),
            })
        };
        cards.iter().map(document).collect()
    }

    /// Lines about products.
    fn products(card: &AdapterReport, tried: Option<&Result<Trial, String>>) -> Vec<String> {
        match tried {
            Some(Ok(trial)) => {
                let line = |product: Product| {
                    let times = times(trial, product).into_iter();
                    let times: Vec<_> = times
                        .map(|(way, time)| match time {
                            // The device was lost over the others, so nothing was timed.
                            Duration::ZERO => way.to_owned(),
                            _ => format!("{way} {time:.1?}"),
                        })
                        .collect();
                    format!("{:10}{}", product.name(), times.join(", "))
                };
                Product::ALL.map(line).to_vec()
            }
            Some(Err(error)) => vec![format!("not tried: {error}")],
            None if card.kind == AdapterKind::Software => {
                vec!["f32, not tried: in software nothing else is faster".into()]
            }
            None => vec!["not tried yet: the first model on it does, or --try".into()],
        }
    }

    pub fn write(out: &mut impl Write, cards: &[Card]) -> io::Result<()> {
        for (card, tried) in cards {
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
            for (i, line) in products(card, tried.as_ref()).iter().enumerate() {
                let label = if i == 0 { "products" } else { "" };
                writeln!(out, "  {label:12}{line}")?;
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

    pub type Card = ();

    pub fn listed(_: bool) -> Vec<Card> {
        Vec::new()
    }

    pub fn documents(_: &[Card]) -> Vec<serde_json::Value> {
        Vec::new()
    }

    pub fn write(out: &mut impl Write, _: &[Card]) -> io::Result<()> {
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
