//! What every benchmark here shares: the machine's limits, a stopwatch and a way to print.
//!
//! A figure alone says little on a machine one does not know, so each is printed as a fraction of
//! a limit measured in the same run: [`limits::Limits`]. Run one with
//! `cargo run --release -p graft-benches --bin bench-kernels [-- <part of a name>]`.

pub mod limits;
pub mod random_adapter;
pub mod random_model;
pub mod random_vision;
pub mod turns;

use std::time::{Duration, Instant};

use graft_kernels::QuantType;
use limits::Limits;

/// Ends the program with a sentence about a word that whoever runs it gave, and those it might have been.
pub fn no_such(what: &str, word: &str, known: &[&str]) -> ! {
    eprintln!("there is no {what} \"{word}\", only {}", known.join(", "));
    std::process::exit(2)
}

/// The type that is written so; ends the program if there is none.
pub fn quant_type(word: &str) -> QuantType {
    let known = QuantType::ALL.iter().find(|ty| ty.name() == word);
    *known.unwrap_or_else(|| no_such("quant type", word, &QuantType::ALL.map(QuantType::name)))
}

/// Median and least time of one call.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Half of the calls were faster.
    pub median: Duration,
    /// What the machine does when nothing disturbs it.
    pub best: Duration,
}

/// Calls `work` once to warm up, then at least five times and for a fifth of a second.
pub fn time(mut work: impl FnMut()) -> Time {
    work();
    let (start, mut times) = (Instant::now(), vec![]);
    while times.len() < 5 || start.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        work();
        times.push(start.elapsed());
    }
    times.sort();
    Time {
        median: times[times.len() / 2],
        best: times[0],
    }
}

/// What a piece of work is limited by.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Floating-point operations; a multiplication and an addition are two.
    Flop(f64),
    /// Bytes read from memory.
    Bytes(f64),
}

/// Prints one row: time, rate, fraction of the limit, and anything else worth saying.
pub fn print_row(name: &str, time: Time, work: Work, threads: usize, limits: &Limits, note: &str) {
    let seconds = |d: Duration| d.as_secs_f64();
    let (amount, unit, limit) = match work {
        Work::Flop(n) => (n, "GFLOP/s", limits.gflops(threads)),
        Work::Bytes(n) => (n, "GB/s", limits.read_gbs(threads)),
    };
    let rate = amount / seconds(time.median) / 1e9;
    let best = amount / seconds(time.best) / 1e9;
    println!(
        "{name:<44} {:>10.3} ms {rate:>8.1} {unit:<7} {:>4.0} % (best {best:.1}, {:.0} %) {note}",
        seconds(time.median) * 1e3,
        100.0 * rate / limit,
        100.0 * best / limit,
    );
}

/// Highest resident memory of this process so far, in MiB; 0 where the system does not say.
pub fn peak_resident_mib() -> f64 {
    status_mib("VmHWM:")
}

/// Resident memory of this process now, mapped files included, in MiB; 0 where the system does not say.
pub fn resident_mib() -> f64 {
    status_mib("VmRSS:")
}

fn status_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Repeatable values in -1..1.
pub fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}
