//! Forms as FUNSD has them: a page in a file, whose entries have a label, a box and links to each other.

use std::collections::{HashMap, HashSet};

use graft_plugin::Error;
use graft_plugin::json::Node;

use crate::area::Area;
use crate::document::{Document, Fields, Relation, Span};
use crate::{Choices, Remarks};

/// Whether `node` is such a page.
pub fn is_one(node: Node<'_>) -> bool {
    let mut entries = node.get("form").map(Node::items).unwrap_or_default();
    entries.any(|entry| entry.get("linking").is_some())
}

/// The page as a document. Only what is a question or an answer is of use: links to headers and texts
/// without a label of interest are passed over in silence, since every form has them.
pub fn read<'a>(
    node: Node<'a>,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Document<'a>, Error> {
    let name = node.get_any(&["documentName", "image", "fileName", "file"]);
    let name = name.and_then(Node::text).map(str::to_owned);
    let mut document = Document {
        // A file of FUNSD is called like its scan.
        name: name.or_else(|| Some(remarks.file_name())),
        is_scan: true,
        ..Document::default()
    };
    let wanted = |label: &str| {
        let is = |other: &String| other.eq_ignore_ascii_case(label);
        is(&choices.question) || is(&choices.answer)
    };
    let mut labels = HashMap::new();
    let entries = node.get("form").map(Node::items).unwrap_or_default();
    for entry in entries.clone() {
        let label = entry.get("label").and_then(Node::text).unwrap_or_default();
        let label = label.trim();
        if !wanted(label) {
            continue;
        }
        let text = entry.get("text").and_then(Node::text).unwrap_or_default();
        let (Some(id), false) = (
            entry.get("id").and_then(Node::index),
            text.trim().is_empty(),
        ) else {
            let message = format!("the {label} has no id or no text: skipped");
            remarks.warn("ubiai-bad-span", message, entry.at(), None)?;
            continue;
        };
        labels.insert(id, label.to_lowercase());
        document.spans.push(Span {
            start: None,
            page: 1,
            area: Area::of_span(Fields::of(entry).area(), entry.at(), remarks)?,
            label: label.into(),
            text: text.into(),
            tokens: Some((id, id)),
            at: entry.at(),
        });
    }
    document.sort_for_reading();
    // Both ends of a link name it.
    let mut seen = HashSet::new();
    for links in entries.filter_map(|entry| entry.get("linking")) {
        for link in links.items() {
            let [Some(head), Some(child)] = [0, 1].map(|i| link.items().nth(i)?.index()) else {
                let message = "a link without two ends: skipped";
                remarks.warn("ubiai-bad-relation", message.into(), link.at(), None)?;
                continue;
            };
            let joins = match (labels.get(&head), labels.get(&child)) {
                (Some(one), Some(other)) => one != other,
                _ => false,
            };
            if joins && seen.insert((head, child)) {
                document.relations.push(Relation {
                    head,
                    child,
                    label: "",
                    at: link.at(),
                });
            }
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use graft_plugin::testing::{convert, survives_damage};

    use crate::Ubiai;

    const FORM: &str = r#"{"form": [
      {"id": 0, "box": [1, 1, 9, 3], "text": "INVOICE", "label": "header", "linking": [[0, 2]]},
      {"id": 2, "box": [1, 5, 4, 7], "text": "To:", "label": "question", "linking": [[0, 2], [2, 3], [4, 2]]},
      {"id": 3, "box": [5, 5, 9, 7], "text": "Ana", "label": "answer", "linking": [[2, 3]]},
      {"id": 4, "box": [5, 8, 9, 9], "text": "Lima", "label": "answer", "linking": [[4, 2]]}]}"#;

    #[test]
    fn links_between_questions_and_answers_count_whichever_way_they_run() {
        let outcome = convert::<Ubiai>(FORM.as_bytes(), r#"{"image_prefix": "i/"}"#, &[]);
        // The scan is looked for beside the form and not there.
        assert_eq!(
            outcome.codes(),
            ["ubiai-reversed-relation", "ubiai-missing-image"]
        );
        let named = FORM.replacen('{', r#"{"image": "a.png", "#, 1);
        let outcome = convert::<Ubiai>(named.as_bytes(), "{}", &[]);
        assert_eq!(outcome.codes(), ["ubiai-reversed-relation"]);
        assert_eq!(outcome.texts(0), ["[image]", "To:", "Ana Lima"]);
        let options = r#"{"question_label": "header", "answer_label": "question"}"#;
        let outcome = convert::<Ubiai>(named.as_bytes(), options, &[]);
        assert_eq!(outcome.texts(0), ["[image]", "INVOICE", "To:"]);
    }

    #[test]
    fn damaged_forms_are_told() {
        let named = FORM.replacen('{', r#"{"image": "a.png", "#, 1);
        survives_damage::<Ubiai>(named.as_bytes(), "{}", &[]);
    }
}
