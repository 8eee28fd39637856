//! Work done in turns, each of them beside what the machine can do right before and after it.
//!
//! A machine that is shared changes its clock and its memory's speed within seconds, so neither a limit that was measured at the
//! start nor a peer that ran a minute ago says much of a turn. With `--turns` among its arguments a program takes a turn
//! when a line of its standard input asks for it: `peers.py` then has it and a peer take turns within a second.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::limits::Limits;
use crate::{Work, peak_resident_mib};

/// Turns of each kind when nobody asks for them; the first, which warms up, is none of them.
const TURNS: usize = 7;

/// One kind of work.
#[derive(Clone, Debug)]
pub struct Kind {
    /// What is printed of it.
    pub name: String,
    /// What a turn does.
    pub work: Work,
    /// How many `units` that is.
    pub count: usize,
    /// Tokens or images.
    pub units: &'static str,
}

/// The program's arguments but its own name and `--turns`.
pub fn arguments() -> impl Iterator<Item = String> {
    std::env::args().skip(1).filter(|word| word != "--turns")
}

/// Has `turn` take turns, which is given the place of its kind in `kinds`; `stored` is what a turn that is measured in bytes
/// reads, and reading it alone the limit. Without `--turns` a row is printed for each kind.
/// With it the answer to a line, which is a kind's place, is `turn`, units per second, the share of the limit,
/// and the highest resident memory in MiB; a first line `ready` says that each kind has been done once.
///
/// # Panics
/// If a line is no place of a kind, or the standard streams end within a line.
pub fn take(kinds: &[Kind], threads: usize, stored: &[&[u8]], mut turn: impl FnMut(usize)) {
    for place in 0..kinds.len() {
        turn(place);
    }
    let turns = Turns { threads, stored };
    if !std::env::args().any(|word| word == "--turns") {
        for (place, kind) in kinds.iter().enumerate() {
            turns.print(kind, || turn(place));
        }
        println!("peak resident memory {:.0} MiB", peak_resident_mib());
        return;
    }
    println!("ready");
    for line in io::stdin().lines() {
        let place: usize = line.expect("a line").parse().expect("the place of a kind");
        let (took, share) = turns.measure(kinds[place].work, || turn(place));
        let rate = kinds[place].count as f64 / took.as_secs_f64();
        println!("turn {rate} {share} {}", peak_resident_mib());
        io::stdout().flush().expect("somebody waits for the answer");
    }
}

/// What turns are held against.
struct Turns<'a> {
    threads: usize,
    stored: &'a [&'a [u8]],
}

impl Turns<'_> {
    fn print(&self, kind: &Kind, mut turn: impl FnMut()) {
        let measured = (0..TURNS).map(|_| self.measure(kind.work, &mut turn));
        let (mut times, mut shares): (Vec<Duration>, Vec<f64>) = measured.unzip();
        times.sort();
        shares.sort_by(f64::total_cmp);
        let (took, best) = (times[TURNS / 2].as_secs_f64(), times[0].as_secs_f64());
        let (amount, unit) = match kind.work {
            Work::Flop(n) => (n / 1e9, "GFLOP/s"),
            Work::Bytes(n) => (n / 1e9, "GB/s"),
        };
        println!(
            "{:<44} {:>10.3} ms {:>8.1} {unit:<7} (best {:.1}) {:>4.0} % of the limit (best {:.0} %) {:.3} {}/s",
            kind.name,
            1e3 * took,
            amount / took,
            amount / best,
            100.0 * shares[TURNS / 2],
            100.0 * shares[TURNS - 1],
            kind.count as f64 / took,
            kind.units,
        );
    }

    /// How long a turn takes, and its share of what the machine can do right before and after it.
    fn measure(&self, work: Work, mut turn: impl FnMut()) -> (Duration, f64) {
        let before = self.limit(work);
        let start = Instant::now();
        turn();
        let took = start.elapsed();
        let limit = (before + self.limit(work)) / 2.0;
        let (Work::Flop(amount) | Work::Bytes(amount)) = work;
        (took, amount / took.as_secs_f64() / 1e9 / limit)
    }

    /// 10^9 operations or bytes per second at this moment.
    fn limit(&self, work: Work) -> f64 {
        match work {
            Work::Flop(_) => Limits::gflops_now(self.threads),
            Work::Bytes(_) => Limits::read_gbs_now(self.threads, self.stored),
        }
    }
}
