//! One record: what is shown, what is asked, and what its labels answer.

use graft_plugin::conversation::Conversation;
use graft_plugin::json::Node;
use graft_plugin::records::Record;
use graft_plugin::remarks::{Remarks, Trouble, skip};
use graft_plugin::{ImageRef, Part, Role, Sample};

use crate::labels::{self, Area, Labels, Span};
use crate::{Choices, Task};

pub const TEXT: [&str; 2] = ["text", "data"];
pub const IMAGE: [&str; 4] = ["filename", "image", "upload_name", "image_url"];

/// What is asked if the user does not say it: beside a text, and of an image.
struct Usual {
    beside_text: &'static str,
    of_image: &'static str,
}

const CLASSES: Usual = Usual {
    beside_text: "\nWhich label fits the text?",
    of_image: "Which label fits the image?",
};
const ANSWERS: Usual = Usual {
    beside_text: "",
    of_image: "Describe the image.",
};
const SPANS: Usual = Usual {
    beside_text: "\nWhich labelled parts does the text have?",
    of_image: "",
};
const BOXES: Usual = Usual {
    beside_text: "\nWhat is where in the image?",
    of_image: "What is where in the image?",
};

/// The samples of a record: one, or one for each of its answers.
pub fn samples(
    node: Node<'_>,
    record: &Record,
    choices: &mut Choices,
    remarks: &Remarks<'_>,
) -> Result<Vec<Sample>, Trouble> {
    let field = |names: &[&'static str]| {
        let mut found = names
            .iter()
            .filter_map(|name| Some((*name, node.get(name)?)));
        found.find(|(_, node)| node.text().is_some_and(|text| !text.trim().is_empty()))
    };
    let (text, image) = (field(&TEXT), field(&IMAGE));
    if text.is_none() && image.is_none() {
        let message = "the record has neither text nor filename: skipped";
        return Err(skip("no-content", message, node.at(), ""));
    }
    let text = text.and_then(|(_, text)| text.text()).unwrap_or_default();
    let found = labels::find(node, &|label| choices.label(label));
    if node
        .get("relations")
        .is_some_and(|relations| !relations.items().is_empty())
    {
        let message = "relations between spans: left out";
        remarks.note("relations", message, node.at(), "/relations")?;
    }
    let (usual, mut answers) = match found {
        None => {
            let message = "the record has no label: skipped";
            return Err(skip("no-label", message, node.at(), ""));
        }
        Some(Labels::Unknown(name)) => {
            let message = "its labels are of a kind that graft cannot put into words: skipped";
            return Err(skip(
                "unsupported-label",
                message,
                node.at(),
                format!("/{name}"),
            ));
        }
        Some(Labels::Spans(spans)) => {
            let lines = spoken(&spans, text, remarks)?;
            (SPANS, vec![lines.join("\n")])
        }
        Some(Labels::Boxes(boxes)) => {
            let file = image.and_then(|(_, node)| node.text()).unwrap_or_default();
            let lines = located(&boxes, file, choices, remarks)?;
            (BOXES, vec![lines.join("\n")])
        }
        Some(Labels::Texts(texts)) => {
            let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            match task(choices, &texts, node, remarks)? {
                Task::Classification => (CLASSES, vec![texts.join(", ")]),
                Task::Seq2Seq => (ANSWERS, texts),
            }
        }
    };
    answers.retain(|answer| !answer.trim().is_empty());
    if answers.is_empty() {
        let Some(answer) = &choices.no_label else {
            let message = "nothing is labelled: skipped; no_label says what to answer";
            return Err(skip("no-label", message, node.at(), ""));
        };
        answers.push(answer.clone());
    }
    if choices.first_only && answers.len() > 1 {
        let message = format!("{} further answers: left out", answers.len() - 1);
        remarks.note("further-answers", message, node.at(), "")?;
        answers.truncate(1);
    }
    let shown = match image {
        None => None,
        Some((name, image)) => {
            let (field, file) = (format!("/{name}"), image.text().unwrap_or_default());
            Some(
                choices
                    .images
                    .find(file, remarks.host, image.at(), &field)?,
            )
        }
    };
    let question = match &choices.question {
        Some(template) => template.fill(|_| Some(text)),
        None if text.is_empty() => usual.of_image.to_owned(),
        None => format!("{text}{}", usual.beside_text),
    };
    let id = match node.get("id").and_then(Node::name) {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("record-{}", record.index + 1),
    };
    let several = answers.len() > 1;
    let mut samples = Vec::new();
    for (i, answer) in answers.iter().enumerate() {
        let mut conversation = Conversation::new();
        let mut parts: Vec<Part> = shown
            .iter()
            .map(|i| conversation.image(i.clone()))
            .collect();
        parts.push(Part::Text(question.clone()));
        conversation.say(Role::User, parts, node.at(), "");
        conversation.text(Role::Assistant, answer, node.at(), "");
        let id = match several {
            true => format!("{id}#{}", i + 1),
            false => id.clone(),
        };
        let sample = conversation.finish(id, choices.system.as_deref(), remarks, node.at())?;
        samples.push(sample);
    }
    Ok(samples)
}

/// What labels that are texts are. A guess, made from the first, stays for the whole file.
fn task(
    choices: &mut Choices,
    texts: &[String],
    node: Node<'_>,
    remarks: &Remarks<'_>,
) -> Result<Task, Trouble> {
    if let Some(task) = choices.task {
        return Ok(task);
    }
    let Some(first) = texts.first() else {
        return Ok(Task::Classification);
    };
    let sentence = first.split_whitespace().count() > 3 || first.chars().count() > 40;
    let (task, name) = match sentence {
        true => (Task::Seq2Seq, "seq2seq"),
        false => (Task::Classification, "classification"),
    };
    choices.task = Some(task);
    let message = format!("by the first label this is taken for {name}; the option task says it");
    remarks.note("guessed-task", message, node.at(), "")?;
    Ok(task)
}

/// A line for each span, as the text runs.
fn spoken(spans: &[Span<'_>], text: &str, remarks: &Remarks<'_>) -> Result<Vec<String>, Trouble> {
    let offsets: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let covered = |span: &Span<'_>| {
        let (start, end) = (*offsets.get(span.start?)?, *offsets.get(span.end?)?);
        let covered = text.get(start..end)?.trim();
        (!covered.is_empty()).then(|| covered.replace('\n', " "))
    };
    let mut lines = Vec::new();
    for span in spans {
        match covered(span) {
            Some(_) if span.label.is_empty() => {
                let message = "a span without label: left out";
                remarks.note("bad-span", message, span.at, "")?;
            }
            Some(covered) => lines.push((span.start, format!("{}: {covered}", span.label))),
            None => {
                let message = "a span that is not within the text: left out";
                remarks.note("bad-span", message, span.at, "")?;
            }
        }
    }
    lines.sort_by_key(|(start, _)| *start);
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

/// A line for each box, as fractions of the image.
fn located(
    boxes: &[Area<'_>],
    file: &str,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Vec<String>, Trouble> {
    if boxes.is_empty() {
        return Ok(Vec::new());
    }
    let image = choices
        .images
        .find(file, remarks.host, boxes[0].at, "/filename")?;
    let size = match &image {
        ImageRef::Asset(name) => remarks.host.probe_image(name).ok(),
        _ => None,
    };
    let Some(size) = size.filter(|size| size.width > 0 && size.height > 0) else {
        let message = "boxes in pixels need the image, which is not there: skipped";
        return Err(skip("missing-image", message, boxes[0].at, "/filename"));
    };
    let (wide, high) = (f64::from(size.width), f64::from(size.height));
    let mut lines = Vec::new();
    for area in boxes {
        let fractions = match area.sides {
            [Some(x), Some(y), Some(width), Some(height)] if width > 0.0 && height > 0.0 => {
                Some([x / wide, y / high, (x + width) / wide, (y + height) / high])
            }
            _ => None,
        };
        // A hand may draw a little beyond the edge.
        let inside = |sides: &[f64; 4]| sides.iter().all(|side| (-0.01..=1.01).contains(side));
        match fractions.filter(inside) {
            Some(sides) if !area.label.is_empty() => {
                let [left, top, right, bottom] = sides.map(|side| side.clamp(0.0, 1.0));
                let label = area.label;
                lines.push(format!(
                    "{label}: [{left:.3}, {top:.3}, {right:.3}, {bottom:.3}]"
                ));
            }
            _ => {
                let message = "a box without label or not within the image: left out";
                remarks.note("bad-box", message, area.at, "")?;
            }
        }
    }
    Ok(lines)
}
