//! A moving window over a source: the bytes at hand, and where they stand.

use crate::place::Place;
use crate::{Error, Source, invalid_input};

/// Bytes asked of the source at a time.
const CHUNK: u32 = 256 << 10;

/// The bytes of a source from where the reading stands on, as many as were asked for.
pub struct Window<'s> {
    source: &'s mut dyn Source,
    name: String,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are behind us.
    used: usize,
    /// Where `buffer[used]` stands in the source.
    place: Place,
    ended: bool,
}

impl<'s> Window<'s> {
    /// The start of `source`.
    pub fn new(source: &'s mut dyn Source) -> Self {
        Self {
            name: source.name(),
            source,
            buffer: Vec::new(),
            used: 0,
            place: Place::START,
            ended: false,
        }
    }

    /// What messages call the source.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the first byte at hand stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The bytes at hand; [`Window::fill`] gets more.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Reads until `wanted` bytes are at hand; false if the source ends before.
    pub fn fill(&mut self, wanted: usize) -> Result<bool, Error> {
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

    /// Leaves `bytes` of the bytes at hand behind.
    pub fn advance(&mut self, bytes: usize) {
        let passed = &self.buffer[self.used..self.used + bytes];
        self.place = self.place.after(passed);
        self.used += bytes;
    }

    /// The same where there is no line feed among them.
    pub fn advance_in_line(&mut self, bytes: usize) {
        self.place.offset += bytes as u64;
        self.place.column += bytes as u64;
        self.used += bytes;
    }

    /// Skips a byte order mark; a file in UTF-16 is an error with the code `code`.
    pub fn skip_mark(&mut self, code: &str) -> Result<(), Error> {
        self.fill(3)?;
        let bytes = self.bytes();
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            let at = Place::START.location(&self.name);
            let message = "the file is UTF-16; save it as UTF-8";
            return Err(invalid_input(code, message, Some(at)));
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            self.used += 3;
            self.place.offset += 3;
        }
        Ok(())
    }

    /// Skips blanks and line breaks; the byte behind them.
    pub fn skip_blanks(&mut self) -> Result<Option<u8>, Error> {
        loop {
            let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
            let blanks = self.bytes().iter().take_while(|b| blank(b)).count();
            let next = self.bytes().get(blanks).copied();
            self.advance(blanks);
            if next.is_some() || !self.fill(1)? {
                return Ok(next);
            }
        }
    }

    /// Bytes before the next line feed, or before the end; `None` if these are more than `largest`.
    pub fn line(&mut self, largest: usize) -> Result<Option<usize>, Error> {
        let mut looked_at = 0;
        loop {
            let bytes = self.bytes();
            let feed = bytes[looked_at..].iter().position(|&b| b == b'\n');
            if let Some(feed) = feed {
                return Ok(Some(looked_at + feed).filter(|&length| length <= largest));
            }
            looked_at = bytes.len();
            if looked_at > largest {
                return Ok(None);
            }
            if !self.fill(looked_at + 1)? {
                return Ok(Some(looked_at));
            }
        }
    }

    /// Leaves everything up to and including the next line feed behind, however much it is.
    pub fn skip_line(&mut self) -> Result<(), Error> {
        loop {
            let feed = self.bytes().iter().position(|&b| b == b'\n');
            self.advance(feed.map_or(self.bytes().len(), |feed| feed + 1));
            if feed.is_some() || !self.fill(1)? {
                return Ok(());
            }
        }
    }
}
