//! `graft logits`: what the model thinks at every position, for comparing runtimes.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use graft::atomic_file::AtomicFile;
use graft::session::items_of;

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{ModelArguments, check_context, images};
use crate::npy;
use crate::positions::Positions;
use crate::progress::Progress;
use crate::prompting;

/// Write the logits of every position to a NumPy file: f32 [tokens, vocabulary]
///
///   graft logits -m model.gguf --tokens 1,15043,3186 -o logits.npy
///
/// In --tokens, -200 marks where an image goes; it takes one row per image patch. A text is taken as
/// it is, with the first token that the model wants in front.
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[command(group = ArgGroup::new("text").required(true).args(["tokens", "prompt"]))]
pub struct LogitsArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// An image; may be repeated
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Token ids, separated by commas
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    tokens: Vec<i32>,
    /// A text; `<image>` in it marks where an image goes
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &LogitsArguments, setting: &Setting) -> Result<(), Failure> {
    let opened = arguments.model.open()?;
    let model = &opened.model;
    let items = match &arguments.prompt {
        Some(text) => prompting::raw(model, text, &arguments.images)?,
        None => items_of(&arguments.tokens, &images(model, &arguments.images)?)
            .map_err(|e| Failure::Usage(e.to_string()))?,
    };
    let rows = prompting::positions(model, &items);
    if rows == 0 {
        return Err(Failure::Usage("the prompt has no tokens".into()));
    }
    let shape = model.llama().shape();
    let (most, columns) = (shape.context_length, shape.vocabulary);
    if rows > most {
        return Err(Failure::Work(format!(
            "the prompt has {rows} positions, the model was made for {most}; shorten it"
        )));
    }
    check_context(model, rows)?;
    let failed = |error: std::io::Error| {
        Failure::Work(format!(
            "cannot write {}: {error}",
            arguments.output.display()
        ))
    };
    let mut file = BufWriter::new(AtomicFile::create(&arguments.output)?);
    npy::write_header(&mut file, rows, columns).map_err(failed)?;
    let mut progress = Progress::new("computing", rows as u64);
    let mut positions = Positions::new(model, opened.attached(), rows)?;
    positions.each(&items, 0, &setting.cancel, |position, logits| {
        for value in logits {
            file.write_all(&value.to_le_bytes()).map_err(failed)?;
        }
        progress.at(position as u64 + 1, "");
        Ok(())
    })?;
    progress.finish();
    let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.commit()?;
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({
            "written": arguments.output, "shape": [rows, columns], "type": "f32",
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(
        out,
        "[{rows}, {columns}] f32: {}",
        arguments.output.display()
    )?;
    Ok(())
}
