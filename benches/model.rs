//! Tokens per second of whole models with random weights: a prompt, then generation.
//!
//! `bench-model <folder> [shape] [quant type] [tokens] [threads]`; the models are written to the
//! folder once. `peers.py` runs this beside llama.cpp.

use std::time::{Duration, Instant};

use graft::kv_cache::{KvCache, MadeBy};
use graft::model::{Inference, Llama, Model, Unadapted};
use graft_benches::limits::Limits;
use graft_benches::random_model::{self, Shape};
use graft_benches::{Time, Work, peak_resident_mib, print_row, time};

/// Positions a session may hold here.
const CONTEXT: usize = 2048;
/// Times that tokens are set beside what reading alone reaches right before and after, and how many of them.
const TURNS: usize = 9;
const TOKENS_OF_A_TURN: usize = 8;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("160m"), next("Q4_K"));
    let tokens: usize = next("512").parse().expect("a number of tokens");
    let threads: usize = next("0").parse().expect("a number of threads");
    let (shape, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let threads = model.llama().pool().threads();
    let limits = Limits::measure(threads);
    limits.print();
    run(&model, &shape, &ty, tokens, threads, &limits);
    Ok(())
}

fn run(model: &Model, shape: &Shape, ty: &str, tokens: usize, threads: usize, limits: &Limits) {
    let llama = model.llama();
    let mut timeline = Timeline {
        llama,
        kv: KvCache::new(llama.shape(), CONTEXT).expect("memory for a session"),
        run: Inference::new(llama, Inference::CHUNK, CONTEXT).expect("memory for a session"),
        rows: vec![0.0; tokens * shape.width],
        logits: vec![0.0; shape.vocabulary],
    };
    let ids: Vec<u32> = (0..tokens as u32).map(|i| 3 + i * 7919 % 31_000).collect();
    let prompt = time(|| {
        timeline.kv.rewind(0);
        timeline.feed(&ids);
    });
    let flop = 2 * tokens * shape.linear_weights();
    let name = format!("{} {ty}, prompt of {tokens}", shape.name);
    let note = format!(
        "{:.1} tokens/s",
        tokens as f64 / prompt.median.as_secs_f64()
    );
    print_row(
        &name,
        prompt,
        Work::Flop(flop as f64),
        threads,
        limits,
        &note,
    );

    let mut generate = |i: usize| {
        let start = Instant::now();
        timeline.feed(&ids[i % tokens..][..1]);
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..64).map(&mut generate).collect();
    times.sort();
    let each = Time {
        median: times[times.len() / 2],
        best: times[0],
    };
    let gguf = model.gguf().tensors().iter();
    let read = gguf
        .filter(|t| t.name != "token_embd.weight")
        .map(|t| t.bytes);
    let kv_width = shape.width / shape.heads * shape.kv_heads;
    let keys_and_values = 2 * shape.layers * tokens * kv_width * size_of::<f32>();
    let bytes = (read.sum::<usize>() + keys_and_values) as f64;
    let name = format!("{} {ty}, generation after {tokens}", shape.name);
    let note = format!("{:.1} tokens/s", 1.0 / each.median.as_secs_f64());
    print_row(&name, each, Work::Bytes(bytes), threads, limits, &note);
    // What is read beside them is no part of what a model takes.
    let peak = peak_resident_mib();

    let buffer = Limits::buffer();
    let mut before = Limits::read_gbs_now(threads, &buffer);
    let mut share = || {
        let mut times: Vec<Duration> = (0..TOKENS_OF_A_TURN).map(&mut generate).collect();
        times.sort();
        let after = Limits::read_gbs_now(threads, &buffer);
        let limit = (before + after) / 2.0;
        before = after;
        bytes / times[TOKENS_OF_A_TURN / 2].as_secs_f64() / 1e9 / limit
    };
    let mut shares: Vec<f64> = (0..TURNS).map(|_| share()).collect();
    shares.sort_by(f64::total_cmp);
    let [median, best] = [shares[TURNS / 2], shares[TURNS - 1]].map(|share| 100.0 * share);
    println!(
        "of reading right before and after each of {TURNS} times {TOKENS_OF_A_TURN} tokens {median:.0} % (best {best:.0} %)"
    );
    println!("peak resident memory {peak:.0} MiB");
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
