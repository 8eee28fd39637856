//! The records of a JSON file one by one, in memory no larger than the largest record.
//!
//! A file is one array of records, records one after the other (JSON lines among them), or an object
//! some members of which are arrays of records. The splitter looks only at brackets, quotes and line
//! ends; [`Record::parse`] then reads a single record. A record that is broken in itself is a record
//! that does not parse; only a file whose records cannot be told apart ends the reading.

use std::borrow::Cow;

use crate::json::{self, Dialect, SyntaxError, Tree};
use crate::parser::{self, Values};
use crate::place::Place;
use crate::scan::{Scan, Step};
use crate::window::Window;
use crate::{Error, Location, Source, invalid_input};

/// The code of every fault in a file's notation.
pub const MALFORMED: &str = "malformed-json";

/// The records of a source.
pub struct Records<'s> {
    window: Window<'s>,
    dialect: Dialect,
    largest: usize,
    shape: Shape,
    count: u64,
    /// Entries of the last record, and some more.
    room: usize,
    /// Members of the file's object that hold records; none if the file is no such object.
    lists: &'s [&'static str],
    /// Texts that stood in the file's object beside the lists.
    texts: Vec<(String, String)>,
}

/// What surrounds the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Unknown,
    /// An array; `separator` says that a record, and so a comma, must precede the next. `list` is
    /// its name if it is a member of the file's object.
    Array {
        separator: bool,
        list: Option<&'static str>,
    },
    /// Members of the file's object.
    Object {
        separator: bool,
    },
    /// Records one after the other.
    Sequence,
    /// A record in every line.
    Lines,
    /// The array or the object is closed.
    Closed,
}

/// One record.
pub struct Record {
    text: String,
    dialect: Dialect,
    /// What is in it, if its end was found by reading it.
    values: Option<Values>,
    /// Why there is no text.
    fault: Option<SyntaxError>,
    /// Index of the record, from 0; in its list, if the file has several.
    pub index: u64,
    /// The member of the file's object that it stands in.
    pub list: Option<&'static str>,
    /// Where it starts.
    pub place: Place,
    /// Bytes of the source up to its end: how far the work is.
    pub end_offset: u64,
    /// Name of its source.
    pub source: String,
}

impl<'s> Records<'s> {
    /// Reads `source`; a record of more than `largest` bytes does not parse.
    pub fn new(source: &'s mut dyn Source, dialect: Dialect, largest: usize) -> Self {
        Self {
            window: Window::new(source),
            dialect,
            largest,
            shape: Shape::Unknown,
            count: 0,
            room: 0,
            lists: &[],
            texts: Vec::new(),
        }
    }

    /// Reads the elements of the arrays `lists` in the object that `source` is.
    pub fn in_lists(source: &'s mut dyn Source, lists: &'s [&'static str], largest: usize) -> Self {
        Self {
            lists,
            ..Self::new(source, Dialect::Json, largest)
        }
    }

    /// The text `name` of the file's object, if it came before the record at hand.
    pub fn text(&self, name: &str) -> Option<&str> {
        let mut found = self.texts.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, text)| text.as_str())
    }

    /// What messages call the source.
    pub fn name(&self) -> &str {
        self.window.name()
    }

    /// How far the reading is.
    pub fn place(&self) -> Place {
        self.window.place()
    }

    /// The next record; `None` at the end of the file.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the records cannot be told apart from here on.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        if self.shape == Shape::Unknown {
            self.open()?;
        }
        let Some(first) = self.start_of_record()? else {
            return Ok(None);
        };
        let place = self.window.place();
        let values = self.read_at_hand(first);
        let length = match (&values, self.shape) {
            (Some(values), _) => Some(values.end),
            (None, Shape::Lines) => self.window.line(self.largest)?,
            (None, _) => self.length_of_value(first)?,
        };
        let (text, fault) = match length {
            Some(length) => {
                let bytes = self.window.bytes()[..length].trim_ascii_end();
                let read = match std::str::from_utf8(bytes) {
                    Ok(text) => (text.to_owned(), None),
                    Err(fault) => {
                        let message = "the file is not UTF-8 text here".to_owned();
                        // What is before the fault stays, so that its line can be told.
                        let at = fault.valid_up_to();
                        let before = String::from_utf8_lossy(&bytes[..at]).into_owned();
                        (before, Some(SyntaxError { at, message }))
                    }
                };
                match &values {
                    Some(values) if !values.has_lines => self.window.advance_in_line(length),
                    _ => self.window.advance(length),
                }
                read
            }
            None => {
                self.skip_value()?;
                let message = format!("this record is larger than {} bytes", self.largest);
                (String::new(), Some(SyntaxError { at: 0, message }))
            }
        };
        self.count += 1;
        Ok(Some(Record {
            text,
            dialect: self.dialect,
            values,
            fault,
            index: self.count - 1,
            list: match self.shape {
                Shape::Array { list, .. } => list,
                _ => None,
            },
            place,
            end_offset: self.window.place().offset,
            source: self.window.name().to_owned(),
        }))
    }

    /// Skips a byte order mark and finds out what surrounds the records.
    fn open(&mut self) -> Result<(), Error> {
        self.window.skip_mark(MALFORMED)?;
        let first = self.window.skip_blanks()?;
        self.shape = match first {
            None => return Err(self.fault("the file is empty")),
            Some(b'{') if !self.lists.is_empty() => {
                self.window.advance(1);
                Shape::Object { separator: false }
            }
            Some(_) if !self.lists.is_empty() => {
                let lists = self.lists.join(" and ");
                return Err(self.fault(&format!("expected an object with {lists}")));
            }
            Some(b'[') => {
                self.window.advance(1);
                Shape::Array {
                    separator: false,
                    list: None,
                }
            }
            // A record that ends with its line stands for a file of lines: such a file can go on
            // behind a broken line.
            Some(b'{') if self.dialect == Dialect::Json => {
                let line = self.window.line(self.largest)?;
                let line = &self.window.bytes()[..line.unwrap_or_default()];
                match line.trim_ascii_end().ends_with(b"}") {
                    true => Shape::Lines,
                    false => Shape::Sequence,
                }
            }
            Some(_) => Shape::Sequence,
        };
        Ok(())
    }

    /// Moves to the first byte of the next record, past what stands between records.
    fn start_of_record(&mut self) -> Result<Option<u8>, Error> {
        loop {
            let mut next = self.window.skip_blanks()?;
            match self.shape {
                Shape::Array { separator, list } => {
                    let comma = separator && next == Some(b',');
                    if comma {
                        self.window.advance(1);
                        next = self.window.skip_blanks()?;
                    }
                    match next {
                        None => return Err(self.fault("the array of records never ends")),
                        Some(b']') if !comma || self.dialect == Dialect::Python => {
                            self.window.advance(1);
                            self.shape = match list {
                                Some(_) => Shape::Object { separator: true },
                                None => Shape::Closed,
                            };
                        }
                        Some(_) if separator && !comma => {
                            return Err(self.fault("expected `,` or `]` after a record"));
                        }
                        Some(first) => {
                            let separator = true;
                            self.shape = Shape::Array { separator, list };
                            return Ok(Some(first));
                        }
                    }
                }
                Shape::Object { separator } => self.next_member(next, separator)?,
                Shape::Closed => {
                    return match next {
                        Some(_) => Err(self.fault("expected the end of the file here")),
                        None => Ok(None),
                    };
                }
                Shape::Sequence | Shape::Lines | Shape::Unknown => return Ok(next),
            }
        }
    }

    /// Reads the name of the next member of the file's object, and its value unless it is one of
    /// the lists.
    fn next_member(&mut self, mut next: Option<u8>, separator: bool) -> Result<(), Error> {
        if separator && next == Some(b',') {
            self.window.advance(1);
            next = self.window.skip_blanks()?;
        } else if separator && next != Some(b'}') && next.is_some() {
            return Err(self.fault("expected `,` or `}` after a member"));
        }
        match next {
            Some(b'}') => {
                self.window.advance(1);
                self.shape = Shape::Closed;
                return Ok(());
            }
            Some(b'"') => {}
            None => return Err(self.fault("the object never ends; is the file cut off?")),
            Some(_) => return Err(self.fault("expected the name of a member in quotes")),
        }
        let name = self.small_text(b'"')?.unwrap_or_default();
        if self.window.skip_blanks()? != Some(b':') {
            return Err(self.fault("expected `:`"));
        }
        self.window.advance(1);
        let first = self.window.skip_blanks()?;
        let wanted = self.lists.iter().find(|&&list| list == name);
        match (first, wanted) {
            (None, _) => return Err(self.fault("the object never ends; is the file cut off?")),
            (Some(b'['), Some(&list)) => {
                self.window.advance(1);
                self.count = 0;
                self.shape = Shape::Array {
                    separator: false,
                    list: Some(list),
                };
                return Ok(());
            }
            (Some(b'"'), _) => {
                // A wild file must not fill the memory with names.
                const MOST: usize = 64;
                if let Some(text) = self.small_text(b'"')?
                    && self.texts.len() < MOST
                {
                    self.texts.push((name, text));
                }
            }
            (Some(b',' | b'}' | b']' | b':'), _) => return Err(self.fault("expected a value")),
            (Some(_), _) => self.skip_value()?,
        }
        self.shape = Shape::Object { separator: true };
        Ok(())
    }

    /// The text that starts here, if it is short; leaves it behind.
    fn small_text(&mut self, first: u8) -> Result<Option<String>, Error> {
        const LARGEST: usize = 1000;
        let largest = std::mem::replace(&mut self.largest, LARGEST);
        let length = self.length_of_value(first);
        self.largest = largest;
        let Some(length) = length? else {
            self.skip_value()?;
            return Ok(None);
        };
        let bytes = &self.window.bytes()[..length];
        let text = std::str::from_utf8(bytes).ok();
        let tree = text.and_then(|text| json::parse(text, self.dialect).ok());
        let text = tree.and_then(|tree| tree.root().text().map(str::to_owned));
        self.window.advance(length);
        Ok(text)
    }

    /// The values of the record that starts at hand with `first`, if all of it is at hand and there is nothing
    /// wrong with it. Otherwise its end is looked for by its brackets.
    fn read_at_hand(&mut self, first: u8) -> Option<Values> {
        let is_known = self.dialect == Dialect::Json && self.shape != Shape::Lines;
        if !is_known || !matches!(first, b'{' | b'[') {
            return None;
        }
        let bytes = self.window.bytes();
        let values = parser::read(bytes, self.dialect, false, self.room).ok()?;
        self.room = values.entries.len() + values.entries.len() / 8;
        Some(values).filter(|values| values.end <= self.largest)
    }

    /// Bytes of the value that starts at hand with `first`; `None` if it is larger than allowed.
    fn length_of_value(&mut self, first: u8) -> Result<Option<usize>, Error> {
        let mut scan = Scan::new(first, self.dialect);
        let mut at = 0;
        loop {
            let (inside, end) = scan.run(&self.window.bytes()[at..]);
            at += inside;
            let length = match end {
                Some(Step::Last) => at + 1,
                Some(_) => at.max(1),
                None if at > self.largest => return Ok(None),
                None if self.window.fill(at + 1)? => continue,
                None if scan.may_end() => return Ok(Some(at)),
                None => return Err(self.fault("this record never ends; is the file cut off?")),
            };
            return Ok(Some(length).filter(|&length| length <= self.largest));
        }
    }

    /// Leaves the value that starts at hand behind, however large it is.
    fn skip_value(&mut self) -> Result<(), Error> {
        if self.shape == Shape::Lines {
            return self.window.skip_line();
        }
        let start = self.window.place();
        let first = self.window.bytes().first().copied().unwrap_or_default();
        let mut scan = Scan::new(first, self.dialect);
        loop {
            let (inside, end) = scan.run(self.window.bytes());
            self.window
                .advance(inside + usize::from(end == Some(Step::Last)));
            if end.is_some() {
                return Ok(());
            }
            if !self.window.fill(1)? {
                return match scan.may_end() {
                    true => Ok(()),
                    false => {
                        Err(self.fault_at(start, "this value never ends; is the file cut off?"))
                    }
                };
            }
        }
    }

    fn fault(&self, message: &str) -> Error {
        self.fault_at(self.window.place(), message)
    }

    fn fault_at(&self, at: Place, message: &str) -> Error {
        let at = Location {
            record_index: Some(self.count),
            ..at.location(self.window.name())
        };
        invalid_input(MALFORMED, message, Some(at))
    }
}

impl Record {
    /// A record that is a whole text.
    pub fn whole(text: String, source: String, dialect: Dialect) -> Self {
        Self {
            dialect,
            values: None,
            fault: None,
            index: 0,
            list: None,
            place: Place::START,
            end_offset: text.len() as u64,
            source,
            text,
        }
    }

    /// Reads the record.
    pub fn parse(&self) -> Result<Tree<'_>, Error> {
        let tree = match (&self.fault, &self.values) {
            (Some(fault), _) => Err(fault.clone()),
            (None, Some(values)) => Ok(Tree::of(&self.text, Cow::Borrowed(values))),
            (None, None) => json::parse(&self.text, self.dialect),
        };
        tree.map_err(|SyntaxError { at, message }| {
            let at = self.location(at, None);
            invalid_input(MALFORMED, message, Some(at))
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
    use crate::testing::Memory;

    /// A source that gives `step` bytes at a time.
    fn dripping(bytes: &[u8], step: usize) -> Memory {
        Memory::new("drip.json", bytes, step)
    }

    fn split(text: &str, step: usize, dialect: Dialect) -> Result<Vec<(String, u64, u64)>, Error> {
        let mut source = dripping(text.as_bytes(), step);
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
            let places = [0, 1].map(|i: usize| (found[i].1, found[i].2));
            assert_eq!(places, [(2, 3), (3, 3)]);

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
        let mut source = dripping(b"[\"a\xff\"]", 100);
        let mut records = Records::new(&mut source, Dialect::Json, 100);
        let record = records.next_record().unwrap().unwrap();
        let Err(Error::InvalidInput(diagnostic)) = record.parse() else {
            panic!("accepted");
        };
        assert_eq!(diagnostic.at.unwrap().column, Some(4));
        let mut source = dripping(b"\xff\xfe[\0", 100);
        assert!(
            Records::new(&mut source, Dialect::Json, 100)
                .next_record()
                .is_err()
        );
    }

    #[test]
    fn behind_a_broken_line_the_next_is_read() {
        let text = "{\"a\": 1}\n{\"a\": [1, 2}\n{\"a\": \"x}\n{\"a\": 4}\n{\"a\"";
        let good = |text: &str, step| {
            let mut source = dripping(text.as_bytes(), step);
            let mut records = Records::new(&mut source, Dialect::Json, 100);
            let next = || records.next_record().unwrap();
            let all = std::iter::from_fn(next).map(|r| (r.place.line, r.parse().is_ok()));
            all.collect::<Vec<_>>()
        };
        for step in [1, 5, 1000] {
            let found = [(1, true), (2, false), (3, false), (4, true), (5, false)];
            assert_eq!(good(text, step), found);
        }
        let long = format!("{{\"a\": 1}}\n{{\"a\": \"{}\"}}\n{{}}", "x".repeat(999));
        assert_eq!(good(&long, 64), [(1, true), (2, false), (3, true)]);
    }

    #[test]
    fn lists_of_an_object_are_walked_and_the_rest_is_skipped() {
        let text = r#"{"info": {"deep": [[{"images": [9]}]]}, "kind": "va\u006c", "n": 1,
          "images": [{"id": 1}, {"id": 2}], "empty": [], "skipped": [1, 2],
          "annotations": [{"id": 3}], "late": "x" }"#;
        for step in [1, 3, 1000] {
            let mut source = dripping(text.as_bytes(), step);
            let lists = ["images", "annotations"];
            let mut records = Records::in_lists(&mut source, &lists, 50);
            let mut found = Vec::new();
            while let Some(record) = records.next_record().unwrap() {
                let id = record.parse().unwrap().root().get("id").unwrap().index();
                found.push((record.list.unwrap(), record.index, id.unwrap()));
            }
            let expected = [("images", 0, 1), ("images", 1, 2), ("annotations", 0, 3)];
            assert_eq!(found, expected);
            assert_eq!(records.text("kind"), Some("val"));
            assert_eq!(records.text("late"), Some("x"));
        }
        for cut in 0..text.len() {
            let mut source = dripping(&text.as_bytes()[..cut], 7);
            let mut records = Records::in_lists(&mut source, &["images", "annotations"], 50);
            while let Ok(Some(_)) = records.next_record() {}
            assert!(records.next_record().is_err(), "cut at {cut}");
        }
        for bad in [
            "[]",
            "7",
            "{1: 2}",
            "{\"a\" 1}",
            "{\"a\": }",
            "{\"a\": 1 \"b\": 2}",
            "{} x",
        ] {
            let mut source = dripping(bad.as_bytes(), 7);
            let mut records = Records::in_lists(&mut source, &["images"], 50);
            assert!(records.next_record().is_err(), "{bad}");
        }
    }
}
