//! The parser of [`json`](crate::json): from the bytes of a text to the entries of a
//! [`Tree`](crate::json::Tree).
//!
//! What is read most, names and short whole numbers, is read without a call; where the reading stands and
//! where the next entry goes are kept in variables of one function.

use crate::digits::digits;
use crate::json::{Dialect, SyntaxError};
use crate::marks::end_of_plain_text;

/// How deep arrays and objects may nest.
const DEEPEST: u32 = 128;
/// Values in one text. A value takes ten times the memory of its shortest notation.
pub(crate) const MOST_VALUES: u32 = 2 << 20;

/// Bytes of a usual text for each entry.
const BYTES_AN_ENTRY: usize = 6;
/// Entries that there is room for at first, at least and at most.
const ROOM: (usize, usize) = (16, 4096);

/// A value, or the name of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Bytes of the text before it.
    pub at: u32,
    /// Bytes of a number or of a text between its quotes; of an array or object the entries in it; else the
    /// index of the unescaped text.
    pub size: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    True,
    False,
    Number,
    /// A text without escapes.
    Text,
    /// A text with escapes.
    Unescaped,
    Array,
    Object,
}

impl Entry {
    /// A `null`.
    pub const NOTHING: Self = Self {
        at: 0,
        size: 0,
        kind: Kind::Null,
    };

    /// How many of the entries behind it are in it.
    #[inline]
    pub fn within(self) -> usize {
        match self.kind {
            Kind::Array | Kind::Object => self.size as usize,
            _ => 0,
        }
    }
}

/// What was read.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    /// In the order of the text; in an object each value behind its name.
    pub entries: Vec<Entry>,
    /// The texts that were written with escapes.
    pub unescaped: Vec<String>,
    /// The byte behind the outermost value.
    pub end: usize,
    /// Whether there may be line feeds between the values.
    pub has_lines: bool,
}

impl Values {
    /// Not even one.
    pub const NOTHING: Self = Self {
        entries: Vec::new(),
        unescaped: Vec::new(),
        end: 0,
        has_lines: false,
    };
}

/// Reads the value that `bytes` begin with. Whether they are UTF-8 is not looked at: quotes, brackets and commas are
/// the same bytes in any case. An `open` text may be cut off anywhere: what is open ends there. `room` is the
/// number of entries that are expected.
pub(crate) fn read(
    bytes: &[u8],
    dialect: Dialect,
    open: bool,
    room: usize,
) -> Result<Values, SyntaxError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(error(0, "the text is too large"));
    }
    let mut parser = Parser {
        bytes,
        dialect,
        open,
        unescaped: Vec::new(),
        has_lines: false,
    };
    let mut tape = Tape::with_room(room);
    let end = match parser.value(&mut tape) {
        Err(fault) if tape.is_open() && parser.is_cut_off(fault.at) => {
            tape.close_all();
            bytes.len()
        }
        end => end?,
    };
    Ok(Values {
        entries: tape.into_entries(),
        unescaped: parser.unescaped,
        end,
        has_lines: parser.has_lines,
    })
}

/// Entries of a usual text of so many bytes.
pub(crate) fn room_for(bytes: usize) -> usize {
    bytes / BYTES_AN_ENTRY
}

/// Whether `byte` may stand between any two values.
#[inline]
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The entries so far. All of it is small enough for the variables of one function, which a `Vec` that may
/// have to grow is not.
struct Tape {
    entries: Box<[Entry]>,
    count: usize,
    /// The innermost array or object that is open; the `size` of its entry is the one around it.
    innermost: u32,
}

/// No array or object.
const NONE: u32 = u32::MAX;

impl Tape {
    fn with_room(room: usize) -> Self {
        let room = room.clamp(ROOM.0, ROOM.1);
        Self {
            entries: vec![Entry::NOTHING; room].into(),
            count: 0,
            innermost: NONE,
        }
    }

    #[inline(always)]
    fn push(&mut self, kind: Kind, at: usize, size: usize) {
        if self.count == self.entries.len() {
            self.entries = larger(std::mem::take(&mut self.entries));
        }
        self.entries[self.count] = Entry {
            at: at as u32,
            size: size as u32,
            kind,
        };
        self.count += 1;
    }

    fn is_open(&self) -> bool {
        self.innermost != NONE
    }

    /// Opens the array or object that `bracket` at `at` begins.
    #[inline(always)]
    fn open(&mut self, bracket: u8, at: usize) {
        let around = self.innermost;
        self.innermost = self.count as u32;
        let kind = match bracket {
            b'{' => Kind::Object,
            _ => Kind::Array,
        };
        self.push(kind, at, around as usize);
    }

    /// Closes the innermost array or object; where the one around it starts, if there is one.
    #[inline(always)]
    fn close(&mut self) -> Option<usize> {
        let within = self.count as u32 - 1 - self.innermost;
        let entry = &mut self.entries[self.innermost as usize];
        self.innermost = std::mem::replace(&mut entry.size, within);
        let around = self.entries.get(self.innermost as usize)?;
        Some(around.at as usize)
    }

    /// Closes what is open; a name without a value goes.
    fn close_all(&mut self) {
        while self.is_open() {
            let open = self.innermost as usize;
            if self.entries[open].kind == Kind::Object {
                self.forget_lone_name(open);
            }
            self.close();
        }
    }

    fn forget_lone_name(&mut self, object: usize) {
        let mut next = object + 1;
        let mut names = 0;
        while next < self.count {
            next += 1 + self.entries[next].within();
            names += 1;
        }
        self.count -= names % 2;
    }

    fn into_entries(self) -> Vec<Entry> {
        let mut entries = Vec::from(self.entries);
        entries.truncate(self.count);
        entries
    }
}

/// The same with twice the room.
#[cold]
fn larger(entries: Box<[Entry]>) -> Box<[Entry]> {
    let mut entries = Vec::from(entries);
    entries.resize(2 * entries.len(), Entry::NOTHING);
    entries.into()
}

struct Parser<'a> {
    bytes: &'a [u8],
    dialect: Dialect,
    /// The text may be cut off anywhere.
    open: bool,
    unescaped: Vec<String>,
    has_lines: bool,
}

impl Parser<'_> {
    /// Reads the value that the text begins with, and all that is in it; gives the byte behind it.
    #[inline(always)]
    fn value(&mut self, tape: &mut Tape) -> Result<usize, SyntaxError> {
        let bytes = self.bytes;
        let python = self.dialect == Dialect::Python;
        let (mut at, mut depth, mut values) = (self.skip_blanks(0), 0, 0);
        // What closes the innermost array or object, and whether the name of a member is due.
        let (mut close, mut named) = (0, false);
        'values: loop {
            let first = bytes.get(at).copied();
            let is_text = first == Some(b'"') || (python && first == Some(b'\''));
            if is_text {
                at = self.string(at, tape)?;
                if named {
                    at = self.skip_blanks(at);
                    if bytes.get(at) != Some(&b':') {
                        return Err(error(at, "expected `:`"));
                    }
                    at = self.skip_blanks(at + 1);
                    named = false;
                    continue 'values;
                }
            } else if named {
                return Err(error(at, "expected the name of a member in quotes"));
            }
            values += 1;
            if values > MOST_VALUES {
                return Err(error(at, "there are too many values in one record"));
            }
            match first {
                _ if is_text => {}
                Some(b'-' | b'0'..=b'9') => at = self.number(at, tape)?,
                Some(bracket @ (b'{' | b'[' | b'(')) if bracket != b'(' || python => {
                    if depth == DEEPEST {
                        return Err(error(at, "arrays and objects nest too deeply"));
                    }
                    depth += 1;
                    close = closing(bracket);
                    tape.open(bracket, at);
                    at = self.skip_blanks(at + 1);
                    if bytes.get(at) != Some(&close) {
                        named = close == b'}';
                        continue 'values;
                    }
                }
                Some(_) => {
                    let (kind, end) = self.word(at)?;
                    tape.push(kind, at, 0);
                    at = end;
                }
                None => return Err(error(at, "expected a value, found the end")),
            }
            // Behind a value: another one, or the end of what is open.
            while depth > 0 {
                at = self.skip_blanks(at);
                let next = bytes.get(at).copied();
                if next == Some(b',') {
                    at = self.skip_blanks(at + 1);
                    if bytes.get(at) != Some(&close) {
                        named = close == b'}';
                        continue 'values;
                    }
                    if !python {
                        return Err(expected(at, close));
                    }
                } else if next == Some(close) {
                    at += 1;
                    depth -= 1;
                    close = tape.close().map_or(0, |around| closing(bytes[around]));
                } else {
                    return Err(expected(at, close));
                }
            }
            return Ok(at);
        }
    }

    #[inline(always)]
    fn string(&mut self, at: usize, tape: &mut Tape) -> Result<usize, SyntaxError> {
        if let [quote, rest @ ..] = &self.bytes[at..]
            && let Some(size) = end_of_plain_text(rest, *quote)
            && rest[size] == *quote
        {
            tape.push(Kind::Text, at, size);
            return Ok(at + size + 2);
        }
        let (kind, size, end) = self.other_string(at)?;
        tape.push(kind, at, size);
        Ok(end)
    }

    /// A string with escapes, or what seems to be a string: its entry, and the byte behind it.
    #[cold]
    #[inline(never)]
    fn other_string(&mut self, opening: usize) -> Result<(Kind, usize, usize), SyntaxError> {
        let quote = self.bytes[opening];
        let mut at = opening + 1;
        let mut owned = String::new();
        let mut run = at;
        loop {
            let rest = &self.bytes[at..];
            let Some(stop) = end_of_plain_text(rest, quote) else {
                if !self.open {
                    return Err(error(opening, "this string never ends"));
                }
                self.plain(run, self.bytes.len(), &mut owned);
                self.unescaped.push(owned);
                return Ok((Kind::Unescaped, self.unescaped.len() - 1, self.bytes.len()));
            };
            at += stop;
            match rest[stop] {
                b'\\' => {
                    self.plain(run, at, &mut owned);
                    at = self.escape(at, &mut owned)?;
                    run = at;
                }
                b if b == quote && run == opening + 1 => {
                    return Ok((Kind::Text, at - run, at + 1));
                }
                b if b == quote => {
                    self.plain(run, at, &mut owned);
                    self.unescaped.push(owned);
                    return Ok((Kind::Unescaped, self.unescaped.len() - 1, at + 1));
                }
                // Control characters are not JSON, but exporters write them and they harm nobody.
                b'\n' if self.dialect == Dialect::Json => {
                    let message = "a line break inside a string must be written `\\n`";
                    return Err(error(at, message));
                }
                _ => at += 1,
            }
        }
    }

    /// Appends the bytes from `start` to `end`.
    fn plain(&self, start: usize, end: usize, out: &mut String) {
        out.push_str(&String::from_utf8_lossy(&self.bytes[start..end]));
    }

    /// Reads the escape at `at` (a backslash and what it means) into `out`.
    fn escape(&self, at: usize, out: &mut String) -> Result<usize, SyntaxError> {
        let kind = self.bytes.get(at + 1).copied();
        let python = self.dialect == Dialect::Python;
        let (character, length) = match kind {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(plain @ (b'"' | b'\\' | b'/')) => (plain as char, 2),
            Some(b'\'') if python => ('\'', 2),
            Some(b'x') if python => (self.code_point(at, 2)?, 4),
            Some(b'U') if python => (self.code_point(at, 8)?, 10),
            Some(b'u') => return self.utf16_escape(at, out),
            _ => return Err(error(at, "unknown escape after `\\`")),
        };
        out.push(character);
        Ok(at + length)
    }

    /// `\uXXXX`, or two of them for a character beyond the first plane; a lone half becomes U+FFFD.
    fn utf16_escape(&self, at: usize, out: &mut String) -> Result<usize, SyntaxError> {
        let first = self.hex(at, 4)?;
        let mut at = at + 6;
        let mut units = vec![first as u16];
        if (0xd800..0xdc00).contains(&first) && self.bytes[at..].starts_with(b"\\u") {
            let second = self.hex(at, 4)?;
            if (0xdc00..0xe000).contains(&second) {
                at += 6;
                units.push(second as u16);
            }
        }
        out.push_str(&String::from_utf16_lossy(&units));
        Ok(at)
    }

    fn code_point(&self, at: usize, digits: usize) -> Result<char, SyntaxError> {
        let code = self.hex(at, digits)?;
        char::from_u32(code).ok_or_else(|| error(at, "this escape is no character"))
    }

    /// The number in the `digits` hexadecimal digits of the escape at `at`.
    fn hex(&self, at: usize, digits: usize) -> Result<u32, SyntaxError> {
        let start = at + 2;
        let text = self.bytes.get(start..start + digits);
        let plain = text.filter(|text| text.iter().all(u8::is_ascii_hexdigit));
        plain
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| u32::from_str_radix(text, 16).ok())
            .ok_or_else(|| error(at, &format!("expected {digits} hexadecimal digits")))
    }

    #[inline(always)]
    fn number(&mut self, at: usize, tape: &mut Tape) -> Result<usize, SyntaxError> {
        let rest = &self.bytes[at..];
        // Nearly every number is a whole one.
        let sign = usize::from(rest.first() == Some(&b'-'));
        let size = sign + digits(&rest[sign..]);
        let (kind, size) = match rest.get(size) {
            Some(b'-' | b'+' | b'.' | b'e' | b'E') => self.other_number(at)?,
            _ if size == sign => self.other_number(at)?,
            _ => (Kind::Number, size),
        };
        tape.push(kind, at, size);
        Ok(at + size)
    }

    /// A number that is not a whole one, or what seems to be one; gives its length.
    #[cold]
    #[inline(never)]
    fn other_number(&self, at: usize) -> Result<(Kind, usize), SyntaxError> {
        let rest = &self.bytes[at..];
        if rest.starts_with(b"-Infinity") {
            return Ok((Kind::Null, "-Infinity".len()));
        }
        let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(|b| is_part(b)).count();
        let digits = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        match digits.parse::<f64>() {
            Ok(_) => Ok((Kind::Number, length)),
            Err(_) => Err(error(at, &format!("`{digits}` is no number"))),
        }
    }

    #[inline(never)]
    fn word(&self, at: usize) -> Result<(Kind, usize), SyntaxError> {
        let rest = &self.bytes[at..];
        let length = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let python = self.dialect == Dialect::Python;
        let kind = match &rest[..length] {
            b"null" => Kind::Null,
            b"true" => Kind::True,
            b"false" => Kind::False,
            // Python's json module writes these into JSON files.
            b"NaN" | b"Infinity" => Kind::Null,
            b"None" if python => Kind::Null,
            b"True" if python => Kind::True,
            b"False" if python => Kind::False,
            _ => return Err(error(at, "expected a value")),
        };
        Ok((kind, at + length))
    }

    /// Where the blanks from `at` on end. Most exports have none.
    #[inline(always)]
    fn skip_blanks(&mut self, at: usize) -> usize {
        match self.bytes.get(at) {
            Some(..=b' ') => self.skip_some_blanks(at),
            _ => at,
        }
    }

    #[cold]
    #[inline(never)]
    fn skip_some_blanks(&mut self, at: usize) -> usize {
        let blanks = self.bytes[at..].iter().take_while(|b| is_blank(**b));
        let blanks = blanks.inspect(|b| self.has_lines |= **b == b'\n');
        at + blanks.count()
    }

    /// Whether nothing is left but what may be the beginning of a number, a word or an escape.
    fn is_cut_off(&self, at: usize) -> bool {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"\\+-.".contains(&b);
        self.open && self.bytes[at..].iter().all(|&b| word(b))
    }
}

/// The byte that closes what `bracket` opens.
#[inline(always)]
fn closing(bracket: u8) -> u8 {
    match bracket {
        b'(' => b')',
        brace_or_square => brace_or_square + 2,
    }
}

#[cold]
#[inline(never)]
fn expected(at: usize, close: u8) -> SyntaxError {
    error(at, &format!("expected `,` or `{}`", close as char))
}

#[cold]
#[inline(never)]
fn error(at: usize, message: &str) -> SyntaxError {
    let message = message.to_owned();
    SyntaxError { at, message }
}
