//! Plugins that were compiled when a version of the interface was released run for ever.
//!
//! The components under `released/<version>` are never made again: `csv` and `exact-match` as they
//! shipped with that version, and `judge`, whose text lies beside it. All of this host's later versions
//! of the same series must load them and give the same.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use graft::cancel::Cancel;
use graft::dataset::converter::LogLevel;
use graft::dataset::{Converter, Diagnostic, ImageRef, Part, Role, Sample, Turn};
use graft::evaluate::evaluator::{JudgeReply, JudgeRequest};
use graft::evaluate::{EvaluateError, EvaluateHost, Evaluator, Prediction, Remarks, Scorer};
use graft_plugins::{Grants, Host, Limits, Plugin, PluginError};
use wasmtime::component::{Component, Linker, Val};
use wasmtime::{Engine, Store};

use crate::desk::{Desk, Memory};

fn released(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("plugins/released/0.1.0");
    std::fs::read(folder.join(format!("{name}.wasm"))).unwrap()
}

fn load(name: &str, model: bool) -> Result<Plugin, PluginError> {
    let host = Host::new(Limits::default(), None)?;
    host.load_bytes(name, &released(name), &Grants { model })
}

#[test]
fn a_converter_of_0_1_0_gives_what_it_gave() {
    let converter = load("csv", false).unwrap().into_converter().unwrap();
    assert_eq!(converter.info().manifest.as_ref().unwrap().version, "0.1.0");
    let export =
        "id,image,question,answer\n1,images/bus.png,What colour?,Red.\n2,no.png,Who?,He.\n";
    let pictures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/plugins/csv");
    let desk = Desk::new(&pictures);
    assert!(converter.detect(export.as_bytes(), "export.csv").unwrap() > 0);
    let mut samples = Vec::new();
    let mut source = Memory::named("export.csv", export);
    let summary = converter.convert(&mut source, &mut samples, "{}", &desk);
    let summary = summary.unwrap();
    assert_eq!(
        (summary.records, summary.samples, summary.skipped),
        (2, 1, 1)
    );
    assert_eq!(desk.codes(), ["csv-missing-image"]);
    let [sample] = samples.as_slice() else {
        panic!("{samples:?}");
    };
    assert_eq!(sample.id, "1");
    assert_eq!(sample.images, [ImageRef::Path("images/bus.png".into())]);
    let question = Turn {
        role: Role::User,
        content: vec![Part::Image(0), Part::Text("What colour?".into())],
    };
    assert_eq!(
        sample.turns,
        [question, Turn::text(Role::Assistant, "Red.")]
    );
    assert_eq!(sample.origin.as_ref().unwrap().line, Some(2));
    assert_eq!(sample.extra["line"], 2);
}

#[test]
fn an_evaluator_of_0_1_0_gives_what_it_gave() {
    let evaluator = load("exact-match", false).unwrap();
    let evaluator = evaluator.into_evaluator().unwrap();
    let remarks = Arc::new(Remarks::default());
    let mut run = Scorer::start(&evaluator, "{}", 0, remarks).unwrap();
    for (said, right) in [("Bus.", 1.0), ("a cat", 0.0)] {
        let scores = run.score(&answered("bus"), &prediction(said)).unwrap();
        assert_eq!(scores[0].value, right, "{said}");
    }
    let totals = run.finish().unwrap();
    assert_eq!(
        (totals[0].metric.as_str(), totals[0].value, totals[0].weight),
        ("accuracy", 0.5, 2.0)
    );
}

#[test]
fn a_judge_of_0_1_0_gives_what_it_gave() {
    let Err(error) = load("judge", false) else {
        panic!("it is given a model unasked");
    };
    assert!(
        matches!(error, PluginError::ModelNotGranted { .. }),
        "{error}"
    );
    let judge = load("judge", true).unwrap().into_evaluator().unwrap();
    assert_eq!(judge.describe().unwrap().metrics[0].name, "right");
    let oracle = Arc::new(Oracle::default());
    let mut run = judge.start("{}", 11, Arc::clone(&oracle) as _).unwrap();
    let mut score = |said: &str| {
        let scores = run.score(&answered("bus"), &prediction(said)).unwrap();
        (scores[0].value, scores[0].weight)
    };
    assert_eq!(score("a bus"), (1.0, 2.0));
    assert_eq!(score("a cat"), (0.0, 1.0));
    assert_eq!(score("nothing"), (-1.0, 1.0), "the model refuses");
    let asked = oracle.asked.lock().unwrap();
    assert_eq!(asked[0].turns, [Turn::text(Role::User, "a bus")]);
    assert_eq!((asked[0].max_tokens, asked[0].seed), (3, 11));
}

/// A later host of the series has functions that old plugins never heard of. The engine is asked for
/// what graft will then ask of it: another patch version, and a function more in each interface.
#[test]
fn a_host_that_offers_more_runs_what_was_compiled_for_less() {
    let engine = Engine::default();
    let component = Component::new(&engine, released("judge")).unwrap();
    let mut linker = Linker::<Vec<String>>::new(&engine);
    let mut host = linker.instance("graft:plugin/host@0.1.7").unwrap();
    host.func_new("log", |mut store, _, given, _| {
        store.data_mut().push(format!("{:?}", given[1]));
        Ok(())
    })
    .unwrap();
    host.func_new("whisper", |_, _, _, _| panic!("nobody knows it"))
        .unwrap();
    let mut model = linker.instance("graft:plugin/model@0.1.7").unwrap();
    model
        .func_new("embed", |_, _, _, _| panic!("nobody knows it"))
        .unwrap();
    model
        .func_new("generate", |_, _, _, answer| {
            let tokens = |name: &str| (name.to_owned(), Val::U32(4));
            let text = ("text".to_owned(), Val::String("yes".into()));
            let reply = Val::Record(vec![text, tokens("tokens-in"), tokens("tokens-out")]);
            answer[0] = Val::Result(Ok(Some(Box::new(reply))));
            Ok(())
        })
        .unwrap();
    for rest in ["types", "dataset"] {
        let _ = linker.instance(&format!("graft:plugin/{rest}@0.1.7"));
    }
    let mut store = Store::new(&engine, Vec::new());
    let instance = linker.instantiate(&mut store, &component).unwrap();
    let exports = instance.get_export_index(&mut store, None, "graft:plugin/evaluator@0.1.0");
    let describe = instance.get_export_index(&mut store, exports.as_ref(), "describe");
    let describe = instance.get_func(&mut store, describe.unwrap()).unwrap();
    let mut said = [Val::Bool(false)];
    describe.call(&mut store, &[], &mut said).unwrap();
    assert!(format!("{said:?}").contains("right"), "{said:?}");
}

fn answered(answer: &str) -> Sample {
    Sample {
        id: "s".into(),
        turns: vec![
            Turn::text(Role::User, "What is it?"),
            Turn::text(Role::Assistant, answer),
        ],
        ..Sample::default()
    }
}

fn prediction(text: &str) -> Prediction {
    Prediction {
        text: text.into(),
        ..Prediction::default()
    }
}

/// A model that knows a bus.
#[derive(Default)]
struct Oracle {
    asked: Mutex<Vec<JudgeRequest>>,
}

impl EvaluateHost for Oracle {
    fn cancel(&self) -> Cancel {
        Cancel::new()
    }
    fn report(&self, _: Diagnostic) {}
    fn log(&self, _: LogLevel, message: &str) {
        assert_eq!(message, "asked");
    }
    fn generate(&self, request: &JudgeRequest) -> Result<JudgeReply, EvaluateError> {
        self.asked.lock().unwrap().push(request.clone());
        let [Part::Text(text)] = request.turns[0].content.as_slice() else {
            panic!("{request:?}");
        };
        let (text, tokens) = match text.as_str() {
            "a bus" => ("yes", 2),
            "a cat" => ("no", 1),
            _ => return Err(EvaluateError::Denied("no more".into())),
        };
        Ok(JudgeReply {
            text: text.into(),
            prompt_tokens: 5,
            generated_tokens: tokens,
        })
    }
}
