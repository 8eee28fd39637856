//! What surrounds a plugin in its own tests: an export in memory, companion files that are only
//! names, a desk where remarks pile up, and a model that says what it is told to.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::model::{Ask, Question, Reply};
use crate::{
    Converter, Diagnostic, Error, Host, ImageFormat, ImageInfo, Level, Part, Sample, Sink, Source,
    Summary,
};

/// Bytes as a [`Source`], given a few at a time.
#[derive(Clone, Debug)]
pub struct Memory {
    name: String,
    bytes: Vec<u8>,
    position: usize,
    step: usize,
}

impl Memory {
    /// A file `name` that holds `bytes`, of which a call reads at most `step`.
    pub fn new(name: &str, bytes: &[u8], step: usize) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.to_vec(),
            position: 0,
            step,
        }
    }
}

impl Source for Memory {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn size(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }
    fn read(&mut self, max: u32) -> Result<Vec<u8>, Error> {
        let rest = &self.bytes[self.position..];
        let read = rest[..rest.len().min(max as usize).min(self.step)].to_vec();
        self.position += read.len();
        Ok(read)
    }
    fn read_at(&mut self, offset: u64, max: u32) -> Result<Vec<u8>, Error> {
        let start = self.bytes.len().min(offset as usize);
        let rest = &self.bytes[start..];
        Ok(rest[..rest.len().min(max as usize)].to_vec())
    }
}

/// The host's side. Every image is there, 200 wide and 100 high, unless its name has `missing` in it.
#[derive(Debug, Default)]
pub struct Desk {
    /// What was reported.
    pub remarks: RefCell<Vec<Diagnostic>>,
    /// The other companion files.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Desk {
    /// The codes of the remarks, in order.
    pub fn codes(&self) -> Vec<String> {
        let remarks = self.remarks.borrow();
        remarks.iter().map(|remark| remark.code.clone()).collect()
    }
}

impl Host for Desk {
    fn log(&self, _: Level, _: &str) {}
    fn report(&self, diagnostic: Diagnostic) -> Result<(), Error> {
        self.remarks.borrow_mut().push(diagnostic);
        Ok(())
    }
    fn checkpoint(&self, _: u64, _: Option<u64>) -> Result<(), Error> {
        Ok(())
    }
    fn open_asset(&self, name: &str) -> Result<Box<dyn Source>, Error> {
        match self.files.get(name) {
            Some(bytes) => Ok(Box::new(Memory::new(name, bytes, 1000))),
            None => Err(Error::NotFound(name.to_owned())),
        }
    }
    fn probe_image(&self, name: &str) -> Result<ImageInfo, Error> {
        match name.contains("missing") {
            true => Err(Error::NotFound(name.to_owned())),
            false => Ok(ImageInfo {
                width: 200,
                height: 100,
                format: ImageFormat::Png,
                size: 100,
            }),
        }
    }
    fn list_assets(&self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

/// A model that gives the replies it was made with, in order, and remembers what it was asked.
#[derive(Debug, Default)]
pub struct Script {
    /// What it was asked.
    pub asked: Vec<Question>,
    replies: VecDeque<Result<String, Error>>,
}

impl Script {
    /// It will say these.
    pub fn of<'t>(replies: impl IntoIterator<Item = &'t str>) -> Self {
        let replies = replies.into_iter().map(|text| Ok(text.to_owned()));
        Self {
            asked: Vec::new(),
            replies: replies.collect(),
        }
    }

    /// And then fail in this way.
    pub fn then(mut self, error: Error) -> Self {
        self.replies.push_back(Err(error));
        self
    }
}

impl Ask for Script {
    fn ask(&mut self, question: &Question) -> Result<Reply, Error> {
        self.asked.push(question.clone());
        let ended = || Err(Error::Internal("the script is at its end".into()));
        let text = self.replies.pop_front().unwrap_or_else(ended)?;
        let words = |text: &str| text.split_whitespace().count() as u32;
        let turns = question.turns.iter().flat_map(|turn| &turn.content);
        let asked = turns.map(|part| match part {
            Part::Text(text) => words(text),
            Part::Image(_) => 1,
        });
        Ok(Reply {
            tokens_in: asked.sum(),
            tokens_out: words(&text),
            text,
        })
    }
}

/// Keeps samples.
#[derive(Debug, Default)]
pub struct Samples(pub Vec<Sample>);

impl Sink for Samples {
    fn emit(&mut self, sample: Sample) -> Result<(), Error> {
        self.0.push(sample);
        Ok(())
    }
}

/// What a conversion did.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub summary: Result<Summary, Error>,
    /// What it emitted.
    pub samples: Vec<Sample>,
    /// What it remarked.
    pub remarks: Vec<Diagnostic>,
}

impl Outcome {
    /// Records, samples and skipped records; panics if the conversion failed.
    pub fn counts(&self) -> (u64, u64, u64) {
        match &self.summary {
            Ok(summary) => (summary.records, summary.samples, summary.skipped),
            Err(error) => panic!("the conversion failed: {error:?}"),
        }
    }

    /// The codes of the remarks, in order.
    pub fn codes(&self) -> Vec<&str> {
        self.remarks.iter().map(|r| r.code.as_str()).collect()
    }

    /// The code of the error that ended it.
    pub fn fault(&self) -> Option<&str> {
        match &self.summary {
            Err(Error::InvalidInput(diagnostic)) => Some(&diagnostic.code),
            _ => None,
        }
    }

    /// The texts of a sample, images as `[image]`.
    pub fn texts(&self, sample: usize) -> Vec<&str> {
        texts(&self.samples[sample])
    }
}

/// The texts of a sample, images as `[image]`.
pub fn texts(sample: &Sample) -> Vec<&str> {
    let parts = sample.turns.iter().flat_map(|turn| &turn.content);
    let texts = parts.map(|part| match part {
        Part::Text(text) => text.as_str(),
        Part::Image(_) => "[image]",
    });
    texts.collect()
}

/// Converts `export` with the files `files` beside it.
pub fn convert<C: Converter>(export: &[u8], options: &str, files: &[(&str, &[u8])]) -> Outcome {
    let owned = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
    let desk = Desk {
        files: files.iter().map(owned).collect(),
        ..Desk::default()
    };
    let mut samples = Samples::default();
    let mut source = Memory::new("export", export, 4096);
    let summary = C::convert(&mut source, &mut samples, options, &desk);
    Outcome {
        summary,
        samples: samples.0,
        remarks: desk.remarks.into_inner(),
    }
}

/// Damages `export` at every byte: cuts it off there, and puts something else there. Whatever comes of
/// it must be samples or remarks with a place; a cut never adds a sample.
///
/// # Panics
/// If it is something else.
pub fn survives_damage<C: Converter>(export: &[u8], options: &str, files: &[(&str, &[u8])]) {
    let whole = convert::<C>(export, options, files).samples.len();
    for at in 0..export.len() {
        let cut = &export[..at];
        let _ = C::detect(cut, "cut.json");
        let outcome = convert::<C>(cut, options, files);
        told(&outcome, at, "cut");
        assert!(outcome.samples.len() <= whole, "cut at {at}: more samples");
        for piece in [
            &b"\""[..],
            b"{",
            b"]",
            b"\\",
            b"\xff",
            b"\n",
            b"-1e999",
            b"null",
            b"[[[",
        ] {
            let mut bytes = cut.to_vec();
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(&export[at + 1..]);
            let _ = C::detect(&bytes, "damaged.json");
            told(&convert::<C>(&bytes, options, files), at, "damaged");
        }
    }
}

fn told(outcome: &Outcome, at: usize, how: &str) {
    match &outcome.summary {
        Ok(summary) => {
            assert_eq!(
                summary.samples as usize,
                outcome.samples.len(),
                "{how} at {at}"
            );
            let warned = outcome.remarks.iter().filter(|r| r.at.is_some()).count();
            let silent = summary.skipped > 0 && warned == 0;
            assert!(!silent, "{how} at {at}: records vanish");
        }
        Err(Error::InvalidInput(fault)) => {
            assert!(
                fault.at.is_some(),
                "{how} at {at}: {} has no place",
                fault.message
            );
        }
        Err(error) => panic!("{how} at {at}: {error:?}"),
    }
    for remark in &outcome.remarks {
        assert!(
            remark.at.is_some(),
            "{how} at {at}: {} has no place",
            remark.code
        );
    }
}
