//! Exports of UBIAI: labelled spans of a document, and relations that link questions to answers.
//!
//! Reads relation JSON (`tokens` and `relations`), entity JSON (`annotation` or `annotations`) and spaCy
//! lists (`["text", {"entities": [[start, end, label]]}]`), as one array or one record after the other.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod area;
mod document;
mod images;
mod pairs;

use std::collections::HashMap;

use document::Document;
use graft_plugin::json::Dialect;
use graft_plugin::options::Options;
use graft_plugin::records::{Record, Records};
use graft_plugin::{
    Converter, Diagnostic, Error, Format, Host, Part, Role, Sample, Severity, Sink, Source,
    Summary, Turn, Value, export_converter,
};
use pairs::Pair;

/// Bytes of the largest document.
const LARGEST_RECORD: usize = 64 << 20;
const MARKER: &str = "<image>";

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
      "description": "One sample per document and page, or one per question"},
    "image_prefix": {"type": "string", "default": "", "description": "Put before every image name"},
    "notation": {"enum": ["auto", "json", "python"], "default": "auto",
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
        let dialect = match options.choice("notation", &["auto", "json", "python"])? {
            "python" => Dialect::Python,
            "json" => Dialect::Json,
            _ => guess(input)?,
        };
        let total = input.size();
        let mut records = Records::new(input, dialect, LARGEST_RECORD);
        let mut ids = Ids::default();
        let mut summary = Summary {
            records: 0,
            samples: 0,
            skipped: 0,
        };
        while let Some(record) = records.next_record()? {
            summary.records += 1;
            let samples = samples(&record, &choices, &mut ids, host)?;
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

/// Whether the text is JSON or Python: only Python opens a list with a round bracket or a single
/// quote. A pipe is taken for JSON.
fn guess(input: &mut dyn Source) -> Result<Dialect, Error> {
    let head = match input.read_at(0, 4096) {
        Ok(head) => head,
        Err(Error::Unsupported(_)) => return Ok(Dialect::Json),
        Err(error) => return Err(error),
    };
    let mut telling = head.iter().filter(|b| matches!(b, b'"' | b'\'' | b'('));
    Ok(match telling.next() {
        Some(b'\'' | b'(') => Dialect::Python,
        _ => Dialect::Json,
    })
}

/// Ids given so far, by hash: exports may have more documents than memory has names.
#[derive(Default)]
struct Ids(HashMap<u64, u32>);

impl Ids {
    /// `id`, or if it was given before a new one, and then the flag is set.
    fn fresh(&mut self, id: String) -> (String, bool) {
        // FNV-1a.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        let given = self.0.entry(hash).or_default();
        *given += 1;
        match *given {
            1 => (id, false),
            times => (format!("{id}~{times}"), true),
        }
    }
}

/// The samples of one document; what is wrong with it is reported.
fn samples(
    record: &Record,
    choices: &Choices,
    ids: &mut Ids,
    host: &dyn Host,
) -> Result<Vec<Sample>, Error> {
    let node = record.parse()?;
    let remarks = Remarks { record, host };
    let Some(document) = Document::read(&node, &remarks)? else {
        return Ok(Vec::new());
    };
    let pairs = pairs::find(&document, choices, &remarks)?;
    let called = document.called(record.index);
    if pairs.is_empty() {
        let hint = match document.relations.is_empty() && !choices.nearest {
            true => "; without relations, pairing=nearest takes the next answer",
            false => "",
        };
        let message = format!(
            "{called} has no {} linked to an {}: no sample{hint}",
            choices.question, choices.answer
        );
        remarks.warn("ubiai-no-pairs", message, node.at, None)?;
        return Ok(Vec::new());
    }
    let (called, twice) = ids.fresh(called);
    if twice {
        let message = format!("another document of that name came before: this one is {called}");
        remarks.warn(
            "ubiai-duplicate-id",
            message,
            node.at,
            Some("/documentName"),
        )?;
    }
    let paged = document.is_paged();
    let mut samples = Vec::new();
    // Pairs are in reading order, so those of a page stand together.
    for pairs in pairs.chunk_by(|a, b| a.page == b.page) {
        let page = pairs[0].page;
        let Some(images) = images::of(&document, page, pairs, choices, &remarks)? else {
            continue;
        };
        let name = match paged {
            true => format!("{called}#page-{page}"),
            false => called.clone(),
        };
        let sample = |id: String, pairs: &[Pair]| Sample {
            id,
            images: images.clone(),
            turns: turns(pairs, !images.is_empty()),
            origin: Some(record.location(node.at, None)),
            extra: extra(pairs, paged),
        };
        match choices.one_pair_a_sample {
            false => samples.push(sample(name, pairs)),
            true => {
                let each = pairs.iter().enumerate();
                samples.extend(each.map(|(i, pair)| {
                    sample(format!("{name}#{}", i + 1), std::slice::from_ref(pair))
                }));
            }
        }
    }
    Ok(samples)
}

/// Page and boxes, where the export has them.
fn extra(pairs: &[Pair], paged: bool) -> Vec<(String, Value)> {
    let mut extra = Vec::new();
    if paged {
        let page = i64::try_from(pairs[0].page).unwrap_or(i64::MAX);
        extra.push(("page".into(), Value::Integer(page)));
    }
    if pairs
        .iter()
        .any(|pair| pair.areas.iter().any(Option::is_some))
    {
        let boxes: Vec<String> = pairs.iter().map(Pair::boxes).collect();
        let boxes = format!("[{}]", boxes.join(","));
        extra.push(("boxes".into(), Value::Json(boxes)));
    }
    extra
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
