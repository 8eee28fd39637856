//! Adapters at run time: how long a switch takes, a cold load, what an attached adapter costs a token, and a
//! registry of far more adapters than it has room for.
//!
//! `bench-adapters <folder> [shape] [quant type] [threads]`; adapters of rank 16 on every linear layer,
//! stored as F16. Runs with and without take turns. The crowded registry is always at the shape 160m in Q4_0 with
//! adapters of rank 4 on queries and values, which take 300 MB of the folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use graft::adapter::{Adapter, Attached, Publish, Registry, gguf_file};
use graft::memory::anonymous_bytes;
use graft::model::{LlamaShape, Model, SiteKind};
use graft::session::{Session, SessionOptions};
use graft_benches::random_adapter::Recipe;
use graft_benches::{peak_resident_mib, random, random_model, resident_mib};
use graft_kernels::Kernels;
use graft_kernels::ops::dropout::Dropout;

const RANK: usize = 16;
/// Tokens before the first one that is measured.
const HISTORY: usize = 128;
/// Tokens of a turn.
const TURN: usize = 8;
const TURNS: usize = 12;

/// Adapters of the crowded registry, how many of them it has room for, and the switches between them.
const CROWD: usize = 1000;
const ROOM: usize = 64;
const SWITCHES: usize = 100_000;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("1b1"), next("Q4_K"));
    let threads: usize = next("0").parse().expect("a number of threads");
    let (_, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let path = |n: usize| Path::new(&folder).join(format!("{shape}-adapter-{n}.gguf"));
    let whole = Recipe {
        rank: RANK,
        kinds: &SiteKind::ALL,
    };
    for n in 0..2 {
        whole.write(&path(n), &model, n)?;
    }
    let options = SessionOptions::with_context(1024);
    load(&model, &options, &path(0))?;
    let adapters = [
        Adapter::open(&path(0), &model)?,
        Adapter::open(&path(1), &model)?,
    ];
    let sets = adapters.map(|adapter| Attached::new([(adapter, 1.0)]));
    switch(&model, &options, &sets)?;
    decode(&model, &options, &sets[0])?;
    decode_beside_loads(&model, &options, &[path(0), path(1)])?;
    first_terms(Path::new(&folder), &whole)?;
    crowd(&folder, threads)?;
    println!("peak resident memory {:.0} MiB", peak_resident_mib());
    Ok(())
}

fn load(model: &Arc<Model>, options: &SessionOptions, path: &Path) -> graft::Result<()> {
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len()) as f64;
    let median = |work: &mut dyn FnMut() -> graft::Result<Duration>| -> graft::Result<f64> {
        let mut times: Vec<_> = (0..7).map(|_| work()).collect::<graft::Result<_>>()?;
        times.sort();
        Ok(millis(times[3]))
    };
    let opened = median(&mut || {
        let start = Instant::now();
        let adapter = Adapter::open(path, model);
        let took = start.elapsed();
        adapter.map(|_| took)
    })?;
    let registry = Registry::new(Arc::clone(model), u64::MAX);
    let published = median(&mut || {
        let start = Instant::now();
        registry.load("a", path, Publish::Create)?;
        let took = start.elapsed();
        registry.retire("a").map(|_| took)
    })?;
    let mut session = Session::new(Arc::clone(model), options)?;
    let first = median(&mut || {
        session.set_adapters(Attached::default())?;
        session.reset();
        session.feed(&[3])?;
        session.reset();
        let start = Instant::now();
        let adapter = Adapter::open(path, model)?;
        session.set_adapters(Attached::new([(adapter, 1.0)]))?;
        session.feed(&[3])?;
        session.logits()?;
        Ok(start.elapsed())
    })?;
    println!(
        "cold load of {:.0} MB: {opened:.1} ms, {:.0} MB in memory; into a registry {published:.1} ms; to the \
         logits of a first token {first:.1} ms",
        bytes / 1e6,
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

/// A token while another thread loads one adapter after the other into a registry.
fn decode_beside_loads(
    model: &Arc<Model>,
    options: &SessionOptions,
    paths: &[PathBuf; 2],
) -> graft::Result<()> {
    let registry = Registry::new(Arc::clone(model), u64::MAX);
    let mut session = Session::new(Arc::clone(model), options)?;
    let mut tokens = |count: u32| -> graft::Result<Vec<Duration>> {
        session.reset();
        let token = |id| {
            let start = Instant::now();
            session.feed(&[id])?;
            session.logits()?;
            Ok(start.elapsed())
        };
        let mut times = (5..5 + count)
            .map(token)
            .collect::<graft::Result<Vec<_>>>()?;
        times.sort();
        Ok(times)
    };
    let alone = tokens(200)?;
    let done = AtomicBool::new(false);
    let (beside, loads) = std::thread::scope(|scope| {
        let loader = scope.spawn(|| -> graft::Result<usize> {
            let mut loads = 0;
            while !done.load(Ordering::Relaxed) {
                registry.load("a", &paths[loads % 2], Publish::Replace)?;
                loads += 1;
            }
            Ok(loads)
        });
        let beside = tokens(200);
        done.store(true, Ordering::Relaxed);
        let loads = loader.join().expect("a thread that does not panic");
        Ok::<_, graft::Error>((beside?, loads?))
    })?;
    println!(
        "a token: {}; while another thread loads adapters ({loads} of them): {}",
        spread(&alone),
        spread(&beside)
    );
    Ok(())
}

/// Up to the low-rank terms of a first token at the shape of LLaMA-7B, the file in the system's cache. Without a
/// base: the adapter is read and checked, and the terms of one row are computed at every place, on one thread.
fn first_terms(folder: &Path, whole: &Recipe<'_>) -> graft::Result<()> {
    let shapes = random_model::SHAPES.iter();
    let named = shapes.into_iter().find(|shape| shape.name == "7b");
    let named = named.expect("a shape's name");
    let shape = LlamaShape {
        width: named.width,
        layers: named.layers,
        heads: named.heads,
        kv_heads: named.kv_heads,
        head_width: named.width / named.heads,
        feed_forward: named.feed_forward,
        vocabulary: named.vocabulary,
        context_length: 4096,
        norm_eps: 1e-5,
        rope_base: 1e4,
        rope_scale: 1.0,
    };
    let path = folder.join("7b-shape-adapter.gguf");
    whole.write_for(&path, &shape, None, 0)?;
    let kernels = Kernels::detect();
    let row = random(1, shape.feed_forward);
    let mut sum = vec![0.0; shape.feed_forward];
    let mut terms = |adapter: &Adapter| {
        for (_, pair) in adapter.iter() {
            let term = pair.term(1.0, Dropout::NONE);
            let mut ax = vec![0.0; term.rank];
            kernels.low_rank_down(
                &mut ax,
                &row[..pair.inputs()],
                term.a,
                term.rank,
                term.scale,
            );
            kernels.low_rank_up(&mut sum[..pair.outputs()], &ax, term.b);
        }
    };
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..7 {
        let start = Instant::now();
        let adapter = gguf_file::read(&path)?;
        let opened = start.elapsed();
        terms(&adapter);
        let first = start.elapsed();
        terms(&adapter);
        let second = start.elapsed();
        for (times, took) in times.iter_mut().zip([opened, first, second - first]) {
            times.push(took);
        }
    }
    let [opened, first, second] = times.map(|mut times| {
        times.sort();
        millis(times[times.len() / 2])
    });
    let bytes = std::fs::metadata(&path).map_or(0, |m| m.len()) as f64;
    println!(
        "cold load of {:.0} MB at 7b's shape, no base: {opened:.1} ms, to all terms of a first token {first:.1} ms \
         (of a second: {second:.1} ms)",
        bytes / 1e6
    );
    Ok(())
}

/// A registry of [`CROWD`] adapters with room for [`ROOM`], used at random by a session that lives.
fn crowd(folder: &str, threads: usize) -> graft::Result<()> {
    let (_, model) = random_model::open(folder, "160m", "Q4_0", threads)?;
    let files = Path::new(folder).join("160m-crowd");
    std::fs::create_dir_all(&files).expect("the folder can be made");
    let thin = Recipe {
        rank: 4,
        kinds: &[SiteKind::Q, SiteKind::V],
    };
    let path = |n: usize| files.join(format!("{n}.gguf"));
    for n in (0..CROWD).filter(|&n| !path(n).exists()) {
        thin.write(&path(n), &model, n)?;
    }
    let bytes = Adapter::open(&path(0), &model)?.bytes();
    let limit = ROOM as u64 * bytes;
    let registry = Registry::new(Arc::clone(&model), limit);
    let names: Vec<_> = (0..CROWD).map(|n| n.to_string()).collect();
    let mut generations = Vec::new();
    for (n, name) in names.iter().enumerate() {
        generations.push(registry.load(name, &path(n), Publish::Create)?);
    }
    let options = SessionOptions::with_context(64);
    let mut session = Session::new(Arc::clone(&model), &options)?;
    // Written now, so that it is not taken for a leak.
    let mut times = vec![(false, Duration::MAX); SWITCHES];
    let mut most = 0;
    let memory = || {
        (
            resident_mib(),
            anonymous_bytes().unwrap_or(0) as f64 / (1 << 20) as f64,
        )
    };
    let mut before = memory();
    let choices = random(7, SWITCHES);
    for (turn, choice) in choices.into_iter().enumerate() {
        if turn % 500 == 0 {
            if session.position() == 8 {
                session.reset();
            }
            session.feed(&[3])?;
        }
        // The first tenth fills the room and the allocator's lists.
        if turn == SWITCHES / 10 {
            before = memory();
        }
        let n = ((choice + 1.0) / 2.0 * CROWD as f32) as usize % CROWD;
        let resident = registry.resident();
        let is_in = resident
            .iter()
            .any(|(generation, _)| *generation == generations[n]);
        let start = Instant::now();
        let lease = registry.lease(&names[n])?;
        session.set_adapters(Attached::new([(lease.adapter, 1.0)]))?;
        times[turn] = (is_in, start.elapsed());
        let held = registry.bytes().0;
        assert!(
            held <= limit,
            "{held} bytes in memory, {limit} are the limit"
        );
        most = most.max(held);
    }
    let after = memory();
    times.sort();
    let of = |was_in: bool| -> Vec<_> {
        let those = times.iter().filter(|(is_in, _)| *is_in == was_in);
        those.map(|&(_, time)| time).collect()
    };
    let (switched, read_again) = (of(true), of(false));
    println!(
        "{CROWD} adapters of {:.1} MB, room for {ROOM}, {SWITCHES} switches on a live session: {} in memory, {}; {} read \
         again, {}",
        bytes as f64 / 1e6,
        switched.len(),
        spread(&switched),
        read_again.len(),
        spread(&read_again)
    );
    println!(
        "  at most {:.1} MB of {:.1} in memory at any step; resident memory grew by {:.1} MiB, of it anonymous {:.1}",
        most as f64 / 1e6,
        limit as f64 / 1e6,
        after.0 - before.0,
        after.1 - before.1
    );
    Ok(())
}

/// Median, 99th percentile and worst of sorted times.
fn spread(times: &[Duration]) -> String {
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let [median, most, worst] = [at(0.5), at(0.99), at(1.0)];
    if median < Duration::from_millis(1) {
        let micros = [median, most, worst].map(|time| time.as_secs_f64() * 1e6);
        let [median, most, worst] = micros;
        return format!("{median:.1} us (p99 {most:.1}, worst {worst:.1})");
    }
    let [median, most, worst] = [median, most, worst].map(millis);
    format!("{median:.2} ms (p99 {most:.2}, worst {worst:.2})")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
