//! A model that others trained and packed: stories260K.gguf answers as transformers and
//! llama.cpp say. Skipped, with a line that says so, where the file is not at hand.

mod closeness;
mod golden;

use std::path::Path;
use std::sync::Arc;

use closeness::relative_error;
use golden::Golden;
use graft::kv_cache::{KvCache, MadeBy};
use graft::model::{Inference, Model, ModelOptions, Unadapted};

fn stories() -> Option<Arc<Model>> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/gguf/stories260K.gguf");
    if !path.exists() {
        println!("skipped: no {}", path.display());
        return None;
    }
    Some(
        Model::open(
            &path,
            &ModelOptions {
                threads: 2,
                ..ModelOptions::default()
            },
        )
        .unwrap(),
    )
}

/// A timeline of tokens.
struct Timeline {
    model: Arc<Model>,
    kv: KvCache,
    inference: Inference,
}

impl Timeline {
    fn new(model: &Arc<Model>) -> Self {
        Self {
            kv: KvCache::new(model.llama().shape(), 256).unwrap(),
            inference: Inference::new(model.llama(), 64, 256).unwrap(),
            model: Arc::clone(model),
        }
    }

    /// Logits `[T, V]` of more tokens.
    fn feed(&mut self, tokens: &[u32]) -> Vec<f32> {
        let llama = self.model.llama();
        let shape = llama.shape();
        let mut rows = vec![0.0; tokens.len() * shape.width];
        llama.embed(&mut rows, tokens).unwrap();
        let (kv, inference) = (&mut self.kv, &mut self.inference);
        llama
            .forward(&mut rows, kv, &Unadapted, MadeBy::BASE, inference)
            .unwrap();
        let mut normed = rows.clone();
        llama.final_norm(&mut normed, &mut vec![0.0; tokens.len()], &rows);
        let mut logits = vec![0.0; tokens.len() * shape.vocabulary];
        self.inference
            .logits(llama, &mut logits, &normed, &Unadapted)
            .unwrap();
        logits
    }
}

#[test]
fn logits_agree_with_transformers() {
    let Some(model) = stories() else { return };
    let golden = Golden::read("stories260K");
    let logits = Timeline::new(&model).feed(&golden.tokens());
    let vocabulary = model.llama().shape().vocabulary;
    let fourth = logits.chunks_exact(vocabulary).skip(3).step_by(4).flatten();
    let error = relative_error(&fourth.copied().collect::<Vec<_>>(), golden.get("logits"));
    println!("{error:.1e}");
    assert!(error < 1e-5, "{error:e}");
}

#[test]
fn greedy_text_is_llama_cpps() {
    let Some(model) = stories() else { return };
    let tokenizer = model.tokenizer().unwrap();
    let golden = include_str!("../golden/llama/stories260K.json");
    let golden: Vec<[String; 2]> = serde_json::from_str(golden).unwrap();
    for [prompt, want] in golden {
        let mut timeline = Timeline::new(&model);
        let mut fed = tokenizer.encode(&prompt, true, false).unwrap();
        let mut answer = vec![];
        while answer.len() < 60 {
            let logits = timeline.feed(&fed);
            let last = &logits[logits.len() - model.llama().shape().vocabulary..];
            let best = (0..last.len())
                .max_by(|&a, &b| last[a].total_cmp(&last[b]))
                .unwrap();
            answer.push(best as u32);
            fed = vec![best as u32];
        }
        let mut ids = tokenizer.encode(&prompt, true, false).unwrap();
        ids.extend(answer);
        let text = tokenizer.decode(&ids);
        assert!(
            text.trim_start().ends_with(&want),
            "{text:?} is not {prompt:?} {want:?}"
        );
    }
}
