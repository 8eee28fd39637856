//! The caller's side of a conversion: an export in memory, companion files in a folder, and a desk
//! where remarks pile up.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

use graft::cancel::Cancel;
use graft::dataset::assets::{AssetFolder, ImageHeader};
use graft::dataset::converter::LogLevel;
use graft::dataset::{
    ConvertError, ConvertHost, Converter, Diagnostic, Part, Sample, SampleSink, Source, Summary,
};
use graft_plugins::{Grants, Host, Limits, Plugin, WasmConverter, WasmEvaluator, shipped};

/// An export in memory.
pub struct Memory {
    pub name: String,
    pub bytes: Vec<u8>,
    pub position: usize,
    /// Bytes given at a time.
    pub step: usize,
    /// A pipe has neither size nor past.
    pub pipe: bool,
    /// Reading fails from here on.
    pub breaks_at: Option<usize>,
}

impl Memory {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self::named("export.json", bytes)
    }

    pub fn named(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.into(),
            position: 0,
            step: usize::MAX,
            pipe: false,
            breaks_at: None,
        }
    }
}

impl Source for Memory {
    fn name(&self) -> &str {
        &self.name
    }
    fn size(&self) -> Option<u64> {
        (!self.pipe).then_some(self.bytes.len() as u64)
    }
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.breaks_at.is_some_and(|at| self.position >= at) {
            return Err(io::Error::other("the disk is gone"));
        }
        let rest = &self.bytes[self.position..];
        let n = rest.len().min(buffer.len()).min(self.step);
        buffer[..n].copy_from_slice(&rest[..n]);
        self.position += n;
        Ok(n)
    }
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.pipe {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let start = self.bytes.len().min(offset as usize);
        let rest = &self.bytes[start..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// Takes everything down.
pub struct Desk {
    pub assets: AssetFolder,
    pub cancel: Cancel,
    /// Raises the flag at this checkpoint.
    pub cancel_at: Option<u64>,
    pub checkpoints: Cell<u64>,
    /// Names of the images that were asked for.
    pub probed: RefCell<Vec<String>>,
    pub remarks: RefCell<Vec<Diagnostic>>,
    pub log: RefCell<Vec<(LogLevel, String)>>,
}

impl Desk {
    pub fn new(assets: &Path) -> Self {
        Self {
            assets: AssetFolder::new(assets),
            cancel: Cancel::new(),
            cancel_at: None,
            checkpoints: Cell::new(0),
            probed: RefCell::default(),
            remarks: RefCell::default(),
            log: RefCell::default(),
        }
    }

    /// Codes of the remarks, in order.
    pub fn codes(&self) -> Vec<String> {
        let remarks = self.remarks.borrow();
        remarks.iter().map(|r| r.code.clone()).collect()
    }
}

impl ConvertHost for Desk {
    fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }
    fn checkpoint(&self, _: u64, _: Option<u64>) -> Result<(), ConvertError> {
        self.checkpoints.set(self.checkpoints.get() + 1);
        if self.cancel_at == Some(self.checkpoints.get()) {
            self.cancel.raise();
        }
        match self.cancel.is_raised() {
            true => Err(ConvertError::Cancelled),
            false => Ok(()),
        }
    }
    fn report(&self, diagnostic: Diagnostic) {
        self.remarks.borrow_mut().push(diagnostic);
    }
    fn log(&self, level: LogLevel, message: &str) {
        self.log.borrow_mut().push((level, message.to_owned()));
    }
    fn open_asset(&self, name: &str) -> Result<Box<dyn Source + Send>, ConvertError> {
        Ok(Box::new(self.assets.open(name)?))
    }
    fn probe_image(&self, name: &str) -> Result<ImageHeader, ConvertError> {
        self.probed.borrow_mut().push(name.to_owned());
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

/// A sink that refuses.
#[allow(dead_code)] // not every test that includes this file
pub struct Full;

impl SampleSink for Full {
    fn emit(&mut self, _: Sample) -> Result<(), ConvertError> {
        Err(ConvertError::LimitExceeded("the disk is full".into()))
    }
}

/// What a conversion of an export in memory gives.
pub fn convert(
    converter: &dyn Converter,
    export: &str,
    options: &str,
    desk: &Desk,
) -> (Result<Summary, ConvertError>, Vec<Sample>) {
    let mut samples = Vec::new();
    let mut source = Memory::new(export);
    let summary = converter.convert(&mut source, &mut samples, options, desk);
    (summary, samples)
}

/// The texts of a sample, images as `[image]`.
#[allow(dead_code)] // not every test that includes this file
pub fn texts(sample: &Sample) -> Vec<&str> {
    let parts = sample.turns.iter().flat_map(|turn| &turn.content);
    let texts = parts.map(|part| match part {
        Part::Text(text) => text.as_str(),
        Part::Image(_) => "[image]",
    });
    texts.collect()
}

/// What shipped plugins ask for, all together.
#[allow(dead_code)] // not every test that includes this file
pub const GRANTED: Grants = Grants { model: true };

/// The plugins of the library, and those built from source if `GRAFT_REBUILT_PLUGINS` names their
/// folder, as (where from, name, component).
pub fn plugins() -> Vec<(&'static str, String, Vec<u8>)> {
    let embedded = |name: &str| shipped::plugin(name).unwrap().to_vec();
    let mut all: Vec<_> = shipped::names()
        .map(|name| ("shipped", name.to_owned(), embedded(name)))
        .collect();
    if let Some(folder) = std::env::var_os("GRAFT_REBUILT_PLUGINS").map(PathBuf::from) {
        for name in shipped::names() {
            let path = folder.join(format!("{name}.wasm"));
            let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            all.push(("rebuilt", name.to_owned(), bytes));
        }
    }
    all
}

/// Every converter among [`plugins`] of that name.
#[allow(dead_code)] // not every test that includes this file
pub fn converters(name: &str) -> Vec<WasmConverter> {
    named(name)
        .into_iter()
        .map(|plugin| plugin.into_converter().unwrap())
        .collect()
}

/// Every evaluator among [`plugins`] of that name.
#[allow(dead_code)] // not every test that includes this file
pub fn evaluators(name: &str) -> Vec<WasmEvaluator> {
    named(name)
        .into_iter()
        .map(|plugin| plugin.into_evaluator().unwrap())
        .collect()
}

#[allow(dead_code)] // not every test that includes this file
fn named(name: &str) -> Vec<Plugin> {
    let host = Host::new(Limits::default(), None).unwrap();
    plugins()
        .into_iter()
        .filter(|(_, other, _)| other == name)
        .map(|(_, name, bytes)| host.load_bytes(&name, &bytes, &GRANTED).unwrap())
        .collect()
}

/// The demo's data.
#[allow(dead_code)] // not every test that includes this file
pub fn digits() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../runtime/cli/demo/digits")
}
