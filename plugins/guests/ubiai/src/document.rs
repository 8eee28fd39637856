//! One document of an export: its text, labelled spans and relations.

use graft_plugin::Error;
use graft_plugin::json::{Node, Value};

use crate::Remarks;

/// A labelled span. Offsets are into the document's text, in the unit that fits it.
#[derive(Clone, Debug)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// Its label.
    pub label: String,
    /// What it covers.
    pub text: String,
    /// First and last token, where the export counts tokens.
    pub tokens: Option<(usize, usize)>,
    /// Where it stands in the record.
    pub at: usize,
}

/// A link between two tokens.
#[derive(Clone, Debug)]
pub struct Relation {
    pub head: usize,
    pub child: usize,
    pub label: String,
    /// Where it stands in the record.
    pub at: usize,
}

/// A document.
#[derive(Debug, Default)]
pub struct Document {
    pub name: Option<String>,
    /// Spans in reading order.
    pub spans: Vec<Span>,
    pub relations: Vec<Relation>,
}

impl Document {
    /// Reads a record of any shape; `None`, and a remark, if it is none of them.
    pub fn read(node: &Node<'_>, remarks: &Remarks<'_>) -> Result<Option<Self>, Error> {
        let text = |keys: &[&str]| node.get_any(keys).and_then(Node::text);
        let mut document = Self {
            name: text(&["documentName", "document_name", "fileName"]).map(str::to_owned),
            ..Self::default()
        };
        let (written, spans) = match &node.value {
            // A spaCy list: the text, then an object with triples.
            Value::Array(items) => match items.as_slice() {
                [text, entities] => (text.text(), entities.get("entities")),
                _ => (None, None),
            },
            _ => (
                text(&["document", "text"]),
                node.get_any(&["tokens", "annotation", "annotations"]),
            ),
        };
        let Some(spans) = spans else {
            let message = "the record has neither tokens nor annotations nor entities: skipped";
            remarks.warn("ubiai-unknown-record", message.into(), node.at, None)?;
            return Ok(None);
        };
        let written = Text::new(written.unwrap_or_default());
        // A single annotation may stand without its list.
        let single = std::slice::from_ref(spans);
        let list = match spans.value {
            Value::Object(_) => single,
            _ => spans.items(),
        };
        for span in list {
            match read_span(span, &written) {
                Ok((span, faithful)) => {
                    if !faithful {
                        let message = format!(
                            "the text {:?} is not what stands at its offsets; it is used as it is",
                            span.text
                        );
                        remarks.warn("ubiai-text-mismatch", message, span.at, None)?;
                    }
                    document.spans.push(span);
                }
                Err(reason) => {
                    remarks.warn(
                        "ubiai-bad-span",
                        format!("{reason}: skipped"),
                        span.at,
                        None,
                    )?;
                }
            }
        }
        document.spans.sort_by_key(|span| span.start);
        for relation in node.get("relations").map(Node::items).unwrap_or_default() {
            let index = |key| relation.get(key).and_then(Node::index);
            let (Some(head), Some(child)) = (index("head"), index("child")) else {
                let message = "a relation without head and child: skipped";
                remarks.warn("ubiai-bad-relation", message.into(), relation.at, None)?;
                continue;
            };
            let label = relation.get_any(&["relationLabel", "label"]);
            document.relations.push(Relation {
                head,
                child,
                label: label.and_then(Node::text).unwrap_or_default().to_owned(),
                at: relation.at,
            });
        }
        Ok(Some(document))
    }

    /// Its name, or its place in the file.
    pub fn called(&self, index: u64) -> String {
        match &self.name {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("document-{}", index + 1),
        }
    }
}

/// A text that offsets count into: characters, or UTF-16 units as JavaScript counts.
struct Text<'a> {
    text: &'a str,
    /// Byte offset of each character, and the end.
    characters: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        let offsets = text.char_indices().map(|(i, _)| i);
        Self {
            characters: offsets.chain([text.len()]).collect(),
            text,
        }
    }

    fn by_characters(&self, start: usize, end: usize) -> Option<&'a str> {
        let (start, end) = (self.characters.get(start)?, self.characters.get(end)?);
        self.text.get(*start..*end)
    }

    fn by_utf16(&self, start: usize, end: usize) -> Option<String> {
        let units: Vec<u16> = self.text.encode_utf16().collect();
        String::from_utf16(units.get(start..end)?).ok()
    }
}

/// A span, and whether its text is what stands at its offsets.
fn read_span(node: &Node<'_>, document: &Text<'_>) -> Result<(Span, bool), String> {
    let triple = node.items();
    let number = |key: &str, place: usize| {
        let value = node.get(key).or_else(|| triple.get(place));
        value.and_then(Node::index)
    };
    let (start, end) = match (number("start", 0), number("end", 1)) {
        (Some(start), Some(end)) if start <= end => (start, end),
        _ => return Err("a span without start and end".into()),
    };
    let label = node.get_any(&["entityLabel", "label"]);
    let label = label.or_else(|| triple.get(2)).and_then(Node::text);
    let label = label.ok_or("a span without label")?.trim().to_owned();
    let given = node.get("text").and_then(Node::text);
    let found = document.by_characters(start, end);
    let (text, faithful) = match (given, found) {
        (Some(given), Some(found)) if given == found => (given.to_owned(), true),
        (Some(given), _) => {
            let utf16 = document.by_utf16(start, end);
            (
                given.to_owned(),
                utf16.as_deref() == Some(given) || document.text.is_empty(),
            )
        }
        (None, Some(found)) => (found.to_owned(), true),
        (None, None) => return Err(format!("a span from {start} to {end} beyond the document")),
    };
    if text.trim().is_empty() {
        return Err(format!("a span from {start} to {end} without text"));
    }
    let token = |key: &str| node.get(key).and_then(Node::index);
    let first = token("token_start");
    let span = Span {
        start,
        label,
        text,
        tokens: first.map(|first| (first, token("token_end").unwrap_or(first))),
        at: node.at,
    };
    Ok((span, faithful))
}
