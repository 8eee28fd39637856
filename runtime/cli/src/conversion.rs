//! Running a converter plugin over an export file, for people.

use std::path::Path;

use graft::cancel::Cancel;
use graft::dataset::assets::FileSource;
use graft::dataset::conversion::{self, Conversion, ConversionWatch};
use graft::dataset::converter::Source;
use graft::dataset::{Converter, Diagnostic, Summary};

use crate::failure::Failure;
use crate::progress::{Progress, short_bytes};

/// What a conversion did.
pub struct Converted {
    pub summary: Summary,
    pub diagnostics: Vec<Diagnostic>,
}

/// Converts the export `input`, with its companion files in `assets`, to LLaVA JSON at `output`.
pub fn convert(
    converter: &dyn Converter,
    input: &Path,
    assets: &Path,
    output: &Path,
    options: &str,
    cancel: &Cancel,
) -> Result<Converted, Failure> {
    let mut source = FileSource::open(input).map_err(graft::Error::from)?;
    let mut watch = Watch {
        progress: Progress::new("converting", source.size().unwrap_or(0)),
        diagnostics: Vec::new(),
    };
    let conversion = Conversion {
        assets,
        output,
        options,
        cancel: cancel.clone(),
    };
    let converted = conversion::convert(converter, &mut source, &conversion, &mut watch);
    watch.progress.finish();
    match converted {
        Ok(summary) => Ok(Converted {
            summary,
            diagnostics: watch.diagnostics,
        }),
        Err(error) => {
            remark(&watch.diagnostics);
            Err(error.into())
        }
    }
}

/// Says what was remarked: the first of every kind, and how many more there were.
pub fn remark(diagnostics: &[Diagnostic]) {
    const SHOWN: usize = 5;
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for diagnostic in diagnostics {
        let code = diagnostic.code.as_str();
        let at = kinds.iter().position(|(known, _)| *known == code);
        let at = at.unwrap_or_else(|| {
            kinds.push((code, 0));
            kinds.len() - 1
        });
        kinds[at].1 += 1;
        // A remark without a place sums up others.
        if kinds[at].1 <= SHOWN || diagnostic.at.is_none() {
            eprintln!("{diagnostic}");
        }
    }
    for (code, count) in kinds.into_iter().filter(|(_, count)| *count > SHOWN) {
        eprintln!("{} more of [{code}]; --json lists them", count - SHOWN);
    }
}

struct Watch {
    progress: Progress,
    diagnostics: Vec<Diagnostic>,
}

impl ConversionWatch for Watch {
    fn at(&mut self, done: u64, _: Option<u64>) {
        self.progress.at(done, &short_bytes(done));
    }

    fn remark(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }
}
