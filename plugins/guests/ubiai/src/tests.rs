//! The converter on exports in memory.

use std::cell::RefCell;

use graft_plugin::{ImageFormat, ImageInfo, ImageRef, Level};

use super::*;

struct Memory(Vec<u8>, usize);

impl Source for Memory {
    fn name(&self) -> String {
        "export.json".into()
    }
    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn read(&mut self, max: u32) -> Result<Vec<u8>, Error> {
        let end = self.0.len().min(self.1 + max as usize);
        let read = self.0[self.1..end].to_vec();
        self.1 = end;
        Ok(read)
    }
    fn read_at(&mut self, _: u64, _: u32) -> Result<Vec<u8>, Error> {
        Err(Error::Unsupported("not asked for".into()))
    }
}

#[derive(Default)]
struct Desk {
    remarks: RefCell<Vec<Diagnostic>>,
}

impl Host for Desk {
    fn log(&self, _: Level, _: &str) {}
    fn report(&self, diagnostic: Diagnostic) -> Result<(), Error> {
        self.remarks.borrow_mut().push(diagnostic);
        Ok(())
    }
    fn checkpoint(&self, _: u64, _: Option<u64>) -> Result<(), Error> {
        Ok(())
    }
    fn open_asset(&self, name: &str) -> Result<Box<dyn Source>, Error> {
        Err(Error::NotFound(name.into()))
    }
    fn probe_image(&self, name: &str) -> Result<ImageInfo, Error> {
        match name.contains("missing") {
            true => Err(Error::NotFound(name.into())),
            false => Ok(ImageInfo {
                width: 8,
                height: 8,
                format: ImageFormat::Png,
                size: 100,
            }),
        }
    }
    fn list_assets(&self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

struct Samples(Vec<Sample>);

impl Sink for Samples {
    fn emit(&mut self, sample: Sample) -> Result<(), Error> {
        self.0.push(sample);
        Ok(())
    }
}

fn convert(export: &str, options: &str) -> (Result<Summary, Error>, Vec<Sample>, Vec<String>) {
    let desk = Desk::default();
    let mut samples = Samples(Vec::new());
    let mut source = Memory(export.as_bytes().to_vec(), 0);
    let summary = Ubiai::convert(&mut source, &mut samples, options, &desk);
    let codes = desk.remarks.into_inner().into_iter().map(|d| d.code);
    (summary, samples.0, codes.collect())
}

fn texts(sample: &Sample) -> Vec<&str> {
    let parts = sample.turns.iter().flat_map(|turn| &turn.content);
    let texts = parts.map(|part| match part {
        Part::Text(text) => text.as_str(),
        Part::Image(_) => "[image]",
    });
    texts.collect()
}

const SCAN: &str = r#"{"document": "Total? 42 Date? May", "documentName": "a.png",
  "tokens": [
    {"text": "Total?", "start": 0, "end": 6, "token_start": 0, "token_end": 1, "entityLabel": "QUESTION"},
    {"text": "42", "start": 7, "end": 9, "token_start": 2, "token_end": 2, "entityLabel": "ANSWER"},
    {"text": "Date?", "start": 10, "end": 15, "token_start": 3, "token_end": 4, "entityLabel": "question"},
    {"text": "May", "start": 16, "end": 19, "token_start": 5, "token_end": 5, "entityLabel": "Answer"}],
  "relations": [{"head": 0, "child": 2, "relationLabel": "ANSWERED_BY"}, {"head": 3, "child": 5, "relationLabel": "ANSWERED_BY"}]}"#;

#[test]
fn relations_link_questions_to_answers() {
    let (summary, samples, remarks) = convert(&format!("[{SCAN}]"), "{}");
    let summary = summary.unwrap();
    assert_eq!(
        (summary.records, summary.samples, summary.skipped),
        (1, 1, 0)
    );
    assert!(remarks.is_empty(), "{remarks:?}");
    assert_eq!(
        texts(&samples[0]),
        ["[image]", "Total?", "42", "Date?", "May"]
    );
    assert_eq!(samples[0].id, "a.png");
    assert_eq!(samples[0].origin.as_ref().unwrap().record_index, Some(0));

    let (_, each, _) = convert(SCAN, r#"{"turns": "pair", "image_prefix": "scans/"}"#);
    assert_eq!(each.len(), 2);
    assert_eq!(texts(&each[1]), ["[image]", "Date?", "May"]);
    assert_eq!(each[1].id, "a.png#2");
    assert!(matches!(&each[0].images[0], ImageRef::Asset(name) if name == "scans/a.png"));
}

#[test]
fn a_relation_may_point_into_a_span_or_run_backwards() {
    let inside = SCAN.replace(r#""head": 3, "child": 5"#, r#""head": 4, "child": 5"#);
    let (_, samples, remarks) = convert(&inside, "{}");
    assert_eq!((samples[0].turns.len(), remarks.len()), (4, 0));
    let reversed = SCAN.replace(r#""head": 0, "child": 2"#, r#""head": 2, "child": 0"#);
    let (_, samples, remarks) = convert(&reversed, "{}");
    assert_eq!(samples[0].turns.len(), 4);
    assert_eq!(remarks, ["ubiai-reversed-relation"]);
}

#[test]
fn what_is_not_linked_is_said_and_left_out() {
    let orphan = SCAN.replace(r#""head": 3, "child": 5"#, r#""head": 9, "child": 5"#);
    let (summary, samples, remarks) = convert(&orphan, "{}");
    assert_eq!(samples[0].turns.len(), 2);
    assert_eq!(summary.unwrap().skipped, 0);
    assert_eq!(
        remarks,
        [
            "ubiai-dangling-relation",
            "ubiai-orphan-question",
            "ubiai-orphan-answer"
        ]
    );
    let (_, samples, remarks) = convert(&orphan, r#"{"pairing": "nearest"}"#);
    assert_eq!(samples[0].turns.len(), 4);
    assert_eq!(remarks, ["ubiai-dangling-relation"]);
    let (_, samples, _) = convert(SCAN, r#"{"relation_label": "DEGREE_IN"}"#);
    assert!(samples.is_empty());
    let missing = SCAN.replace("a.png", "missing.png");
    let (summary, samples, remarks) = convert(&missing, "{}");
    assert_eq!((summary.unwrap().skipped, samples.len()), (1, 0));
    assert_eq!(remarks, ["ubiai-missing-image"]);
}

#[test]
fn entity_lists_and_spacy_lists_are_read_too() {
    let entities = r#"{"documentName": "note", "document": "Größe? groß 😀 Ende? ja",
      "annotation": [{"start": 0, "end": 6, "label": "QUESTION"}, {"start": 7, "end": 11, "label": "ANSWER"},
        {"start": 15, "end": 20, "label": "QUESTION", "text": "Ende?"}, {"start": 21, "end": 23, "label": "ANSWER", "text": "ja"}]}"#;
    let (_, samples, remarks) = convert(entities, r#"{"pairing": "nearest"}"#);
    // The last two count as JavaScript does, in UTF-16 units.
    assert!(remarks.is_empty(), "{remarks:?}");
    assert_eq!(texts(&samples[0]), ["Größe?", "groß", "Ende?", "ja"]);
    let spacy = "[['Wer? Ich', {'entities': [(0, 4, 'QUESTION'), (5, 8, 'ANSWER')]}]]";
    let options = r#"{"pairing": "nearest", "notation": "python"}"#;
    let (_, samples, _) = convert(spacy, options);
    assert_eq!(texts(&samples[0]), ["Wer?", "Ich"]);
    let single = r#"{"document": "x", "annotations": {"start": 0, "end": 1, "label": "QUESTION"}}"#;
    let (_, _, remarks) = convert(single, "{}");
    assert_eq!(remarks, ["ubiai-orphan-question", "ubiai-no-pairs"]);
}

#[test]
fn tagged_tokens_are_read_by_their_tags() {
    let export = "-DOCSTART- -X- O O\r\n\r\nTotal\tB-QUESTION\r\ndue\tI-QUESTION\r\nis\tO\r\n42\tS-ANSWER\r\n\r\n\
                  -DOCSTART- -X- O O\n\nWho\tB-QUESTION\nAna\tB-ANSWER\nLima\tE-ANSWER\nalone\n";
    let (summary, samples, remarks) = convert(export, r#"{"notation": "iob"}"#);
    assert_eq!(summary.unwrap().records, 2);
    assert_eq!(texts(&samples[0]), ["Total due", "42"]);
    assert_eq!(texts(&samples[1]), ["Who", "Ana Lima"]);
    assert_eq!(remarks, ["ubiai-untagged-token"]);
    assert_eq!(samples[1].origin.as_ref().unwrap().line, Some(8));
    assert_eq!(Ubiai::detect(export.as_bytes(), "a.tsv"), 80);
    for cut in 0..export.len() {
        let (summary, ..) = convert(&export[..cut], r#"{"notation": "iob"}"#);
        assert!(summary.is_ok(), "{cut}");
    }
}

#[test]
fn prompts_and_responses_are_conversations() {
    let export = r#"[{"system_prompt": "s", "user_prompt": "Sum up.", "input": "long", "response": "short", "temperature": 1},
        {"user_prompt": "q", "response": ""}, {"prompt": "q", "output": "a", "id": 7}]"#;
    let (summary, samples, remarks) = convert(export, "{}");
    assert_eq!(summary.unwrap().skipped, 1);
    assert_eq!(texts(&samples[0]), ["s", "Sum up.\nlong", "short"]);
    assert_eq!(
        (texts(&samples[1]), samples[1].id.as_str()),
        (vec!["q", "a"], "7")
    );
    assert_eq!(remarks, ["ubiai-empty-turn"]);
    assert_eq!(Ubiai::detect(export.as_bytes(), "a.json"), 80);
}

#[test]
fn faults_have_places() {
    let (error, _, _) = convert("[{\"document\": \"a\",\n \"tokens\": [1,, 2]}]", "{}");
    let Err(Error::InvalidInput(fault)) = error else {
        panic!("it is no JSON");
    };
    let at = fault.at.unwrap();
    assert_eq!((at.line, at.column), (Some(2), Some(15)));
    for (export, code) in [
        (r#"[{"document": "x"}]"#, "ubiai-unknown-record"),
        (r#"[7]"#, "ubiai-unknown-record"),
        (
            r#"[{"document": "abc", "tokens": [{"start": 0, "end": 99, "entityLabel": "QUESTION"}]}]"#,
            "ubiai-bad-span",
        ),
        (
            r#"[{"document": "abc", "tokens": [{"start": 0, "end": 2, "text": "zz", "entityLabel": "QUESTION"}]}]"#,
            "ubiai-text-mismatch",
        ),
        (
            r#"[{"document": "abc", "tokens": [], "relations": [{"head": 1}]}]"#,
            "ubiai-bad-relation",
        ),
    ] {
        let (summary, samples, remarks) = convert(export, "{}");
        assert_eq!(
            (summary.unwrap().skipped, samples.len()),
            (1, 0),
            "{export}"
        );
        assert_eq!(remarks[0], code, "{export}");
    }
    assert!(convert("[]", r#"{"turn": "pair"}"#).0.is_err());
    let marked = SCAN.replace("\"42\"", "\"4<image>2\"");
    let (_, samples, remarks) = convert(&marked, "{}");
    assert_eq!(texts(&samples[0])[2], "42");
    assert_eq!(remarks, ["ubiai-text-mismatch", "ubiai-image-marker"]);
}
