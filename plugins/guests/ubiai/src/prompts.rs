//! Records of prompt and response projects: what was asked of a language model, and what it should say.

use graft_plugin::conversation::Conversation;
use graft_plugin::json::Node;
use graft_plugin::records::Record;
use graft_plugin::{Error, Role, Sample};

use graft_plugin::remarks::{self, Trouble};

use crate::Remarks;

const SYSTEM: [&str; 2] = ["system_prompt", "systemPrompt"];
const PROMPT: [&str; 3] = ["user_prompt", "userPrompt", "prompt"];
const INPUT: [&str; 3] = ["input", "input_text", "inputText"];
const RESPONSE: [&str; 3] = ["response", "output", "completion"];

/// Whether `node` is such a record.
pub fn is_one(node: Node<'_>) -> bool {
    let has = |keys: &[&str]| keys.iter().any(|key| node.get(key).is_some());
    has(&RESPONSE) && has(&PROMPT) && !has(&["tokens", "annotation", "annotations"])
}

/// Its sample; what keeps it from being one is reported.
pub fn sample(
    node: Node<'_>,
    id: String,
    record: &Record,
    remarks: &Remarks<'_>,
) -> Result<Option<Sample>, Error> {
    let field = |keys: &[&'static str]| {
        let found = keys.iter().filter_map(|key| Some((*key, node.get(key)?)));
        let mut found = found.filter_map(|(key, node)| Some((key, node.text()?, node.at())));
        found.find(|(_, text, _)| !text.trim().is_empty())
    };
    let mut conversation = Conversation::new();
    if let Some((key, text, at)) = field(&SYSTEM) {
        conversation.text(Role::System, text, at, format!("/{key}"));
    }
    // The prompt says what to do with the input.
    let asked = [field(&PROMPT), field(&INPUT)];
    let texts: Vec<&str> = asked
        .iter()
        .flatten()
        .map(|(_, text, _)| text.trim())
        .collect();
    let (key, at) = asked
        .iter()
        .flatten()
        .next()
        .map_or(("", node.at()), |(key, _, at)| (key, *at));
    conversation.text(Role::User, &texts.join("\n"), at, format!("/{key}"));
    let (key, text, at) = field(&RESPONSE).unwrap_or((RESPONSE[0], "", node.at()));
    conversation.text(Role::Assistant, text, at, format!("/{key}"));
    let locate = |at, field: Option<&str>| record.location(at, field);
    let told = remarks::Remarks {
        scope: "ubiai",
        host: remarks.host,
        locate: &locate,
    };
    match conversation.finish(id, None, &told, node.at()) {
        Ok(sample) => Ok(Some(sample)),
        Err(Trouble::Stop(error)) => Err(error),
        Err(trouble) => told.trouble(trouble).map(|()| None),
    }
}
