//! Running a converter plugin over an export file.

use std::cell::RefCell;
use std::path::Path;

use graft::cancel::Cancel;
use graft::dataset::assets::{AssetFolder, FileSource, ImageHeader};
use graft::dataset::converter::{LogLevel, Source};
use graft::dataset::{
    ConvertError, ConvertHost, Converter, Diagnostic, Sample, SampleSink, Summary, llava_json,
};

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
    let mut source = FileSource::open(input).map_err(failed)?;
    let total = source.size().unwrap_or(0);
    let host = Host {
        assets: AssetFolder::new(assets),
        cancel: cancel.clone(),
        diagnostics: RefCell::default(),
        progress: RefCell::new(Progress::new("converting", total)),
    };
    let mut sink = Sink(llava_json::Writer::create(output)?);
    let converted = converter.convert(&mut source, &mut sink, options, &host);
    host.progress.into_inner().finish();
    let diagnostics = host.diagnostics.into_inner();
    let summary = match converted {
        Ok(summary) => summary,
        Err(error) => {
            remark(&diagnostics);
            return Err(failed(error));
        }
    };
    if summary.samples == 0 {
        remark(&diagnostics);
        return Err(Failure::Work(format!(
            "{}: none of its {} records gave a sample, so nothing was written; check --assets and \
             the remarks above",
            input.display(),
            summary.records
        )));
    }
    sink.0.finish()?;
    Ok(Converted {
        summary,
        diagnostics,
    })
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

fn failed(error: ConvertError) -> Failure {
    match error {
        ConvertError::Cancelled => Failure::Interrupted(None),
        error => Failure::Work(error.to_string()),
    }
}

struct Sink(llava_json::Writer);

impl SampleSink for Sink {
    fn emit(&mut self, sample: Sample) -> Result<(), ConvertError> {
        let written = self.0.write(&sample);
        written.map_err(|e| ConvertError::Unsupported(e.to_string()))
    }
}

struct Host {
    assets: AssetFolder,
    cancel: Cancel,
    diagnostics: RefCell<Vec<Diagnostic>>,
    progress: RefCell<Progress>,
}

impl ConvertHost for Host {
    fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    fn checkpoint(&self, done: u64, _: Option<u64>) -> Result<(), ConvertError> {
        self.progress.borrow_mut().at(done, &short_bytes(done));
        match self.cancel.is_raised() {
            true => Err(ConvertError::Cancelled),
            false => Ok(()),
        }
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    fn log(&self, level: LogLevel, message: &str) {
        match level {
            LogLevel::Trace | LogLevel::Debug => tracing::debug!("{message}"),
            LogLevel::Info => tracing::info!("{message}"),
            LogLevel::Warn => tracing::warn!("{message}"),
            LogLevel::Error => tracing::error!("{message}"),
        }
    }

    fn open_asset(&self, name: &str) -> Result<Box<dyn Source + Send>, ConvertError> {
        Ok(Box::new(self.assets.open(name)?))
    }

    fn probe_image(&self, name: &str) -> Result<ImageHeader, ConvertError> {
        self.assets.probe_image(name)
    }

    fn list_assets(
        &self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<String>, ConvertError> {
        self.assets.list(prefix, after, max)
    }
}
