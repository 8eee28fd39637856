//! The rows of a table (RFC 4180) one by one, in memory no larger than the largest row.
//!
//! Fields may be quoted and then hold separators, line breaks and doubled quotes. Behind a row that is
//! broken the next line is read.

use graft_plugin::place::Place;
use graft_plugin::window::Window;
use graft_plugin::{Error, Source};

/// No table has more columns; a wild row must not become memory.
const MOST_FIELDS: usize = 10_000;

/// A table being read.
pub struct Rows<'s> {
    pub window: Window<'s>,
    pub separator: u8,
    largest: usize,
}

/// A row, or what is wrong with it.
pub struct Row {
    /// Its fields, or where the fault is and what.
    pub fields: Result<Vec<Field>, (Place, String)>,
    pub place: Place,
}

/// A field and where it starts.
#[derive(Debug, PartialEq)]
pub struct Field {
    pub text: String,
    pub place: Place,
}

/// What a row ends with, and its bytes.
enum End {
    Row(usize),
    /// Byte of the fault.
    Fault(usize, &'static str),
}

impl<'s> Rows<'s> {
    /// Reads `source`, whose fields stand between `separator`; a row of more than `largest` bytes is
    /// a fault.
    pub fn new(source: &'s mut dyn Source, separator: u8, largest: usize) -> Self {
        Self {
            window: Window::new(source),
            separator,
            largest,
        }
    }

    /// The next row; empty lines are left out.
    pub fn next_row(&mut self) -> Result<Option<Row>, Error> {
        loop {
            if !self.window.fill(1)? {
                return Ok(None);
            }
            match self.window.bytes()[0] {
                b'\r' | b'\n' => self.window.advance(1),
                _ => break,
            }
        }
        let place = self.window.place();
        let (mut fields, end) = self.scan()?;
        let fault = match end {
            End::Row(length) => {
                let read = self.read(&mut fields, length);
                self.window.advance(length);
                match read {
                    Ok(fields) => {
                        let fields = Ok(fields);
                        return Ok(Some(Row { fields, place }));
                    }
                    Err(fault) => fault,
                }
            }
            End::Fault(at, message) => {
                let at = self.window.place().after(&self.window.bytes()[..at]);
                self.window.skip_line()?;
                (at, message.to_owned())
            }
        };
        let fields = Err(fault);
        Ok(Some(Row { fields, place }))
    }

    /// The bounds of the fields of the row at hand.
    fn scan(&mut self) -> Result<(Vec<(usize, usize)>, End), Error> {
        let (mut fields, mut start, mut at) = (Vec::new(), 0, 0);
        let mut quoted = false;
        loop {
            if fields.len() > MOST_FIELDS {
                return Ok((fields, End::Fault(0, "the row has too many fields")));
            }
            if at > self.largest {
                return Ok((
                    fields,
                    End::Fault(0, "the row is too large: is a quote not closed?"),
                ));
            }
            if !self.window.fill(at + 1)? {
                if quoted {
                    return Ok((fields, End::Fault(start, "this quoted field never ends")));
                }
                fields.push((start, at));
                return Ok((fields, End::Row(at)));
            }
            let bytes = self.window.bytes();
            let byte = bytes[at];
            if quoted {
                if byte != b'"' {
                    at += 1;
                    continue;
                }
                if !self.window.fill(at + 2)? {
                    fields.push((start, at + 1));
                    return Ok((fields, End::Row(at + 1)));
                }
                match self.window.bytes()[at + 1] {
                    b'"' => at += 2,
                    next if next == self.separator || matches!(next, b'\r' | b'\n') => {
                        quoted = false;
                        at += 1;
                    }
                    _ => {
                        let message = "text behind a closing quote; quotes inside are doubled";
                        return Ok((fields, End::Fault(at + 1, message)));
                    }
                }
            } else if byte == b'"' && at == start {
                quoted = true;
                at += 1;
            } else if byte == self.separator {
                fields.push((start, at));
                at += 1;
                start = at;
            } else if matches!(byte, b'\r' | b'\n') {
                fields.push((start, at));
                return Ok((fields, End::Row(at)));
            } else {
                at += 1;
            }
        }
    }

    /// The texts of the fields within the `length` bytes at hand.
    fn read(
        &self,
        bounds: &mut Vec<(usize, usize)>,
        length: usize,
    ) -> Result<Vec<Field>, (Place, String)> {
        let bytes = &self.window.bytes()[..length];
        let (mut place, mut passed) = (self.window.place(), 0);
        let mut fields = Vec::with_capacity(bounds.len());
        for (start, end) in bounds.drain(..) {
            place = place.after(&bytes[passed..start]);
            passed = start;
            let text = match std::str::from_utf8(&bytes[start..end]) {
                Ok(text) => text,
                Err(fault) => {
                    let at = place.after(&bytes[start..start + fault.valid_up_to()]);
                    return Err((at, "the file is not UTF-8 text here".into()));
                }
            };
            let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
            let text = match inner {
                Some(inner) => inner.replace("\"\"", "\""),
                None => text.to_owned(),
            };
            fields.push(Field { text, place });
        }
        Ok(fields)
    }
}

/// The separator that the first line has most of, outside of quotes: comma, semicolon, tab or bar.
pub fn separator(line: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut quoted = false;
    for &byte in line {
        quoted ^= byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(other, _)| *other == byte)
            && !quoted
        {
            *count += 1;
        }
    }
    // Of equals the first.
    let most = counts.iter().rev().max_by_key(|(_, count)| *count);
    most.map_or(b',', |(byte, _)| *byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::testing::Memory;

    /// Rows as texts joined by `|`, faults as line:column.
    fn rows(text: &str, separator: u8) -> Vec<String> {
        let mut found = Vec::new();
        for step in [1, 3, 1000] {
            let mut source = Memory::new("a.csv", text.as_bytes(), step);
            let mut rows = Rows::new(&mut source, separator, 60);
            let mut now = Vec::new();
            while let Some(row) = rows.next_row().unwrap() {
                now.push(match row.fields {
                    Ok(fields) => {
                        let texts: Vec<String> = fields.into_iter().map(|f| f.text).collect();
                        texts.join("|")
                    }
                    Err((place, _)) => format!("{}:{}", place.line, place.column),
                });
            }
            assert!(found.is_empty() || found == now);
            found = now;
        }
        found
    }

    #[test]
    fn quotes_line_ends_and_empty_fields() {
        assert_eq!(rows("a,b\r\n1,2\r\n", b','), ["a|b", "1|2"]);
        assert_eq!(rows("a,b\n\n,\n\"\",\"\"", b','), ["a|b", "|", "|"]);
        assert_eq!(rows("\"a,\r\nb\"\"c\",d\re", b','), ["a,\r\nb\"c|d", "e"]);
        assert_eq!(rows("5\" disk;b", b';'), ["5\" disk|b"]);
        assert_eq!(rows("", b','), [""; 0]);
    }

    #[test]
    fn behind_a_broken_row_the_next_is_read() {
        assert_eq!(rows("a,\"b\"x\nc,d", b','), ["1:6", "c|d"]);
        assert_eq!(rows("a,\"b\nc,d\ne,f", b','), ["1:3", "c|d", "e|f"]);
        let long = format!("a,\"{}\nb,c", "x".repeat(70));
        assert_eq!(rows(&long, b','), ["1:1", "b|c"]);
        let wide = format!("{}\nb,c", ",".repeat(20_000));
        let mut source = Memory::new("a.csv", wide.as_bytes(), 4096);
        let mut rows = Rows::new(&mut source, b',', 1 << 20);
        assert!(rows.next_row().unwrap().unwrap().fields.is_err());
        assert_eq!(rows.next_row().unwrap().unwrap().fields.unwrap().len(), 2);
    }

    #[test]
    fn the_separator_is_the_one_that_is_there() {
        assert_eq!(separator(b"question;answer, short;image"), b';');
        assert_eq!(separator(b"a\tb"), b'\t');
        assert_eq!(separator(b"\"a;b;c\",d"), b',');
        assert_eq!(separator(b"one"), b',');
    }
}
