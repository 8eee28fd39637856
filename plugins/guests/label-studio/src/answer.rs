//! What was annotated with one control, as text.

use std::collections::HashMap;

use graft_plugin::Error;
use graft_plugin::json::{Node, Value};
use graft_plugin::remarks::Remarks;

use crate::Choices;

/// Kinds of controls, each asked in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Choice,
    Text,
    Spans,
    Boxes,
}

/// The answer of one control.
pub struct Answer {
    pub control: String,
    pub kind: Kind,
    /// One for each thing that was annotated.
    lines: Vec<String>,
    pub at: usize,
    pub field: String,
}

/// The answers of an annotation, in the order in which their controls first appear.
#[derive(Default)]
pub struct Answers {
    pub all: Vec<Answer>,
    by_control: HashMap<(String, Kind), usize>,
    /// Where the line of a region stands: its answer and its place there.
    by_region: HashMap<String, (usize, usize)>,
}

/// One result as it is read.
struct Read {
    kind: Kind,
    text: String,
}

impl Answer {
    /// What the model has to say.
    pub fn text(&self) -> String {
        match self.kind {
            Kind::Choice => self.lines.join(", "),
            _ => self.lines.join("\n"),
        }
    }

    /// What it is asked, unless the user says otherwise.
    pub fn question(&self) -> String {
        let name = self.control.replace(['_', '-'], " ");
        match self.kind {
            Kind::Choice | Kind::Text => format!("What is the {name}?"),
            Kind::Spans => "Which labelled parts does the text have?".into(),
            Kind::Boxes => "What is where in the image?".into(),
        }
    }
}

impl Answers {
    /// Adds the result `value` of the control `control`; `region` is what other results call it.
    pub fn add(
        &mut self,
        control: &str,
        value: Node<'_>,
        region: Option<&str>,
        field: &str,
        choices: &Choices,
        remarks: &Remarks<'_>,
    ) -> Result<(), Error> {
        let read = match read(value, choices) {
            Ok(read) => read,
            Err((code, message)) => {
                let message = format!("{message}: left out");
                return remarks.note(code, message, value.at(), field);
            }
        };
        let is_region = matches!(read.kind, Kind::Boxes | Kind::Spans);
        // A text or choice about a region belongs to the region's line.
        if !is_region
            && let Some(&(answer, line)) = region.and_then(|region| self.by_region.get(region))
        {
            let line = &mut self.all[answer].lines[line];
            line.push(' ');
            line.push_str(&read.text.replace('\n', " "));
            return Ok(());
        }
        let known = self.by_control.entry((control.to_owned(), read.kind));
        let number = *known.or_insert(self.all.len());
        if number == self.all.len() {
            self.all.push(Answer {
                control: control.to_owned(),
                kind: read.kind,
                lines: Vec::new(),
                at: value.at(),
                field: field.to_owned(),
            });
        }
        let lines = &mut self.all[number].lines;
        if is_region && let Some(region) = region {
            let place = (number, lines.len());
            self.by_region.entry(region.to_owned()).or_insert(place);
        }
        lines.push(read.text);
        Ok(())
    }
}

/// The texts of an array, or of a text; none if it is something else.
fn texts(node: Node<'_>) -> Option<Vec<String>> {
    match node.value() {
        Value::Text(text) => Some(vec![text.to_owned()]),
        Value::Array(items) if !items.is_empty() => {
            items.map(|item| item.text().map(str::to_owned)).collect()
        }
        _ => None,
    }
}

/// A result, whatever control made it; the error is a code and a sentence.
fn read(value: Node<'_>, choices: &Choices) -> Result<Read, (&'static str, String)> {
    let fault = |code, message: &str| Err((code, message.to_owned()));
    let labelled = |texts: Vec<String>| {
        let labels: Vec<&str> = texts.iter().map(|text| choices.label(text)).collect();
        labels.join(", ")
    };
    let read = |kind, text: String| match text.trim().is_empty() {
        true => fault("empty-result", "a result without content"),
        false => Ok(Read { kind, text }),
    };
    if let Some(text) = value.text() {
        return read(Kind::Choice, choices.label(text).to_owned());
    }
    if let Some(chosen) = value.get("choices") {
        return match texts(chosen) {
            Some(chosen) => read(Kind::Choice, labelled(chosen)),
            None => fault("empty-result", "choices without a choice"),
        };
    }
    if let Some(paths) = value.get("taxonomy") {
        let path = |node: Node<'_>| {
            let path = texts(node)?;
            let path: Vec<&str> = path.iter().map(|step| choices.label(step)).collect();
            Some(path.join(" > "))
        };
        let all: Option<Vec<String>> = match paths.value() {
            // A single path may stand without its list.
            Value::Array(items) if items.clone().all(Node::is_text) => {
                path(paths).map(|path| vec![path])
            }
            Value::Array(items) => items.map(path).collect(),
            _ => None,
        };
        return match all {
            Some(all) => read(Kind::Choice, all.join(", ")),
            None => fault("bad-result", "a taxonomy that is no list of paths"),
        };
    }
    let labels = [
        "rectanglelabels",
        "labels",
        "hypertextlabels",
        "paragraphlabels",
    ];
    let labels = labels.iter().find_map(|name| texts(value.get(name)?));
    if value.has(&["x", "y", "width", "height"]) {
        if value.has(&["text"]) && labels.is_none() {
            let said = value.get("text").and_then(texts).unwrap_or_default();
            return read(Kind::Text, said.join("\n"));
        }
        let Some(labels) = labels else {
            return fault(
                "unsupported-result",
                "a region without a label that graft knows",
            );
        };
        let area =
            area(value).ok_or(("bad-box", "a box that is not within the image".to_owned()))?;
        return read(Kind::Boxes, format!("{}: {area}", labelled(labels)));
    }
    if let Some(labels) = labels {
        let text = value
            .get("text")
            .and_then(Node::text)
            .unwrap_or_default()
            .trim();
        if text.is_empty() {
            return fault("empty-result", "a span without its text");
        }
        let text = text.replace('\n', " ");
        return read(Kind::Spans, format!("{}: {text}", labelled(labels)));
    }
    if let Some(said) = value.get("text") {
        return match texts(said) {
            Some(said) => read(Kind::Text, said.join("\n")),
            None => fault("empty-result", "a text without content"),
        };
    }
    for name in ["rating", "number", "datetime", "selected"] {
        if let Some(text) = value.get(name).and_then(Node::name) {
            return read(Kind::Choice, text.to_owned());
        }
    }
    fault(
        "unsupported-result",
        "a result that graft cannot put into words",
    )
}

/// A rectangle in hundredths of the image, as fractions of it: left, top, right, bottom.
fn area(value: Node<'_>) -> Option<String> {
    let number = |name| value.get(name).and_then(Node::number);
    let (x, y) = (number("x")?, number("y")?);
    let (width, height) = (number("width")?, number("height")?);
    let sides = [x, y, x + width, y + height];
    // A hand may draw a little beyond the edge.
    let outside = |side: &f64| !side.is_finite() || *side < -1.0 || *side > 101.0;
    if sides.iter().any(outside) || width <= 0.0 || height <= 0.0 {
        return None;
    }
    let [left, top, right, bottom] = sides.map(|side| side.clamp(0.0, 100.0) / 100.0);
    Some(format!("[{left:.3}, {top:.3}, {right:.3}, {bottom:.3}]"))
}

/// Whether a member of a flat task is what a control left there, and not data.
pub fn looks_like_a_result(node: Node<'_>) -> bool {
    let known = [
        "choices",
        "taxonomy",
        "rectanglelabels",
        "labels",
        "rating",
        "number",
        "datetime",
        "hypertextlabels",
        "polygonlabels",
        "brushlabels",
        "keypointlabels",
        "ellipselabels",
        "paragraphlabels",
    ];
    let known = |node: Node<'_>| known.iter().any(|name| node.get(name).is_some());
    known(node) || node.items().next().is_some_and(known)
}
