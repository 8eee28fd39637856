//! What every plugin must do, whichever it is: run on those of the library and on those built from
//! source beside them.

mod converters;
mod desk;
mod evaluators;
mod exact_match;
mod golden;
mod guest;
mod hostile;
mod judge;
mod loading;
mod released;
mod ubiai;

use std::path::PathBuf;
use std::sync::Arc;

use desk::{Desk, Full, Memory, plugins};
use graft::dataset::{ConvertError, Converter};
use graft::evaluate::{EvaluateError, Evaluator, Remarks};
use graft_plugins::{Host, Limits, Plugin, World};

fn each(mut check: impl FnMut(&str, Plugin)) {
    let host = Host::new(Limits::default(), None).unwrap();
    for (from, name, bytes) in plugins() {
        let plugin = host.load_bytes(&name, &bytes, &desk::GRANTED).unwrap();
        check(&format!("{from} {name}"), plugin);
    }
}

/// Every converter, with an export that it reads.
fn each_converter(mut check: impl FnMut(&str, &Example, &dyn Converter)) {
    each(|which, plugin| {
        if let Plugin::Converter(converter) = plugin {
            let example = Example::of(&converter.info().name);
            check(which, &example, &converter);
        }
    });
}

/// An export and what lies beside it.
struct Example {
    file: String,
    bytes: Vec<u8>,
    folder: PathBuf,
    samples: usize,
}

impl Example {
    fn of(converter: &str) -> Self {
        if converter == "ubiai" {
            return Self::demo();
        }
        let mut exports = converters::exports(converter).into_iter();
        let export = exports.find(|export| export.options == "{}");
        // Each has one that needs no options but for the folder of its images.
        let export = export.or_else(|| converters::exports(converter).into_iter().next());
        let export = export.unwrap_or_else(|| panic!("{converter} has no export"));
        Self {
            file: export.file,
            bytes: export.bytes,
            folder: converters::folder(converter).join(converters::images(&export.options)),
            samples: export.samples,
        }
    }

    /// The beginning of the demo's export: whole records.
    fn demo() -> Self {
        let path = desk::digits().join("held-out/export.json");
        let text = std::fs::read_to_string(path).unwrap();
        let records: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        Self {
            file: "export.json".into(),
            bytes: serde_json::to_vec_pretty(&records[..20]).unwrap(),
            folder: desk::digits().join("held-out/images"),
            samples: 20,
        }
    }

    fn source(&self) -> Memory {
        Memory::named(&self.file, self.bytes.as_slice())
    }

    fn desk(&self) -> Desk {
        Desk::new(&self.folder)
    }
}

fn each_evaluator(mut check: impl FnMut(&str, &dyn Evaluator)) {
    each(|which, plugin| {
        if let Plugin::Evaluator(evaluator) = plugin {
            check(which, &evaluator);
        }
    });
}

#[test]
fn a_plugin_says_what_it_is_and_asks_nothing_of_the_system() {
    each(|which, plugin| {
        let info = plugin.info();
        let manifest = info.manifest.as_ref().unwrap();
        assert_eq!(manifest.id, info.name, "{which}");
        for text in [&manifest.version, &manifest.title, &manifest.license] {
            assert!(!text.is_empty(), "{which}: {manifest:?}");
        }
        for import in &info.imports {
            assert!(import.starts_with("graft:plugin/"), "{which}: {import}");
        }
        let is_converter = matches!(plugin, Plugin::Converter(_));
        assert_eq!(
            is_converter,
            info.world == World::ConverterPlugin,
            "{which}"
        );
        assert!(info.bytes < 1 << 20, "{which} has {} bytes", info.bytes);
        assert_eq!(info.sha256.len(), 64);
    });
}

#[test]
fn options_are_those_of_the_schema_and_no_others() {
    let check = |which: &str, schema: &str| {
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        assert_eq!(schema["type"], "object", "{which}");
        assert_eq!(schema["additionalProperties"], false, "{which}");
        let mut defaults = serde_json::Map::new();
        for (name, property) in schema["properties"].as_object().unwrap() {
            let told = property.get("default").is_some() || property.get("description").is_some();
            assert!(told, "{which}: {name} has neither default nor description");
            if let Some(value) = property.get("default") {
                defaults.insert(name.clone(), value.clone());
            }
        }
        serde_json::Value::Object(defaults).to_string()
    };
    each_converter(|which, example, converter| {
        let defaults = check(which, &converter.describe().unwrap().options_schema);
        let convert = |options: &str| {
            let (mut source, mut samples) = (example.source(), Vec::new());
            converter.convert(&mut source, &mut samples, options, &example.desk())
        };
        assert_eq!(convert(&defaults).unwrap(), convert("{}").unwrap());
        for bad in [r#"{"no-such-option": 1}"#, "[]", "{", "", "null"] {
            let error = convert(bad).unwrap_err();
            assert!(
                matches!(error, ConvertError::InvalidOptions(_)),
                "{which} {bad}: {error}"
            );
        }
        let error = convert(r#"{"no-such-option": 1}"#).unwrap_err().to_string();
        assert!(error.contains("/no-such-option"), "{which}: {error}");
    });
    each_evaluator(|which, evaluator| {
        let defaults = check(which, &evaluator.describe().unwrap().options_schema);
        let start = |options: &str| evaluator.start(options, 0, Arc::new(Remarks::default()));
        assert!(start(&defaults).is_ok() && start("{}").is_ok());
        for bad in [r#"{"no-such-option": 1}"#, "[]", "{", "", "null"] {
            let Err(error) = start(bad) else {
                panic!("{which} takes {bad}");
            };
            assert!(
                matches!(error, EvaluateError::InvalidOptions(_)),
                "{which} {bad}: {error}"
            );
        }
    });
}

#[test]
fn descriptions_are_complete() {
    each_converter(|which, _, converter| {
        let formats = converter.describe().unwrap().formats;
        assert!(!formats.is_empty(), "{which}");
        for format in formats {
            assert!(
                !format.title.is_empty() && !format.extensions.is_empty(),
                "{which}"
            );
            assert!(
                format
                    .id
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{which}"
            );
            assert!(
                format.extensions.iter().all(|e| !e.starts_with('.')),
                "{which}"
            );
        }
        for head in [&b""[..], b"[", &[0xff; 70_000]] {
            assert!(converter.detect(head, "x").unwrap() <= 100, "{which}");
        }
    });
    each_evaluator(|which, evaluator| {
        let metrics = evaluator.describe().unwrap().metrics;
        assert!(!metrics.is_empty(), "{which}");
        assert!(metrics.iter().all(|m| !m.name.is_empty()), "{which}");
    });
}

#[test]
fn the_same_export_gives_the_same_samples_however_it_arrives() {
    each_converter(|which, example, converter| {
        let run = |step: usize, pipe: bool| {
            let desk = example.desk();
            let mut samples = Vec::new();
            let mut source = Memory {
                step,
                pipe,
                ..example.source()
            };
            let summary = converter
                .convert(&mut source, &mut samples, "{}", &desk)
                .unwrap();
            assert_eq!(summary.samples as usize, samples.len(), "{which}");
            (summary, samples, desk.remarks.into_inner())
        };
        let whole = run(usize::MAX, false);
        assert_eq!(whole.1.len(), example.samples, "{which}");
        for (step, pipe) in [(1, false), (7, true), (4096, true), (usize::MAX, false)] {
            assert_eq!(run(step, pipe), whole, "{which} by {step}");
        }
    });
}

#[test]
fn what_goes_wrong_outside_comes_back_as_it_is() {
    each_converter(|which, example, converter| {
        let desk = example.desk();
        let half = example.bytes.len() / 2;
        let mut broken = Memory {
            breaks_at: Some(half),
            step: half,
            ..example.source()
        };
        let error = converter.convert(&mut broken, &mut Vec::new(), "{}", &desk);
        let error = error.unwrap_err();
        assert!(
            matches!(error, ConvertError::Io { .. }),
            "{which}: {error:?}"
        );
        assert!(
            error.to_string().contains("the disk is gone"),
            "{which}: {error}"
        );

        let mut source = example.source();
        let error = converter.convert(&mut source, &mut Full, "{}", &desk);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "the disk is full", "{which}");
    });
}

#[test]
fn a_conversion_stops_when_it_is_told_to() {
    each_converter(|which, example, converter| {
        for at in [None, Some(1), Some(2)] {
            let mut desk = example.desk();
            match at {
                None => desk.cancel.raise(),
                at => desk.cancel_at = at,
            }
            let mut source = example.source();
            let result = converter.convert(&mut source, &mut Vec::new(), "{}", &desk);
            assert!(
                matches!(result, Err(ConvertError::Cancelled)),
                "{which}: {result:?}"
            );
            assert!(desk.checkpoints.get() <= at.unwrap_or(0), "{which}");
        }
    });
}

/// A small generator; the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }
}

#[test]
fn no_damaged_export_crashes_a_converter() {
    let folder = tempfile::tempdir().unwrap();
    let pieces: [&[u8]; 12] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b",",
        b"null",
        b"-1",
        b"1e999",
        b"\\u",
        b"\xff",
        b"99999999999999999999",
    ];
    each_converter(|which, example, converter| {
        let mut random = Random(1);
        let mut told = 0;
        for round in 0..150 {
            let mut bytes = example.bytes[..example.bytes.len().min(3000)].to_vec();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = random.below(256) as u8,
                    _ => {
                        let piece = pieces[random.below(pieces.len())];
                        bytes.splice(at..at, piece.iter().copied());
                    }
                }
            }
            let desk = Desk::new(folder.path());
            let mut source = Memory::named(&example.file, bytes);
            let result = converter.convert(&mut source, &mut Vec::new(), "{}", &desk);
            match result {
                Ok(summary) => {
                    let remarks = desk.remarks.borrow();
                    assert!(
                        summary.skipped == 0 || !remarks.is_empty(),
                        "{which} {round}"
                    );
                    told += usize::from(!remarks.is_empty());
                }
                Err(ConvertError::InvalidInput(fault)) => {
                    told += 1;
                    let at = fault
                        .at
                        .unwrap_or_else(|| panic!("{which} {round}: {}", fault.message));
                    assert!(at.line.is_some() && at.column.is_some(), "{which} {round}");
                }
                Err(error) => panic!("{which}, round {round}: {error}"),
            }
        }
        assert!(told > 50, "{which} told of {told}");
    });
}
