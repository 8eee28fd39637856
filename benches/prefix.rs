//! What it saves that sessions share the past they have in common: memory, time to open one, and what it costs
//! when they decode.
//!
//! `bench-prefix <folder> [shape] [quant type] [threads] [sessions] [positions]`; sessions with the past run by
//! each take turns with those that were forked from one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graft::memory::anonymous_bytes;
use graft::session::{Batch, BatchOptions, Session, SessionOptions};
use graft_benches::random_model;

/// Room after the past.
const MORE: usize = 64;
const TURNS: u32 = 32;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("160m"), next("Q4_K"));
    let mut number = |default: &str| next(default).parse::<usize>().expect("a number");
    let (threads, count, past) = (number("0"), number("8"), number("1024"));
    let (_, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let past: Vec<u32> = (0..past as u32).map(|i| 3 + i * 7919 % 31_000).collect();
    let options = SessionOptions {
        chunk: 256,
        ..SessionOptions::with_context(past.len() + MORE)
    };
    let fed = || -> graft::Result<Session> {
        let mut session = Session::new(Arc::clone(&model), &options)?;
        session.feed(&past)?;
        Ok(session)
    };
    // The first of its kind also takes what threads keep.
    let mut parent = fed()?;
    let mut alone = kind("that ran the past themselves", count, fed)?;
    let mut forked = kind("forked from one", count, || parent.fork(&options))?;

    let mut batch = Batch::new(
        Arc::clone(&model),
        &BatchOptions {
            sessions: count,
            context_length: past.len() + MORE,
            chunk: 0,
        },
    )?;
    let mut times = [vec![], vec![]];
    for turn in 0..TURNS {
        for (sessions, times) in [&mut alone, &mut forked].into_iter().zip(&mut times) {
            times.push(step(&mut batch, sessions, turn)?);
        }
    }
    let [alone, forked] = times.map(median);
    println!(
        "decoding together, forked ones: {:.3} of the speed of the others",
        alone.as_secs_f64() / forked.as_secs_f64()
    );
    Ok(())
}

/// Opens sessions and says what each took.
fn kind(
    what: &str,
    count: usize,
    mut open: impl FnMut() -> graft::Result<Session>,
) -> graft::Result<Vec<Session>> {
    let (before, start) = (anonymous_bytes().unwrap_or(0), Instant::now());
    let sessions: graft::Result<Vec<_>> = (0..count).map(|_| open()).collect();
    let (sessions, each) = (sessions?, start.elapsed() / count as u32);
    let bytes = anonymous_bytes().unwrap_or(0).saturating_sub(before) / count as u64;
    println!(
        "{count} sessions {what}: {:.2} MiB and {:.2} ms each",
        bytes as f64 / f64::from(1 << 20),
        each.as_secs_f64() * 1e3
    );
    Ok(sessions)
}

/// One token in each session.
fn step(batch: &mut Batch, sessions: &mut [Session], turn: u32) -> graft::Result<Duration> {
    let mut lanes: Vec<_> = sessions.iter_mut().collect();
    let tokens: Vec<_> = (0..lanes.len() as u32).map(|n| [5 + n + turn]).collect();
    let tokens: Vec<_> = tokens.iter().map(|t| &t[..]).collect();
    let start = Instant::now();
    batch.feed(&mut lanes, &tokens)?;
    batch.logits(&mut lanes)?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
