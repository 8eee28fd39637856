//! Sequences that decode together: what a batch gains over one after the other, and what it costs that each
//! has an adapter of its own.
//!
//! `bench-batches <folder> [shape] [quant type] [threads] [sequences]`; adapters of rank 16 on every linear
//! layer, stored as F16. What is compared takes turns.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graft::adapter::{Adapter, Attached};
use graft::model::{Model, SiteKind};
use graft::session::{Batch, BatchOptions, Session, SessionOptions};
use graft_benches::random_adapter::Recipe;
use graft_benches::{peak_resident_mib, random_model};

const CONTEXT: usize = 256;
/// Tokens before the first one that is measured.
const HISTORY: u32 = 32;
/// Tokens of a turn.
const TURN: u32 = 4;
const TURNS: usize = 24;

fn main() -> graft::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let folder = next("target/bench-models");
    let (shape, ty) = (next("1b1"), next("Q4_K"));
    let threads: usize = next("0").parse().expect("a number of threads");
    let sequences: usize = next("8").parse().expect("a number of sequences");
    let (_, model) = random_model::open(&folder, &shape, &ty, threads)?;
    let recipe = Recipe {
        rank: 16,
        kinds: &SiteKind::ALL,
    };
    let sets = (0..sequences).map(|n| {
        let path = Path::new(&folder).join(format!("{shape}-adapter-{n}.gguf"));
        recipe.write(&path, &model, n)?;
        Ok(Attached::new([(Adapter::open(&path, &model)?, 1.0)]))
    });
    let sets = sets.collect::<graft::Result<Vec<_>>>()?;
    let base = vec![Attached::default(); sequences];
    let shared = vec![sets[0].clone(); sequences];

    let options = BatchOptions {
        sessions: sequences,
        context_length: CONTEXT,
        chunk: 0,
    };
    let mut batch = Batch::new(Arc::clone(&model), &options)?;
    let mut kinds = [base, shared, sets].map(|sets| begin(&model, &mut batch, &sets));
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..TURNS {
        for (sessions, times) in kinds.iter_mut().zip(&mut times) {
            let sessions = sessions.as_mut().expect("room for the sessions");
            let mut lanes: Vec<_> = sessions.iter_mut().collect();
            for token in 0..TURN {
                let tokens: Vec<_> = (0..lanes.len() as u32).map(|n| [5 + n + token]).collect();
                let tokens: Vec<_> = tokens.iter().map(|t| &t[..]).collect();
                let start = Instant::now();
                batch.feed(&mut lanes, &tokens)?;
                batch.logits(&mut lanes)?;
                times.push(start.elapsed());
            }
        }
        let alone = &mut kinds[0].as_mut().expect("room for the sessions")[0];
        for token in 0..TURN {
            let start = Instant::now();
            alone.feed(&[5 + token])?;
            alone.logits()?;
            times[3].push(start.elapsed());
        }
    }
    let [base, shared, own, alone] = times.map(median);
    let speed = |time: Duration| sequences as f64 / time.as_secs_f64();
    println!(
        "one sequence alone: {:.1} tokens/s",
        1.0 / alone.as_secs_f64()
    );
    println!(
        "{sequences} sequences on the base: {:.1} tokens/s, {:.2} times one alone",
        speed(base),
        speed(base) * alone.as_secs_f64()
    );
    for (what, time) in [("with one adapter", shared), ("each with its own", own)] {
        println!(
            "{sequences} sequences {what}: {:.1} tokens/s, {:.3} of the base's speed",
            speed(time),
            speed(time) / speed(base)
        );
    }
    println!("peak resident memory {:.0} MiB", peak_resident_mib());
    Ok(())
}

/// Sessions with these adapters and a past.
fn begin(model: &Arc<Model>, batch: &mut Batch, sets: &[Attached]) -> graft::Result<Vec<Session>> {
    let history: Vec<u32> = (0..HISTORY).map(|i| 3 + i * 7919 % 31_000).collect();
    let options = SessionOptions {
        chunk: 1,
        ..SessionOptions::with_context(CONTEXT)
    };
    let sessions = sets.iter().map(|set| {
        let mut session = Session::new(Arc::clone(model), &options)?;
        session.set_adapters(set.clone())?;
        Ok(session)
    });
    let mut sessions = sessions.collect::<graft::Result<Vec<_>>>()?;
    let mut lanes: Vec<_> = sessions.iter_mut().collect();
    batch.feed(&mut lanes, &vec![&history[..]; sets.len()])?;
    Ok(sessions)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
