//! Tokens per second of whole models with random weights: a prompt, then generation.
//!
//! `bench-model <folder> [shape] [quant type] [tokens] [threads]`; the models are written to the
//! folder once. `peers.py` has this and llama.cpp take turns.

use graft::kv_cache::{KvCache, MadeBy};
use graft::model::{Inference, Llama, Model, Unadapted};
use graft_benches::Work;
use graft_benches::random_model::{self, Shape};
use graft_benches::turns::{self, Kind};

/// Positions a session may hold here.
const CONTEXT: usize = 2048;
/// Tokens that are generated in a turn, each time after the prompt.
const GENERATED: usize = 8;

fn main() -> graft::Result<()> {
    let mut arguments = turns::arguments();
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("160m"), next("Q4_K"));
    let tokens: usize = next("512").parse().expect("a number of tokens");
    let threads: usize = next("0").parse().expect("a number of threads");
    let (shape, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let threads = model.llama().pool().threads();
    run(&model, &shape, &ty, tokens, threads);
    Ok(())
}

fn run(model: &Model, shape: &Shape, ty: &str, tokens: usize, threads: usize) {
    let llama = model.llama();
    let mut timeline = Timeline {
        llama,
        kv: KvCache::new(llama.shape(), CONTEXT).expect("memory for a session"),
        run: Inference::new(llama, Inference::CHUNK, CONTEXT).expect("memory for a session"),
        rows: vec![0.0; tokens * shape.width],
        logits: vec![0.0; shape.vocabulary],
    };
    let ids: Vec<u32> = (0..tokens as u32).map(|i| 3 + i * 7919 % 31_000).collect();
    let prompt = Kind {
        name: format!("{} {ty}, prompt of {tokens}", shape.name),
        work: Work::Flop((2 * tokens * shape.linear_weights()) as f64),
        count: tokens,
        units: "tokens",
    };
    let tensors = model.gguf().tensors().iter().enumerate();
    let read = tensors.filter(|(_, tensor)| tensor.name != "token_embd.weight");
    let stored: Vec<&[u8]> = read.map(|(index, _)| model.gguf().data(index)).collect();
    let kv_width = shape.width / shape.heads * shape.kv_heads;
    let keys_and_values = 2 * shape.layers * tokens * kv_width * size_of::<f32>();
    let bytes = stored.iter().map(|part| part.len()).sum::<usize>() + keys_and_values;
    let generation = Kind {
        name: format!("{} {ty}, generation after {tokens}", shape.name),
        work: Work::Bytes((GENERATED * bytes) as f64),
        count: GENERATED,
        units: "tokens",
    };
    turns::take(
        &[prompt, generation],
        threads,
        &stored,
        |place| match place {
            0 => {
                timeline.kv.rewind(0);
                timeline.feed(&ids);
            }
            _ => {
                timeline.kv.rewind(tokens);
                let generated = ids.iter().cycle().take(GENERATED);
                generated.for_each(|&id| timeline.feed(&[id]));
            }
        },
    );
}

/// What a session keeps, without its tokenizer.
struct Timeline<'a> {
    llama: &'a Llama,
    kv: KvCache,
    run: Inference,
    rows: Vec<f32>,
    logits: Vec<f32>,
}

impl Timeline<'_> {
    /// Runs the tokens and computes the logits of the last one.
    fn feed(&mut self, ids: &[u32]) {
        let width = self.llama.shape().width;
        let rows = &mut self.rows[..ids.len() * width];
        self.llama
            .embed(rows, ids)
            .expect("ids are below the vocabulary");
        self.llama
            .forward_last(rows, &mut self.kv, &Unadapted, MadeBy::BASE, &mut self.run)
            .expect("no device runs it");
        let last = &rows[(ids.len() - 1) * width..];
        let (mut normed, mut inv_rms) = (vec![0.0; width], [0.0]);
        self.llama.final_norm(&mut normed, &mut inv_rms, last);
        self.run
            .logits(self.llama, &mut self.logits, &normed, &Unadapted)
            .expect("no device runs it");
    }
}
