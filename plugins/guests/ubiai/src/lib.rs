//! Exports of UBIAI: labelled spans of a document, and relations that link questions to answers.
//!
//! Reads relation JSON (`tokens` and `relations`), entity JSON (`annotation` or `annotations`) and spaCy
//! lists (`["text", {"entities": [[start, end, label]]}]`), as one array or one record after the other.

mod document;
mod pairs;

use document::Document;
use graft_plugin::json::Dialect;
use graft_plugin::options::Options;
use graft_plugin::records::{Record, Records};
use graft_plugin::{
    Converter, Diagnostic, Error, Format, Host, ImageRef, Part, Role, Sample, Severity, Sink,
    Source, Summary, Turn, export_converter,
};
use pairs::Pair;

/// Bytes of the largest document.
const LARGEST_RECORD: usize = 64 << 20;
const MARKER: &str = "<image>";
const IMAGE_ENDINGS: [&str; 6] = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"];

/// The converter.
pub struct Ubiai;

/// What the user chose.
struct Choices {
    question: String,
    answer: String,
    relation: Option<String>,
    nearest: bool,
    one_pair_a_sample: bool,
    image_prefix: String,
}

const OPTIONS: [&str; 7] = [
    "question_label",
    "answer_label",
    "relation_label",
    "pairing",
    "turns",
    "image_prefix",
    "notation",
];

impl Converter for Ubiai {
    const FORMATS: &'static [Format] = &[
        Format {
            id: "ubiai-relations",
            title: "UBIAI, entities and relations",
            extensions: &["json", "txt"],
        },
        Format {
            id: "ubiai-entities",
            title: "UBIAI, entities",
            extensions: &["json", "jsonl"],
        },
        Format {
            id: "ubiai-spacy",
            title: "UBIAI, spaCy list",
            extensions: &["txt", "json"],
        },
    ];

    const OPTIONS_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "question_label": {"type": "string", "default": "QUESTION"},
    "answer_label": {"type": "string", "default": "ANSWER"},
    "relation_label": {"type": "string", "description": "Only relations of this label; any if not given"},
    "pairing": {"enum": ["relation", "nearest"], "default": "relation",
      "description": "nearest also links a question without relation to the next free answer"},
    "turns": {"enum": ["document", "pair"], "default": "document",
      "description": "One sample per document, or one per question"},
    "image_prefix": {"type": "string", "default": "", "description": "Put before every image name"},
    "notation": {"enum": ["json", "python"], "default": "json",
      "description": "python for exports that print lists with single quotes"}
  }
}"#;

    fn detect(head: &[u8], name: &str) -> u8 {
        let text = String::from_utf8_lossy(head);
        let has = |key: &str| text.contains(key);
        if has("\"tokens\"") && has("\"entityLabel\"") {
            95
        } else if has("\"documentName\"") && has("\"annotation") {
            85
        } else if has("entities") && has("{") && (name.ends_with(".txt") || name.ends_with(".json"))
        {
            30
        } else {
            0
        }
    }

    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error> {
        let options = Options::parse(options, &OPTIONS)?;
        let text = |name, default: &str| -> Result<String, Error> {
            Ok(options.text(name)?.unwrap_or(default).to_owned())
        };
        let choices = Choices {
            question: text("question_label", "QUESTION")?,
            answer: text("answer_label", "ANSWER")?,
            relation: options.text("relation_label")?.map(str::to_owned),
            nearest: options.choice("pairing", &["relation", "nearest"])? == "nearest",
            one_pair_a_sample: options.choice("turns", &["document", "pair"])? == "pair",
            image_prefix: text("image_prefix", "")?,
        };
        let dialect = match options.choice("notation", &["json", "python"])? {
            "python" => Dialect::Python,
            _ => Dialect::Json,
        };
        let total = input.size();
        let mut records = Records::new(input, dialect, LARGEST_RECORD);
        let mut summary = Summary {
            records: 0,
            samples: 0,
            skipped: 0,
        };
        while let Some(record) = records.next_record()? {
            summary.records += 1;
            let samples = samples(&record, &choices, host)?;
            summary.skipped += u64::from(samples.is_empty());
            for sample in samples {
                summary.samples += 1;
                output.emit(sample)?;
            }
            host.checkpoint(record.end_offset, total)?;
        }
        Ok(summary)
    }
}

/// The samples of one document; what is wrong with it is reported.
fn samples(record: &Record, choices: &Choices, host: &dyn Host) -> Result<Vec<Sample>, Error> {
    let node = record.parse()?;
    let remarks = Remarks { record, host };
    let Some(document) = Document::read(&node, &remarks)? else {
        return Ok(Vec::new());
    };
    let pairs = pairs::find(&document, choices, &remarks)?;
    if pairs.is_empty() {
        let message = format!(
            "{} has no {} linked to an {}: no sample",
            document.called(record.index),
            choices.question,
            choices.answer
        );
        remarks.warn("ubiai-no-pairs", message, node.at, None)?;
        return Ok(Vec::new());
    }
    let images = match image(&document, choices) {
        Some(name) => match host.probe_image(&name) {
            Ok(_) => vec![ImageRef::Asset(name)],
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(_) => {
                let message = format!("image {name} is missing or no image: no sample");
                remarks.warn(
                    "ubiai-missing-image",
                    message,
                    node.at,
                    Some("/documentName"),
                )?;
                return Ok(Vec::new());
            }
        },
        None => Vec::new(),
    };
    let id = document.called(record.index);
    let sample = |id: String, pairs: &[Pair]| Sample {
        id,
        images: images.clone(),
        turns: turns(pairs, !images.is_empty()),
        origin: Some(record.location(node.at, None)),
        extra: Vec::new(),
    };
    Ok(match choices.one_pair_a_sample {
        false => vec![sample(id, &pairs)],
        true => {
            let each = pairs.iter().enumerate();
            each.map(|(i, pair)| sample(format!("{id}#{}", i + 1), std::slice::from_ref(pair)))
                .collect()
        }
    })
}

/// Questions and answers as a conversation; the first question shows the image.
fn turns(pairs: &[Pair], image: bool) -> Vec<Turn> {
    let mut turns = Vec::with_capacity(2 * pairs.len());
    for (i, pair) in pairs.iter().enumerate() {
        let mut content = Vec::new();
        if i == 0 && image {
            content.push(Part::Image(0));
        }
        content.push(Part::Text(pair.question.clone()));
        turns.push(Turn {
            role: Role::User,
            content,
        });
        turns.push(Turn {
            role: Role::Assistant,
            content: vec![Part::Text(pair.answer.clone())],
        });
    }
    turns
}

/// The name of the document's image, if its name is one.
fn image(document: &Document, choices: &Choices) -> Option<String> {
    let name = document.name.as_deref()?.replace('\\', "/");
    let lower = name.to_lowercase();
    let is_image = IMAGE_ENDINGS.iter().any(|ending| lower.ends_with(ending));
    is_image.then(|| format!("{}{name}", choices.image_prefix))
}

/// Reports what is wrong with a record.
struct Remarks<'a> {
    record: &'a Record,
    host: &'a dyn Host,
}

impl Remarks<'_> {
    fn warn(
        &self,
        code: &str,
        message: String,
        at: usize,
        pointer: Option<&str>,
    ) -> Result<(), Error> {
        self.host.report(Diagnostic {
            severity: Severity::Warning,
            code: code.to_owned(),
            message,
            at: Some(self.record.location(at, pointer)),
        })
    }
}

export_converter!(Ubiai);

#[cfg(test)]
mod tests;
