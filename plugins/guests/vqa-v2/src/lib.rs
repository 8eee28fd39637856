//! Questions about images and people's answers, as VQA v2 has them: a file of `questions` and a file of
//! `annotations`, or one that has both.
//!
//! The two are read side by side; only what has not met its counterpart is kept.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod halves;
mod names;
mod pair;

use graft_plugin::images::Images;
use graft_plugin::json;
use graft_plugin::options::Options;
use graft_plugin::records::{Record, Records};
use graft_plugin::remarks::parsed;
use graft_plugin::template::Template;
use graft_plugin::{Converter, Error, Format, Host, Sink, Source, Summary, export_converter};
use names::ImageNames;
use pair::Pairing;

/// Bytes of the largest question or annotation.
const LARGEST_RECORD: usize = 1 << 20;
const LISTS: [&str; 2] = ["questions", "annotations"];

/// The converter.
pub struct VqaV2;

/// What the user chose.
struct Choices {
    question: Template,
    system: Option<String>,
    by_majority: bool,
    images: Images,
}

impl Converter for VqaV2 {
    const FORMATS: &'static [Format] = &[Format {
        id: "vqa-v2",
        title: "VQA v2 questions and annotations",
        extensions: &["json"],
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "companion": {"type": "string",
      "description": "The other file: annotations beside questions, or questions beside annotations; named as VQA names it if not given"},
    "question": {"type": "string", "default": "{question}\nAnswer the question using a single word or phrase.",
      "description": "What is asked"},
    "answer": {"enum": ["multiple_choice", "majority"], "default": "multiple_choice",
      "description": "multiple_choice_answer, or what most people said"},
    "image_name": {"type": "string", "default": "COCO_{subtype}_{image_id}.jpg",
      "description": "Name of an image: {image_id} has 12 digits, {id} is as written, {subtype} is train2014"},
    "subtype": {"type": "string", "description": "The set of images; data_subtype of the file if not given"},
    "system": {"type": "string", "description": "System prompt of every sample"},
    "image_root": {"type": "string", "default": "", "description": "Folder put before every image name"},
    "image_strip": {"type": "string", "default": "", "description": "Front of image names that is taken off first"},
    "check_images": {"type": "boolean", "default": true, "description": "Skip questions whose image is not there"}
  }
}"#;

    fn detect(head: &[u8], _name: &str) -> u8 {
        let Some(tree) = json::beginning(head) else {
            return 0;
        };
        let first = |list| tree.root().get(list).and_then(|list| list.items().next());
        if first("questions").is_some_and(|q| q.has(&["question_id", "image_id", "question"])) {
            return 95;
        }
        let annotated = first("annotations").is_some_and(|a| {
            a.has(&["question_id"]) && (a.has(&["answers"]) || a.has(&["multiple_choice_answer"]))
        });
        if annotated { 95 } else { 0 }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        let [root, strip, check] = Images::OPTIONS;
        let known = [
            "companion",
            "question",
            "answer",
            "image_name",
            "subtype",
            "system",
            root,
            strip,
            check,
        ];
        let options = Options::parse(options, &known)?;
        let question = "{question}\nAnswer the question using a single word or phrase.";
        let question = options.text("question")?.unwrap_or(question);
        let choices = Choices {
            question: Template::parse("question", question)?
                .with_places("question", &["question"])?,
            system: options.text("system")?.map(str::to_owned),
            by_majority: options.choice("answer", &["multiple_choice", "majority"])? == "majority",
            images: Images::chosen(&options)?,
        };
        let names = ImageNames::chosen(&options, &input.name())?;
        let chosen = options.text("companion")?.map(str::to_owned);
        let mut companion = match chosen.or_else(|| names::companion(&input.name())) {
            Some(name) => open(&name, options.text("companion")?.is_some(), host)?,
            None => None,
        };
        let total = input.size();
        let mut here = Records::in_lists(input, &LISTS, LARGEST_RECORD);
        let mut beside = companion
            .as_deref_mut()
            .map(|source| Records::in_lists(source, &LISTS, LARGEST_RECORD));
        let mut pairing = Pairing::new(choices, names, output, host);
        loop {
            let record = here.next_record()?;
            let other = match &mut beside {
                Some(beside) => beside.next_record()?,
                None => None,
            };
            let subtype = here.text("data_subtype");
            let subtype = subtype.or_else(|| beside.as_ref()?.text("data_subtype"));
            pairing.names.found(subtype);
            let done = here.place().offset;
            let ended = record.is_none() && other.is_none();
            for record in [record, other].into_iter().flatten() {
                take(&mut pairing, &record, host)?;
            }
            if ended {
                break;
            }
            host.checkpoint(done, total)?;
        }
        pairing.finish()
    }
}

/// The companion file; it may be missing if the user did not name it.
fn open(name: &str, must: bool, host: &dyn Host) -> Result<Option<Box<dyn Source>>, Error> {
    match host.open_asset(name) {
        Ok(source) => Ok(Some(source)),
        Err(Error::NotFound(_)) if !must => Ok(None),
        Err(Error::NotFound(name)) => {
            let message = format!("{name}, which the option companion names, beside the export");
            Err(Error::NotFound(message))
        }
        Err(error) => Err(error),
    }
}

fn take(pairing: &mut Pairing<'_>, record: &Record, host: &dyn Host) -> Result<(), Error> {
    match parsed(record, host)? {
        Some(tree) if record.list == Some("questions") => pairing.question(tree.root(), record),
        Some(tree) => pairing.annotation(tree.root(), record),
        None => {
            pairing.broken();
            Ok(())
        }
    }
}

export_converter!(VqaV2);

#[cfg(test)]
mod tests;
