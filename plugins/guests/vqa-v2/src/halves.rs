//! A question without its annotation, and an annotation without its question.

use graft_plugin::Location;
use graft_plugin::json::Node;
use graft_plugin::place::Place;
use graft_plugin::records::Record;
use graft_plugin::remarks::{Trouble, skip};

/// Where a half stands.
pub struct Origin {
    place: Place,
    index: u64,
    source: std::rc::Rc<str>,
}

impl Origin {
    pub fn of(record: &Record, source: std::rc::Rc<str>) -> Self {
        Self {
            place: record.place,
            index: record.index,
            source,
        }
    }

    /// Its place in its file's order.
    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn location(&self, field: Option<&str>) -> Location {
        Location {
            record_index: Some(self.index),
            field: field.map(str::to_owned),
            ..self.place.location(&self.source)
        }
    }
}

/// A question.
pub struct Question {
    pub text: String,
    pub image_id: String,
    pub origin: Origin,
}

/// The answers to it.
pub struct Annotation {
    pub answer: String,
    /// What all people said, as a JSON array.
    pub all: Option<String>,
    pub kinds: Vec<(&'static str, String)>,
    pub origin: Origin,
}

impl Question {
    pub fn read(node: Node<'_>, origin: Origin) -> Result<Self, Trouble> {
        let Some(image) = node.get("image_id").and_then(Node::name) else {
            let message = "the question names no image: skipped";
            return Err(skip("no-image", message, node.at(), ""));
        };
        let text = node.get("question").and_then(Node::text).map(str::trim);
        match text {
            Some(text) if !text.is_empty() => Ok(Self {
                text: text.to_owned(),
                image_id: image.to_owned(),
                origin,
            }),
            _ => {
                let message = "the question is empty or no text: skipped";
                Err(skip("no-question-text", message, node.at(), "/question"))
            }
        }
    }

    /// Bytes that it takes, roughly.
    pub fn bytes(&self) -> usize {
        200 + self.text.len() + self.image_id.len()
    }
}

impl Annotation {
    pub fn read(node: Node<'_>, by_majority: bool, origin: Origin) -> Result<Self, Trouble> {
        let answers = node.get("answers").map(Node::items).unwrap_or_default();
        let said = |answer: Node<'_>| {
            let text = answer.text().or_else(|| answer.get("answer")?.text());
            text.map(str::to_owned)
        };
        let all: Vec<String> = answers.filter_map(said).collect();
        let chosen = node.get("multiple_choice_answer");
        let chosen = chosen.and_then(Node::text).filter(|_| !by_majority);
        let answer = chosen.or_else(|| most_said(&all)).map(str::trim);
        let Some(answer) = answer.filter(|answer| !answer.is_empty()) else {
            let message = "the annotation has no answer: skipped";
            return Err(skip("no-answer", message, node.at(), ""));
        };
        let kind = |name: &'static str| Some((name, node.get(name)?.text()?.to_owned()));
        Ok(Self {
            answer: answer.to_owned(),
            all: (!all.is_empty()).then(|| array(&all)),
            kinds: ["question_type", "answer_type"]
                .into_iter()
                .filter_map(kind)
                .collect(),
            origin,
        })
    }

    /// Bytes that it takes, roughly.
    pub fn bytes(&self) -> usize {
        let all = self.all.as_ref().map_or(0, String::len);
        300 + self.answer.len() + all
    }
}

/// What most people said; of equals what was said first.
fn most_said(all: &[String]) -> Option<&str> {
    let times = |answer: &String| {
        all.iter()
            .take(100)
            .filter(|other| *other == answer)
            .count()
    };
    let mut best: Option<(&String, usize)> = None;
    for answer in all.iter().take(100) {
        let times = times(answer);
        if best.is_none_or(|(_, most)| times > most) {
            best = Some((answer, times));
        }
    }
    best.map(|(answer, _)| answer.as_str())
}

/// The texts as a JSON array.
fn array(texts: &[String]) -> String {
    let mut out = String::from("[");
    for (i, text) in texts.iter().enumerate() {
        out.push_str(if i == 0 { "\"" } else { ", \"" });
        for character in text.chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out.push(']');
    out
}

/// The id by which the halves find each other.
pub fn question_id(node: Node<'_>) -> Result<String, Trouble> {
    let id = node.get("question_id").filter(|id| !id.is_null());
    match id.and_then(Node::name) {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => {
            let message = "there is no question_id: skipped";
            Err(skip("no-question-id", message, node.at(), ""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_speaks_and_of_equals_the_first() {
        let all = |texts: &[&str]| -> Vec<String> { texts.iter().map(|&t| t.into()).collect() };
        assert_eq!(most_said(&all(&["a", "b", "b"])), Some("b"));
        assert_eq!(most_said(&all(&["a", "b"])), Some("a"));
        assert_eq!(most_said(&[]), None);
        assert_eq!(array(&all(&["a\"\\\n", "é"])), r#"["a\"\\\u000a", "é"]"#);
    }
}
