//! Instructions with inputs and outputs, as Stanford Alpaca has them.
//!
//! Reads one array of records or a record in every line. What grew out of the format is read too:
//! `history` and `system`, images, the names that Dolly and others use, and the `instances` of
//! Self-Instruct.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod record;

use graft_plugin::images::Images;
use graft_plugin::json::{self, Dialect};
use graft_plugin::options::Options;
use graft_plugin::records::Records;
use graft_plugin::remarks::{Ids, each_record};
use graft_plugin::template::Template;
use graft_plugin::{Converter, Error, Format, Host, Sink, Source, Summary, export_converter};

/// Bytes of the largest record.
const LARGEST_RECORD: usize = 24 << 20;

/// The converter.
pub struct Alpaca;

/// What the user chose.
struct Choices {
    system: Option<String>,
    with_input: Template,
    without_input: Template,
    images: Images,
}

impl Converter for Alpaca {
    const FORMATS: &'static [Format] = &[Format {
        id: "alpaca",
        title: "Alpaca instructions",
        extensions: &["json", "jsonl"],
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "system": {"type": "string", "description": "System prompt of records that have none"},
    "template": {"type": "string", "default": "{instruction}\n{input}",
      "description": "The question of a record with input"},
    "template_without_input": {"type": "string", "default": "{instruction}",
      "description": "The question of a record without input"},
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
        let has = |keys: &[&str]| keys.iter().any(|key| record.get(key).is_some());
        match has(&["instruction"]) {
            true if has(&["output", "instances"]) => 95,
            true if has(&record::ANSWER) => 90,
            true if has(&["input", "context"]) => 70,
            true => 50,
            false => 0,
        }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        let [root, strip, check] = Images::OPTIONS;
        let [with, without] = ["template", "template_without_input"];
        let options = Options::parse(options, &["system", with, without, root, strip, check])?;
        let template = |name, default, places: &[&str]| -> Result<Template, Error> {
            let text = options.text(name)?.unwrap_or(default);
            Template::parse(name, text)?.with_places(name, places)
        };
        let choices = Choices {
            system: options.text("system")?.map(str::to_owned),
            with_input: template(with, "{instruction}\n{input}", &["instruction", "input"])?,
            without_input: template(without, "{instruction}", &["instruction"])?,
            images: Images::chosen(&options)?,
        };
        let total = input.size();
        let mut records = Records::new(input, Dialect::Json, LARGEST_RECORD);
        let mut ids = Ids::default();
        each_record(
            "alpaca",
            &mut records,
            total,
            output,
            host,
            |node, record, remarks| record::samples(node, record, &choices, &mut ids, remarks),
        )
    }
}

export_converter!(Alpaca);

#[cfg(test)]
mod tests;
