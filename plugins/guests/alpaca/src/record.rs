//! One record: an instruction, what it is about, and the answer.

use graft_plugin::conversation::Conversation;
use graft_plugin::json::{Node, Value};
use graft_plugin::records::Record;
use graft_plugin::remarks::{Ids, Remarks, Trouble, skip};
use graft_plugin::{Role, Sample};

use crate::Choices;

const INSTRUCTION: [&str; 4] = ["instruction", "prompt", "question", "query"];
const INPUT: [&str; 2] = ["input", "context"];
/// Of two answers, `chosen` is the better one.
pub const ANSWER: [&str; 6] = [
    "output",
    "response",
    "answer",
    "completion",
    "target",
    "chosen",
];

/// What stands for "no input" in data made by a model.
const NOTHING: [&str; 6] = ["<noinput>", "noinput", "no input", "n/a", "nan", "none"];

/// A text and where it stands.
struct Field<'n> {
    text: &'n str,
    at: usize,
    name: String,
}

/// The first of `names` that says something.
fn field<'n>(node: Node<'n>, names: &[&str], within: &str) -> Result<Option<Field<'n>>, Trouble> {
    for name in names {
        let Some(found) = node.get(name) else {
            continue;
        };
        let place = format!("{within}/{name}");
        match found.value() {
            Value::Null => {}
            Value::Text(text) if text.trim().is_empty() => {}
            Value::Text(text) => {
                return Ok(Some(Field {
                    text,
                    at: found.at(),
                    name: place,
                }));
            }
            Value::Number(text) => {
                return Ok(Some(Field {
                    text,
                    at: found.at(),
                    name: place,
                }));
            }
            _ => {
                let message = format!("{name} is no text: record skipped");
                return Err(skip("not-text", message, found.at(), place));
            }
        }
    }
    Ok(None)
}

/// The samples of a record: one, or one for each of its instances.
pub fn samples(
    node: Node<'_>,
    record: &Record,
    choices: &Choices,
    ids: &mut Ids,
    remarks: &Remarks<'_>,
) -> Result<Vec<Sample>, Trouble> {
    let Some(instruction) = field(node, &INSTRUCTION, "")? else {
        let message = "the record has no instruction: record skipped";
        return Err(skip("no-instruction", message, node.at(), ""));
    };
    let id = match node.get("id").and_then(Node::name) {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("record-{}", record.index + 1),
    };
    let Some(instances) = node.get("instances").filter(|n| !n.is_null()) else {
        let sample = sample(node, "", &instruction, node, id, choices, remarks)?;
        return fresh(vec![sample], ids, remarks, node.at());
    };
    let mut samples = Vec::new();
    for (i, instance) in instances.items().enumerate() {
        let (place, id) = (format!("/instances/{i}"), format!("{id}#{}", i + 1));
        match sample(instance, &place, &instruction, node, id, choices, remarks) {
            Ok(sample) => samples.push(sample),
            Err(trouble) => remarks.trouble(trouble)?,
        }
    }
    if instances.items().is_empty() {
        let message = "the record has no instances: record skipped";
        return Err(skip("no-answer", message, instances.at(), "/instances"));
    }
    fresh(samples, ids, remarks, node.at())
}

fn fresh(
    mut samples: Vec<Sample>,
    ids: &mut Ids,
    remarks: &Remarks<'_>,
    at: usize,
) -> Result<Vec<Sample>, Trouble> {
    for sample in &mut samples {
        sample.id = ids.fresh(std::mem::take(&mut sample.id), at, remarks)?;
    }
    Ok(samples)
}

/// The sample of `node`, which has input and output; the rest stands in `record`.
fn sample(
    node: Node<'_>,
    within: &str,
    instruction: &Field<'_>,
    record: Node<'_>,
    id: String,
    choices: &Choices,
    remarks: &Remarks<'_>,
) -> Result<Sample, Trouble> {
    // A record whose question is called otherwise may have an input that is the question.
    let input = field(node, &INPUT, within)?;
    let is_nothing = |text: &str| NOTHING.iter().any(|n| text.trim().eq_ignore_ascii_case(n));
    let input = input.filter(|input| !is_nothing(input.text));
    let answer = match field(node, &ANSWER, within)? {
        Some(answer) if answer.text.trim() == "<nooutput>" => None,
        answer => answer,
    };
    let Some(answer) = answer else {
        let message = "the instruction has no output: record skipped";
        return Err(skip("no-answer", message, node.at(), within));
    };
    let mut conversation = Conversation::new();
    if let Some(system) = field(record, &["system", "system_prompt"], "")? {
        conversation.text(Role::System, system.text, system.at, system.name);
    }
    let earlier = record.get("history").filter(|n| !n.is_null());
    if let Some(earlier) = earlier {
        let Value::Array(pairs) = earlier.value() else {
            let message = "history is no list of questions and answers: record skipped";
            return Err(skip("bad-history", message, earlier.at(), "/history"));
        };
        for (i, pair) in pairs.enumerate() {
            let place = format!("/history/{i}");
            let texts = [0, 1].map(|side| pair.items().nth(side)?.text());
            let ([Some(question), Some(answer)], 2) = (texts, pair.items().count()) else {
                let message = "a turn of history is not a question and an answer: record skipped";
                return Err(skip("bad-history", message, pair.at(), place));
            };
            conversation.text(Role::User, question, pair.at(), place.as_str());
            conversation.text(Role::Assistant, answer, pair.at(), place);
        }
    }
    let question = match &input {
        Some(input) => choices.with_input.fill(|place| match place {
            "input" => Some(input.text),
            _ => Some(instruction.text),
        }),
        None => choices.without_input.fill(|_| Some(instruction.text)),
    };
    conversation.text(
        Role::User,
        &question,
        instruction.at,
        instruction.name.as_str(),
    );
    conversation.text(Role::Assistant, answer.text, answer.at, answer.name);
    let mut images = Vec::new();
    for name in ["image", "images"] {
        let Some(listed) = record.get(name).filter(|n| !n.is_null()) else {
            continue;
        };
        for (i, image) in listed.each().enumerate() {
            let place = match listed.is_array() {
                true => format!("/{name}/{i}"),
                false => format!("/{name}"),
            };
            let Some(file) = image.text() else {
                let message = "an image that is not named: record skipped";
                return Err(skip("image-name", message, image.at(), place));
            };
            if !file.is_empty() {
                images.push(
                    choices
                        .images
                        .find(file, remarks.host, image.at(), &place)?,
                );
            }
        }
    }
    conversation.show_at_markers(images, remarks, record.at())?;
    conversation.finish(id, choices.system.as_deref(), remarks, record.at())
}
