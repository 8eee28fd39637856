//! How long a program waits before its prompt runs: opening a model whose file is in the system's cache,
//! and making a session's buffers.
//!
//! `bench-start <folder> [shape] [quant type] [threads]`

use std::time::Instant;

use graft::kv_cache::KvCache;
use graft::model::Inference;
use graft_benches::{random_model, time};

/// Positions of the session.
const CONTEXT: usize = 2048;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("7b"), next("Q4_K"));
    let threads: usize = next("0").parse().expect("a number of threads");
    // Writes the file if it is missing, and reads it once.
    let (_, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let tensors = model.gguf().tensors();
    let bytes: usize = tensors.iter().map(|tensor| tensor.bytes).sum();
    drop(model);
    let first = Instant::now();
    let start = || -> graft::Result<()> {
        let (_, model) = random_model::open(&folder, &shape, &ty, threads)?;
        let llama = model.llama();
        let kv = KvCache::new(llama.shape(), CONTEXT)?;
        let run = Inference::new(llama, Inference::CHUNK, CONTEXT)?;
        std::hint::black_box((&kv, &run));
        Ok(())
    };
    start()?;
    let first = first.elapsed();
    let took = time(|| start().expect("it opened before"));
    println!(
        "{shape} {ty}, {:.2} GB: ready for a prompt after {:.1} ms (first time {:.1}, best {:.1})",
        bytes as f64 / 1e9,
        took.median.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
        took.best.as_secs_f64() * 1e3,
    );
    Ok(())
}
