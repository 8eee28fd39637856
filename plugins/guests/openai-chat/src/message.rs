//! One message: who says it, and its parts.

use graft_plugin::conversation::Conversation;
use graft_plugin::json::{Node, Value};
use graft_plugin::remarks::{Remarks, Trouble, skip};
use graft_plugin::{Part, Role};

use crate::Choices;

/// Adds the message `node`, which stands at `place`, to the conversation.
pub fn say(
    node: Node<'_>,
    place: &str,
    choices: &Choices,
    conversation: &mut Conversation,
    remarks: &Remarks<'_>,
) -> Result<(), Trouble> {
    let Some(role) = node.get("role").and_then(Node::text) else {
        let message = "a message without a role: record skipped";
        return Err(skip("unknown-role", message, node.at(), place));
    };
    let said_nothing = |key| {
        node.get_any(&[key])
            .is_none_or(|n| n.items().is_empty() && !n.is_object())
    };
    let calls = !said_nothing("tool_calls") || !said_nothing("function_call");
    let role = match role {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" if !calls => Role::Assistant,
        "assistant" | "tool" | "function" if !choices.tools_as_text => {
            let message =
                "the conversation calls tools: record skipped; tool_turns=text takes it as it is";
            return Err(skip("tool-turn", message, node.at(), place));
        }
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::User,
        other => {
            let other: String = other.chars().take(50).collect();
            let message = format!("a message of the role {other:?}: record skipped");
            return Err(skip("unknown-role", message, node.at(), place));
        }
    };
    if role == Role::Assistant
        && !choices.keep_unweighted
        && node.get("weight").and_then(Node::number) == Some(0.0)
    {
        let message = "an answer of weight 0 must not be learned, but graft learns every answer: record \
                       skipped; unweighted=keep takes it";
        return Err(skip(
            "weight-zero",
            message,
            node.at(),
            format!("{place}/weight"),
        ));
    }
    let mut parts = Vec::new();
    match node
        .get("content")
        .map(|content| (content.value(), content))
    {
        None | Some((Value::Null, _)) => {}
        Some((Value::Text(text), _)) => parts.push(Part::Text(text.to_owned())),
        Some((Value::Array(items), _)) => {
            for (i, item) in items.enumerate() {
                let place = format!("{place}/content/{i}");
                parts.push(part(item, &place, choices, conversation, remarks)?);
            }
            apart(&mut parts);
        }
        Some((_, content)) => {
            let message = "the content is neither text nor parts: record skipped";
            return Err(skip(
                "content",
                message,
                content.at(),
                format!("{place}/content"),
            ));
        }
    }
    if calls {
        for call in node.get("tool_calls").map(Node::items).unwrap_or_default() {
            parts.push(Part::Text(called(call.get("function").unwrap_or(call))));
        }
        if let Some(call) = node.get_any(&["function_call"]) {
            parts.push(Part::Text(called(call)));
        }
        apart(&mut parts);
    }
    // The model declined.
    if parts.is_empty()
        && let Some(refusal) = node.get("refusal").and_then(Node::text)
    {
        parts.push(Part::Text(refusal.to_owned()));
    }
    conversation.say(role, parts, node.at(), place);
    Ok(())
}

/// One part of a content.
fn part(
    node: Node<'_>,
    place: &str,
    choices: &Choices,
    conversation: &mut Conversation,
    remarks: &Remarks<'_>,
) -> Result<Part, Trouble> {
    if let Some(text) = node.text() {
        return Ok(Part::Text(text.to_owned()));
    }
    let kind = node.get("type").and_then(Node::text).unwrap_or_default();
    let text = |key| node.get(key).and_then(Node::text).map(str::to_owned);
    let found = match kind {
        "text" | "input_text" | "output_text" => text("text").map(Part::Text),
        "refusal" => text("refusal").map(Part::Text),
        "image_url" | "input_image" | "image" => {
            let name = image_name(node);
            if let Some((name, at)) = name {
                let image = choices.images.find(&name, remarks.host, at, place)?;
                Some(conversation.image(image))
            } else {
                None
            }
        }
        other => {
            let other: String = other.chars().take(50).collect();
            let message =
                format!("a part of the type {other:?}, which graft does not know: record skipped");
            return Err(skip("unsupported-part", message, node.at(), place));
        }
    };
    found.ok_or_else(|| {
        let message = format!("a part of the type {kind:?} without what it names: record skipped");
        skip("content", message, node.at(), place)
    })
}

/// What names an image, and where: a text, `{"url": …}`, or Anthropic's source of base64.
fn image_name(node: Node<'_>) -> Option<(String, usize)> {
    let named = node.get_any(&["image_url", "image", "url", "path", "source"])?;
    if let Some(name) = named.text() {
        return Some((name.to_owned(), named.at()));
    }
    if let Some(name) = named.get_any(&["url", "path"]).and_then(Node::text) {
        return Some((name.to_owned(), named.at()));
    }
    let kind = named.get("media_type")?.text()?;
    let data = named.get("data")?.text()?;
    Some((format!("data:{kind};base64,{data}"), named.at()))
}

/// A call as text: name and arguments as one JSON object.
fn called(call: Node<'_>) -> String {
    let text = |key| call.get(key).and_then(Node::text).unwrap_or_default();
    let name = text("name").replace('\\', "\\\\").replace('"', "\\\"");
    let arguments = match text("arguments").trim() {
        "" => "{}",
        arguments => arguments,
    };
    format!("{{\"name\": \"{name}\", \"arguments\": {arguments}}}")
}

/// Puts a line break between texts that follow each other.
fn apart(parts: &mut Vec<Part>) {
    let mut at = 1;
    while at < parts.len() {
        if matches!(parts[at - 1..=at], [Part::Text(_), Part::Text(_)]) {
            parts.insert(at, Part::Text("\n".into()));
            at += 1;
        }
        at += 1;
    }
}
