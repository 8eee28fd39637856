//! Exports of UBIAI: labelled spans of a document, and relations that link questions to answers.
//!
//! Reads relation JSON (`tokens` and `relations`), entity JSON (`annotation` or `annotations`) and spaCy
//! lists (`["text", {"entities": [[start, end, label]]}]`), as one array or one record after the other;
//! tagged tokens (IOB), also those of scans with boxes and images; forms as FUNSD has them; and records of
//! prompts and responses.

// The error is a record of the interface; it is made once, at the end of a conversion.
#![allow(clippy::result_large_err)]

mod area;
mod document;
mod forms;
mod images;
mod pairs;
mod prompts;
mod scanned;
mod tagged;

use std::collections::{HashMap, HashSet};
use std::mem::take;

use document::Document;
use graft_plugin::json::{self, Dialect};
use graft_plugin::options::Options;
use graft_plugin::place::Place;
use graft_plugin::records::{Record, Records};
use graft_plugin::{
    Converter, Diagnostic, Error, Format, Host, Part, Role, Sample, Severity, Sink, Source,
    Summary, Turn, Value, export_converter, invalid_input,
};
use pairs::Pair;
use tagged::{Parts, Tagged};

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
        Format {
            id: "ubiai-iob",
            title: "UBIAI, tagged tokens",
            extensions: &["tsv", "txt", "iob"],
        },
        Format {
            id: "ubiai-ocr",
            title: "UBIAI, tagged words of scans",
            extensions: &["txt"],
        },
        Format {
            id: "funsd",
            title: "FUNSD, a form with links",
            extensions: &["json"],
        },
        Format {
            id: "ubiai-prompts",
            title: "UBIAI, prompts and responses",
            extensions: &["json", "jsonl"],
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
    "notation": {"enum": ["auto", "json", "python", "iob", "ocr"], "default": "auto",
      "description": "python for exports that print lists with single quotes, iob for tagged tokens, ocr for those of scans"}
  }
}"#;

    fn detect(head: &[u8], name: &str) -> u8 {
        let text = String::from_utf8_lossy(head);
        if text
            .trim_start_matches('\u{feff}')
            .starts_with(tagged::START)
        {
            return 80;
        }
        if is_archive(head) {
            // To say what to do with it.
            return if text.contains("_box.txt") { 60 } else { 0 };
        }
        if tagged::is_likely(head) {
            return 75;
        }
        if let Some((record, _)) = json::first_record(head)
            && prompts::is_one(record.root())
        {
            let record = record.root();
            let certain = record.has(&["user_prompt"]) || record.has(&["userPrompt"]);
            return if certain { 80 } else { 40 };
        }
        let has = |key: &str| text.contains(key);
        let is_form = has("\"form\"") && has("\"linking\"");
        if has("\"tokens\"") && has("\"entityLabel\"") {
            95
        } else if is_form || (has("\"documentName\"") && has("\"annotation")) {
            85
        } else if is_spacy(&text) {
            75
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
        let notations = ["auto", "json", "python", "iob", "ocr"];
        let notation = match options.choice("notation", &notations)? {
            "python" => Notation::Records(Dialect::Python),
            "json" => Notation::Records(Dialect::Json),
            "iob" => Notation::Tagged(None),
            "ocr" => match scanned::beside(&input.name(), host)? {
                Some(boxes) => Notation::Tagged(Some(boxes)),
                None => return Err(no_boxes(&input.name())),
            },
            _ => guess(input, host)?,
        };
        let total = input.size();
        let mut conversion = Conversion {
            ids: Ids::default(),
            summary: Summary {
                records: 0,
                samples: 0,
                skipped: 0,
            },
            output,
            host,
            total,
        };
        match notation {
            Notation::Records(dialect) => {
                let mut records = Records::new(input, dialect, LARGEST_RECORD);
                while let Some(record) = records.next_record()? {
                    let samples = samples(&record, &choices, &mut conversion.ids, host)?;
                    conversion.take(samples, &record)?;
                }
            }
            Notation::Tagged(boxes) => {
                // Tags know no relations.
                let choices = Choices {
                    nearest: true,
                    ..choices
                };
                match boxes {
                    None => tagged_documents(input, &choices, &mut conversion)?,
                    Some(mut boxes) => pages(input, &mut *boxes, &choices, &mut conversion)?,
                }
            }
        }
        Ok(conversion.summary)
    }
}

/// Takes the documents of a file of tagged tokens in.
fn tagged_documents(
    input: &mut dyn Source,
    choices: &Choices,
    conversion: &mut Conversion<'_>,
) -> Result<(), Error> {
    let mut documents = Tagged::new(input, Parts::Documents, LARGEST_RECORD)?;
    while let Some(record) = documents.next_record()? {
        let remarks = Remarks {
            record: &record,
            host: conversion.host,
        };
        let document = tagged::document(&record, &[], &remarks)?;
        let samples = of_document(document, 0, choices, &mut conversion.ids, &remarks)?;
        conversion.take(samples, &record)?;
    }
    Ok(())
}

/// Takes the pages of a file of tagged words in, whose boxes and images are in the file `boxes`.
fn pages(
    input: &mut dyn Source,
    boxes: &mut dyn Source,
    choices: &Choices,
    conversion: &mut Conversion<'_>,
) -> Result<(), Error> {
    let mut pages = Tagged::new(input, Parts::Pages, LARGEST_RECORD)?;
    let mut boxes = Tagged::new(boxes, Parts::Pages, LARGEST_RECORD)?;
    while let Some(record) = pages.next_record()? {
        let remarks = Remarks {
            record: &record,
            host: conversion.host,
        };
        let boxes = boxes.next_record()?;
        let samples = match scanned::page(&record, boxes.as_ref(), &remarks)? {
            Some(page) => {
                let document = Document {
                    name: page.image.map(|name| name.replace('\\', "/")),
                    ..tagged::document(&record, &page.areas, &remarks)?
                };
                of_document(document, 0, choices, &mut conversion.ids, &remarks)?
            }
            None => Vec::new(),
        };
        conversion.take(samples, &record)?;
    }
    Ok(())
}

/// What has come of the records so far.
struct Conversion<'a> {
    ids: Ids,
    summary: Summary,
    output: &'a mut dyn Sink,
    host: &'a dyn Host,
    total: Option<u64>,
}

impl Conversion<'_> {
    fn take(&mut self, samples: Vec<Sample>, record: &Record) -> Result<(), Error> {
        self.summary.records += 1;
        self.summary.skipped += u64::from(samples.is_empty());
        for sample in samples {
            self.summary.samples += 1;
            self.output.emit(sample)?;
        }
        self.host.checkpoint(record.end_offset, self.total)
    }
}

/// How an export is written.
enum Notation {
    Records(Dialect),
    /// With the file that has the words' boxes, if there is one.
    Tagged(Option<Box<dyn Source>>),
}

/// Whether the text is tagged tokens, JSON or Python: only Python opens a list with a round bracket or a single
/// quote. A pipe is taken for JSON.
fn guess(input: &mut dyn Source, host: &dyn Host) -> Result<Notation, Error> {
    let head = match input.read_at(0, 4096) {
        Ok(head) => head,
        Err(Error::Unsupported(_)) => return Ok(Notation::Records(Dialect::Json)),
        Err(error) => return Err(error),
    };
    if is_archive(&head) {
        return Err(archive(&input.name()));
    }
    let bare = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    if bare.starts_with(tagged::START.as_bytes()) {
        return Ok(Notation::Tagged(None));
    }
    if tagged::is_likely(bare) {
        return Ok(Notation::Tagged(scanned::beside(&input.name(), host)?));
    }
    let mut telling = head.iter().filter(|b| matches!(b, b'"' | b'\'' | b'('));
    Ok(Notation::Records(match telling.next() {
        Some(b'\'' | b'(') => Dialect::Python,
        _ => Dialect::Json,
    }))
}

/// Whether `text` begins as a spaCy list: a list of lists of a text and its entities.
fn is_spacy(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let inner = text.strip_prefix('[').map(str::trim_start);
    let in_list = inner.is_some_and(|inner| inner.starts_with(['[', '(']));
    in_list
        && ["{\"entities\"", "{'entities'"]
            .iter()
            .any(|key| text.contains(key))
}

/// Whether a file that begins with `head` is a zip archive.
fn is_archive(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

fn archive(name: &str) -> Error {
    let message = "this is a zip archive: unpack it, give the .json file in it (of an OCR export the .txt file \
                   with words and tags) and name the folder with --assets";
    let at = Place::START.location(name);
    invalid_input("ubiai-archive", message, Some(at))
}

fn no_boxes(name: &str) -> Error {
    let message = "of an OCR export give x.txt, and with --assets the folder that has x_image.txt or x_box.txt \
                   beside it";
    let at = Place::START.location(name);
    invalid_input("ubiai-no-boxes", message, Some(at))
}

/// Ids given so far, by hash: exports may have more documents than memory has names.
#[derive(Default)]
struct Ids {
    given: HashSet<u64>,
    /// How often those were given that were given more than once.
    times: HashMap<u64, u32>,
}

impl Ids {
    /// `id`, or if it was given before a new one, and then the flag is set.
    fn fresh(&mut self, id: String) -> (String, bool) {
        // FNV-1a.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        if self.given.insert(hash) {
            return (id, false);
        }
        let times = self.times.entry(hash).or_insert(1);
        *times += 1;
        (format!("{id}~{times}"), true)
    }
}

/// The samples of one document; what is wrong with it is reported.
fn samples(
    record: &Record,
    choices: &Choices,
    ids: &mut Ids,
    host: &dyn Host,
) -> Result<Vec<Sample>, Error> {
    let tree = record.parse()?;
    let node = tree.root();
    let remarks = Remarks { record, host };
    if prompts::is_one(node) {
        let id = node.get("id").and_then(json::Node::name);
        let id = id.map_or_else(|| format!("record-{}", record.index + 1), str::to_owned);
        let Some(mut sample) = prompts::sample(node, id, record, &remarks)? else {
            return Ok(Vec::new());
        };
        sample.id = ids.fresh(take(&mut sample.id)).0;
        return Ok(vec![sample]);
    }
    if forms::is_one(node) {
        let document = forms::read(node, choices, &remarks)?;
        return of_document(document, node.at(), choices, ids, &remarks);
    }
    match Document::read(node, &remarks)? {
        Some(document) => of_document(document, node.at(), choices, ids, &remarks),
        None => Ok(Vec::new()),
    }
}

/// The samples of a document; `at` is where it stands in its record.
fn of_document(
    document: Document<'_>,
    at: usize,
    choices: &Choices,
    ids: &mut Ids,
    remarks: &Remarks<'_>,
) -> Result<Vec<Sample>, Error> {
    let record = remarks.record;
    let mut pairs = pairs::find(&document, choices, remarks)?;
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
        remarks.warn("ubiai-no-pairs", message, at, None)?;
        return Ok(Vec::new());
    }
    let (called, twice) = ids.fresh(called);
    if twice {
        let message = format!("another document of that name came before: this one is {called}");
        remarks.warn("ubiai-duplicate-id", message, at, Some("/documentName"))?;
    }
    let paged = document.is_paged();
    let mut samples = Vec::new();
    // Pairs are in reading order, so those of a page stand together.
    for pairs in pairs.chunk_by_mut(|a, b| a.page == b.page) {
        let page = pairs[0].page;
        let Some(images) = images::of(&document, page, pairs, choices, remarks)? else {
            continue;
        };
        let name = match paged {
            true => format!("{called}#page-{page}"),
            false => called.clone(),
        };
        let sample = |id: String, pairs: &mut [Pair]| Sample {
            id,
            images: images.clone(),
            turns: turns(pairs, !images.is_empty()),
            origin: Some(record.location(at, None)),
            extra: extra(pairs, paged),
        };
        match choices.one_pair_a_sample {
            false => samples.push(sample(name, pairs)),
            true => {
                let each = pairs.iter_mut().enumerate();
                samples.extend(each.map(|(i, pair)| {
                    sample(format!("{name}#{}", i + 1), std::slice::from_mut(pair))
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
        /// Of a pair with two boxes of large numbers.
        const BYTES: usize = 80;
        let mut boxes = String::with_capacity(pairs.len() * BYTES);
        for pair in pairs {
            boxes.push(if boxes.is_empty() { '[' } else { ',' });
            pair.write_boxes(&mut boxes);
        }
        boxes.push(']');
        extra.push(("boxes".into(), Value::Json(boxes)));
    }
    extra
}

/// Questions and answers, which it takes, as a conversation; the first question shows the image.
fn turns(pairs: &mut [Pair], image: bool) -> Vec<Turn> {
    let mut turns = Vec::with_capacity(2 * pairs.len());
    for (i, pair) in pairs.iter_mut().enumerate() {
        let mut content = Vec::with_capacity(1 + usize::from(i == 0 && image));
        if i == 0 && image {
            content.push(Part::Image(0));
        }
        content.push(Part::Text(take(&mut pair.question)));
        turns.push(Turn {
            role: Role::User,
            content,
        });
        turns.push(Turn {
            role: Role::Assistant,
            content: vec![Part::Text(take(&mut pair.answer))],
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
    /// The last part of the name of the file that is read.
    fn file_name(&self) -> String {
        let name = self.record.location(0, None).source;
        let last = name.rsplit(['/', '\\']).next();
        last.unwrap_or_default().to_owned()
    }

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
