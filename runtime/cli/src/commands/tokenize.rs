//! `graft tokenize`: text to token ids.

use std::io::Write;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use graft::gguf::Gguf;
use graft::tokenizer::Tokenizer;

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::about;
use crate::text_file;

/// Print the token ids of a text, one line per input
///
///   graft tokenize -m model.gguf -p "Hello world" -p "Hello there"
///
/// The first token that the model wants (such as <s>) is put in front, and names of control tokens
/// in the text count as those tokens; --no-special does neither.
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[command(group = ArgGroup::new("text").required(true).args(["prompts", "file"]))]
pub struct TokenizeArguments {
    /// The model, or a GGUF file that holds only a vocabulary
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// A text; may be repeated
    #[arg(
        short,
        long = "prompt",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    prompts: Vec<String>,
    /// A file that is one text as a whole; - for stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// No token in front, and `</s>` in the text is four characters
    #[arg(long)]
    no_special: bool,
    /// Also print the text of each token, one a line
    #[arg(long)]
    pieces: bool,
}

/// Runs the command.
pub fn run(arguments: &TokenizeArguments, setting: &Setting) -> Result<(), Failure> {
    let gguf = Gguf::open(&arguments.model).map_err(|e| about(&arguments.model, e))?;
    if gguf.metadata().get("tokenizer.ggml.model").is_none() {
        let error = graft::model::ModelError::NoTokenizer;
        return Err(about(&arguments.model, error));
    }
    let tokenizer = Tokenizer::from_metadata(gguf.metadata());
    let tokenizer = tokenizer.map_err(|e| about(&arguments.model, e))?;
    let texts = match &arguments.file {
        Some(path) => vec![text_file::read(path)?],
        None => arguments.prompts.clone(),
    };
    let special = !arguments.no_special;
    let mut all = Vec::with_capacity(texts.len());
    for text in &texts {
        let ids = tokenizer.encode(text, special, special);
        all.push(ids.map_err(graft::Error::from)?);
    }
    let text_of = |id: u32| tokenizer.token_text(id).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = all.iter().map(|ids| match arguments.pieces {
            true => {
                let pieces: Vec<_> = ids.iter().map(|&id| text_of(id)).collect();
                serde_json::json!({"ids": ids, "pieces": pieces})
            }
            false => serde_json::json!({"ids": ids}),
        });
        let document: serde_json::Value = document.collect();
        writeln!(out, "{document}")?;
        return Ok(());
    }
    for ids in &all {
        if arguments.pieces {
            for &id in ids {
                writeln!(out, "{id:>7}  {:?}", text_of(id))?;
            }
            continue;
        }
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{}", ids.join(" "))?;
    }
    Ok(())
}
