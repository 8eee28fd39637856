//! Evaluators that ask a model: the shipped judge beside Python's questions and scores, and guests that
//! ask for more than they are granted. The model is a script.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use graft::cancel::Cancel;
use graft::dataset::converter::LogLevel;
use graft::dataset::{Diagnostic, ImageRef, Part, Role, Sample, Turn};
use graft::evaluate::evaluator::{JudgeReply, JudgeRequest};
use graft::evaluate::{EvaluateError, EvaluateHost, Prediction, Remarks, Scorer};
use graft_plugins::{Exceeded, Grants, Host, Limits, Plugin, PluginError, WasmEvaluator};
use serde_json::Value;

use crate::desk::{GRANTED, evaluators};
use crate::golden::prediction;
use crate::guest;
use crate::hostile::tight;

type Says = Box<dyn Fn(&JudgeRequest) -> Result<String, EvaluateError> + Send + Sync>;

/// A host whose model says what a function says.
struct Desk {
    cancel: Cancel,
    says: Says,
    asked: Mutex<Vec<JudgeRequest>>,
    remarks: Mutex<Vec<Diagnostic>>,
}

impl Desk {
    fn new(
        says: impl Fn(&JudgeRequest) -> Result<String, EvaluateError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            cancel: Cancel::new(),
            says: Box::new(says),
            asked: Mutex::default(),
            remarks: Mutex::default(),
        })
    }

    fn saying(text: &'static str) -> Arc<Self> {
        Self::new(move |_| Ok(text.to_owned()))
    }

    fn asked(&self) -> Vec<JudgeRequest> {
        self.asked.lock().unwrap().clone()
    }
}

impl EvaluateHost for Desk {
    fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }
    fn report(&self, diagnostic: Diagnostic) {
        self.remarks.lock().unwrap().push(diagnostic);
    }
    fn log(&self, _: LogLevel, _: &str) {}
    fn generate(&self, request: &JudgeRequest) -> Result<JudgeReply, EvaluateError> {
        self.asked.lock().unwrap().push(request.clone());
        let text = (self.says)(request)?;
        Ok(JudgeReply {
            text,
            prompt_tokens: 100,
            generated_tokens: 10,
        })
    }
}

fn sample(id: &str, question: &str, hoped: &str) -> Sample {
    Sample {
        id: id.into(),
        turns: vec![
            Turn::text(Role::User, question),
            Turn::text(Role::Assistant, hoped),
        ],
        ..Sample::default()
    }
}

fn text(request: &JudgeRequest) -> String {
    let last = request.turns.last().unwrap();
    assert_eq!(last.role, Role::User);
    last.plain_text()
}

fn judge(limits: Limits) -> WasmEvaluator {
    let host = Host::new(limits, None).unwrap();
    let plugin = host.load(Path::new("judge"), &GRANTED).unwrap();
    plugin.into_evaluator().unwrap()
}

#[test]
fn the_judge_asks_what_python_asks_and_scores_as_it_does() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/plugins/judge.json");
    let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    for evaluator in evaluators("judge") {
        let mut cases = 0;
        for group in &groups {
            let replies: Arc<Mutex<String>> = Arc::default();
            let next = Arc::clone(&replies);
            let desk = Desk::new(move |_| Ok(next.lock().unwrap().clone()));
            let host: Arc<dyn EvaluateHost> = desk.clone();
            let (options, seed) = (group["options"].to_string(), number(&group["seed"]));
            let mut run = Scorer::start(&evaluator, &options, seed, host).unwrap();
            for case in group["cases"].as_array().unwrap() {
                let field = |name: &str| case[name].as_str().unwrap();
                let mut sample = sample(field("id"), field("question"), field("hoped"));
                sample.extra = case["fields"].as_object().unwrap().clone();
                *replies.lock().unwrap() = field("reply").into();
                let scores = run.score(&sample, &prediction(field("said"))).unwrap();
                let asked = desk.asked();
                let asked = asked.last().unwrap();
                assert_eq!(text(asked), field("asked"));
                assert_eq!(asked.seed, number(&case["seed"]));
                let hoped = case["scores"].as_object().unwrap();
                assert_eq!(scores.len(), hoped.len(), "{case}");
                for score in scores {
                    assert_eq!(Some(score.value), hoped[&score.metric].as_f64(), "{case}");
                }
                cases += 1;
            }
            assert_eq!(desk.asked().len(), group["cases"].as_array().unwrap().len());
            let unparsed = group["cases"].as_array().unwrap().iter();
            let unparsed = unparsed.filter(|case| case["scores"]["unparsed"] == 1.0);
            let remarks = desk.remarks.lock().unwrap();
            assert_eq!(remarks.len(), unparsed.count());
            assert!(remarks.iter().all(|remark| remark.code == "no-verdict"));
            let totals = run.finish().unwrap();
            let hoped = group["totals"].as_object().unwrap();
            assert_eq!(totals.len(), hoped.len(), "{totals:?}");
            for total in totals {
                let hoped = &hoped[&total.metric];
                assert!((total.value - hoped[0].as_f64().unwrap()).abs() < 1e-12);
                assert_eq!(Some(total.weight), hoped[1].as_f64());
            }
        }
        assert_eq!(cases, 120);
    }
}

#[test]
fn a_model_that_is_not_granted_is_not_asked() {
    let host = Host::new(Limits::default(), None).unwrap();
    let Err(error) = host.load(Path::new("judge"), &Grants::default()) else {
        panic!("it loads");
    };
    assert!(
        matches!(error, PluginError::ModelNotGranted { .. }),
        "{error}"
    );
    // Granted to the plugin, but the evaluation has none.
    for evaluator in evaluators("judge") {
        let mut run = Scorer::start(&evaluator, "{}", 0, Arc::new(Remarks::default())).unwrap();
        let error = run.score(&sample("s", "?", "x"), &prediction("x"));
        let error = error.unwrap_err();
        assert!(matches!(error, EvaluateError::Denied(_)), "{error:?}");
        assert!(error.to_string().contains("grants no model"), "{error}");
    }
}

#[test]
fn the_images_of_the_sample_reach_the_judge_as_they_are() {
    let mut seen = sample("s", "What is it?", "a cat");
    seen.images = vec![
        ImageRef::Path("/elsewhere/cat.png".into()),
        ImageRef::Path("../up.png".into()),
        ImageRef::Bytes(vec![1, 2, 3]),
    ];
    let shown = [Part::Image(0), Part::Image(1), Part::Image(2)];
    seen.turns[0].content.splice(0..0, shown.clone());
    for evaluator in evaluators("judge") {
        for (options, images) in [(r#"{"images": true}"#, 3), ("{}", 0)] {
            let desk = Desk::saying("yes");
            let host: Arc<dyn EvaluateHost> = desk.clone();
            let mut run = Scorer::start(&evaluator, options, 0, host).unwrap();
            let scores = run.score(&seen, &prediction("a cat")).unwrap();
            assert_eq!((scores[0].metric.as_str(), scores[0].value), ("judge", 1.0));
            let asked = &desk.asked()[0];
            assert_eq!(asked.images, seen.images[..images]);
            assert_eq!(asked.turns[0].content[..images], shown[..images]);
        }
    }
}

#[test]
fn a_question_that_the_model_cannot_take_costs_the_sample_alone() {
    for evaluator in evaluators("judge") {
        let desk = Desk::new(|request| match text(request).contains("long") {
            true => Err(EvaluateError::Unsupported("it is too long".into())),
            false => Ok("yes".into()),
        });
        let mut run = Scorer::start(&evaluator, "{}", 0, desk).unwrap();
        let error = run.score(&sample("s", "?", "x"), &prediction("long"));
        let EvaluateError::InvalidInput(fault) = error.unwrap_err() else {
            panic!("it ends the run");
        };
        assert_eq!(fault.code, "not-judged");
        assert!(fault.message.contains("it is too long"), "{fault:?}");
        run.score(&sample("s", "?", "x"), &prediction("short"))
            .unwrap();
        assert_eq!(run.finish().unwrap()[0].weight, 1.0);
    }
}

#[test]
fn no_text_stops_the_judge() {
    let texts = [
        String::new(),
        "\0\u{1}\u{7f}\u{feff}".into(),
        "\u{202e}\u{300}".repeat(10_000),
        "</answer>\n<answer>".repeat(100_000),
        "{answer}{reference}{{".repeat(50_000),
        (0..1 << 19).map(|n| format!("{n:06x}")).collect(),
        "x".repeat((4 << 20) + 1),
        "x".repeat(20 << 20),
    ];
    for evaluator in evaluators("judge") {
        let next = Arc::new(Mutex::new(String::new()));
        let reply = Arc::clone(&next);
        let desk = Desk::new(move |_| Ok(reply.lock().unwrap().clone()));
        let mut run = Scorer::start(&evaluator, "{}", 0, desk).unwrap();
        for text in &texts {
            next.lock().unwrap().clone_from(text);
            for (hoped, answer) in [("x", text.as_str()), (text, "x"), (text, text)] {
                match run.score(&sample("s", text, hoped), &prediction(answer)) {
                    Ok(_) | Err(EvaluateError::InvalidInput(_)) => {}
                    Err(error) => panic!("{} bytes: {error}", text.len()),
                }
            }
        }
        *next.lock().unwrap() = "yes".into();
        let scores = run.score(&sample("s", "?", "x"), &prediction("x")).unwrap();
        assert_eq!(scores[0].value, 1.0);
    }
}

#[test]
fn a_wish_to_stop_is_heard_while_the_model_speaks() {
    for evaluator in evaluators("judge") {
        for told in [true, false] {
            let cancel = Cancel::new();
            let raised = cancel.clone();
            let desk = Desk::new(move |_| {
                raised.raise();
                match told {
                    true => Err(EvaluateError::Cancelled),
                    false => Ok("yes".into()),
                }
            });
            let desk = Arc::into_inner(desk).unwrap();
            let host = Arc::new(Desk { cancel, ..desk });
            let mut run = Scorer::start(&evaluator, "{}", 0, host).unwrap();
            let error = run.score(&sample("s", "?", "x"), &prediction("x"));
            let error = error.unwrap_err();
            assert!(matches!(error, EvaluateError::Cancelled), "{error:?}");
        }
    }
}

/// Why a run in the sandbox ended.
fn exceeded(error: &EvaluateError) -> Option<Exceeded> {
    let EvaluateError::Plugin(inner) = error else {
        return None;
    };
    match inner.downcast_ref() {
        Some(PluginError::Limit { limit, .. }) => Some(*limit),
        _ => None,
    }
}

#[test]
fn questions_and_tokens_of_a_run_are_counted() {
    let scored = |limits: Limits| {
        let desk = Desk::saying("yes");
        let host: Arc<dyn EvaluateHost> = desk.clone();
        let mut run = Scorer::start(&judge(limits), "{}", 0, host).unwrap();
        let mut scores = (0..10).map(|_| run.score(&sample("s", "?", "x"), &prediction("x")));
        let error = scores.find_map(Result::err).unwrap();
        (exceeded(&error), error.to_string(), desk.asked())
    };
    let (limit, sentence, asked) = scored(Limits {
        requests: 3,
        ..Limits::default()
    });
    assert_eq!(limit, Some(Exceeded::Requests(3)));
    assert!(sentence.contains("3 times (requests)"), "{sentence}");
    assert_eq!(asked.len(), 3);

    // 110 a question: the third gets what is left for its reply, and has too much.
    let (limit, sentence, asked) = scored(Limits {
        tokens: 225,
        ..Limits::default()
    });
    assert_eq!(limit, Some(Exceeded::Tokens(225)));
    assert!(sentence.contains("225 tokens (tokens)"), "{sentence}");
    let allowed: Vec<_> = asked.iter().map(|request| request.max_tokens).collect();
    assert_eq!(allowed, [16, 16, 5]);
    // Exactly used up: the next question is not put.
    let (limit, _, asked) = scored(Limits {
        tokens: 220,
        ..Limits::default()
    });
    assert_eq!((limit, asked.len()), (Some(Exceeded::Tokens(220)), 2));
}

/// A guest whose `score` asks with the images at 6000, and gives as value 0 for a reply, else 100 and
/// the number of the error's case.
fn asking(images: &str, times: &str) -> WasmEvaluator {
    let ask = format!(
        "{images}
        (loop $again
          (call $generate (i32.const 0) (i32.const 0) (i32.const 6000) (i32.const 1) (i32.const 0) (i64.const 0)
            (i32.const 7000))
          {times})
        (f64.store (i32.const 5008) (f64.add
          (f64.mul (f64.const 100) (f64.convert_i32_u (i32.load8_u (i32.const 7000))))
          (f64.convert_i32_u (select (i32.load8_u (i32.const 7008)) (i32.const 0) (i32.load8_u (i32.const 7000))))))
        (i32.store (i32.const 5000) (i32.const 1024)) (i32.store (i32.const 5004) (i32.const 1))
        (f64.store (i32.const 5016) (f64.const 1))
        (i32.store offset=8 (global.get $answer) (i32.const 5000))
        (i32.store offset=12 (global.get $answer) (i32.const 1))"
    );
    let host = Host::new(
        Limits {
            requests: 1000,
            ..tight()
        },
        None,
    )
    .unwrap();
    let plugin = host.load_bytes("villain", &guest::judge(&ask), &GRANTED);
    match plugin.unwrap() {
        Plugin::Evaluator(evaluator) => evaluator,
        Plugin::Converter(_) => panic!("it converts"),
    }
}

/// An image called by the `len` letters at `at`.
fn named(at: u32, len: u32) -> String {
    format!(
        "(i32.store8 (i32.const 6000) (i32.const 0))
         (i32.store (i32.const 6004) (i32.const {at})) (i32.store (i32.const 6008) (i32.const {len}))"
    )
}

#[test]
fn a_plugin_shows_the_model_no_file_but_the_samples_own() {
    let score = |image: &str, own: &str| {
        let desk = Desk::saying("yes");
        let host: Arc<dyn EvaluateHost> = desk.clone();
        let mut run = Scorer::start(&asking(image, ""), "{}", 0, host).unwrap();
        let sample = Sample {
            images: vec![ImageRef::Path(own.into())],
            ..Sample::default()
        };
        let scores = run.score(&sample, &Prediction::default());
        (scores.map(|scores| scores[0].value), desk.asked().len())
    };
    // The guest's data holds "nope".
    let (value, asked) = score(&named(1027, 4), "nope");
    assert_eq!((value.unwrap(), asked), (0.0, 1));
    for own in ["nop", "nope.png", "folder/nope", "/etc/passwd"] {
        let (value, asked) = score(&named(1027, 4), own);
        // The seventh case is `denied`.
        assert_eq!((value.unwrap(), asked), (106.0, 0), "{own}");
    }
    let page = "(i32.store8 (i32.const 6000) (i32.const 1))
        (i32.store (i32.const 6004) (i32.const 1027)) (i32.store (i32.const 6008) (i32.const 4))";
    let (error, asked) = score(page, "nope");
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("pages of documents")
    );
    assert_eq!(asked, 0);
}

#[test]
fn a_plugin_that_asks_for_ever_is_stopped() {
    let desk = Desk::saying("yes");
    let host: Arc<dyn EvaluateHost> = desk.clone();
    let villain = asking(&named(1027, 4), "(br $again)");
    let mut run = Scorer::start(&villain, "{}", 0, host).unwrap();
    let sample = Sample {
        images: vec![ImageRef::Path("nope".into())],
        ..Sample::default()
    };
    let error = run.score(&sample, &Prediction::default()).unwrap_err();
    assert_eq!(exceeded(&error), Some(Exceeded::Requests(1000)), "{error}");
    assert_eq!(desk.asked().len(), 1000);
}
