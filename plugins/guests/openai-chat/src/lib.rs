//! Chat messages as OpenAI's fine-tuning takes them: `messages` with `role` and `content`, a
//! conversation in every line.
//!
//! Content may be parts of text and images, the images `data:` URLs, URLs or file names. Preference
//! data (`input`, `preferred_output`) and the parts that other services write are read too.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod message;
mod record;

use graft_plugin::images::Images;
use graft_plugin::json::{self, Dialect};
use graft_plugin::options::Options;
use graft_plugin::records::Records;
use graft_plugin::remarks::{Ids, each_record};
use graft_plugin::{Converter, Error, Format, Host, Sink, Source, Summary, export_converter};

/// Bytes of the largest record; images may be inside.
const LARGEST_RECORD: usize = 24 << 20;

/// The converter.
pub struct OpenAiChat;

/// What the user chose.
struct Choices {
    system: Option<String>,
    tools_as_text: bool,
    keep_unweighted: bool,
    images: Images,
}

impl Converter for OpenAiChat {
    const FORMATS: &'static [Format] = &[Format {
        id: "openai-chat",
        title: "OpenAI chat messages",
        extensions: &["jsonl", "json"],
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "system": {"type": "string", "description": "System prompt of conversations that have none"},
    "tool_turns": {"enum": ["skip", "text"], "default": "skip",
      "description": "Conversations with calls of tools: skipped, or calls as answers and results as questions"},
    "unweighted": {"enum": ["skip", "keep"], "default": "skip",
      "description": "Conversations with an answer of weight 0, which training would learn: skipped or kept"},
    "image_root": {"type": "string", "default": "", "description": "Folder put before every image name"},
    "image_strip": {"type": "string", "default": "", "description": "Front of image names that is taken off first"},
    "check_images": {"type": "boolean", "default": true, "description": "Skip conversations whose image is not there"}
  }
}"#;

    fn detect(head: &[u8], _name: &str) -> u8 {
        let Some((tree, in_array)) = json::first_record(head) else {
            return 0;
        };
        let record = tree.root();
        let Some((_, messages)) = record::messages(record) else {
            return 0;
        };
        match messages.items().next() {
            Some(first) if first.has(&["role", "content"]) => match in_array {
                true => 85,
                false => 95,
            },
            // Cut off within the first message.
            Some(first) if first.has(&["role"]) || first.has(&["content"]) => 75,
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
        let known = ["system", "tool_turns", "unweighted", root, strip, check];
        let options = Options::parse(options, &known)?;
        let choices = Choices {
            system: options.text("system")?.map(str::to_owned),
            tools_as_text: options.choice("tool_turns", &["skip", "text"])? == "text",
            keep_unweighted: options.choice("unweighted", &["skip", "keep"])? == "keep",
            images: Images::chosen(&options)?,
        };
        let total = input.size();
        let mut records = Records::new(input, Dialect::Json, LARGEST_RECORD);
        let mut ids = Ids::default();
        each_record(
            "openai-chat",
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

export_converter!(OpenAiChat);

#[cfg(test)]
mod tests;
