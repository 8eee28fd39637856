//! The converters beside what they must make of small exports: `golden/plugins/<converter>/golden.json`
//! lists files with options, samples and remarks.

use std::fs;
use std::path::{Path, PathBuf};

use graft::dataset::{Converter, Diagnostic, ImageRef, Part, Role, Sample};
use graft_plugins::{Grants, Host, Limits, Plugin, shipped};
use serde_json::{Value, json};

use super::desk::{self, Desk, Memory, converters};

/// Those whose exports lie under `golden/plugins`.
pub const CONVERTERS: [&str; 9] = [
    "alpaca",
    "coco-captions",
    "csv",
    "doccano",
    "label-studio",
    "openai-chat",
    "sharegpt",
    "ubiai",
    "vqa-v2",
];

/// The folder of a converter's exports, which is that of their images.
pub fn folder(converter: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/plugins");
    golden.join(converter)
}

/// The cases of a converter.
fn cases(converter: &str) -> Vec<Value> {
    let path = folder(converter).join("golden.json");
    let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let Value::Array(cases) = serde_json::from_slice(&text).unwrap() else {
        panic!("{} is no list of cases", path.display());
    };
    cases
}

/// An export of a converter and the options that go with it.
pub struct Export {
    pub file: String,
    pub bytes: Vec<u8>,
    pub options: String,
    pub samples: usize,
}

/// All exports of a converter.
pub fn exports(converter: &str) -> Vec<Export> {
    let export = |case: &Value| {
        let file = case["export"].as_str().unwrap().to_owned();
        Export {
            bytes: fs::read(folder(converter).join(&file)).unwrap(),
            file,
            options: case["options"].to_string(),
            samples: case["samples"].as_array().unwrap().len(),
        }
    };
    cases(converter).iter().map(export).collect()
}

/// The folder of the images that the options name.
pub fn images(options: &str) -> String {
    let options: Value = serde_json::from_str(options).unwrap();
    options["image_root"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn as_json(sample: &Sample) -> Value {
    let image = |image: &ImageRef| match image {
        ImageRef::Path(path) => path.display().to_string(),
        ImageRef::Bytes(bytes) => format!("{} bytes", bytes.len()),
    };
    let turn = |turn: &graft::dataset::Turn| {
        let who = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let parts = turn.content.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Image(number) => format!("[image {number}]"),
        });
        let turn: Vec<String> = [who.to_owned()].into_iter().chain(parts).collect();
        turn
    };
    let origin = sample.origin.as_ref().unwrap();
    json!({
        "id": sample.id,
        "line": origin.line,
        "images": sample.images.iter().map(image).collect::<Vec<_>>(),
        "turns": sample.turns.iter().map(turn).collect::<Vec<_>>(),
        "extra": sample.extra,
    })
}

/// `severity code source:line:column record field`.
fn in_short(remark: &Diagnostic) -> String {
    let at = remark.at.as_ref().unwrap();
    let severity = format!("{:?}", remark.severity).to_lowercase();
    let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
    let field = at.field.as_deref().unwrap_or("-");
    let (line, column) = (number(at.line), number(at.column));
    let (code, source, record) = (&remark.code, &at.source, number(at.record_index));
    format!("{severity} {code} {source}:{line}:{column} record {record} {field}")
}

#[test]
fn exports_become_what_they_must() {
    let mut wrong = Vec::new();
    for name in CONVERTERS {
        for converter in converters(name) {
            let mut found = Vec::new();
            for case in cases(name) {
                let file = case["export"].as_str().unwrap();
                let desk = Desk::new(&folder(name));
                let bytes = fs::read(folder(name).join(file)).unwrap();
                let mut source = Memory::named(file, bytes);
                let mut samples = Vec::new();
                let options = case["options"].to_string();
                let summary = converter
                    .convert(&mut source, &mut samples, &options, &desk)
                    .unwrap_or_else(|error| panic!("{name} {file}: {error}"));
                found.push(json!({
                    "export": file,
                    "options": case["options"],
                    "records": summary.records,
                    "skipped": summary.skipped,
                    "remarks": desk.remarks.borrow().iter().map(in_short).collect::<Vec<_>>(),
                    "samples": samples.iter().map(as_json).collect::<Vec<_>>(),
                }));
            }
            if found != cases(name) {
                let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
                let text = serde_json::to_string_pretty(&found).unwrap();
                fs::write(&out, text + "\n").unwrap();
                wrong.push(out.display().to_string());
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "what came out is in {}",
        wrong.join(" and ")
    );
}

#[test]
fn an_export_is_recognised_by_its_own_converter_above_all_others() {
    let host = Host::new(Limits::default(), None).unwrap();
    let all: Vec<_> = shipped::names()
        .filter_map(|name| {
            let plugin = host.load(Path::new(name), &crate::desk::GRANTED).unwrap();
            match plugin {
                Plugin::Converter(converter) => Some((name, converter)),
                _ => None,
            }
        })
        .collect();
    let demo = fs::read(desk::digits().join("held-out/export.json")).unwrap();
    let mut files = vec![("ubiai", "export.json".to_owned(), demo)];
    for name in CONVERTERS {
        assert!(all.iter().any(|(other, _)| *other == name), "{name}");
        files.extend(exports(name).into_iter().map(|e| (name, e.file, e.bytes)));
    }
    for (name, file, bytes) in files {
        let head = &bytes[..bytes.len().min(64 << 10)];
        let sure = |converter: &dyn Converter| converter.detect(head, &file).unwrap();
        let own = all.iter().find(|(other, _)| *other == name).unwrap();
        let own = sure(&own.1);
        assert!(own >= 70, "{name} is {own} sure of {file}");
        for (other, converter) in all.iter().filter(|(other, _)| *other != name) {
            let sure = sure(converter);
            // Another may think it possible, but never likely.
            assert!(
                sure < own && sure <= 50,
                "{other} is {sure} sure of {name}'s {file}"
            );
        }
    }
    // What is none of theirs.
    for (file, text) in [
        ("notes.txt", "Dear Ana, here is what I found."),
        (
            "package.json",
            r#"{"name": "x", "version": "1.0", "dependencies": {}}"#,
        ),
        ("numbers.json", "[1, 2, 3]"),
        ("empty.csv", ""),
        (
            "geo.json",
            r#"{"type": "FeatureCollection", "features": [{"type": "Feature"}]}"#,
        ),
        (
            "log.jsonl",
            r#"{"time": 1, "level": "info", "message": "started"}"#,
        ),
    ] {
        for (name, converter) in &all {
            let sure = converter.detect(text.as_bytes(), file).unwrap();
            assert!(sure <= 10, "{name} is {sure} sure of {file}");
        }
    }
}

#[test]
fn a_large_file_takes_no_more_memory_than_its_largest_record() {
    let limits = Limits {
        memory_bytes: 14 << 20,
        ..Default::default()
    };
    let host = Host::new(limits, None).unwrap();
    let record = r#"{"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]}"#;
    let message = r#"{"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]}"#;
    let count = 200_000;
    for (name, text) in [
        ("sharegpt", format!("[{}]", vec![record; count].join(",\n"))),
        ("openai-chat", vec![message; count].join("\n")),
        (
            "csv",
            format!(
                "question,answer\n{}",
                "Why do you ask this?,\"Because\nso.\"\n".repeat(count)
            ),
        ),
    ] {
        let plugin = host.load(Path::new(name), &Grants::default()).unwrap();
        let converter = plugin.into_converter().unwrap();
        let desk = Desk::new(Path::new("."));
        let (summary, samples) = desk::convert(&converter, &text, "{}", &desk);
        assert_eq!(summary.unwrap().skipped, 0, "{name}");
        assert_eq!(samples.len(), count, "{name}");
    }
}

#[test]
fn a_record_that_would_fill_the_memory_costs_only_itself() {
    let host = Host::new(Limits::default(), None).unwrap();
    let good = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;
    for bad in [
        format!(r#"{{"messages": [{}[]]}}"#, "[],".repeat(7 << 20)),
        format!(
            r#"{{"messages": [{{"role": "user", "content": "{}"}}]}}"#,
            "a".repeat(60 << 20)
        ),
        "[".repeat(1 << 20),
        format!("{{\"messages\": {}}}", "{\"a\": ".repeat(1 << 20)),
    ] {
        let text = format!("{good}\n{bad}\n{good}\n");
        let plugin = host
            .load(Path::new("openai-chat"), &Grants::default())
            .unwrap();
        let desk = Desk::new(Path::new("."));
        let converter = plugin.into_converter().unwrap();
        let (summary, samples) = desk::convert(&converter, &text, "{}", &desk);
        let summary = summary.unwrap();
        assert_eq!((summary.records, samples.len(), summary.skipped), (3, 2, 1));
        assert_eq!(desk.codes(), ["malformed-json"]);
        assert_eq!(desk.remarks.borrow()[0].at.as_ref().unwrap().line, Some(2));
    }
}
