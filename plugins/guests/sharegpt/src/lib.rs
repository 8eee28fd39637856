//! Conversations as ShareGPT and LLaVA have them: `conversations` of turns with `from` and `value`.
//!
//! Reads one array of records or a record in every line. What tools made of the format since is read
//! too: `messages` with `role` and `content`, `system` beside the turns, `images` shown by `<image>`.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod record;

use graft_plugin::images::Images;
use graft_plugin::json::{self, Dialect, Value};
use graft_plugin::options::Options;
use graft_plugin::records::Records;
use graft_plugin::remarks::{Ids, each_record};
use graft_plugin::{Converter, Error, Format, Host, Sink, Source, Summary, export_converter};

/// Bytes of the largest record.
const LARGEST_RECORD: usize = 24 << 20;

/// The converter.
pub struct ShareGpt;

/// What the user chose.
struct Choices {
    system: Option<String>,
    tools_as_text: bool,
    images: Images,
}

impl Converter for ShareGpt {
    const FORMATS: &'static [Format] = &[
        Format {
            id: "sharegpt",
            title: "ShareGPT conversations",
            extensions: &["json", "jsonl"],
        },
        Format {
            id: "llava",
            title: "LLaVA conversations about images",
            extensions: &["json"],
        },
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "system": {"type": "string", "description": "System prompt of records that have none"},
    "tool_turns": {"enum": ["skip", "text"], "default": "skip",
      "description": "Records with calls of tools: skipped, or calls as answers and results as questions"},
    "image_root": {"type": "string", "default": "", "description": "Folder put before every image name"},
    "image_strip": {"type": "string", "default": "", "description": "Front of image names that is taken off first"},
    "check_images": {"type": "boolean", "default": true, "description": "Skip records whose image is not there"}
  }
}"#;

    fn detect(head: &[u8], _name: &str) -> u8 {
        let Some((tree, _)) = json::first_record(head) else {
            return 0;
        };
        let record = tree.root();
        let Some((_, turns)) = record::turns(record) else {
            return 0;
        };
        match turns.items().next() {
            Some(turn) if turn.has(&["from", "value"]) => 95,
            // Cut off within the first turn.
            Some(turn) if turn.has(&["from"]) || turn.has(&["value"]) => 80,
            // The same as OpenAI's, which are surer of it.
            Some(turn) if turn.has(&["role", "content"]) => 40,
            // A conversation without turns is still one.
            None if record.has(&["conversations"]) => 60,
            _ => 0,
        }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        let [root, strip, check] = Images::OPTIONS;
        let known = ["system", "tool_turns", root, strip, check];
        let options = Options::parse(options, &known)?;
        let choices = Choices {
            system: options.text("system")?.map(str::to_owned),
            tools_as_text: options.choice("tool_turns", &["skip", "text"])? == "text",
            images: Images::chosen(&options)?,
        };
        let total = input.size();
        let mut records = Records::new(input, Dialect::Json, LARGEST_RECORD);
        let mut ids = Ids::default();
        each_record(
            "sharegpt",
            &mut records,
            total,
            output,
            host,
            |node, record, remarks| {
                let sample = record::sample(node, record, &choices, &mut ids, remarks)?;
                Ok(vec![sample])
            },
        )
    }
}

/// Whether a member says nothing.
fn is_nothing(node: json::Node<'_>) -> bool {
    match node.value() {
        Value::Null => true,
        Value::Text(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

export_converter!(ShareGpt);

#[cfg(test)]
mod tests;
