//! One conversation of the file.

use graft_plugin::Sample;
use graft_plugin::conversation::Conversation;
use graft_plugin::json::Node;
use graft_plugin::records::Record;
use graft_plugin::remarks::{Ids, Remarks, Trouble, skip};

use crate::{Choices, message};

/// The messages of a record, and the pointer to them.
pub fn messages<'n>(record: Node<'n>) -> Option<(&'static str, Node<'n>)> {
    let is_list = |node: &Node<'_>| node.is_array();
    let own = record.get("messages").filter(is_list);
    if let Some(own) = own {
        return Some(("/messages", own));
    }
    let input = record.get("input")?;
    match input.get("messages").filter(is_list) {
        Some(messages) => Some(("/input/messages", messages)),
        None => None,
    }
}

/// The sample of a record.
pub fn sample(
    node: Node<'_>,
    record: &Record,
    choices: &Choices,
    ids: &mut Ids,
    remarks: &Remarks<'_>,
) -> Result<Sample, Trouble> {
    let Some((place, messages)) = messages(node) else {
        let message = "the record has no messages: record skipped";
        return Err(skip("unknown-record", message, node.at(), ""));
    };
    let mut conversation = Conversation::new();
    for (i, said) in messages.items().enumerate() {
        message::say(
            said,
            &format!("{place}/{i}"),
            choices,
            &mut conversation,
            remarks,
        )?;
    }
    // Of two answers the better one.
    let preferred = node.get("preferred_output").map(Node::items);
    for (i, said) in preferred.unwrap_or_default().enumerate() {
        let place = format!("/preferred_output/{i}");
        message::say(said, &place, choices, &mut conversation, remarks)?;
    }
    let id = node.get_any(&["id", "custom_id"]).and_then(Node::name);
    let id = match id {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("record-{}", record.index + 1),
    };
    let mut sample = conversation.finish(id, choices.system.as_deref(), remarks, node.at())?;
    sample.id = ids.fresh(sample.id, node.at(), remarks)?;
    Ok(sample)
}
