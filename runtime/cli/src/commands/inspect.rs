//! `graft inspect`: what a file is, what is in it, and what is wrong with it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use graft::adapter::gguf_file;
use graft::gguf::{Gguf, GgufError, Value};
use graft::model::{Model, ModelOptions, Vision};
use graft::train::checkpoint::{self, CheckpointState};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Setting;
use crate::commands::plugin;
use crate::failure::Failure;
use crate::model_arguments::about;
use crate::progress::{Progress, short_bytes};
use crate::table::{Table, cut};

/// Show what a file holds: a model, mmproj, adapter, checkpoint or plugin
///
///   graft inspect model-Q4_K_M.gguf --tensors
///
/// Ends with status 1 if graft could not use the file.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct InspectArguments {
    /// The file, or the folder of a training run or checkpoint
    path: PathBuf,
    /// List every tensor instead of their types
    #[arg(long)]
    tensors: bool,
    /// Do not read the whole file for its SHA-256
    #[arg(long)]
    no_hash: bool,
}

/// Runs the command.
pub fn run(arguments: &InspectArguments, setting: &Setting) -> Result<(), Failure> {
    let path = &arguments.path;
    if path.is_dir() {
        return folder(arguments, setting);
    }
    let mut beginning = [0; 4];
    let failed = |e: std::io::Error| Failure::Work(format!("cannot open {}: {e}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let read = file.read(&mut beginning).map_err(failed)?;
    match &beginning[..read] {
        b"\0asm" => plugin::info(path, setting),
        _ => gguf(arguments, setting),
    }
}

/// A GGUF file of any kind.
fn gguf(arguments: &InspectArguments, setting: &Setting) -> Result<(), Failure> {
    let path = &arguments.path;
    let gguf = Arc::new(Gguf::open(path).map_err(|e| about(path, e))?);
    let kind = Kind::of(&gguf);
    let problem = kind.problem(&gguf, path);
    let hash = match arguments.no_hash {
        true => None,
        false => Some(sha256(path, setting)?),
    };
    let mut out = std::io::stdout().lock();
    if setting.json {
        let metadata = gguf.metadata().iter();
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.summary().into()));
        let tensors = gguf.tensors().iter().map(|t| {
            json!({"name": t.name, "shape": t.shape, "type": t.quant_type.name(), "bytes": t.bytes})
        });
        let document = json!({
            "path": path,
            "kind": kind.name(),
            "version": gguf.version(),
            "alignment": gguf.alignment(),
            "parts": gguf.part_count(),
            "bytes": gguf.file_bytes(),
            "sha256": hash,
            "metadata": metadata.collect::<serde_json::Map<_, serde_json::Value>>(),
            "tensors": tensors.collect::<Vec<_>>(),
            "problems": problem.iter().collect::<Vec<_>>(),
        });
        writeln!(out, "{document}")?;
    } else {
        show(&mut out, &gguf, &kind, arguments, hash)?;
    }
    match problem {
        Some(problem) => Err(Failure::Work(format!("{}: {problem}", path.display()))),
        None => Ok(()),
    }
}

fn show(
    out: &mut impl Write,
    gguf: &Gguf,
    kind: &Kind,
    arguments: &InspectArguments,
    hash: Option<String>,
) -> std::io::Result<()> {
    let weights: usize = gguf.tensors().iter().map(|t| t.elements()).sum();
    let bytes: usize = gguf.tensors().iter().map(|t| t.bytes).sum();
    writeln!(out, "{:14}{}", "kind", kind.name())?;
    let (version, parts) = (gguf.version(), gguf.part_count());
    let parts = if parts > 1 {
        format!(", {parts} files")
    } else {
        String::new()
    };
    let size = short_bytes(gguf.file_bytes());
    writeln!(out, "{:14}GGUF {version}, {size}{parts}", "format")?;
    if weights > 0 {
        let bits = 8.0 * bytes as f64 / weights as f64;
        writeln!(
            out,
            "{:14}{} in {} tensors, {bits:.2} bits each",
            "weights",
            count(weights),
            gguf.tensors().len()
        )?;
    }
    if let Some(hash) = hash {
        writeln!(out, "{:14}{hash}", "sha256")?;
    }
    writeln!(out)?;
    // Long names push their values to the right, not onto the next line.
    for (key, value) in gguf.metadata().iter() {
        let shown = match value {
            Value::String(text) => text.clone(),
            other => other.summary(),
        };
        let room = 80usize
            .saturating_sub(key.chars().count().max(38) + 2)
            .max(20);
        writeln!(out, "{key:38}  {}", cut(&shown, room))?;
    }
    if gguf.tensors().is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    if arguments.tensors {
        let mut table = Table::new(
            ["tensor", "shape", "type", "bytes"],
            &[false, true, false, true],
        );
        for tensor in gguf.tensors() {
            let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
            table.row([
                tensor.name.clone(),
                shape.join(" x "),
                tensor.quant_type.to_string(),
                short_bytes(tensor.bytes as u64),
            ]);
        }
        return table.write(out);
    }
    let mut types: Vec<(&str, usize, usize, usize)> = Vec::new();
    for tensor in gguf.tensors() {
        let name = tensor.quant_type.name();
        let at = types.iter().position(|t| t.0 == name).unwrap_or_else(|| {
            types.push((name, 0, 0, 0));
            types.len() - 1
        });
        let sums = &mut types[at];
        (sums.1, sums.2, sums.3) = (
            sums.1 + 1,
            sums.2 + tensor.elements(),
            sums.3 + tensor.bytes,
        );
    }
    let mut table = Table::new(
        ["type", "tensors", "weights", "bytes"],
        &[false, true, true, true],
    );
    for (name, tensors, weights, bytes) in types {
        table.row([
            name.into(),
            tensors.to_string(),
            count(weights),
            short_bytes(bytes as u64),
        ]);
    }
    table.write(out)
}

/// What a GGUF file is, by its own words.
enum Kind {
    Adapter,
    Vision,
    Vocabulary,
    Model,
}

impl Kind {
    fn of(gguf: &Gguf) -> Self {
        let word = |key| gguf.metadata().opt_str(key).ok().flatten();
        match (word("general.type"), word("general.architecture")) {
            (Some("adapter"), _) => Self::Adapter,
            (_, Some("clip")) => Self::Vision,
            _ if gguf.tensors().is_empty() => Self::Vocabulary,
            _ => Self::Model,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Vision => "vision half (mmproj)",
            Self::Vocabulary => "vocabulary",
            Self::Model => "model",
        }
    }

    /// Why graft could not use the file, if it could not.
    fn problem(&self, gguf: &Arc<Gguf>, path: &Path) -> Option<String> {
        let opened: Result<(), graft::Error> = match self {
            Self::Adapter => gguf_file::from_gguf(gguf, "", path)
                .map(drop)
                .map_err(Into::into),
            Self::Vision => {
                let last = gguf
                    .tensor("mm.2.weight")
                    .and_then(|t| t.info.shape.last().copied());
                Vision::new(Arc::clone(gguf), last.unwrap_or(0)).map(drop)
            }
            Self::Vocabulary => graft::tokenizer::Tokenizer::from_metadata(gguf.metadata())
                .map(drop)
                .map_err(Into::into),
            Self::Model => Model::new(
                Arc::clone(gguf),
                &ModelOptions {
                    mmproj: None,
                    threads: 1,
                    ..ModelOptions::default()
                },
            )
            .map(drop),
        };
        opened.err().map(|error| error.to_string())
    }
}

/// A checkpoint, or a run folder with several.
fn folder(arguments: &InspectArguments, setting: &Setting) -> Result<(), Failure> {
    let path = &arguments.path;
    if path.join("adapter_config.json").is_file() {
        return Err(Failure::Usage(format!(
            "{} is a PEFT adapter; `graft adapter info {} -m MODEL` describes it",
            path.display(),
            path.display()
        )));
    }
    let latest = checkpoint::latest(path).map_err(|_| {
        let error = GgufError::Folder { path: path.clone() };
        Failure::Work(format!("{error}, and no checkpoint or training run either"))
    })?;
    let state = CheckpointState::read(&latest)?;
    let mut files = Vec::new();
    let failed =
        |e: std::io::Error| Failure::Work(format!("cannot read {}: {e}", latest.display()));
    for entry in fs::read_dir(&latest).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = entry.metadata().map_err(failed)?.len();
        let hash = match arguments.no_hash || !entry.path().is_file() {
            true => None,
            false => Some(sha256(&entry.path(), setting)?),
        };
        files.push((
            entry.file_name().to_string_lossy().into_owned(),
            bytes,
            hash,
        ));
    }
    files.sort();
    let mut out = std::io::stdout().lock();
    if setting.json {
        let files = files
            .iter()
            .map(|(name, bytes, hash)| json!({"name": name, "bytes": bytes, "sha256": hash}));
        let document = json!({
            "path": latest, "kind": "checkpoint", "state": state,
            "files": files.collect::<Vec<_>>(), "problems": [],
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(out, "{:14}checkpoint {}", "kind", latest.display())?;
    writeln!(
        out,
        "{:14}{} of {}",
        "updates done", state.step, state.steps
    )?;
    writeln!(out, "{:14}{}", "base model", cut(&state.model, 64))?;
    let options = &state.options;
    let learns = match options.projector_alone() {
        true => format!(
            "the projector alone, learning rate {}",
            options.projector_lr
        ),
        false => format!(
            "rank {}, alpha {}, targets {}, learning rate {}",
            options.rank, options.alpha, options.targets, options.lr
        ),
    };
    writeln!(out, "{:14}{learns}\n", "options")?;
    let mut table = Table::new(["file", "bytes", "sha256"], &[false, true, false]);
    for (name, bytes, hash) in files {
        let hash = hash.map_or(String::new(), |h| cut(&h, 33));
        table.row([name, short_bytes(bytes), hash]);
    }
    table.write(&mut out)?;
    Ok(())
}

/// SHA-256 of a file, with a bar, as 64 hexadecimal digits.
fn sha256(path: &Path, setting: &Setting) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::Work(format!("cannot read {}: {e}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let mut progress = Progress::new("hashing", total);
    let (mut hash, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        setting.cancel.check()?;
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        done += read as u64;
        progress.at(done, &short_bytes(done));
    }
    progress.finish();
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// `6.74 G`, `108.3 M`, `27136`.
fn count(n: usize) -> String {
    match n {
        0..1_000_000 => n.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}
