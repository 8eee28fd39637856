//! A model judges a model: both tiny, so every reply is compared with that of a fresh session.

mod sight;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use graft::Error;
use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair};
use graft::cancel::Cancel;
use graft::dataset::converter::LogLevel;
use graft::dataset::{Diagnostic, ImageFolder, ImageRef, Part, Role, Sample, Turn, prompt};
use graft::evaluate::evaluator::{JudgeReply, JudgeRequest};
use graft::evaluate::{
    AnswerOptions, Answerer, EvaluateError, EvaluateHost, EvaluateOptions, EvaluateReport,
    Evaluator, EvaluatorDescription, EvaluatorRun, Judge, Metric, Prediction, Remarks, Score,
    Scorer, run,
};
use graft::model::{Model, Site};
use graft::session::{GenerateOptions, Item, Session, SessionOptions, ShownImage, prompt_items};
use graft::tokenizer::ChatTemplate;
use graft_plugins::{Grants, Host, Limits, WasmEvaluator};

const CONTEXT: usize = 400;

/// Short enough for a vocabulary of letters and this context.
const OPTIONS: &str = r#"{"template": "{question} {answer} yes or no", "images": true}"#;

fn judge_plugin() -> WasmEvaluator {
    let host = Host::new(Limits::default(), None).unwrap();
    let plugin = host.load(Path::new("judge"), &Grants { model: true });
    plugin.unwrap().into_evaluator().unwrap()
}

fn images() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../runtime/cli/demo/digits/held-out/images")
}

fn sample(id: &str, image: &str, question: &str) -> Sample {
    let content = vec![Part::Image(0), Part::Text(question.into())];
    let role = Role::User;
    Sample {
        id: id.into(),
        images: vec![ImageRef::Path(image.into())],
        turns: vec![Turn { role, content }, Turn::text(Role::Assistant, "zero")],
        ..Sample::default()
    }
}

fn samples() -> Vec<Sample> {
    vec![
        sample("a", "digit_0458.png", "Which digit is this?"),
        sample("b", "digit_1407.png", "Which digit is this?"),
        sample("a again", "digit_0458.png", "Is it a nine?"),
    ]
}

fn answerer(model: &Arc<Model>, max_tokens: usize) -> Answerer {
    let options = AnswerOptions {
        max_tokens,
        context_length: CONTEXT,
        ..AnswerOptions::default()
    };
    let folder = ImageFolder::new(images());
    Answerer::new(model, ChatTemplate::vicuna_v1(), folder, options).unwrap()
}

fn wave(model: &Model) -> Attached {
    let sites = Site::of_layers(model.llama().shape().layers);
    let pairs = sites.map(|site| {
        let mut pair = LoraPair::begin(site, model.sizes(site).unwrap(), 2, 2.0, 5);
        let wave = |(i, b): (usize, &mut f32)| *b = (i % 7) as f32 * 0.1 - 0.3;
        pair.b.iter_mut().enumerate().for_each(wave);
        (site, pair)
    });
    let adapter = Adapter::new("wave", BaseIdentity::default(), 4.0, pairs).unwrap();
    Attached::new([(Arc::new(adapter), 0.5)])
}

/// The reply to a request by another way: a new session, nothing kept.
fn reply_afresh(model: &Arc<Model>, adapters: &Attached, request: &JudgeRequest) -> String {
    let folder = ImageFolder::new(images());
    let shown = |image: &ImageRef| {
        let pixels = folder.read(image, "x").unwrap().decode().unwrap();
        Item::Image(ShownImage::new(model, &pixels).unwrap())
    };
    let rows: Vec<_> = request.images.iter().map(shown).collect();
    let conversation = Sample {
        turns: request.turns.clone(),
        ..Sample::default()
    };
    let messages = prompt::messages(&conversation);
    let items = prompt_items(model, &ChatTemplate::vicuna_v1(), &messages, &rows).unwrap();
    let options = SessionOptions::with_context(CONTEXT);
    let mut session = Session::new(Arc::clone(model), &options).unwrap();
    session.set_adapters(adapters.clone()).unwrap();
    session.feed_items(items).unwrap();
    let options = GenerateOptions {
        max_tokens: request.max_tokens as usize,
        ..GenerateOptions::default()
    };
    let said = session.generate(&options, |_| ControlFlow::Continue(()));
    said.unwrap().text.trim().to_owned()
}

/// Passes everything on and writes down what was asked and replied.
#[derive(Default)]
struct Listener {
    remarks: Remarks,
    heard: Mutex<Vec<(JudgeRequest, String)>>,
}

impl EvaluateHost for Listener {
    fn cancel(&self) -> Cancel {
        self.remarks.cancel()
    }
    fn report(&self, diagnostic: Diagnostic) {
        self.remarks.report(diagnostic);
    }
    fn log(&self, level: LogLevel, message: &str) {
        self.remarks.log(level, message);
    }
    fn generate(&self, request: &JudgeRequest) -> Result<JudgeReply, EvaluateError> {
        let reply = self.remarks.generate(request)?;
        let heard = (request.clone(), reply.text.clone());
        self.heard.lock().unwrap().push(heard);
        Ok(reply)
    }
    fn judge(&self) -> Option<graft::evaluate::JudgeUsed> {
        self.remarks.judge()
    }
}

/// Evaluates the samples; the model judges itself with `adapters`.
fn judged(
    model: &Arc<Model>,
    adapters: &Attached,
    options: &str,
    predictions: &Path,
) -> (EvaluateReport, Arc<Listener>) {
    let listener = Arc::new(Listener::default());
    let mut judging = answerer(model, 0);
    judging.set_adapters(adapters.clone()).unwrap();
    listener.remarks.grant(Judge::new(judging));
    let host: Arc<dyn EvaluateHost> = listener.clone();
    let scorer = Scorer::start(&judge_plugin(), options, 3, host).unwrap();
    let options = EvaluateOptions {
        evaluator: "judge".into(),
        predictions: Some(predictions.to_owned()),
        ..EvaluateOptions::default()
    };
    let mut asked = answerer(model, 6);
    let calm = Cancel::new();
    let report = run(&mut asked, &samples(), &options, scorer, &calm, |_| {}).unwrap();
    (report, listener)
}

fn predicted(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let said = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["predicted"].as_str().unwrap().to_owned()
    };
    text.lines().map(said).collect()
}

#[test]
fn replies_are_those_of_fresh_sessions_and_the_model_under_test_does_not_notice() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let file = folder.path().join("p.jsonl");
    let alone: Vec<String> = samples()
        .iter()
        .map(|sample| {
            answerer(&model, 6)
                .answer(sample, &Cancel::new())
                .unwrap()
                .text
        })
        .collect();
    let mut replies = Vec::new();
    for (name, adapters) in [("base", Attached::default()), ("wave", wave(&model))] {
        let (report, listener) = judged(&model, &adapters, OPTIONS, &file);
        assert_eq!(predicted(&file), alone, "{name}");
        let heard = listener.heard.lock().unwrap().clone();
        assert_eq!(heard.len(), 3);
        for (request, reply) in &heard {
            assert_eq!(request.images.len(), 1);
            assert_eq!(*reply, reply_afresh(&model, &adapters, request), "{name}");
        }
        let judge = report.judge.as_ref().unwrap();
        assert_eq!(judge.requests, 3);
        assert_eq!(judge.model, report.model);
        assert!(judge.prompt_tokens > 3 * 100, "{judge:?}");
        assert!(judge.generated_tokens <= 3 * 16, "{judge:?}");
        assert_eq!(judge.adapters.len(), adapters.entries().len());
        assert!(report.adapters.is_empty(), "the model under test has none");
        let unparsed = report
            .metrics
            .iter()
            .find(|m| m.name == "unparsed")
            .unwrap();
        assert_eq!(unparsed.weight, 3.0);
        // The same again is the same to the last bit.
        let (again, listener) = judged(&model, &adapters, OPTIONS, &file);
        assert_eq!(again.metrics, report.metrics);
        assert_eq!(*listener.heard.lock().unwrap(), heard);
        replies.push(
            heard
                .into_iter()
                .map(|(_, reply)| reply)
                .collect::<Vec<_>>(),
        );
    }
    assert_ne!(replies[0], replies[1], "the judge's adapter counts");
}

#[test]
fn the_image_counts_in_a_judgement() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let mut judge = Judge::new(answerer(&model, 0));
    let mut said = |image: &str| {
        let request = JudgeRequest {
            turns: samples()[0].turns[..1].to_vec(),
            images: vec![ImageRef::Path(image.into())],
            max_tokens: 8,
            seed: 0,
        };
        let reply = judge.generate(&request, &Cancel::new()).unwrap();
        assert!(reply.generated_tokens <= 8);
        reply.text
    };
    assert_ne!(said("digit_0458.png"), said("digit_1407.png"));
}

#[test]
fn images_are_shown_in_the_order_of_the_turns_and_only_if_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let mut judge = Judge::new(answerer(&model, 8));
    let mut said = |parts: &[usize], images: &[&str]| {
        let mut content: Vec<_> = parts.iter().map(|&index| Part::Image(index)).collect();
        content.push(Part::Text("Which?".into()));
        let role = Role::User;
        let request = JudgeRequest {
            turns: vec![Turn { role, content }],
            images: images.iter().map(|i| ImageRef::Path(i.into())).collect(),
            max_tokens: 0,
            seed: 0,
        };
        judge.generate(&request, &Cancel::new())
    };
    let (a, b) = ("digit_0458.png", "digit_1407.png");
    assert_eq!(
        said(&[1, 0], &[b, a]).unwrap(),
        said(&[0, 1], &[a, b]).unwrap()
    );
    assert_eq!(said(&[1], &[b, a]).unwrap(), said(&[0], &[a]).unwrap());
    for (parts, images, reason) in [
        (&[1][..], &[a][..], "shows image 1 but has 1 images"),
        (&[0], &["none.png"], "there is no image"),
    ] {
        let error = said(parts, images).unwrap_err();
        assert!(matches!(error, EvaluateError::Unsupported(_)), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn what_does_not_fit_the_context_is_left_out_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let remarks = Arc::new(Remarks::default());
    remarks.grant(Judge::new(answerer(&model, 0)));
    let host: Arc<dyn EvaluateHost> = remarks.clone();
    let mut scorer = Scorer::start(&judge_plugin(), OPTIONS, 0, host).unwrap();
    let sample = &samples()[0];
    let said = |text: &str| Prediction {
        text: text.into(),
        ..Prediction::default()
    };
    let error = scorer.score(sample, &said(&"x".repeat(CONTEXT)));
    let EvaluateError::InvalidInput(fault) = error.unwrap_err() else {
        panic!("it ends the run");
    };
    assert!(fault.message.contains("context is full"), "{fault:?}");
    assert_eq!(remarks.judge().unwrap().requests, 0);
    scorer.score(sample, &said("x")).unwrap();
    assert_eq!(remarks.judge().unwrap().requests, 1);
}

/// Asks for a long reply when the flag is raised already, or shortly before.
struct Impatient(Cancel);

impl Evaluator for Impatient {
    fn describe(&self) -> Result<EvaluatorDescription, EvaluateError> {
        Ok(EvaluatorDescription {
            metrics: vec![Metric {
                name: "m".into(),
                unit: String::new(),
                higher_is_better: true,
            }],
            options_schema: "{}".into(),
        })
    }
    fn start(
        &self,
        _: &str,
        _: u64,
        host: Arc<dyn EvaluateHost>,
    ) -> Result<Box<dyn EvaluatorRun>, EvaluateError> {
        Ok(Box::new(Asking(self.0.clone(), host)))
    }
}

struct Asking(Cancel, Arc<dyn EvaluateHost>);

impl EvaluatorRun for Asking {
    fn score(&mut self, _: &Sample, _: &Prediction) -> Result<Vec<Score>, EvaluateError> {
        let raised = self.0.clone();
        let raise = move || {
            std::thread::sleep(std::time::Duration::from_millis(1));
            raised.raise();
        };
        let raising = std::thread::spawn(raise);
        let request = JudgeRequest {
            turns: vec![Turn::text(Role::User, "Speak")],
            images: Vec::new(),
            max_tokens: 0,
            seed: 0,
        };
        // The flag goes up during one of them.
        let refused = (0..100_000).find_map(|_| self.1.generate(&request).err());
        raising.join().unwrap();
        Err(refused.unwrap())
    }
    fn finish(&mut self) -> Result<Vec<Score>, EvaluateError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_judge_that_speaks_can_be_interrupted_and_no_file_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let out = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let remarks = Remarks::new(cancel.clone());
    remarks.grant(Judge::new(answerer(&model, 0)));
    let impatient = Impatient(cancel.clone());
    let scorer = Scorer::start(&impatient, "{}", 0, Arc::new(remarks)).unwrap();
    let options = EvaluateOptions {
        predictions: Some(out.path().join("p.jsonl")),
        report: Some(out.path().join("r.json")),
        ..EvaluateOptions::default()
    };
    let mut asked = answerer(&model, 6);
    let result = run(&mut asked, &samples(), &options, scorer, &cancel, |_| {});
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn without_a_grant_the_run_ends_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let model = sight::model(folder.path());
    let host = Arc::new(Remarks::default());
    let scorer = Scorer::start(&judge_plugin(), OPTIONS, 0, host).unwrap();
    let options = EvaluateOptions::default();
    let mut asked = answerer(&model, 6);
    let error = run(
        &mut asked,
        &samples(),
        &options,
        scorer,
        &Cancel::new(),
        |_| {},
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("grants no model"), "{error}");
}
