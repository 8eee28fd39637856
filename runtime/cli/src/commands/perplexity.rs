//! `graft perplexity`: how surprised the model is by a text.

use std::io::Write;
use std::path::PathBuf;

use crate::Setting;
use crate::failure::Failure;
use crate::model_arguments::ModelArguments;
use crate::positions::Positions;
use crate::progress::Progress;
use crate::windows::Windows;
use clap::Args;

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
    let opened = arguments.model.open()?;
    let model = &opened.model;
    let windows = Windows::read(model, &arguments.file, arguments.ctx, arguments.chunks)?;
    let mut positions = Positions::new(model, opened.attached(), windows.length())?;
    let mut progress = Progress::new("windows", windows.count() as u64);
    let mut surprise = Surprise::default();
    for (n, (ids, items)) in windows.each().enumerate() {
        positions.each(
            &items,
            windows.from(),
            &setting.cancel,
            |position, logits| {
                surprise.add(logits, ids[position + 1]);
                Ok(())
            },
        )?;
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
            "windows": windows.count(),
            "ctx": windows.length(),
            "seconds": time.as_secs_f64(),
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    writeln!(
        out,
        "perplexity {value:.4} ± {error:.4} over {} tokens, {} windows of {}",
        surprise.tokens,
        windows.count(),
        windows.length()
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
