//! Images and their captions, as MS COCO has them: an object with `images` and `annotations`.
//!
//! Annotations are read as a stream; of the images, number and file name are kept.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod catalogue;

use catalogue::Catalogue;
use graft_plugin::conversation::Conversation;
use graft_plugin::images::Images;
use graft_plugin::json::{self, Node};
use graft_plugin::options::Options;
use graft_plugin::records::{Record, Records};
use graft_plugin::remarks::{Ids, Remarks, Trouble, parsed, skip};
use graft_plugin::{
    Converter, Error, Format, Host, Part, Role, Sample, Sink, Source, Summary, Value,
    export_converter, invalid_input,
};

/// Bytes of the largest image or annotation.
const LARGEST_RECORD: usize = 1 << 20;
/// Bytes of annotations that may stand before the images.
const MOST_WAITING: usize = 48 << 20;

/// The converter.
pub struct CocoCaptions;

/// What the user chose.
struct Choices {
    questions: Vec<String>,
    system: Option<String>,
    first_only: bool,
    images: Images,
}

impl Converter for CocoCaptions {
    const FORMATS: &'static [Format] = &[Format {
        id: "coco-captions",
        title: "COCO captions",
        extensions: &["json"],
    }];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "questions": {"type": ["string", "array"], "items": {"type": "string"}, "default": ["Describe the image."],
      "description": "What is asked; of several, one after the other"},
    "captions": {"enum": ["each", "first"], "default": "each",
      "description": "One sample for each caption of an image, or for its first"},
    "system": {"type": "string", "description": "System prompt of every sample"},
    "image_root": {"type": "string", "default": "", "description": "Folder put before every image name"},
    "image_strip": {"type": "string", "default": "", "description": "Front of image names that is taken off first"},
    "check_images": {"type": "boolean", "default": true, "description": "Skip captions whose image is not there"}
  }
}"#;

    fn detect(head: &[u8], name: &str) -> u8 {
        let Some(tree) = json::beginning(head) else {
            return 0;
        };
        let first = |list| tree.root().get(list).and_then(|list| list.items().next());
        match (first("annotations"), first("images")) {
            (Some(annotation), _) if annotation.has(&["image_id", "caption"]) => 95,
            // Of a large file the annotations are not in sight.
            (None, Some(image)) if image.has(&["id", "file_name"]) => {
                match name.to_lowercase().contains("caption") {
                    true => 85,
                    false => 50,
                }
            }
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
        let known = ["questions", "captions", "system", root, strip, check];
        let options = Options::parse(options, &known)?;
        let mut questions = options.texts("questions")?;
        if questions.is_empty() {
            questions.push("Describe the image.".into());
        }
        if questions.iter().any(|question| question.trim().is_empty()) {
            let message = "/questions: a question is empty".to_owned();
            return Err(Error::InvalidOptions(message));
        }
        let choices = Choices {
            questions,
            system: options.text("system")?.map(str::to_owned),
            first_only: options.choice("captions", &["each", "first"])? == "first",
            images: Images::chosen(&options)?,
        };
        let total = input.size();
        let mut records = Records::in_lists(input, &["images", "annotations"], LARGEST_RECORD);
        let mut conversion = Conversion {
            choices,
            output,
            host,
            catalogue: Catalogue::default(),
            ids: Ids::default(),
            summary: Summary {
                records: 0,
                samples: 0,
                skipped: 0,
            },
        };
        let mut waiting: Vec<Record> = Vec::new();
        let mut waiting_bytes = 0;
        while let Some(record) = records.next_record()? {
            let done = record.end_offset;
            if record.list == Some("images") {
                conversion.image(&record)?;
            } else if conversion.catalogue.is_empty() {
                waiting_bytes += record.text().len() + size_of::<Record>();
                if waiting_bytes > MOST_WAITING {
                    let message = "so many annotations before the images cannot be kept; write the file with \
                                   `images` first";
                    let at = Some(record.location(0, None));
                    return Err(invalid_input("coco-captions-order", message, at));
                }
                waiting.push(record);
            } else {
                conversion.annotation(&record)?;
            }
            host.checkpoint(done, total)?;
        }
        for record in waiting {
            conversion.annotation(&record)?;
        }
        conversion.uncaptioned(records.place().location(records.name()))?;
        Ok(conversion.summary)
    }
}

struct Conversion<'a> {
    choices: Choices,
    output: &'a mut dyn Sink,
    host: &'a dyn Host,
    catalogue: Catalogue,
    ids: Ids,
    summary: Summary,
}

impl Conversion<'_> {
    /// Runs `work` on the value of `record`; false if it is of no use, which is reported.
    fn with(
        &mut self,
        record: &Record,
        work: impl FnOnce(&mut Self, Node<'_>, &Remarks<'_>) -> Result<(), Trouble>,
    ) -> Result<bool, Error> {
        let host = self.host;
        let Some(tree) = parsed(record, host)? else {
            return Ok(false);
        };
        let locate = |at, field: Option<&str>| record.location(at, field);
        let remarks = Remarks {
            scope: "coco-captions",
            host,
            locate: &locate,
        };
        match work(self, tree.root(), &remarks) {
            Ok(()) => Ok(true),
            Err(trouble) => {
                remarks.trouble(trouble)?;
                Ok(false)
            }
        }
    }

    fn image(&mut self, record: &Record) -> Result<(), Error> {
        self.with(record, |own, node, remarks| {
            let Some(id) = node.get("id").and_then(Node::name) else {
                let message = "an image without id: left out";
                return Err(skip("bad-image", message, node.at(), ""));
            };
            let name = node.get_any(&["file_name", "coco_url", "flickr_url"]);
            let Some(name) = name.and_then(Node::text) else {
                let message = "an image without file_name: left out";
                return Err(skip("bad-image", message, node.at(), ""));
            };
            if !own.catalogue.add(id, name, record.index) {
                let message = format!("another image has the id {id}: left out");
                remarks.warn("duplicate-image", message, node.at(), "/id")?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn annotation(&mut self, record: &Record) -> Result<(), Error> {
        self.summary.records += 1;
        let good = self.with(record, |own, node, remarks| {
            if let Some(sample) = own.sample(node, record, remarks)? {
                own.summary.samples += 1;
                own.output.emit(sample)?;
            } else {
                own.summary.skipped += 1;
            }
            Ok(())
        })?;
        self.summary.skipped += u64::from(!good);
        Ok(())
    }

    /// The sample of an annotation; `None` if the user does not want it.
    fn sample(
        &mut self,
        node: Node<'_>,
        record: &Record,
        remarks: &Remarks<'_>,
    ) -> Result<Option<Sample>, Trouble> {
        let image_id = node.get("image_id");
        let Some(id) = image_id.and_then(Node::name) else {
            let message = "the annotation names no image: skipped";
            return Err(skip("no-image", message, node.at(), ""));
        };
        let at = image_id.unwrap_or(node).at();
        let caption = match node.get("caption") {
            None => {
                let message = "the annotation has no caption: skipped";
                return Err(skip("no-caption", message, node.at(), ""));
            }
            Some(caption) => match caption.text().map(str::trim) {
                Some(text) if !text.is_empty() => (text, caption.at()),
                _ => {
                    let message = "the caption is empty or no text: skipped";
                    return Err(skip("no-caption", message, caption.at(), "/caption"));
                }
            },
        };
        let Some(image) = self.catalogue.find(id) else {
            let message = format!("there is no image with the id {id}: skipped");
            return Err(skip("unknown-image", message, at, "/image_id"));
        };
        if self.catalogue.is_captioned(image) && self.choices.first_only {
            let message = "the image has a caption already, and captions=first: left out";
            remarks.note("further-caption", message, node.at(), "")?;
            return Ok(None);
        }
        let name = self.catalogue.name(image);
        let found = self.choices.images.find(name, self.host, at, "/image_id")?;
        self.catalogue.caption(image);
        let questions = &self.choices.questions;
        let question = &questions[record.index as usize % questions.len()];
        let mut conversation = Conversation::new();
        let content = vec![conversation.image(found), Part::Text(question.clone())];
        conversation.say(Role::User, content, node.at(), "");
        conversation.text(Role::Assistant, caption.0, caption.1, "/caption");
        conversation.extra.push(match id.parse() {
            Ok(number) => ("image_id".into(), Value::Integer(number)),
            Err(_) => ("image_id".into(), Value::Text(id.to_owned())),
        });
        let own = match node.get("id").and_then(Node::name) {
            Some(own) if !own.is_empty() => own.to_owned(),
            _ => format!("annotation-{}", record.index + 1),
        };
        let system = self.choices.system.as_deref();
        let mut sample = conversation.finish(own, system, remarks, node.at())?;
        sample.id = self.ids.fresh(sample.id, node.at(), remarks)?;
        Ok(Some(sample))
    }

    /// Notes the images that no annotation describes; `end` is the end of the file.
    fn uncaptioned(&self, end: graft_plugin::Location) -> Result<(), Error> {
        let locate = |at: usize, field: Option<&str>| graft_plugin::Location {
            record_index: Some(self.catalogue.index(at)),
            field: field.map(str::to_owned),
            ..end.clone()
        };
        let remarks = Remarks {
            scope: "coco-captions",
            host: self.host,
            locate: &locate,
        };
        for image in self.catalogue.uncaptioned() {
            let name = self.catalogue.name(image);
            let message = format!("image {name} has no usable caption");
            remarks.note("image-without-caption", message, image, "")?;
        }
        Ok(())
    }
}

export_converter!(CocoCaptions);

#[cfg(test)]
mod tests;
