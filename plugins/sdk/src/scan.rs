//! The end of a value, found without reading the value.

use crate::json::Dialect;

/// Finds the end of a value by its brackets and quotes.
pub(crate) struct Scan {
    /// Its last byte is its own: a bracket or a quote.
    closes: bool,
    depth: u32,
    quote: Option<u8>,
    escaped: bool,
    dialect: Dialect,
}

/// What a byte is to the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// One of its bytes, not the last.
    Inside,
    /// Its last byte.
    Last,
    /// The first byte behind it.
    Behind,
}

impl Scan {
    /// A value that begins with `first`.
    pub fn new(first: u8, dialect: Dialect) -> Self {
        Self {
            closes: matches!(first, b'{' | b'[' | b'(' | b'"')
                || (first == b'\'' && dialect == Dialect::Python),
            depth: 0,
            quote: None,
            escaped: false,
            dialect,
        }
    }

    /// Whether the value is whole if nothing follows.
    pub fn may_end(&self) -> bool {
        self.depth == 0 && self.quote.is_none()
    }

    /// Takes the next byte of the value.
    pub fn step(&mut self, byte: u8) -> Step {
        match (self.quote, byte) {
            (Some(_), _) if self.escaped => self.escaped = false,
            (Some(_), b'\\') => self.escaped = true,
            (Some(open), _) if byte == open => self.quote = None,
            (Some(_), _) => {}
            (None, b'"') => self.quote = Some(byte),
            (None, b'\'') if self.dialect == Dialect::Python => self.quote = Some(byte),
            (None, b'{' | b'[' | b'(') => self.depth += 1,
            (None, b'}' | b']' | b')') if self.depth > 0 => self.depth -= 1,
            (None, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n') if self.depth == 0 => {
                return Step::Behind;
            }
            (None, _) => {}
        }
        match self.closes && self.may_end() {
            true => Step::Last,
            false => Step::Inside,
        }
    }
}
