//! A place in a text file: byte offset, line and column.

use crate::Location;
use crate::marks::line_feeds;

/// A place between two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes before it.
    pub offset: u64,
    /// Its line, from 1.
    pub line: u64,
    /// Its column in bytes, from 1.
    pub column: u64,
}

impl Place {
    /// The start of a file.
    pub const START: Self = Self {
        offset: 0,
        line: 1,
        column: 1,
    };

    /// The place behind `bytes`, if they start here.
    pub fn after(self, bytes: &[u8]) -> Self {
        let offset = self.offset + bytes.len() as u64;
        let (lines, last) = line_feeds(bytes);
        let column = match last {
            Some(newline) => (bytes.len() - newline) as u64,
            None => self.column + bytes.len() as u64,
        };
        Self {
            offset,
            line: self.line + lines,
            column,
        }
    }

    /// This place as a [`Location`] in `source`.
    pub fn location(self, source: &str) -> Location {
        Location {
            source: source.to_owned(),
            byte_offset: Some(self.offset),
            line: Some(self.line),
            column: Some(self.column),
            record_index: None,
            field: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_counted_from_one() {
        let place = Place::START.after(b"ab").after(b"c\nde");
        assert_eq!((place.offset, place.line, place.column), (6, 2, 3));
        let place = place.after(b"\n\n");
        assert_eq!((place.offset, place.line, place.column), (8, 4, 1));
    }
}
