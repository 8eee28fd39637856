//! `graft perplexity`: how surprised the model is by a text.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use graft::session::Item;

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::{ModelArguments, check_context};
use crate::positions::Positions;
use crate::progress::Progress;
use crate::text_file;

/// Measure the perplexity of a text file, over the same windows as llama.cpp's tool
///
///   graft perplexity -m model.gguf -f wiki.test.raw --ctx 512
///
/// The text is cut into windows of --ctx tokens, the first token of each replaced by the one that
/// opens a sequence; the second half of each window counts. A line end at the end of the file does
/// not, and tokens that do not fill a window are left out.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct PerplexityArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// The text; - for stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,
    /// Windows to look at, from the beginning [default: all]
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
}

/// Sums over the tokens that count.
#[derive(Default)]
struct Surprise {
    tokens: u64,
    sum: f64,
    squares: f64,
}

/// Runs the command.
pub fn run(arguments: &PerplexityArguments, setting: &Setting) -> Result<(), Failure> {
    let window = arguments.ctx;
    if window < 4 {
        return Err(Failure::Usage("--ctx must be at least 4 tokens".into()));
    }
    let opened = arguments.model.open()?;
    let model = &opened.model;
    let most = model.llama().shape().context_length;
    if window > most {
        return Err(Failure::Usage(format!(
            "--ctx is {window}, but the model was made for {most} positions"
        )));
    }
    check_context(model, window)?;
    let tokenizer = model.tokenizer().map_err(graft::Error::from)?;
    let mut text = text_file::read(&arguments.file)?;
    if text.ends_with('\n') {
        text.pop();
    }
    let ids = tokenizer.encode(&text, true, false);
    let ids = ids.map_err(graft::Error::from)?;
    let windows = (ids.len() / window).min(arguments.chunks.unwrap_or(usize::MAX));
    if ids.len() < 2 * window || windows == 0 {
        return Err(Failure::Work(format!(
            "{} has {} tokens, at least {} are needed for windows of {window}; give a longer text \
             or a smaller --ctx",
            arguments.file.display(),
            ids.len(),
            2 * window
        )));
    }
    let opening = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut positions = Positions::new(model, opened.attached(), window)?;
    let mut progress = Progress::new("windows", windows as u64);
    let mut surprise = Surprise::default();
    for (n, ids) in ids.chunks_exact(window).take(windows).enumerate() {
        let mut items: Vec<Item> = ids.iter().map(|&id| Item::Token(id)).collect();
        if let Some(bos) = opening {
            items[0] = Item::Token(bos);
        }
        // The last position has no successor in the window.
        items.pop();
        positions.each(&items, window / 2, &setting.cancel, |position, logits| {
            surprise.add(logits, ids[position + 1]);
            Ok(())
        })?;
        progress.at(
            n as u64 + 1,
            &format!("perplexity {:.4}", surprise.perplexity()),
        );
    }
    let time = progress.finish();
    let (value, error) = (surprise.perplexity(), surprise.error());
    let mut out = std::io::stdout().lock();
    if setting.json {
        let document = serde_json::json!({
            "perplexity": value,
            "standard_error": error,
            "mean_nll": surprise.mean(),
            "tokens": surprise.tokens,
            "windows": windows,
            "ctx": window,
            "seconds": time.as_secs_f64(),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(
        out,
        "perplexity {value:.4} ± {error:.4} over {} tokens, {windows} windows of {window}",
        surprise.tokens
    )?;
    Ok(())
}

impl Surprise {
    fn add(&mut self, logits: &[f32], next: u32) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&l| f64::from(l - largest).exp()).sum();
        // The id came from this model's tokenizer, which is not larger than its vocabulary.
        let nll = sum.ln() - f64::from(logits[next as usize] - largest);
        self.tokens += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }

    fn mean(&self) -> f64 {
        self.sum / self.tokens.max(1) as f64
    }

    fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// Of the perplexity, from the variance of the single tokens.
    fn error(&self) -> f64 {
        let n = self.tokens as f64;
        let variance = self.squares / n - self.mean().powi(2);
        if n < 2.0 || variance <= 0.0 {
            return 0.0;
        }
        (variance / (n - 1.0)).sqrt() * self.perplexity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_has_perplexity_two() {
        let mut surprise = Surprise::default();
        for _ in 0..10 {
            surprise.add(&[1.5, 1.5], 0);
        }
        assert!((surprise.perplexity() - 2.0).abs() < 1e-6);
        assert_eq!(surprise.tokens, 10);
        assert!(surprise.error() < 1e-3);
    }
}
