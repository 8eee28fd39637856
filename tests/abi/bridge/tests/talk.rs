//! A C++ program's conversation with the demo's model beside the engine's own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use graft::model::{Model, ModelOptions};
use graft::session::{Chat, GenerateOptions, Session, SessionOptions};
use graft_tests_bridge::ffi;

const QUESTION: &str = "Which digit is this?";

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../runtime/cli/demo/model.gguf")
}

#[test]
fn cpp_answers_as_the_engine_does() {
    let path = model();
    let engine = Model::open(&path, &ModelOptions::default()).unwrap();
    let session = Session::new(engine.clone(), &SessionOptions::default()).unwrap();
    let mut chat = Chat::new(session, engine.chat_template(None).unwrap());
    let options = GenerateOptions {
        max_tokens: 12,
        ..GenerateOptions::default()
    };
    let wanted = chat
        .say(
            QUESTION,
            Vec::new(),
            &options,
            |_| ControlFlow::Continue(()),
        )
        .unwrap();

    let mut talk = ffi::open(path.to_str().unwrap()).unwrap();
    assert_eq!(talk.fingerprint().unwrap(), engine.fingerprint());
    assert_eq!(talk.pin_mut().ask(QUESTION, 12, 0).unwrap(), wanted.text);
    assert!(talk.positions().unwrap() > 0);
    let first = talk.pin_mut().ask(QUESTION, 12, 1).unwrap();
    assert!(wanted.text.starts_with(&first));
}

#[test]
fn what_cpp_throws_is_an_error_with_its_words() {
    let refused = ffi::open("no/such.gguf").err().unwrap();
    assert!(refused.what().contains("no/such.gguf"), "{refused}");
    let mut talk = ffi::open(model().to_str().unwrap()).unwrap();
    let thrown = talk.pin_mut().fail(QUESTION).unwrap_err();
    assert!(thrown.what().contains("thrown by a callback"), "{thrown}");
    // The session is as good as before.
    talk.pin_mut().ask(QUESTION, 2, 0).unwrap();
}
