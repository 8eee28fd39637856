//! What is wrong with a record, and the loop over records that reports it and goes on.

use std::collections::HashMap;

use crate::json::{Node, Tree};
use crate::records::{Record, Records};
use crate::{Diagnostic, Error, Host, Location, Sample, Severity, Sink, Summary};

/// Why a record gives no sample.
#[derive(Debug)]
pub enum Trouble {
    /// The record is of no use; the next may be.
    Skip(Skip),
    /// The whole conversion ends.
    Stop(Error),
}

/// Why and where a record is of no use.
#[derive(Debug)]
pub struct Skip {
    /// Kebab case, without the converter's name.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// Bytes of the record before the place.
    pub at: usize,
    /// JSON pointer, or name of the column.
    pub field: String,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}

/// A [`Trouble`] that costs the record.
pub fn skip(
    code: &'static str,
    message: impl Into<String>,
    at: usize,
    field: impl Into<String>,
) -> Trouble {
    Trouble::Skip(Skip {
        code,
        message: message.into(),
        at,
        field: field.into(),
    })
}

/// Reports what is wrong with one record.
pub struct Remarks<'a> {
    /// Name of the converter, put before every code.
    pub scope: &'static str,
    /// Whom it is told.
    pub host: &'a dyn Host,
    /// Where a byte of the record stands in the source; the text names the value.
    pub locate: &'a dyn Fn(usize, Option<&str>) -> Location,
}

impl Remarks<'_> {
    /// Something in the record was left out or is doubtful; it still gives a sample.
    pub fn note(
        &self,
        code: &str,
        message: impl Into<String>,
        at: usize,
        field: &str,
    ) -> Result<(), Error> {
        self.report(Severity::Note, code, message.into(), at, field)
    }

    /// The record, or a part of it that would be a sample, is of no use.
    pub fn warn(
        &self,
        code: &str,
        message: impl Into<String>,
        at: usize,
        field: &str,
    ) -> Result<(), Error> {
        self.report(Severity::Warning, code, message.into(), at, field)
    }

    /// The same for a [`Trouble`]; [`Trouble::Stop`] comes back.
    pub fn trouble(&self, trouble: Trouble) -> Result<(), Error> {
        match trouble {
            Trouble::Stop(error) => Err(error),
            Trouble::Skip(why) => self.warn(why.code, why.message, why.at, &why.field),
        }
    }

    fn report(
        &self,
        severity: Severity,
        code: &str,
        message: String,
        at: usize,
        field: &str,
    ) -> Result<(), Error> {
        let field = Some(field).filter(|field| !field.is_empty());
        self.host.report(Diagnostic {
            severity,
            code: format!("{}-{code}", self.scope),
            message,
            at: Some((self.locate)(at, field)),
        })
    }
}

/// Converts every record of `records` with `samples_of` and gives the samples to `output`. Records without
/// samples are counted and reported, also those that are not JSON.
pub fn each_record(
    scope: &'static str,
    records: &mut Records<'_>,
    total: Option<u64>,
    output: &mut dyn Sink,
    host: &dyn Host,
    mut samples_of: impl FnMut(Node<'_>, &Record, &Remarks<'_>) -> Result<Vec<Sample>, Trouble>,
) -> Result<Summary, Error> {
    let mut summary = Summary {
        records: 0,
        samples: 0,
        skipped: 0,
    };
    while let Some(record) = records.next_record()? {
        summary.records += 1;
        let locate = |at, field: Option<&str>| record.location(at, field);
        let remarks = Remarks {
            scope,
            host,
            locate: &locate,
        };
        let samples = match parsed(&record, host)? {
            Some(tree) => match samples_of(tree.root(), &record, &remarks) {
                Ok(samples) => samples,
                Err(trouble) => {
                    remarks.trouble(trouble)?;
                    Vec::new()
                }
            },
            None => Vec::new(),
        };
        summary.skipped += u64::from(samples.is_empty());
        for sample in samples {
            summary.samples += 1;
            output.emit(sample)?;
        }
        host.checkpoint(record.end_offset, total)?;
    }
    Ok(summary)
}

/// The record's value; `None`, and a remark, if it is not JSON.
pub fn parsed<'r>(record: &'r Record, host: &dyn Host) -> Result<Option<Tree<'r>>, Error> {
    match record.parse() {
        Ok(tree) => Ok(Some(tree)),
        Err(Error::InvalidInput(fault)) => {
            host.report(Diagnostic {
                severity: Severity::Warning,
                message: format!("{}: record skipped", fault.message),
                ..fault
            })?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Ids given so far, by hash.
#[derive(Default)]
pub struct Ids(HashMap<u64, u32>);

impl Ids {
    /// Beyond this many ids repetitions are no longer looked for: exports may have more records than
    /// memory has room.
    const MOST: usize = 1 << 20;

    /// `id`, or if it was given before a new one, which is remarked.
    pub fn fresh(&mut self, id: String, at: usize, remarks: &Remarks<'_>) -> Result<String, Error> {
        // FNV-1a.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        if self.0.len() >= Self::MOST && !self.0.contains_key(&hash) {
            return Ok(id);
        }
        let times = self.0.entry(hash).or_default();
        *times = times.saturating_add(1);
        if *times == 1 {
            return Ok(id);
        }
        let fresh = format!("{id}~{times}");
        let message = format!("the id {id:?} came before: this record becomes {fresh:?}");
        remarks.note("duplicate-id", message, at, "")?;
        Ok(fresh)
    }
}
