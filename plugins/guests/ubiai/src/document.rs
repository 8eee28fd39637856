//! One document of an export: its text, labelled spans and relations.

use std::borrow::Cow;
use std::cell::OnceCell;

use graft_plugin::Error;
use graft_plugin::characters::Characters;
use graft_plugin::json::{Node, Value};

use crate::Remarks;
use crate::area::Area;

/// Members that name a span's page, from 1.
const PAGE: [&str; 3] = ["page", "pageNumber", "page_number"];

/// Spans that a document usually has.
const SPANS: usize = 16;

/// A labelled span. Offsets are into the document's text, in the unit that fits it.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// First character, where the export counts characters.
    pub start: Option<usize>,
    /// Its page, from 1; 1 where the export knows no pages.
    pub page: usize,
    /// Where on the page it stands.
    pub area: Option<Area>,
    /// Its label.
    pub label: Cow<'a, str>,
    /// What it covers.
    pub text: Cow<'a, str>,
    /// First and last token, where the export counts tokens.
    pub tokens: Option<(usize, usize)>,
    /// Where it stands in the record.
    pub at: usize,
}

/// A link between two tokens.
#[derive(Clone, Debug)]
pub struct Relation<'a> {
    pub head: usize,
    pub child: usize,
    pub label: &'a str,
    /// Where it stands in the record.
    pub at: usize,
}

/// A document.
#[derive(Debug, Default)]
pub struct Document<'a> {
    pub name: Option<String>,
    /// Spans in reading order.
    pub spans: Vec<Span<'a>>,
    pub relations: Vec<Relation<'a>>,
    /// Images of pages, where the export lists them; a page without one is empty.
    pub page_images: Vec<String>,
    /// It was a page before it was text, whatever its name ends in.
    pub is_scan: bool,
}

impl<'a> Document<'a> {
    /// Reads a record of any shape; `None`, and a remark, if it is none of them.
    pub fn read(node: Node<'a>, remarks: &Remarks<'_>) -> Result<Option<Self>, Error> {
        let text = |keys: &[&str]| node.get_any(keys).and_then(Node::text);
        let mut document = Self {
            name: text(&["documentName", "document_name", "fileName"]).map(str::to_owned),
            page_images: page_images(node),
            ..Self::default()
        };
        let (written, spans) = match node.value() {
            // A spaCy list: the text, then an object with triples.
            Value::Array(mut items) => match (items.next(), items.next(), items.next()) {
                (Some(text), Some(entities), None) => (text.text(), entities.get("entities")),
                _ => (None, None),
            },
            _ => (
                text(&["document", "text"]),
                node.get_any(&["tokens", "annotation", "annotations"]),
            ),
        };
        let Some(spans) = spans else {
            let message = "the record has neither tokens nor annotations nor entities: skipped";
            remarks.warn("ubiai-unknown-record", message.into(), node.at(), None)?;
            return Ok(None);
        };
        let written = Text::new(written.unwrap_or_default());
        // A single annotation may stand without its list.
        let single = spans.is_object().then_some(spans);
        document.spans.reserve(SPANS);
        for span in single.into_iter().chain(spans.items()) {
            let (fields, at) = (Fields::of(span), span.at());
            let area = Area::of_span(fields.area(), at, remarks)?;
            match read_span(span, &fields, &written) {
                Ok((mut span, faithful)) => {
                    span.area = area;
                    if !faithful {
                        let message = format!(
                            "the text {:?} is not what stands at its offsets; it is used as it is",
                            span.text
                        );
                        remarks.warn("ubiai-text-mismatch", message, at, None)?;
                    }
                    document.spans.push(span);
                }
                Err(reason) => {
                    remarks.warn("ubiai-bad-span", format!("{reason}: skipped"), at, None)?;
                }
            }
        }
        document.sort_for_reading();
        for relation in node.get("relations").map(Node::items).unwrap_or_default() {
            let ends = Ends::of(relation);
            let (Some(head), Some(child)) = (ends.head, ends.child) else {
                let message = "a relation without head and child: skipped";
                remarks.warn("ubiai-bad-relation", message.into(), relation.at(), None)?;
                continue;
            };
            document.relations.push(Relation {
                head,
                child,
                label: first(&ends.labels).and_then(Node::text).unwrap_or_default(),
                at: relation.at(),
            });
        }
        Ok(Some(document))
    }

    /// Whether it has more pages than one.
    pub fn is_paged(&self) -> bool {
        self.page_images.len() > 1 || self.spans.iter().any(|span| span.page > 1)
    }

    /// Its name, or its place in the file.
    pub fn called(&self, index: u64) -> String {
        match &self.name {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("document-{}", index + 1),
        }
    }

    /// Sorts the spans by page, then as the text runs; where it is not counted throughout, from top to
    /// bottom and left to right.
    pub fn sort_for_reading(&mut self) {
        if self.spans.iter().all(|span| span.start.is_some()) {
            self.spans.sort_by_key(|span| (span.page, span.start));
            return;
        }
        let place = |span: &Span| span.area.map_or((0.0, 0.0), |Area([x, y, ..])| (y, x));
        self.spans.sort_by(|a, b| {
            let ((ay, ax), (by, bx)) = (place(a), place(b));
            let down = ay.total_cmp(&by).then(ax.total_cmp(&bx));
            a.page.cmp(&b.page).then(down)
        });
    }
}

/// The images that the member `pages` lists, by page.
fn page_images(node: Node<'_>) -> Vec<String> {
    /// No document has more pages; a wild number must not become memory.
    const MOST_PAGES: usize = 100_000;
    let mut images = Vec::new();
    let pages = node.get("pages").map(Node::items).unwrap_or_default();
    for (i, page) in pages.enumerate() {
        let named = page.get_any(&["image", "imageName", "fileName", "file", "name"]);
        let Some(image) = page.text().or(named.and_then(Node::text)) else {
            continue;
        };
        let number = page.get_any(&PAGE).and_then(Node::index).unwrap_or(i + 1);
        if (1..=MOST_PAGES).contains(&number) {
            images.resize(images.len().max(number), String::new());
            images[number - 1] = image.to_owned();
        }
    }
    images
}

/// A text that offsets count into: characters, or UTF-16 units as JavaScript counts.
struct Text<'a> {
    text: &'a str,
    characters: Characters<'a>,
    /// Byte offset of each UTF-16 unit, and the end; the second half of a pair has none.
    units: OnceCell<Vec<Option<usize>>>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            characters: Characters::of(text),
            units: OnceCell::new(),
            text,
        }
    }

    fn by_utf16(&self, start: usize, end: usize) -> Option<&'a str> {
        let units = self.units.get_or_init(|| {
            let mut units = Vec::with_capacity(self.text.len() + 1);
            for (at, character) in self.text.char_indices() {
                units.push(Some(at));
                units.extend((character.len_utf16() == 2).then_some(None));
            }
            units.push(Some(self.text.len()));
            units
        });
        let (start, end) = ((*units.get(start)?)?, (*units.get(end)?)?);
        self.text.get(start..end)
    }
}

/// The members of a span that are of use, found in one pass: spans are most of an export.
#[derive(Default)]
pub struct Fields<'a> {
    start: Option<Node<'a>>,
    end: Option<Node<'a>>,
    text: Option<Node<'a>>,
    labels: [Option<Node<'a>>; 2],
    token_start: Option<Node<'a>>,
    token_end: Option<Node<'a>>,
    pages: [Option<Node<'a>>; 3],
    areas: [Option<Node<'a>>; 6],
}

impl<'a> Fields<'a> {
    /// Those of `span`; of members of the same name the last counts.
    pub fn of(span: Node<'a>) -> Self {
        let mut fields = Self::default();
        for (name, node) in span.byte_members() {
            let field = match name {
                b"start" => &mut fields.start,
                b"end" => &mut fields.end,
                b"text" => &mut fields.text,
                b"entityLabel" => &mut fields.labels[0],
                b"label" => &mut fields.labels[1],
                b"token_start" => &mut fields.token_start,
                b"token_end" => &mut fields.token_end,
                b"page" => &mut fields.pages[0],
                b"pageNumber" => &mut fields.pages[1],
                b"page_number" => &mut fields.pages[2],
                b"boundingBoxes" => &mut fields.areas[0],
                b"boundingBox" => &mut fields.areas[1],
                b"bounding_box" => &mut fields.areas[2],
                b"bbox" => &mut fields.areas[3],
                b"boxes" => &mut fields.areas[4],
                b"box" => &mut fields.areas[5],
                _ => continue,
            };
            *field = Some(node);
        }
        fields
    }

    fn label(&self) -> Option<Node<'a>> {
        first(&self.labels)
    }

    fn page(&self) -> Option<Node<'a>> {
        first(&self.pages)
    }

    /// What says where it stands.
    pub fn area(&self) -> Option<Node<'a>> {
        first(&self.areas)
    }
}

/// The members of a relation that are of use.
#[derive(Default)]
struct Ends<'a> {
    head: Option<usize>,
    child: Option<usize>,
    labels: [Option<Node<'a>>; 2],
}

impl<'a> Ends<'a> {
    /// Those of `relation`; of members of the same name the last counts.
    fn of(relation: Node<'a>) -> Self {
        let mut ends = Self::default();
        for (name, node) in relation.byte_members() {
            match name {
                b"head" => ends.head = node.index(),
                b"child" => ends.child = node.index(),
                b"relationLabel" => ends.labels[0] = Some(node),
                b"label" => ends.labels[1] = Some(node),
                _ => {}
            }
        }
        ends
    }
}

/// The first that is there and not null.
fn first<'a>(nodes: &[Option<Node<'a>>]) -> Option<Node<'a>> {
    let mut found = nodes.iter().flatten();
    found.find(|node| !node.is_null()).copied()
}

/// A span, and whether its text is what stands at its offsets.
fn read_span<'a>(
    node: Node<'a>,
    fields: &Fields<'a>,
    document: &Text<'a>,
) -> Result<(Span<'a>, bool), String> {
    let in_triple = |place| node.items().nth(place);
    let number = |named: Option<Node<'_>>, place| named.or_else(|| in_triple(place))?.index();
    let given = fields.text.and_then(Node::text);
    let range = match (number(fields.start, 0), number(fields.end, 1)) {
        (Some(start), Some(end)) if start <= end => Some((start, end)),
        (None, None) if given.is_some() => None,
        _ => return Err("a span without start and end".into()),
    };
    let label = fields.label().or_else(|| in_triple(2));
    let label = label.and_then(Node::text);
    let label = label.ok_or("a span without label")?.trim();
    let found = range.and_then(|(start, end)| document.characters.get(start, end));
    let by_utf16 = || range.and_then(|(start, end)| document.by_utf16(start, end));
    let (text, faithful) = match (given, found) {
        (Some(given), found) => {
            let bare = range.is_none() || document.text.is_empty();
            (
                given,
                bare || found == Some(given) || by_utf16() == Some(given),
            )
        }
        (None, Some(found)) => (found, true),
        (None, None) => return Err("a span that ends beyond the document".into()),
    };
    if text.trim().is_empty() {
        return Err("a span without text".into());
    }
    let page = fields.page().and_then(Node::index);
    let first = fields.token_start.and_then(Node::index);
    let last = fields.token_end.and_then(Node::index);
    let span = Span {
        start: range.map(|(start, _)| start),
        page: page.unwrap_or(1).max(1),
        area: None,
        label: label.into(),
        text: text.into(),
        tokens: first.map(|first| (first, last.unwrap_or(first))),
        at: node.at(),
    };
    Ok((span, faithful))
}
