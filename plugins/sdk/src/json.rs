//! JSON whose every value knows where it stood, so that a remark can name line and column.
//!
//! The same parser reads Python literals (single quotes, tuples, `None`), which some exporters
//! print instead of JSON. Strings without escapes borrow from the text.

use std::borrow::Cow;

use crate::digits::{digits, short_number};
use crate::marks::{end_of_plain_text, same};

/// How deep arrays and objects may nest.
const DEEPEST: u32 = 128;
/// Values in one text. A value takes ten times the memory of its shortest notation.
const MOST_VALUES: u32 = 2 << 20;

/// Members that an object usually has.
const MEMBERS: usize = 8;
/// Objects that an array of them usually has.
const ITEMS: usize = 16;

/// Which notation a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 8259.
    Json,
    /// The literals of Python: JSON's values, and what `repr` makes of lists, tuples, strings.
    Python,
}

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    /// Bytes of the parsed text before the value.
    pub at: usize,
    /// The value.
    pub value: Value<'a>,
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number as written.
    Number(&'a str),
    /// A string, unescaped.
    Text(Cow<'a, str>),
    /// An array, or a Python tuple.
    Array(Vec<Node<'a>>),
    /// An object in the order of the text.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// A text that is not in the [`Dialect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Bytes of the text before the fault.
    pub at: usize,
    /// What was expected.
    pub message: String,
}

/// Reads the one value that `text` consists of.
pub fn parse(text: &str, dialect: Dialect) -> Result<Node<'_>, SyntaxError> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        values: 0,
        dialect,
        open: false,
    };
    let node = parser.value()?;
    parser.skip_blanks();
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.error("expected the end of the text")),
    }
}

/// The first value of a file whose first bytes are `head`; where they are cut off, everything that is
/// open ends. This is what a file is recognised by.
pub fn beginning(head: &[u8]) -> Option<Node<'_>> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(fault) => std::str::from_utf8(&head[..fault.valid_up_to()]).ok()?,
    };
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        values: 0,
        dialect: Dialect::Json,
        open: true,
    };
    parser.value().ok()
}

/// The first record of a file whose first bytes are `head`, and whether it is the first of an array.
pub fn first_record(head: &[u8]) -> Option<(Node<'_>, bool)> {
    let node = beginning(head)?;
    match node.value {
        Value::Array(items) => Some((items.into_iter().next()?, true)),
        _ => Some((node, false)),
    }
}

impl<'a> Node<'a> {
    /// The member called `key`; the last if there are several.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        let Value::Object(members) = &self.value else {
            return None;
        };
        let named = |(name, _): &&(Cow<'_, str>, _)| same(name.as_bytes(), key.as_bytes());
        members.iter().rev().find(named).map(|(_, node)| node)
    }

    /// The first of `keys` that is there and not null.
    pub fn get_any(&self, keys: &[&str]) -> Option<&Node<'a>> {
        let mut found = keys.iter().filter_map(|key| self.get(key));
        found.find(|node| node.value != Value::Null)
    }

    /// The elements of an array; none for anything else.
    pub fn items(&self) -> &[Node<'a>] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A name: a string, or a number as it is written.
    pub fn name(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Number(digits) => Some(digits),
            _ => None,
        }
    }

    /// Whether it is an object with all the members `keys`.
    pub fn has(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.get(key).is_some())
    }

    /// A whole number, also if written as `7.0` or `"7"`.
    pub fn index(&self) -> Option<usize> {
        let digits = match &self.value {
            Value::Number(digits) => digits,
            Value::Text(text) => text.trim(),
            _ => return None,
        };
        // Short whole numbers, as nearly all are, without a detour.
        if let 1..10 = digits.len()
            && let Some(number) = short_number(digits.as_bytes())
        {
            return Some(number as usize);
        }
        let whole = digits.strip_suffix(".0").unwrap_or(digits);
        whole.parse().ok()
    }

    /// A number.
    pub fn number(&self) -> Option<f64> {
        match &self.value {
            // Short whole numbers are exact, and nearly all there are.
            Value::Number(digits) => match digits.len() {
                1..10 => short_number(digits.as_bytes())
                    .map_or_else(|| digits.parse().ok(), |whole| Some(f64::from(whole))),
                _ => digits.parse().ok(),
            },
            _ => None,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    values: u32,
    dialect: Dialect,
    /// The text may be cut off anywhere.
    open: bool,
}

impl<'a> Parser<'a> {
    // Inlined where values are elements, so that only what nests is a call.
    #[inline(always)]
    fn value(&mut self) -> Result<Node<'a>, SyntaxError> {
        self.skip_blanks();
        let at = self.at;
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(self.error("there are too many values in one record"));
        }
        let value = match self.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array(b']')?,
            Some(b'(') if self.dialect == Dialect::Python => self.array(b')')?,
            Some(quote @ (b'"' | b'\'')) if self.is_quote(quote) => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
            None => return Err(self.error("expected a value, found the end")),
        };
        Ok(Node { at, value })
    }

    #[inline(never)]
    fn object(&mut self) -> Result<Value<'a>, SyntaxError> {
        let mut members = Vec::new();
        self.sequence(b'}', |parser| {
            if !parser.peek().is_some_and(|quote| parser.is_quote(quote)) {
                return Err(parser.error("expected the name of a member in quotes"));
            }
            let key = parser.string()?;
            parser.skip_blanks();
            if !parser.take(b':') {
                return Err(parser.error("expected `:`"));
            }
            let value = parser.value()?;
            if members.capacity() == 0 {
                members.reserve(MEMBERS);
            }
            members.push((key, value));
            Ok(())
        })?;
        Ok(Value::Object(members))
    }

    #[inline(never)]
    fn array(&mut self, close: u8) -> Result<Value<'a>, SyntaxError> {
        let mut items = Vec::new();
        self.sequence(close, |parser| {
            if items.capacity() == 0 && parser.peek() == Some(b'{') {
                items.reserve(ITEMS);
            }
            items.push(parser.value()?);
            Ok(())
        })?;
        Ok(Value::Array(items))
    }

    /// Elements between commas, up to and including `close`; the opening byte is at hand.
    fn sequence(
        &mut self,
        close: u8,
        mut element: impl FnMut(&mut Self) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("arrays and objects nest too deeply"));
        }
        self.at += 1;
        self.skip_blanks();
        while !self.take(close) {
            let read = element(self);
            self.skip_blanks();
            if read.is_ok() && self.peek() == Some(b',') && self.goes_on() {
                continue;
            }
            if self.is_cut_off() {
                self.at = self.text.len();
                break;
            }
            read?;
            let comma = self.take(b',');
            self.skip_blanks();
            if self.is_cut_off() {
                break;
            }
            let closes = self.peek() == Some(close);
            let trailing = self.dialect == Dialect::Python;
            if (comma && closes && !trailing) || (!comma && !closes) {
                let close = close as char;
                return Err(self.error(&format!("expected `,` or `{close}`")));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    #[inline(always)]
    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let bytes = &self.text.as_bytes()[self.at..];
        if let [quote, rest @ ..] = bytes
            && let Some(stop) = end_of_plain_text(rest, *quote)
            && rest[stop] == *quote
        {
            let start = self.at + 1;
            self.at = start + stop + 1;
            return Ok(Cow::Borrowed(&self.text[start..start + stop]));
        }
        self.other_string()
    }

    /// A string with escapes, or what seems to be a string.
    #[cold]
    fn other_string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let opening = self.at;
        let quote = self.text.as_bytes()[opening];
        self.at += 1;
        let mut owned = String::new();
        let mut run = self.at;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let Some(stop) = end_of_plain_text(rest, quote) else {
                if self.open {
                    self.at = self.text.len();
                    return Ok(Cow::Borrowed(&self.text[run..]));
                }
                self.at = opening;
                return Err(self.error("this string never ends"));
            };
            self.at += stop;
            match rest[stop] {
                b'\\' => {
                    owned.push_str(&self.text[run..self.at]);
                    self.escape(&mut owned)?;
                    run = self.at;
                }
                b if b == quote => {
                    let last = &self.text[run..self.at];
                    self.at += 1;
                    if owned.is_empty() {
                        return Ok(Cow::Borrowed(last));
                    }
                    owned.push_str(last);
                    return Ok(Cow::Owned(owned));
                }
                // Control characters are not JSON, but exporters write them and they harm nobody.
                b'\n' if self.dialect == Dialect::Json => {
                    return Err(self.error("a line break inside a string must be written `\\n`"));
                }
                _ => self.at += 1,
            }
        }
    }

    /// Reads the escape at hand (a backslash and what it means) into `out`.
    fn escape(&mut self, out: &mut String) -> Result<(), SyntaxError> {
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        let python = self.dialect == Dialect::Python;
        let (character, length) = match kind {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(plain @ (b'"' | b'\\' | b'/')) => (plain as char, 2),
            Some(b'\'') if python => ('\'', 2),
            Some(b'x') if python => (self.code_point(2)?, 4),
            Some(b'U') if python => (self.code_point(8)?, 10),
            Some(b'u') => return self.utf16_escape(out),
            _ => return Err(self.error("unknown escape after `\\`")),
        };
        out.push(character);
        self.at += length;
        Ok(())
    }

    /// `\uXXXX`, or two of them for a character beyond the first plane; a lone half becomes U+FFFD.
    fn utf16_escape(&mut self, out: &mut String) -> Result<(), SyntaxError> {
        let first = self.hex(4)?;
        self.at += 6;
        let mut units = vec![first as u16];
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            let second = self.hex(4)?;
            if (0xdc00..0xe000).contains(&second) {
                self.at += 6;
                units.push(second as u16);
            }
        }
        out.push_str(&String::from_utf16_lossy(&units));
        Ok(())
    }

    fn code_point(&mut self, digits: usize) -> Result<char, SyntaxError> {
        let code = self.hex(digits)?;
        char::from_u32(code).ok_or_else(|| self.error("this escape is no character"))
    }

    /// The number in the `digits` hexadecimal digits behind `\u`.
    fn hex(&mut self, digits: usize) -> Result<u32, SyntaxError> {
        let start = self.at + 2;
        let text = self.text.get(start..start + digits);
        let plain = text.filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()));
        plain
            .and_then(|t| u32::from_str_radix(t, 16).ok())
            .ok_or_else(|| self.error(&format!("expected {digits} hexadecimal digits")))
    }

    #[inline(always)]
    fn number(&mut self) -> Result<Value<'a>, SyntaxError> {
        let rest = &self.text.as_bytes()[self.at..];
        // Nearly every number is a whole one.
        let sign = usize::from(rest.first() == Some(&b'-'));
        let whole = sign + digits(&rest[sign..]);
        if whole > sign && !matches!(rest.get(whole), Some(b'-' | b'+' | b'.' | b'e' | b'E')) {
            let digits = &self.text[self.at..self.at + whole];
            self.at += whole;
            return Ok(Value::Number(digits));
        }
        self.other_number()
    }

    /// A number that is not a whole one, or what seems to be one.
    #[cold]
    fn other_number(&mut self) -> Result<Value<'a>, SyntaxError> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(b"-Infinity") {
            self.at += "-Infinity".len();
            return Ok(Value::Null);
        }
        let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(|b| is_part(b)).count();
        let digits = &self.text[self.at..self.at + length];
        if digits.parse::<f64>().is_err() {
            return Err(self.error(&format!("`{digits}` is no number")));
        }
        self.at += length;
        Ok(Value::Number(digits))
    }

    fn word(&mut self) -> Result<Value<'a>, SyntaxError> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let python = self.dialect == Dialect::Python;
        let value = match &rest[..length] {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            // Python's json module writes these into JSON files.
            "NaN" | "Infinity" => Value::Null,
            "None" if python => Value::Null,
            "True" if python => Value::Bool(true),
            "False" if python => Value::Bool(false),
            _ => return Err(self.error("expected a value")),
        };
        self.at += length;
        Ok(value)
    }

    /// Behind the comma at hand: whether what follows must be another element, which it then moves to.
    fn goes_on(&mut self) -> bool {
        let comma = self.at;
        self.at += 1;
        self.skip_blanks();
        let goes_on = match self.peek() {
            Some(b'{' | b'[' | b'"') => true,
            Some(b'-' | b'0'..=b'9') => !self.open,
            _ => false,
        };
        if !goes_on {
            self.at = comma;
        }
        goes_on
    }

    /// Whether nothing is left but what may be the beginning of a number, a word or an escape.
    fn is_cut_off(&self) -> bool {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"\\+-.".contains(&b);
        self.open && self.text.as_bytes()[self.at..].iter().all(|&b| word(b))
    }

    fn is_quote(&self, byte: u8) -> bool {
        byte == b'"' || (byte == b'\'' && self.dialect == Dialect::Python)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    // Most exports have no blanks, and a loop costs a plugin something even if it is not run.
    #[inline]
    fn skip_blanks(&mut self) {
        if self.is_at_blank() {
            self.skip_some_blanks();
        }
    }

    #[cold]
    fn skip_some_blanks(&mut self) {
        while self.is_at_blank() {
            self.at += 1;
        }
    }

    #[inline]
    fn is_at_blank(&self) -> bool {
        matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r'))
    }

    #[cold]
    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError {
            at: self.at,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_where_it_stood() {
        let text = r#"{"a": [1, "x\u00e9\ud83d\ude00\n"], "b": null, "c": true, "d": -2.5e3}"#;
        let node = parse(text, Dialect::Json).unwrap();
        let items = node.get("a").unwrap().items();
        assert_eq!(items[0].index(), Some(1));
        assert_eq!(items[1].text(), Some("xé😀\n"));
        assert_eq!(&text[items[1].at..items[1].at + 2], "\"x");
        assert_eq!(node.get("b").unwrap().value, Value::Null);
        assert_eq!(node.get("c").unwrap().value, Value::Bool(true));
        assert_eq!(node.get("d").unwrap().number(), Some(-2500.0));
        assert_eq!(node.get_any(&["b", "a"]).unwrap().items().len(), 2);
        let python = parse("[NaN, Infinity, -Infinity]", Dialect::Json).unwrap();
        assert!(python.items().iter().all(|item| item.value == Value::Null));
        assert!(node.get("e").is_none());
    }

    #[test]
    fn python_literals_are_read_as_values_never_as_code() {
        let text = r#"[('it\'s', {"entities": [(0, 4, 'LABEL'),]}), None, True, "d\x41"]"#;
        let node = parse(text, Dialect::Python).unwrap();
        assert_eq!(node.items()[0].items()[0].text(), Some("it's"));
        assert_eq!(node.items()[1].value, Value::Null);
        assert_eq!(node.items()[3].text(), Some("dA"));
        assert!(parse("[exit()]", Dialect::Python).is_err());
        assert!(parse(text, Dialect::Json).is_err());
    }

    #[test]
    fn a_beginning_is_read_as_far_as_it_goes() {
        let text = r#"[{"a": [1, "x\u00e9"], "b": {"c": null}, "d": -1.5e3, "e": true}, {"a": 2}]"#;
        let second = text.find("{\"c").unwrap();
        for cut in 8..text.len() {
            let node = beginning(&text.as_bytes()[..cut]).unwrap();
            let first = &node.items()[0];
            assert!(first.has(&["a"]), "{}", &text[..cut]);
            assert_eq!(first.has(&["a", "b"]), cut > second, "{}", &text[..cut]);
        }
        assert_eq!(
            beginning(b"\xef\xbb\xbf{\"a\": 1} {\"b\": 2}")
                .unwrap()
                .get("a")
                .unwrap()
                .index(),
            Some(1)
        );
        for bad in [&b""[..], b"x", b"[}", &[b'['; 1000], b"\xff"] {
            assert!(beginning(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_fault_is_named_where_it_is() {
        for (text, at) in [
            ("", 0),
            ("[1, 2", 5),
            ("[1 2]", 3),
            ("[1,]", 3),
            (r#"{"a" 1}"#, 5),
            (r#"{a: 1}"#, 1),
            (r#"["abc]"#, 1),
            (r#"["a\q"]"#, 3),
            (r#"["\u12"]"#, 2),
            ("[1] x", 4),
            ("[--1]", 1),
            ("[nul]", 1),
        ] {
            assert_eq!(parse(text, Dialect::Json).unwrap_err().at, at, "{text}");
        }
        let wide = format!("[{}0]", "[],".repeat(MOST_VALUES as usize));
        assert!(parse(&wide, Dialect::Json).is_err());
        let deep = "[".repeat(100_000);
        assert!(parse(&deep, Dialect::Json).is_err());
    }
}
