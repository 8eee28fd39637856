//! One task: what it shows, and who annotated what.

use std::collections::HashSet;

use graft_plugin::conversation::Conversation;
use graft_plugin::json::{Items, Node, Value};
use graft_plugin::records::{Record, pointer_step};
use graft_plugin::remarks::{Remarks, Trouble, skip};
use graft_plugin::{Part, Role, Sample};

use crate::Choices;
use crate::answer::{Answer, Answers, Kind, looks_like_a_result};
use crate::content::Content;

/// Members that hold annotations; exports of old versions call them completions.
pub const ANNOTATIONS: [&str; 2] = ["annotations", "completions"];

/// Members of a flat task that say how it was annotated.
const ABOUT: [&str; 9] = [
    "id",
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "agreement",
    "history",
    "completed_by",
];

/// The samples of a task.
pub fn samples(
    node: Node<'_>,
    record: &Record,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Vec<Sample>, Trouble> {
    if !node.is_object() {
        let message = "the record is no task: skipped";
        return Err(skip("unknown-record", message, node.at(), ""));
    }
    let id = match node.get("id").and_then(Node::name) {
        Some(id) if !id.is_empty() => format!("task-{id}"),
        _ => format!("record-{}", record.index + 1),
    };
    let data = node.get("data").filter(|data| data.is_object());
    let Some(data) = data else {
        let content = Content::of(node, choices, "")?;
        let answers = flat(node, &content, choices, remarks)?;
        return made(&content, "", answers, node, id, choices, remarks);
    };
    let content = Content::of(data, choices, "/data")?;
    let chosen = annotations(node, choices, remarks)?;
    let several = chosen.len() > 1;
    let mut samples = Vec::new();
    for (field, annotation) in chosen {
        let mut answers = Answers::default();
        let results = annotation
            .get("result")
            .map(Node::items)
            .unwrap_or_default();
        add_results(
            &mut answers,
            results,
            &format!("{field}/result"),
            choices,
            remarks,
        )?;
        let id = match several {
            true => format!("{id}#{}", field.rsplit('/').next().unwrap_or_default()),
            false => id.clone(),
        };
        match made(&content, "/data", answers, annotation, id, choices, remarks) {
            Ok(more) => samples.extend(more),
            Err(trouble) if several => remarks.trouble(trouble)?,
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(samples)
}

/// The annotations to use, and the pointers to them.
fn annotations<'n>(
    node: Node<'n>,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Vec<(String, Node<'n>)>, Trouble> {
    let listed = |names: &[&'static str]| {
        let mut all = Vec::new();
        for name in names {
            let items = node.get(name).map(Node::items).unwrap_or_default();
            all.extend(
                items
                    .enumerate()
                    .map(|(i, item)| (format!("/{name}/{i}"), item)),
            );
        }
        all
    };
    let is = |node: Node<'_>, name: &str| {
        let flag = node.get(name).map(Node::value);
        matches!(flag, Some(Value::Bool(true)))
    };
    let all = listed(&ANNOTATIONS);
    let cancelled = !all.is_empty();
    let mut usable: Vec<_> = all
        .into_iter()
        .filter(|(_, node)| !is(*node, "was_cancelled") && !is(*node, "skipped"))
        .collect();
    if usable.is_empty() && choices.predictions {
        usable = listed(&["predictions"]);
    }
    if usable.is_empty() {
        return Err(match cancelled {
            true => skip(
                "cancelled",
                "its annotations were cancelled: task skipped",
                node.at(),
                "/annotations",
            ),
            false => skip(
                "no-annotation",
                "nobody annotated it: task skipped",
                node.at(),
                "",
            ),
        });
    }
    if choices.each_annotation || usable.len() == 1 {
        return Ok(usable);
    }
    let best = usable
        .iter()
        .position(|(_, node)| is(*node, "ground_truth"));
    let chosen = usable.swap_remove(best.unwrap_or(0));
    let message = format!(
        "the task has {} further annotations, which are left out; annotations=each takes them",
        usable.len()
    );
    remarks.note("further-annotations", message, chosen.1.at(), &chosen.0)?;
    Ok(vec![chosen])
}

/// Reads the results of an annotation: first the regions, then what is said of them.
fn add_results(
    answers: &mut Answers,
    results: Items<'_>,
    place: &str,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<(), Trouble> {
    let labels = [
        "rectanglelabels",
        "labels",
        "hypertextlabels",
        "paragraphlabels",
    ];
    let is_region = |value: Node<'_>| labels.iter().any(|name| value.get(name).is_some());
    let id = |result: Node<'_>| result.get("id").and_then(Node::name).map(str::to_owned);
    let labelled = results.clone();
    let labelled = labelled.filter(|r| r.get("value").is_some_and(is_region));
    let labelled: HashSet<String> = labelled.filter_map(id).collect();
    for regions in [true, false] {
        for (i, result) in results.clone().enumerate() {
            let field = format!("{place}/{i}");
            let kind = result.get("type").and_then(Node::text).unwrap_or_default();
            let Some(value) = result.get("value") else {
                if !regions {
                    let (code, message) = match kind {
                        "relation" => ("relation", "a relation: left out"),
                        _ => ("bad-result", "a result without value: left out"),
                    };
                    remarks.note(code, message, result.at(), &field)?;
                }
                continue;
            };
            // The bare shape of a region whose label stands in a result of the same id.
            let bare = matches!(kind, "rectangle" | "polygon" | "ellipse" | "brush");
            if is_region(value) != regions
                || (bare && id(result).is_some_and(|id| labelled.contains(&id)))
            {
                continue;
            }
            let control = result
                .get_any(&["from_name", "to_name"])
                .and_then(Node::text);
            let control = control.unwrap_or("answer");
            let region = result.get("id").and_then(Node::name);
            answers.add(
                control,
                value,
                region,
                &format!("{field}/value"),
                choices,
                remarks,
            )?;
        }
    }
    Ok(())
}

/// The answers of a flat task: members behind its `id` that are not shown, and whatever looks like a
/// result.
fn flat(
    task: Node<'_>,
    content: &Content<'_>,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Answers, Trouble> {
    let id = task.members().position(|(name, _)| name == "id");
    let id = id.unwrap_or(0);
    let mut answers = Answers::default();
    for (i, (name, node)) in task.members().enumerate() {
        let is_text = node.text().is_some()
            || node.items().next().is_some_and(Node::is_text)
            || node.has(&["text"]);
        let answered = looks_like_a_result(node) || (is_text && i >= id);
        if ABOUT.contains(&name) || content.has(name) || !answered {
            continue;
        }
        let place = format!("/{}", pointer_step(name));
        match node.value() {
            Value::Array(items) => {
                for (i, item) in items.enumerate() {
                    answers.add(name, item, None, &format!("{place}/{i}"), choices, remarks)?;
                }
            }
            _ => answers.add(name, node, None, &place, choices, remarks)?,
        }
    }
    Ok(answers)
}

/// The samples of one annotation.
fn made(
    content: &Content<'_>,
    place: &str,
    answers: Answers,
    annotation: Node<'_>,
    id: String,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Vec<Sample>, Trouble> {
    let answers = answers.all;
    if answers.is_empty() {
        let message = "the annotation has no result that could be an answer: task skipped";
        return Err(skip("no-result", message, annotation.at(), ""));
    }
    let images = content.images(choices, place, remarks)?;
    let mut samples = Vec::new();
    let together = match choices.one_control_a_sample {
        true => 1,
        false => answers.len(),
    };
    for answers in answers.chunks(together) {
        let mut conversation = Conversation::new();
        for (i, answer) in answers.iter().enumerate() {
            let question = question(answer, content, choices, place)?;
            let mut parts = Vec::new();
            if i == 0 {
                parts.extend(images.iter().map(|image| conversation.image(image.clone())));
                if let Some((_, text)) = content.text {
                    parts.push(Part::Text(format!("{}\n", text.trim())));
                }
            }
            parts.push(Part::Text(question));
            conversation.say(Role::User, parts, answer.at, answer.field.as_str());
            let field = answer.field.as_str();
            conversation.text(Role::Assistant, &answer.text(), answer.at, field);
        }
        let id = match choices.one_control_a_sample {
            true => format!("{id}#{}", answers[0].control),
            false => id.clone(),
        };
        let system = choices.system.as_deref();
        match conversation.finish(id, system, remarks, annotation.at()) {
            Ok(sample) => samples.push(sample),
            Err(trouble) if choices.one_control_a_sample => remarks.trouble(trouble)?,
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(samples)
}

/// What is asked for an answer: the user's question, the task's own, or the usual one.
fn question(
    answer: &Answer,
    content: &Content<'_>,
    choices: &Choices,
    place: &str,
) -> Result<String, Trouble> {
    let mut chosen = choices
        .questions
        .iter()
        .filter(|(control, _)| *control == answer.control);
    if let Some((_, question)) = chosen.next() {
        return Ok(question.clone());
    }
    if let Some(template) = &choices.question {
        let value = |name: &str| match name {
            "control" => Some(answer.control.as_str()),
            name => content.field(name),
        };
        if let Some(name) = template.places().find(|name| value(name).is_none()) {
            let message =
                format!("the data has no text {name}, which the question needs: task skipped");
            return Err(skip("no-content", message, answer.at, place));
        }
        return Ok(template.fill(value));
    }
    Ok(match (content.question, answer.kind) {
        (Some(question), Kind::Choice | Kind::Text) => question.to_owned(),
        _ => answer.question(),
    })
}
