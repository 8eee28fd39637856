//! Exports of Label Studio: tasks with `data` and `annotations` (JSON), or flat ones (JSON-MIN).
//!
//! Every control of a task becomes a question, what was annotated with it the answer: choices,
//! taxonomies, texts, ratings, labelled spans of text, and labelled rectangles.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod answer;
mod content;
mod task;

use graft_plugin::images::Images;
use graft_plugin::json::{self, Dialect};
use graft_plugin::options::Options;
use graft_plugin::records::Records;
use graft_plugin::remarks::{Ids, each_record};
use graft_plugin::template::Template;
use graft_plugin::{Converter, Error, Format, Host, Sink, Source, Summary, export_converter};

/// Bytes of the largest task.
const LARGEST_RECORD: usize = 24 << 20;

/// The converter.
pub struct LabelStudio;

/// What the user chose.
struct Choices {
    /// Control and its question.
    questions: Vec<(String, String)>,
    question: Option<Template>,
    /// Label and what it becomes.
    labels: Vec<(String, String)>,
    text_field: Option<String>,
    image_field: Option<String>,
    each_annotation: bool,
    predictions: bool,
    one_control_a_sample: bool,
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

impl Converter for LabelStudio {
    const FORMATS: &'static [Format] = &[
        Format {
            id: "label-studio",
            title: "Label Studio JSON",
            extensions: &["json"],
        },
        Format {
            id: "label-studio-min",
            title: "Label Studio JSON-MIN",
            extensions: &["json"],
        },
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "questions": {"type": "object", "additionalProperties": {"type": "string"},
      "description": "Question of each control: {\"sentiment\": \"How does it sound?\"}"},
    "question": {"type": "string",
      "description": "Template of the question of every other control: {control} is its name, {title} a field of the data"},
    "labels": {"type": "object", "additionalProperties": {"type": "string"},
      "description": "What choices and labels become: {\"PER\": \"person\"}"},
    "text_field": {"type": "string", "description": "Field of the data that holds the text; found by its name if not given"},
    "image_field": {"type": "string", "description": "Field of the data that names the image; found by its name if not given"},
    "annotations": {"enum": ["first", "each"], "default": "first",
      "description": "Of several annotations of a task the ground truth, else the first; or a sample of each"},
    "predictions": {"type": "boolean", "default": false, "description": "Take the prediction of a task without annotation"},
    "turns": {"enum": ["task", "control"], "default": "task",
      "description": "One sample per task, or one per control"},
    "system": {"type": "string", "description": "System prompt of every sample"},
    "image_root": {"type": "string", "default": "", "description": "Folder put before every image name"},
    "image_strip": {"type": "string", "default": "", "description": "Front of image names that is taken off first"},
    "check_images": {"type": "boolean", "default": true, "description": "Skip tasks whose image is not there"}
  }
}"#;

    fn detect(head: &[u8], _name: &str) -> u8 {
        let Some((tree, _)) = json::first_record(head) else {
            return 0;
        };
        let task = tree.root();
        if task.get("data").is_some_and(json::Node::is_object) {
            let annotated = task::ANNOTATIONS
                .iter()
                .any(|name| task.get(name).is_some());
            // Of a large task the annotations are not in sight.
            return match annotated || task.has(&["predictions"]) {
                true => 95,
                false if task.has(&["id"]) => 50,
                false => 0,
            };
        }
        let flat =
            task.has(&["annotation_id"]) && (task.has(&["annotator"]) || task.has(&["lead_time"]));
        if flat { 95 } else { 0 }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        let [root, strip, check] = Images::OPTIONS;
        let known = [
            "questions",
            "question",
            "labels",
            "text_field",
            "image_field",
            "annotations",
            "predictions",
            "turns",
            "system",
            root,
            strip,
            check,
        ];
        let options = Options::parse(options, &known)?;
        let text = |name| options.text(name).map(|text| text.map(str::to_owned));
        let template = |text| Template::parse("question", text);
        let choices = Choices {
            questions: options.map("questions")?,
            question: options.text("question")?.map(template).transpose()?,
            labels: options.map("labels")?,
            text_field: text("text_field")?,
            image_field: text("image_field")?,
            each_annotation: options.choice("annotations", &["first", "each"])? == "each",
            predictions: options.flag("predictions", false)?,
            one_control_a_sample: options.choice("turns", &["task", "control"])? == "control",
            system: text("system")?,
            images: Images::chosen(&options)?,
        };
        let total = input.size();
        let mut records = Records::new(input, Dialect::Json, LARGEST_RECORD);
        let mut ids = Ids::default();
        each_record(
            "label-studio",
            &mut records,
            total,
            output,
            host,
            |node, record, remarks| {
                let mut samples = task::samples(node, record, &choices, remarks)?;
                for sample in &mut samples {
                    sample.id = ids.fresh(std::mem::take(&mut sample.id), node.at(), remarks)?;
                }
                Ok(samples)
            },
        )
    }
}

export_converter!(LabelStudio);

#[cfg(test)]
mod tests;
