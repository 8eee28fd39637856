//! Exports of doccano: a text or an image in every line, and its labels.
//!
//! Labels are spans of the text, classes, texts of their own (sequence to sequence, captions), or boxes
//! in the image; the names that older versions gave the members are read too.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod example;
mod labels;

use graft_plugin::images::Images;
use graft_plugin::json::{self, Dialect};
use graft_plugin::options::Options;
use graft_plugin::records::Records;
use graft_plugin::remarks::{Ids, each_record};
use graft_plugin::template::Template;
use graft_plugin::{Converter, Error, Format, Host, Sink, Source, Summary, export_converter};
use labels::Labels;

/// Bytes of the largest record.
const LARGEST_RECORD: usize = 24 << 20;

/// The converter.
pub struct Doccano;

/// What labels of plain text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Classification,
    Seq2Seq,
}

/// What the user chose.
struct Choices {
    task: Option<Task>,
    question: Option<Template>,
    labels: Vec<(String, String)>,
    no_label: Option<String>,
    first_only: bool,
    system: Option<String>,
    images: Images,
}

impl Choices {
    /// What a label becomes.
    fn label<'t>(&'t self, label: &'t str) -> &'t str {
        let mut found = self.labels.iter().filter(|(from, _)| from == label);
        found.next().map_or(label, |(_, to)| to)
    }
}

impl Converter for Doccano {
    const FORMATS: &'static [Format] = &[Format {
        id: "doccano",
        title: "doccano JSONL",
        extensions: &["jsonl", "json"],
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "task": {"enum": ["auto", "classification", "seq2seq"], "default": "auto",
      "description": "What labels that are texts are: classes, or answers (also captions); auto looks at the first"},
    "question": {"type": "string", "description": "Template of the question; {text} is the text"},
    "labels": {"type": "object", "additionalProperties": {"type": "string"},
      "description": "What labels become: {\"PER\": \"person\", \"3\": \"place\"}"},
    "no_label": {"type": "string", "description": "The answer where nothing is labelled; such records are skipped if not given"},
    "answers": {"enum": ["each", "first"], "default": "each",
      "description": "Of several answers of seq2seq one sample each, or only the first"},
    "system": {"type": "string", "description": "System prompt of every sample"},
    "image_root": {"type": "string", "default": "", "description": "Folder put before every image name"},
    "image_strip": {"type": "string", "default": "", "description": "Front of image names that is taken off first"},
    "check_images": {"type": "boolean", "default": true, "description": "Skip records whose image is not there"}
  }
}"#;

    fn detect(head: &[u8], _name: &str) -> u8 {
        let Some((tree, in_array)) = json::first_record(head) else {
            return 0;
        };
        let record = tree.root();
        let shown = example::TEXT
            .iter()
            .any(|name| record.get(name).is_some_and(|text| text.text().is_some()));
        let image = example::IMAGE.iter().any(|name| record.get(name).is_some());
        // A conversation or a task of another tool.
        if !(shown || image) || record.has(&["annotation_id"]) || record.has(&["tokens"]) {
            return 0;
        }
        let sure = match labels::find(record, &|label| label) {
            Some(Labels::Spans(spans)) if shown && !spans.is_empty() => 90,
            Some(Labels::Boxes(boxes)) if image && !boxes.is_empty() => 85,
            Some(Labels::Texts(texts)) if !texts.is_empty() && record.has(&["id"]) => 75,
            Some(_) if record.has(&["Comments"]) => 75,
            Some(Labels::Texts(texts)) if !texts.is_empty() => 50,
            Some(_) => 30,
            None => 0,
        };
        if in_array { sure * 2 / 3 } else { sure }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        let [root, strip, check] = Images::OPTIONS;
        let known = [
            "task", "question", "labels", "no_label", "answers", "system", root, strip, check,
        ];
        let options = Options::parse(options, &known)?;
        let text = |name| options.text(name).map(|text| text.map(str::to_owned));
        let template = |text| Template::parse("question", text)?.with_places("question", &["text"]);
        let mut choices = Choices {
            task: match options.choice("task", &["auto", "classification", "seq2seq"])? {
                "classification" => Some(Task::Classification),
                "seq2seq" => Some(Task::Seq2Seq),
                _ => None,
            },
            question: options.text("question")?.map(template).transpose()?,
            labels: options.map("labels")?,
            no_label: text("no_label")?,
            first_only: options.choice("answers", &["each", "first"])? == "first",
            system: text("system")?,
            images: Images::chosen(&options)?,
        };
        let total = input.size();
        let mut records = Records::new(input, Dialect::Json, LARGEST_RECORD);
        let mut ids = Ids::default();
        each_record(
            "doccano",
            &mut records,
            total,
            output,
            host,
            |node, record, remarks| {
                let mut samples = example::samples(node, record, &mut choices, remarks)?;
                for sample in &mut samples {
                    sample.id = ids.fresh(std::mem::take(&mut sample.id), node.at(), remarks)?;
                }
                Ok(samples)
            },
        )
    }
}

export_converter!(Doccano);

#[cfg(test)]
mod tests;
