//! The caller's side of a plugin under test: an export that arrives as it likes, and a desk that counts.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::sync::Mutex;

use graft::cancel::Cancel;
use graft::dataset::assets::{AssetFolder, ImageHeader};
use graft::dataset::converter::LogLevel;
use graft::dataset::{
    ConvertError, ConvertHost, Converter, Diagnostic, Sample, SampleSink, Source, Summary,
};
use graft::evaluate::evaluator::{JudgeReply, JudgeRequest};
use graft::evaluate::{EvaluateError, EvaluateHost};

/// How an export arrives.
#[derive(Clone, Copy)]
pub struct Arrival {
    /// Bytes given at a time.
    pub step: usize,
    /// A pipe has neither a size nor a past.
    pub pipe: bool,
    /// Reading fails from here on.
    pub breaks_at: Option<usize>,
}

impl Arrival {
    /// As a file does.
    pub const WHOLE: Self = Self {
        step: usize::MAX,
        pipe: false,
        breaks_at: None,
    };
}

/// What an unreadable export says.
pub const DISK_GONE: &str = "the disk of the check is gone";
/// What a sink says that takes no more.
pub const DISK_FULL: &str = "the disk of the check is full";

struct Bytes<'a> {
    name: &'a str,
    bytes: &'a [u8],
    position: usize,
    arrival: Arrival,
}

impl Source for Bytes<'_> {
    fn name(&self) -> &str {
        self.name
    }
    fn size(&self) -> Option<u64> {
        (!self.arrival.pipe).then_some(self.bytes.len() as u64)
    }
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.arrival.breaks_at.is_some_and(|at| self.position >= at) {
            return Err(io::Error::other(DISK_GONE));
        }
        let rest = &self.bytes[self.position..];
        let read = rest.len().min(buffer.len()).min(self.arrival.step);
        buffer[..read].copy_from_slice(&rest[..read]);
        self.position += read;
        Ok(read)
    }
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.arrival.pipe {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = &self.bytes[start.min(self.bytes.len())..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
}

/// What surrounds a conversion.
struct Desk {
    assets: AssetFolder,
    cancel_at: Option<u64>,
    checkpoints: Cell<u64>,
    /// The first checkpoint that cannot be: what was told, and what had been.
    odd_progress: RefCell<Option<String>>,
    done: Cell<u64>,
    remarks: RefCell<Vec<Diagnostic>>,
}

impl ConvertHost for Desk {
    fn cancel(&self) -> Cancel {
        Cancel::new()
    }
    fn checkpoint(&self, done: u64, total: Option<u64>) -> Result<(), ConvertError> {
        self.checkpoints.set(self.checkpoints.get() + 1);
        let before = self.done.replace(done);
        let mut odd = self.odd_progress.borrow_mut();
        if odd.is_none() && done < before {
            *odd = Some(format!("it was at {before} and then at {done}"));
        }
        if let Some(total) = total
            && odd.is_none()
            && done > total
        {
            *odd = Some(format!("it was at {done} of {total}"));
        }
        // The flag stays down: at a raised one the host itself would end the plugin.
        match self.cancel_at == Some(self.checkpoints.get()) {
            true => Err(ConvertError::Cancelled),
            false => Ok(()),
        }
    }
    fn report(&self, diagnostic: Diagnostic) {
        self.remarks.borrow_mut().push(diagnostic);
    }
    fn log(&self, _: LogLevel, _: &str) {}
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

/// Takes so many samples and no more.
struct Limited {
    samples: Vec<Sample>,
    room: usize,
    refused: usize,
}

impl SampleSink for Limited {
    fn emit(&mut self, sample: Sample) -> Result<(), ConvertError> {
        if self.samples.len() == self.room {
            self.refused += 1;
            return Err(ConvertError::LimitExceeded(DISK_FULL.into()));
        }
        self.samples.push(sample);
        Ok(())
    }
}

/// A conversion to try.
pub struct Try<'a> {
    /// Name of the export.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The folder of its companion files.
    pub assets: &'a Path,
    /// A JSON object as text.
    pub options: &'a str,
    /// How the export arrives.
    pub arrival: Arrival,
    /// The checkpoint that says stop, counted from 1.
    pub cancel_at: Option<u64>,
    /// Samples that are taken.
    pub room: usize,
}

/// What came of a [`Try`].
pub struct Outcome {
    /// How it ended.
    pub summary: Result<Summary, ConvertError>,
    /// What was emitted and taken.
    pub samples: Vec<Sample>,
    /// Samples that were offered when there was no room.
    pub refused: usize,
    /// What was remarked.
    pub remarks: Vec<Diagnostic>,
    /// How often the plugin told of its progress.
    pub checkpoints: u64,
    /// A progress that cannot be.
    pub odd_progress: Option<String>,
}

impl Try<'_> {
    /// Runs it.
    pub fn run(&self, converter: &dyn Converter) -> Outcome {
        let desk = Desk {
            assets: AssetFolder::new(self.assets),
            cancel_at: self.cancel_at,
            checkpoints: Cell::new(0),
            odd_progress: RefCell::default(),
            done: Cell::new(0),
            remarks: RefCell::default(),
        };
        let mut source = Bytes {
            name: self.name,
            bytes: self.bytes,
            position: 0,
            arrival: self.arrival,
        };
        let mut sink = Limited {
            samples: Vec::new(),
            room: self.room,
            refused: 0,
        };
        let summary = converter.convert(&mut source, &mut sink, self.options, &desk);
        Outcome {
            summary,
            samples: sink.samples,
            refused: sink.refused,
            remarks: desk.remarks.into_inner(),
            checkpoints: desk.checkpoints.get(),
            odd_progress: desk.odd_progress.into_inner(),
        }
    }
}

/// What surrounds an evaluation. A judge that asks gets the same answer each time.
#[derive(Default)]
pub struct Bench {
    /// What was remarked.
    pub remarks: Mutex<Vec<Diagnostic>>,
}

impl EvaluateHost for Bench {
    fn cancel(&self) -> Cancel {
        Cancel::new()
    }
    fn report(&self, diagnostic: Diagnostic) {
        if let Ok(mut remarks) = self.remarks.lock() {
            remarks.push(diagnostic);
        }
    }
    fn log(&self, _: LogLevel, _: &str) {}
    fn generate(&self, _: &JudgeRequest) -> Result<JudgeReply, EvaluateError> {
        Ok(JudgeReply {
            text: "yes".into(),
            prompt_tokens: 1,
            generated_tokens: 1,
        })
    }
}
