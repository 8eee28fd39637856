//! The records of a JSON file one by one, in memory no larger than the largest record.
//!
//! A file is one array of records, or records one after the other (JSON lines among them). The
//! splitter looks only at brackets and quotes; [`Record::parse`] then reads a single record.

use std::borrow::Cow;

use crate::json::{self, Dialect, Node, SyntaxError};
use crate::place::Place;
use crate::{Error, Location, Source, invalid_input};

/// Bytes asked of the source at a time.
const CHUNK: u32 = 256 << 10;

/// The records of a source.
pub struct Records<'s> {
    source: &'s mut dyn Source,
    name: String,
    dialect: Dialect,
    largest: usize,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are behind us.
    used: usize,
    /// Where `buffer[used]` stands in the source.
    place: Place,
    ended: bool,
    shape: Shape,
    count: u64,
}

/// What surrounds the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Unknown,
    /// One array; the flag says that a record, and so a comma, must precede the next.
    Array {
        separator: bool,
    },
    /// Records one after the other.
    Sequence,
    /// The array is closed.
    Closed,
}

/// One record, not yet parsed.
pub struct Record {
    text: String,
    dialect: Dialect,
    /// Index of the record, from 0.
    pub index: u64,
    /// Where it starts.
    pub place: Place,
    /// Bytes of the source up to its end: how far the work is.
    pub end_offset: u64,
    /// Name of its source.
    pub source: String,
}

impl<'s> Records<'s> {
    /// Reads `source`; a record of more than `largest` bytes is an error.
    pub fn new(source: &'s mut dyn Source, dialect: Dialect, largest: usize) -> Self {
        Self {
            name: source.name(),
            source,
            dialect,
            largest,
            buffer: Vec::new(),
            used: 0,
            place: Place::START,
            ended: false,
            shape: Shape::Unknown,
            count: 0,
        }
    }

    /// The next record; `None` at the end of the file.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        if self.shape == Shape::Unknown {
            self.open()?;
        }
        let Some(first) = self.start_of_record()? else {
            return Ok(None);
        };
        let length = self.length_of_value(first)?;
        let bytes = &self.buffer[self.used..self.used + length];
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(fault) => {
                let at = self.place.after(&bytes[..fault.valid_up_to()]);
                return Err(self.fault(at, "the file is not UTF-8 text here"));
            }
        };
        let place = self.place;
        self.advance(length);
        self.count += 1;
        Ok(Some(Record {
            text,
            dialect: self.dialect,
            index: self.count - 1,
            place,
            end_offset: self.place.offset,
            source: self.name.clone(),
        }))
    }

    /// Skips a byte order mark and finds out what surrounds the records.
    fn open(&mut self) -> Result<(), Error> {
        self.fill(3)?;
        if self.buffer.starts_with(&[0xff, 0xfe]) || self.buffer.starts_with(&[0xfe, 0xff]) {
            let message = "the file is UTF-16; save it as UTF-8";
            return Err(self.fault(Place::START, message));
        }
        if self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.used = 3;
            self.place.offset = 3;
        }
        self.shape = match self.skip_blanks()? {
            Some(b'[') => {
                self.advance(1);
                Shape::Array { separator: false }
            }
            Some(_) => Shape::Sequence,
            None => return Err(self.fault(self.place, "the file is empty")),
        };
        Ok(())
    }

    /// Moves to the first byte of the next record, past what stands between records.
    fn start_of_record(&mut self) -> Result<Option<u8>, Error> {
        let mut next = self.skip_blanks()?;
        if let Shape::Array { separator } = self.shape {
            let mut comma = false;
            if separator && next == Some(b',') {
                self.advance(1);
                next = self.skip_blanks()?;
                comma = true;
            }
            match next {
                None => return Err(self.fault(self.place, "the array of records never ends")),
                Some(b']') if !comma || self.dialect == Dialect::Python => {
                    self.advance(1);
                    self.shape = Shape::Closed;
                    next = self.skip_blanks()?;
                }
                Some(_) if separator && !comma => {
                    return Err(self.fault(self.place, "expected `,` or `]` after a record"));
                }
                Some(_) => self.shape = Shape::Array { separator: true },
            }
        }
        match (self.shape, next) {
            (Shape::Closed, Some(_)) => {
                Err(self.fault(self.place, "expected the end of the file behind the array"))
            }
            _ => Ok(next),
        }
    }

    /// Bytes of the value that starts at hand with `first`.
    fn length_of_value(&mut self, first: u8) -> Result<usize, Error> {
        let nests = matches!(first, b'{' | b'[' | b'(');
        let (mut at, mut depth) = (0, 0u32);
        let mut quote = None;
        loop {
            let Some(&byte) = self.buffer.get(self.used + at) else {
                if at > self.largest {
                    let message = format!("this record is larger than {} bytes", self.largest);
                    return Err(self.fault(self.place, &message));
                }
                if !self.fill(at + 1)? {
                    let message = "this record never ends; is the file cut off?";
                    return match (depth, quote) {
                        (0, None) => Ok(at),
                        _ => Err(self.fault(self.place, message)),
                    };
                }
                continue;
            };
            match (quote, byte) {
                (Some(_), b'\\') => at += 1,
                (Some(open), _) if byte == open => quote = None,
                (Some(_), _) => {}
                (None, b'"') => quote = Some(byte),
                (None, b'\'') if self.dialect == Dialect::Python => quote = Some(byte),
                (None, b'{' | b'[' | b'(') => depth += 1,
                (None, b'}' | b']' | b')') if depth > 0 => depth -= 1,
                (None, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n') if depth == 0 => {
                    return Ok(at.max(1));
                }
                (None, _) => {}
            }
            at += 1;
            if nests && depth == 0 && quote.is_none() {
                return Ok(at);
            }
        }
    }

    fn skip_blanks(&mut self) -> Result<Option<u8>, Error> {
        loop {
            let rest = &self.buffer[self.used..];
            let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
            let blanks = rest.iter().take_while(|b| blank(b)).count();
            let next = rest.get(blanks).copied();
            self.advance(blanks);
            if next.is_some() || !self.fill(1)? {
                return Ok(next);
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.buffer[self.used..self.used + bytes];
        self.place = self.place.after(passed);
        self.used += bytes;
    }

    /// Reads until `wanted` bytes are at hand; false if the source ends before.
    fn fill(&mut self, wanted: usize) -> Result<bool, Error> {
        while self.buffer.len() - self.used < wanted {
            if self.ended {
                return Ok(false);
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            let chunk = self.source.read(CHUNK)?;
            self.ended = chunk.is_empty();
            self.buffer.extend_from_slice(&chunk);
        }
        Ok(true)
    }

    fn fault(&self, at: Place, message: &str) -> Error {
        let at = Location {
            record_index: Some(self.count),
            ..at.location(&self.name)
        };
        invalid_input("malformed-json", message, Some(at))
    }
}

impl Record {
    /// A record that is a whole text.
    pub fn whole(text: String, source: String, dialect: Dialect) -> Self {
        Self {
            dialect,
            index: 0,
            place: Place::START,
            end_offset: text.len() as u64,
            source,
            text,
        }
    }

    /// Reads the record.
    pub fn parse(&self) -> Result<Node<'_>, Error> {
        json::parse(&self.text, self.dialect).map_err(|fault| {
            let SyntaxError { at, message } = fault;
            let at = self.location(at, None);
            invalid_input("malformed-json", message, Some(at))
        })
    }

    /// Where the byte `at` of this record stands; `pointer` names the value within the record.
    pub fn location(&self, at: usize, pointer: Option<&str>) -> Location {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        Location {
            record_index: Some(self.index),
            field: pointer.map(str::to_owned),
            ..self.place.after(before).location(&self.source)
        }
    }

    /// The text of the record.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// `name` as one step of a JSON pointer.
pub fn pointer_step(name: &str) -> Cow<'_, str> {
    match name.contains(['~', '/']) {
        true => name.replace('~', "~0").replace('/', "~1").into(),
        false => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives `step` bytes at a time.
    struct Dripping<'a>(&'a [u8], usize);

    impl Source for Dripping<'_> {
        fn name(&self) -> String {
            "drip.json".into()
        }
        fn size(&self) -> Option<u64> {
            None
        }
        fn read(&mut self, max: u32) -> Result<Vec<u8>, Error> {
            let (now, later) = self.0.split_at(self.1.min(max as usize).min(self.0.len()));
            self.0 = later;
            Ok(now.to_vec())
        }
        fn read_at(&mut self, _: u64, _: u32) -> Result<Vec<u8>, Error> {
            Err(Error::Unsupported("a drip has no past".into()))
        }
    }

    fn split(text: &str, step: usize, dialect: Dialect) -> Result<Vec<(String, u64, u64)>, Error> {
        let mut source = Dripping(text.as_bytes(), step);
        let mut records = Records::new(&mut source, dialect, 1000);
        let mut found = Vec::new();
        while let Some(record) = records.next_record()? {
            record.parse()?;
            found.push((
                record.text().to_owned(),
                record.place.line,
                record.place.column,
            ));
        }
        Ok(found)
    }

    fn fault(text: &str) -> (u64, u64) {
        match split(text, 4, Dialect::Json) {
            Err(Error::InvalidInput(diagnostic)) => {
                let at = diagnostic.at.unwrap();
                (at.line.unwrap(), at.column.unwrap())
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn arrays_lines_and_single_values_split_alike() {
        let record = r#"{"a": "]},\"[{"}"#;
        for step in [1, 2, 7, 100] {
            let array = format!("\u{feff}[\n  {record},\n  [1, 2], 7, \"x\" ]\n");
            let found = split(&array, step, Dialect::Json).unwrap();
            let texts: Vec<&str> = found.iter().map(|(text, ..)| text.as_str()).collect();
            assert_eq!(texts, [record, "[1, 2]", "7", "\"x\""]);
            assert_eq!((found[0].1, found[0].2), (2, 3));
            assert_eq!((found[1].1, found[1].2), (3, 3));

            let lines = format!("{record}\r\n\n{record}\n");
            let found = split(&lines, step, Dialect::Json).unwrap();
            assert_eq!(found.len(), 2);
            assert_eq!(found[1].1, 3);
            assert_eq!(split(record, step, Dialect::Json).unwrap().len(), 1);
            assert_eq!(split("[]", step, Dialect::Json).unwrap().len(), 0);
        }
        let python = "[('it\\'s ]', {'entities': []}), ['b'],]";
        assert_eq!(split(python, 3, Dialect::Python).unwrap().len(), 2);
    }

    #[test]
    fn a_fault_has_line_and_column() {
        assert_eq!(fault(""), (1, 1));
        assert_eq!(fault("[1,\n2"), (2, 2));
        assert_eq!(fault("[1\n 2]"), (2, 2));
        assert_eq!(fault("[1] 2"), (1, 5));
        assert_eq!(fault("[1,]"), (1, 4));
        assert_eq!(fault("[\n {\"a\": }]"), (2, 8));
        assert_eq!(fault("[{\"a\": [1}"), (1, 2));
        let long = format!("[\"{}\"]", "x".repeat(2000));
        assert_eq!(fault(&long), (1, 2));
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let mut source = Dripping(b"[\"a\xff\"]", 100);
        let mut records = Records::new(&mut source, Dialect::Json, 100);
        let Err(Error::InvalidInput(diagnostic)) = records.next_record() else {
            panic!("accepted");
        };
        assert_eq!(diagnostic.at.unwrap().column, Some(4));
        let mut source = Dripping(b"\xff\xfe[\0", 100);
        let mut records = Records::new(&mut source, Dialect::Json, 100);
        assert!(records.next_record().is_err());
    }
}
