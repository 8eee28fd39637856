//! The labels of a record, of whichever kind.

use graft_plugin::json::Node;

/// Members that hold labels; they were called differently over the versions.
const NAMES: [&str; 8] = [
    "entities",
    "bbox",
    "label",
    "labels",
    "annotations",
    "caption",
    "captions",
    "category",
];

/// The labels of a record.
#[derive(Debug)]
pub enum Labels<'n> {
    /// Texts: classes, or answers.
    Texts(Vec<&'n str>),
    /// Parts of the text.
    Spans(Vec<Span<'n>>),
    /// Rectangles in the image.
    Boxes(Vec<Area<'n>>),
    /// Something else, in a member of this name.
    Unknown(&'static str),
}

/// A labelled part of a text, in characters.
#[derive(Debug)]
pub struct Span<'n> {
    pub start: Option<usize>,
    pub end: Option<usize>,
    pub label: &'n str,
    pub at: usize,
}

/// A labelled rectangle in pixels: left, top, width, height.
#[derive(Debug)]
pub struct Area<'n> {
    pub sides: [Option<f64>; 4],
    pub label: &'n str,
    pub at: usize,
}

/// The labels of `record`, renamed by `rename`; `None` if it has no member for labels.
pub fn find<'n>(record: Node<'n>, rename: &dyn Fn(&'n str) -> &'n str) -> Option<Labels<'n>> {
    let is_there = |name: &str| record.get(name).filter(|node| !node.is_null());
    // An empty list says nothing about its kind; one that is not empty may stand behind it.
    let mut found = NAMES
        .iter()
        .filter_map(|name| Some((*name, is_there(name)?)));
    let mut empty = None;
    let full = found.find(|(name, node)| {
        let is_empty = node.is_array() && node.items().is_empty();
        if is_empty {
            empty = empty.or(Some(*name));
        }
        !is_empty
    });
    let Some((name, node)) = full else {
        return empty.map(|name| match name {
            "entities" => Labels::Spans(Vec::new()),
            "bbox" => Labels::Boxes(Vec::new()),
            _ => Labels::Texts(Vec::new()),
        });
    };
    if let Some(text) = node.name() {
        return Some(Labels::Texts(match text.trim().is_empty() {
            true => Vec::new(),
            false => vec![rename(text)],
        }));
    }
    let items = node.items();
    let first = items.clone().next()?;
    let label = |node: Node<'n>| {
        let label = node
            .get_any(&["label", "category"])
            .or_else(|| node.items().nth(2));
        rename(label.and_then(Node::name).unwrap_or_default())
    };
    let is_span =
        |node: Node<'_>| node.is_array() || node.has(&["start_offset"]) || node.has(&["start"]);
    Some(if is_span(first) {
        let span = |node: Node<'n>| {
            let number = |keys: &[&str], place: usize| {
                let number = node.get_any(keys).or_else(|| node.items().nth(place));
                number.and_then(Node::index)
            };
            Span {
                start: number(&["start_offset", "start"], 0),
                end: number(&["end_offset", "end"], 1),
                label: label(node),
                at: node.at(),
            }
        };
        Labels::Spans(items.map(span).collect())
    } else if first.has(&["x", "y"]) {
        let area = |node: Node<'n>| Area {
            sides: ["x", "y", "width", "height"].map(|side| node.get(side)?.number()),
            label: label(node),
            at: node.at(),
        };
        Labels::Boxes(items.map(area).collect())
    } else {
        // Texts, or the annotations of old versions: {"label": 3} and {"text": "…"}.
        let text = |node: Node<'n>| {
            let text = node
                .name()
                .or_else(|| node.get_any(&["label", "text"])?.name());
            text.map(rename)
        };
        match items.map(text).collect::<Option<Vec<_>>>() {
            Some(texts) => Labels::Texts(texts),
            None => Labels::Unknown(name),
        }
    })
}
