//! Adapters at run time: how long a switch takes, a cold load, and what an attached adapter costs a token.
//!
//! `bench-adapters <folder> [shape] [quant type] [threads]`; adapters of rank 16 on every linear layer,
//! stored as F16. Runs with and without take turns.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair, gguf_file};
use graft::model::{Model, Site};
use graft::session::{Session, SessionOptions};
use graft_benches::{peak_resident_mib, random, random_model};
use graft_kernels::QuantType;

const RANK: usize = 16;
/// Tokens before the first one that is measured.
const HISTORY: usize = 128;
/// Tokens of a turn.
const TURN: usize = 8;
const TURNS: usize = 12;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("1b1"), next("Q4_K"));
    let threads: usize = next("0").parse().expect("a number of threads");
    let (_, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let path = |n: usize| Path::new(&folder).join(format!("{shape}-adapter-{n}.gguf"));
    for n in 0..2 {
        gguf_file::write_as(&path(n), &random_adapter(&model, n)?, QuantType::F16)?;
    }
    load(&model, &path(0))?;
    let adapters = [
        Adapter::open(&path(0), &model)?,
        Adapter::open(&path(1), &model)?,
    ];
    let sets = adapters.map(|adapter| Attached::new([(adapter, 1.0)]));
    let options = SessionOptions::with_context(1024);
    switch(&model, &options, &sets)?;
    decode(&model, &options, &sets[0])?;
    println!("peak resident memory {:.0} MiB", peak_resident_mib());
    Ok(())
}

fn random_adapter(model: &Model, seed: usize) -> graft::Result<Adapter> {
    let shape = model.llama().shape();
    let pairs = Site::of_layers(shape.layers).map(|site| {
        let (outputs, inputs) = shape.sizes(site).expect("a site of its layers");
        let small = |n: usize, salt: usize| {
            let seed = (seed << 32 | site.index() << 1 | salt) as u64;
            random(seed, n)
                .into_iter()
                .map(|v| v * 0.01)
                .collect::<Vec<_>>()
        };
        let pair = LoraPair::new(small(RANK * inputs, 0), small(RANK * outputs, 1), RANK, 1.0);
        (site, pair.expect("whole rows"))
    });
    let base = BaseIdentity {
        fingerprint: Some(model.fingerprint().to_owned()),
        name: None,
    };
    Ok(Adapter::new(format!("random-{seed}"), base, 0.0, pairs)?)
}

fn load(model: &Model, path: &Path) -> graft::Result<()> {
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len()) as f64;
    let mut times: Vec<Duration> = (0..7)
        .map(|_| {
            let start = Instant::now();
            let adapter = Adapter::open(path, model);
            let took = start.elapsed();
            adapter.map(|_| took)
        })
        .collect::<graft::Result<_>>()?;
    times.sort();
    println!(
        "cold load of {:.0} MB: {:.1} ms, {:.0} MB in memory",
        bytes / 1e6,
        millis(times[3]),
        Adapter::open(path, model)?.bytes() as f64 / 1e6
    );
    Ok(())
}

fn switch(model: &Arc<Model>, options: &SessionOptions, sets: &[Attached; 2]) -> graft::Result<()> {
    let mut session = Session::new(Arc::clone(model), options)?;
    session.set_adapters(sets[1].clone())?;
    let mut times = Vec::new();
    for turn in 0..2000 {
        // A token now and then: the session is alive.
        if turn % 500 == 0 {
            session.feed(&[3])?;
        }
        let set = sets[turn % 2].clone();
        let start = Instant::now();
        session.set_adapters(set)?;
        times.push(start.elapsed());
    }
    times.sort();
    let micros = |at: usize| times[at].as_secs_f64() * 1e6;
    println!(
        "switch on a live session: {:.1} us, at worst {:.1} us of {}",
        micros(times.len() / 2),
        micros(times.len() - 1),
        times.len()
    );
    Ok(())
}

fn decode(model: &Arc<Model>, options: &SessionOptions, set: &Attached) -> graft::Result<()> {
    let history: Vec<u32> = (0..HISTORY as u32).map(|i| 3 + i * 7919 % 31_000).collect();
    let begin = |set: Attached| -> graft::Result<Session> {
        let mut session = Session::new(Arc::clone(model), options)?;
        session.set_adapters(set)?;
        session.feed(&history)?;
        Ok(session)
    };
    let mut sessions = [begin(Attached::default())?, begin(set.clone())?];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (session, times) in sessions.iter_mut().zip(&mut times) {
            for token in 0..TURN as u32 {
                let start = Instant::now();
                session.feed(&[5 + token])?;
                session.logits()?;
                times.push(start.elapsed());
            }
        }
    }
    let [base, adapted] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    println!(
        "a token: {:.2} ms on the base, {:.2} ms with one adapter, {:.3} of its speed",
        millis(base),
        millis(adapted),
        base.as_secs_f64() / adapted.as_secs_f64()
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
