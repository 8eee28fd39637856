//! One and two adapters at once, at strengths of either sign, with and without layers in common: graft answers as
//! PEFT does with the folders and as llama.cpp does with the files. `tests/golden/together/make.py`.

mod answers;
#[path = "../model/closeness.rs"]
mod closeness;

use std::collections::BTreeMap;
use std::sync::Arc;

use answers::{golden, logits, open};
use closeness::relative_error;
use graft::adapter::{Adapter, Attached, gguf_file};
use graft::gguf::Gguf;
use graft::model::Model;
use graft::session::{Session, SessionOptions};
use safetensors::SafeTensors;

const ADAPTERS: [&str; 3] = ["one", "two", "apart"];
const CASES: usize = 8;

/// Tokens, and by case what a peer answers.
struct Peer {
    tokens: Vec<u32>,
    answers: BTreeMap<String, Vec<f32>>,
}

impl Peer {
    fn open(peer: &str) -> Self {
        let bytes = std::fs::read(golden().join("together/logits.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| file.tensor(name).unwrap().data().as_chunks().0.to_vec();
        let tokens = words("tokens").into_iter().map(u32::from_le_bytes);
        let cases = file.names().into_iter().filter_map(|name| {
            let case = name.strip_prefix(peer)?.trim_start();
            let floats = words(name).into_iter().map(f32::from_le_bytes);
            Some((case.to_owned(), floats.collect()))
        });
        let peer = Self {
            tokens: tokens.collect(),
            answers: cases.collect(),
        };
        assert_eq!(peer.answers.len(), CASES);
        peer
    }

    /// Compares every case, all tokens at once and one after the other, which multiply in different ways.
    fn agrees(&self, model: &Arc<Model>, open: impl Fn(&str) -> Arc<Adapter>) {
        let adapters: BTreeMap<_, _> = ADAPTERS.map(|name| (name, open(name))).into();
        for (case, expected) in &self.answers {
            let attached = Attached::new(case.split(' ').map(|part| {
                let (name, strength) = part.split_once(':').unwrap();
                (Arc::clone(&adapters[name]), strength.parse().unwrap())
            }));
            let at_once = logits(model, &attached, &self.tokens);
            let mut session = Session::new(Arc::clone(model), &SessionOptions::default()).unwrap();
            session.set_adapters(attached).unwrap();
            let mut one_by_one = Vec::new();
            for &token in &self.tokens {
                session.feed(&[token]).unwrap();
                one_by_one.extend_from_slice(session.logits().unwrap());
            }
            for (how, found) in [("at once", at_once), ("one by one", one_by_one)] {
                let error = relative_error(&found, expected);
                println!("{case}, {how}: {error:.1e}");
                assert!(error < 3e-6, "{case}, {how}: {error:e}");
            }
            // Every strength and every adapter counts.
            for (other, answer) in self.answers.iter().filter(|(other, _)| *other != case) {
                let apart = relative_error(answer, expected);
                assert!(apart > 1e-2, "{case} and {other}: {apart:e}");
            }
        }
    }
}

fn base() -> Arc<Model> {
    open(&golden().join("llama/grouped_heads.gguf"))
}

#[test]
fn adapters_together_answer_as_in_peft() {
    let model = base();
    let folder = |name: &str| Adapter::open(&golden().join("together").join(name), &model);
    Peer::open("peft").agrees(&model, |name| folder(name).unwrap());
}

#[test]
fn adapters_together_answer_as_in_llama_cpp() {
    let model = base();
    let path = |name: &str| golden().join(format!("together/{name}.gguf"));
    Peer::open("llama.cpp").agrees(&model, |name| Adapter::open(&path(name), &model).unwrap());
}

#[test]
fn files_that_graft_makes_of_the_folders_are_those_that_llama_cpp_was_given() {
    let model = base();
    let place = tempfile::tempdir().unwrap();
    for name in ADAPTERS {
        let adapter = Adapter::open(&golden().join("together").join(name), &model).unwrap();
        let path = place.path().join("a.gguf");
        gguf_file::write(&path, &adapter).unwrap();
        let files = [path, golden().join(format!("together/{name}.gguf"))];
        let [ours, theirs] = files.map(|path| {
            let gguf = Gguf::open(&path).unwrap();
            let alpha = gguf.metadata().opt_f32("adapter.lora.alpha").unwrap();
            let tensors = gguf.tensors().iter().enumerate();
            let tensors: BTreeMap<_, _> = tensors
                .map(|(i, info)| {
                    let values = (info.quant_type, info.shape.clone(), gguf.data(i).to_vec());
                    (info.name.clone(), values)
                })
                .collect();
            (alpha, tensors)
        });
        assert!(!ours.1.is_empty() && ours == theirs, "{name}");
    }
}
