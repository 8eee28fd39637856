//! What every plugin must do, whichever it is: run on those of the library and on those built from
//! source beside them.

mod converters;
mod desk;
mod evaluators;
mod exact_match;
mod examples;
mod golden;
mod guest;
mod hostile;
mod judge;
mod loading;
mod released;
mod rules;
mod ubiai;

use std::path::PathBuf;
use std::sync::Arc;

use desk::{Desk, Memory, plugins};
use graft::dataset::{ConvertError, Converter, Role, Sample, Turn};
use graft::evaluate::{EvaluateError, Evaluator, Remarks};
use graft_plugins::check::{Export, Report, Verdict, With, check};
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

    fn with(&self) -> With {
        With {
            export: Some(Export {
                name: self.file.clone(),
                bytes: self.bytes.clone(),
                assets: self.folder.clone(),
            }),
            ..With::default()
        }
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
fn every_plugin_keeps_the_rules() {
    each(|which, plugin| {
        let with = match &plugin {
            Plugin::Converter(converter) => Example::of(&converter.info().name).with(),
            Plugin::Evaluator(evaluator) => With {
                samples: samples_of(&evaluator.info().name),
                ..With::default()
            },
        };
        keeps(which, &check(&plugin, &with));
    });
}

/// Panics with what is broken, or with what could not be asked.
pub fn keeps(which: &str, report: &Report) {
    for row in &report.rows {
        let kept = matches!(row.verdict, Verdict::Kept { .. });
        assert!(kept, "{which}: {row:#?}");
    }
}

/// Samples that an evaluator scores, where the usual ones are none.
fn samples_of(evaluator: &str) -> Vec<Sample> {
    let hoped = match evaluator {
        "science-qa" => "A",
        _ => return Vec::new(),
    };
    let turns = vec![
        Turn::text(Role::User, "Which?\nA. this\nB. that"),
        Turn::text(Role::Assistant, hoped),
    ];
    let sample = Sample {
        id: "1".into(),
        turns,
        ..Sample::default()
    };
    vec![sample]
}

#[test]
fn an_export_gives_as_many_samples_as_it_holds() {
    each_converter(|which, example, converter| {
        let (mut source, mut samples) = (example.source(), Vec::new());
        let summary = converter.convert(&mut source, &mut samples, "{}", &example.desk());
        let summary = summary.unwrap_or_else(|e| panic!("{which}: {e}"));
        assert_eq!(summary.samples as usize, samples.len(), "{which}");
        assert_eq!(samples.len(), example.samples, "{which}");
    });
}

#[test]
fn options_that_are_no_object_reach_no_plugin() {
    const BAD: [&str; 4] = ["[]", "{", "", "null"];
    each_converter(|which, example, converter| {
        for bad in BAD {
            let mut source = example.source();
            let result = converter.convert(&mut source, &mut Vec::new(), bad, &example.desk());
            let refused = matches!(result, Err(ConvertError::InvalidOptions(_)));
            assert!(refused, "{which} {bad}: {result:?}");
        }
    });
    each_evaluator(|which, evaluator| {
        for bad in BAD {
            let Err(error) = evaluator.start(bad, 0, Arc::new(Remarks::default())) else {
                panic!("{which} takes {bad}");
            };
            let refused = matches!(error, EvaluateError::InvalidOptions(_));
            assert!(refused, "{which} {bad}: {error}");
        }
    });
}

#[test]
fn an_option_that_there_is_not_is_named() {
    each_converter(|which, example, converter| {
        let options = r#"{"no-such-option": 1}"#;
        let mut source = example.source();
        let result = converter.convert(&mut source, &mut Vec::new(), options, &example.desk());
        let said = result.unwrap_err().to_string();
        assert!(said.contains("/no-such-option"), "{which}: {said}");
    });
}

#[test]
fn a_wish_to_stop_that_comes_before_the_start_is_heard() {
    each_converter(|which, example, converter| {
        let desk = example.desk();
        desk.cancel.raise();
        let mut source = example.source();
        let result = converter.convert(&mut source, &mut Vec::new(), "{}", &desk);
        assert!(
            matches!(result, Err(ConvertError::Cancelled)),
            "{which}: {result:?}"
        );
        assert_eq!(desk.checkpoints.get(), 0, "{which}");
    });
}
