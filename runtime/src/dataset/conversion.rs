//! An export on its way to a LLaVA data set: a converter with a file behind it, and a folder beside.

use std::cell::RefCell;
use std::path::Path;

use super::assets::{AssetFolder, ImageHeader};
use super::converter::LogLevel;
use super::{
    ConvertError, ConvertHost, Converter, Diagnostic, Sample, SampleSink, Source, Summary,
    llava_json,
};
use crate::cancel::Cancel;

/// What a conversion has besides its input.
pub struct Conversion<'a> {
    /// The folder of the files that the export names.
    pub assets: &'a Path,
    /// The data set to write; it appears whole or not at all.
    pub output: &'a Path,
    /// The converter's options, a JSON object.
    pub options: &'a str,
    /// Stops the work when raised.
    pub cancel: Cancel,
}

/// Hears of a conversion while it works.
pub trait ConversionWatch {
    /// Bytes of the input that are behind, of how many, where it is known.
    fn at(&mut self, _done: u64, _total: Option<u64>) {}
    /// A remark about the input.
    fn remark(&mut self, _diagnostic: Diagnostic) {}
}

/// Converts `input` to LLaVA JSON.
///
/// # Errors
/// Whatever the converter refuses; a file that cannot be written; an export that gives no sample. Nothing is at
/// `output` then that was not there before.
pub fn convert(
    converter: &dyn Converter,
    input: &mut dyn Source,
    conversion: &Conversion<'_>,
    watch: &mut dyn ConversionWatch,
) -> crate::Result<Summary> {
    let name = input.name().to_owned();
    let host = Host {
        assets: AssetFolder::new(conversion.assets),
        cancel: conversion.cancel.clone(),
        watch: RefCell::new(watch),
    };
    let mut sink = Sink {
        writer: llava_json::Writer::create(conversion.output)?,
        failed: None,
    };
    let converted = converter.convert(input, &mut sink, conversion.options, &host);
    if let Some(error) = sink.failed {
        return Err(error);
    }
    let summary = converted.map_err(|error| match error {
        ConvertError::Cancelled => crate::Error::Cancelled,
        error => error.into(),
    })?;
    if summary.samples == 0 {
        let records = summary.records;
        return Err(ConvertError::NoSamples { name, records }.into());
    }
    sink.writer.finish()?;
    Ok(summary)
}

struct Sink {
    writer: llava_json::Writer,
    /// Why a sample could not be written: the converter is told only that.
    failed: Option<crate::Error>,
}

impl SampleSink for Sink {
    fn emit(&mut self, sample: Sample) -> Result<(), ConvertError> {
        self.writer.write(&sample).map_err(|error| {
            let message = error.to_string();
            self.failed = Some(error);
            ConvertError::Unsupported(message)
        })
    }
}

struct Host<'a> {
    assets: AssetFolder,
    cancel: Cancel,
    watch: RefCell<&'a mut dyn ConversionWatch>,
}

impl ConvertHost for Host<'_> {
    fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    fn checkpoint(&self, done: u64, total: Option<u64>) -> Result<(), ConvertError> {
        self.watch.borrow_mut().at(done, total);
        match self.cancel.is_raised() {
            true => Err(ConvertError::Cancelled),
            false => Ok(()),
        }
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.watch.borrow_mut().remark(diagnostic);
    }

    fn log(&self, level: LogLevel, message: &str) {
        level.log(message);
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
