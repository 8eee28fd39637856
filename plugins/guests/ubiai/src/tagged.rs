//! Tagged tokens: a token and its tag in every line, documents between lines of `-DOCSTART-`.
//!
//! Tags are IOB or IOBES: `B-QUESTION` begins a span, `I-` and `E-` go on, `S-` is one of its own.

use graft_plugin::json::Dialect;
use graft_plugin::records::{MALFORMED, Record};
use graft_plugin::window::Window;
use graft_plugin::{Error, Location, Source, invalid_input};

use crate::Remarks;
use crate::area::Area;
use crate::document::{Document, Span};

/// What every document begins with.
pub const START: &str = "-DOCSTART-";
/// Bytes of the longest line.
const LONGEST_LINE: usize = 1 << 20;

/// The documents of a file.
pub struct Tagged<'s> {
    window: Window<'s>,
    parts: Parts,
    largest: usize,
    count: u64,
}

/// What divides a file of tagged tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Lines of `-DOCSTART-`; a blank line ends a sentence.
    Documents,
    /// Blank lines.
    Pages,
}

impl<'s> Tagged<'s> {
    /// Reads `source`, whose parts have at most `largest` bytes.
    pub fn new(source: &'s mut dyn Source, parts: Parts, largest: usize) -> Result<Self, Error> {
        let mut window = Window::new(source);
        window.skip_mark(MALFORMED)?;
        Ok(Self {
            window,
            parts,
            largest,
            count: 0,
        })
    }

    /// The lines of the next document or page as one record.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let mut text = String::new();
        if self.parts == Parts::Pages {
            self.window.skip_blanks()?;
        }
        let place = self.window.place();
        while self.window.fill(1)? {
            let Some(length) = self.window.line(LONGEST_LINE)? else {
                return Err(self.fault("tagged-line", "a line is too long for a token and its tag"));
            };
            let line = &self.window.bytes()[..length];
            let ends = match self.parts {
                Parts::Documents => line.starts_with(START.as_bytes()) && !text.is_empty(),
                Parts::Pages => line.trim_ascii().is_empty(),
            };
            if ends {
                break;
            }
            let Ok(line) = std::str::from_utf8(line) else {
                return Err(self.fault("tagged-line", "the file is not UTF-8 text here"));
            };
            text.push_str(line);
            text.push('\n');
            if text.len() > self.largest {
                return Err(self.fault("tagged-document", "a document is too large"));
            }
            let feed = usize::from(self.window.bytes().len() > length);
            self.window.advance(length + feed);
        }
        if text.is_empty() {
            return Ok(None);
        }
        let source = self.window.name().to_owned();
        let mut record = Record::whole(text, source, Dialect::Json);
        record.index = self.count;
        record.place = place;
        record.end_offset = self.window.place().offset;
        self.count += 1;
        Ok(Some(record))
    }

    fn fault(&self, kind: &str, message: &str) -> Error {
        let at = Location {
            record_index: Some(self.count),
            ..self.window.place().location(self.window.name())
        };
        invalid_input(&format!("ubiai-{kind}"), message, Some(at))
    }
}

/// Whether `head`, the beginning of a file, is tagged tokens without a line that says so.
pub fn is_likely(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    // The last line may be cut.
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let whole = lines.iter().filter(|line| line.ends_with('\n'));
    let mut tags = whole
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .map(|line| line.rsplit_once('\t').map(|(_, tag)| tag.trim()));
    let labelled = |tag: &str| {
        let label = tag.strip_prefix(['B', 'I', 'E', 'S']);
        label.is_some_and(|label| label.starts_with('-') && label.len() > 1)
    };
    let mut labels = 0;
    let all = tags.all(|tag| {
        let is_label = tag.is_some_and(labelled);
        labels += usize::from(is_label);
        is_label || tag == Some("O")
    });
    all && labels > 0
}

/// The document that the lines of `record` make; `areas` are those of the lines, if they are known.
pub fn document<'a>(
    record: &'a Record,
    areas: &[Option<Area>],
    remarks: &Remarks<'_>,
) -> Result<Document<'a>, Error> {
    let mut document = Document::default();
    let mut open = false;
    let (mut at, mut token) = (0, 0);
    for (index, line) in record.text().split_inclusive('\n').enumerate() {
        let area = areas.get(index).copied().flatten();
        let start = at;
        at += line.len();
        let line = line.trim_end();
        if line.starts_with(START) {
            continue;
        }
        if line.is_empty() {
            open = false;
            continue;
        }
        let Some((word, tag)) = line.split_once('\t').or_else(|| line.rsplit_once(' ')) else {
            let message = "a line without a tag behind a tab: left out".to_owned();
            remarks.warn("ubiai-untagged-token", message, start, None)?;
            open = false;
            continue;
        };
        let tag = tag.rsplit('\t').next().unwrap_or_default().trim();
        token += 1;
        let (kind, label) = tag.split_once('-').unwrap_or(("O", ""));
        let last = document.spans.last_mut();
        match (kind, last) {
            ("I" | "E", Some(span)) if open && span.label == label => {
                let text = span.text.to_mut();
                text.push(' ');
                text.push_str(word);
                if let Some((_, end)) = &mut span.tokens {
                    *end = token;
                }
                span.area = match (span.area, area) {
                    (Some(one), Some(other)) => Some(one.around(other)),
                    (one, other) => one.or(other),
                };
            }
            ("B" | "I" | "E" | "S", _) => document.spans.push(Span {
                start: Some(token),
                page: 1,
                area,
                label: label.into(),
                text: word.into(),
                tokens: Some((token, token)),
                at: start,
            }),
            _ => {}
        }
        open = matches!(kind, "B" | "I");
    }
    Ok(document)
}
