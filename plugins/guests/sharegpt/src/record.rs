//! One record: its turns, images and what stands beside them.

use graft_plugin::conversation::Conversation;
use graft_plugin::json::{Node, Value};
use graft_plugin::records::Record;
use graft_plugin::remarks::{Ids, Remarks, Trouble, skip};
use graft_plugin::{Role, Sample, Value as Extra};

use crate::{Choices, is_nothing};

/// Members that hold the turns.
const TURNS: [&str; 4] = ["conversations", "conversation", "messages", "items"];

/// Who speaks.
enum Speaker {
    Known(Role),
    /// A call of a tool is said by the model, its result is told to it.
    Tool(Role),
}

fn speaker(name: &str) -> Option<Speaker> {
    Some(match name {
        "human" | "user" | "prompter" => Speaker::Known(Role::User),
        "gpt" | "assistant" | "model" | "bot" | "chatgpt" | "bing" | "bard" | "claude" => {
            Speaker::Known(Role::Assistant)
        }
        "system" => Speaker::Known(Role::System),
        "function_call" | "tool_call" => Speaker::Tool(Role::Assistant),
        "observation" | "tool" | "function" | "function_response" | "tool_response" | "ipython" => {
            Speaker::Tool(Role::User)
        }
        _ => return None,
    })
}

/// The turns of a record, and the name of their member.
pub fn turns<'n>(record: Node<'n>) -> Option<(&'static str, Node<'n>)> {
    let found = TURNS.iter().map(|&name| (name, record.get(name)));
    found
        .filter_map(|(name, node)| Some((name, node?)))
        .find(|(_, node)| node.is_array())
}

/// The sample of a record.
pub fn sample(
    node: Node<'_>,
    record: &Record,
    choices: &Choices,
    ids: &mut Ids,
    remarks: &Remarks<'_>,
) -> Result<Sample, Trouble> {
    let Some((member, turns)) = turns(node) else {
        let message = "the record has no conversations: record skipped";
        return Err(skip("unknown-record", message, node.at(), ""));
    };
    for other in ["video", "videos", "audio", "audios"] {
        let found = node.get(other).filter(|found| !is_nothing(*found));
        if let Some(found) = found {
            let message = format!("graft has no {other}: record skipped");
            return Err(skip(
                "unsupported-media",
                message,
                found.at(),
                format!("/{other}"),
            ));
        }
    }
    let mut conversation = Conversation::new();
    if let Some(system) = node.get("system").filter(|node| !is_nothing(*node)) {
        let Some(text) = system.text() else {
            let message = "the system prompt is no text: record skipped";
            return Err(skip("turn-value", message, system.at(), "/system"));
        };
        conversation.text(Role::System, text, system.at(), "/system");
    }
    for (i, turn) in turns.items().enumerate() {
        say(turn, &format!("/{member}/{i}"), choices, &mut conversation)?;
    }
    // Of two answers the better one.
    if let Some(chosen) = node.get("chosen").filter(|node| !is_nothing(*node)) {
        say(chosen, "/chosen", choices, &mut conversation)?;
    }
    let mut images = Vec::new();
    if let Some((field, listed)) = ["image", "images"]
        .into_iter()
        .filter_map(|field| Some((field, node.get(field)?)))
        .find(|(_, node)| !is_nothing(*node))
    {
        for (i, image) in listed.each().enumerate() {
            let field = match listed.is_array() {
                true => format!("/{field}/{i}"),
                false => format!("/{field}"),
            };
            // Data sets of transformers write {"path": …} or {"url": …}.
            let name = image
                .text()
                .or_else(|| image.get_any(&["path", "url"])?.text());
            let Some(name) = name else {
                let message = "an image that is not named: record skipped";
                return Err(skip("image-name", message, image.at(), field));
            };
            images.push(
                choices
                    .images
                    .find(name, remarks.host, image.at(), &field)?,
            );
        }
    }
    conversation.show_at_markers(images, remarks, node.at())?;
    if let Some(tools) = node.get("tools").and_then(Node::text)
        && !tools.trim().is_empty()
    {
        let tools = Extra::Text(tools.to_owned());
        conversation.extra.push(("tools".into(), tools));
    }
    let id = node
        .get_any(&["id", "conversation_id"])
        .and_then(Node::name);
    let id = match id {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("record-{}", record.index + 1),
    };
    let mut sample = conversation.finish(id, choices.system.as_deref(), remarks, node.at())?;
    sample.id = ids.fresh(sample.id, node.at(), remarks)?;
    Ok(sample)
}

/// Adds one turn.
fn say(
    turn: Node<'_>,
    place: &str,
    choices: &Choices,
    conversation: &mut Conversation,
) -> Result<(), Trouble> {
    let who = turn.get_any(&["from", "role"]);
    let Some(name) = who.and_then(Node::text) else {
        let message = "a turn that does not say who speaks: record skipped";
        return Err(skip("unknown-role", message, turn.at(), place));
    };
    let at = who.unwrap_or(turn).at();
    let role = match speaker(&name.trim().to_lowercase()) {
        Some(Speaker::Known(role)) => role,
        Some(Speaker::Tool(role)) if choices.tools_as_text => role,
        Some(Speaker::Tool(_)) => {
            let message =
                "the record calls tools: record skipped; tool_turns=text takes it as it is";
            return Err(skip("tool-turn", message, at, place));
        }
        None => {
            let name: String = name.chars().take(50).collect();
            let message =
                format!("a turn is from {name:?}; human and gpt are known: record skipped");
            return Err(skip("unknown-role", message, at, place));
        }
    };
    let value = turn.get_any(&["value", "content", "text"]);
    let text = match value.map(Node::value) {
        None => "",
        Some(Value::Text(text)) => text,
        Some(Value::Array(_)) => {
            let message =
                "a turn of several parts, which the converter openai-chat reads: record skipped";
            return Err(skip("turn-value", message, turn.at(), place));
        }
        Some(_) => {
            let message = "what a turn says is no text: record skipped";
            return Err(skip("turn-value", message, turn.at(), place));
        }
    };
    conversation.text(role, text, value.unwrap_or(turn).at(), place);
    Ok(())
}
