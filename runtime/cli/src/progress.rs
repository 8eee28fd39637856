//! Progress of long work on stderr: a bar with the time left on a terminal, a line every few seconds
//! elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const PAUSE_BETWEEN_LINES: Duration = Duration::from_secs(5);
/// From here on a part says more than a number.
const COUNTED: u64 = 100_000;

/// One piece of work with a known number of steps.
pub struct Progress {
    label: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    begun: Instant,
    last_line: Instant,
}

impl Progress {
    /// Work of `total` steps, called `label`.
    pub fn new(label: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let count = match total {
                0..COUNTED => "{pos:>5}/{len}",
                _ => "{percent:>3} %",
            };
            let style = format!("{{prefix:12}} {{bar:28}} {count}  {{wide_msg}}");
            bar.set_style(ProgressStyle::with_template(&style).expect("the template is ours"));
            bar.set_prefix(label);
            bar
        });
        Self {
            label,
            total,
            bar,
            begun: Instant::now(),
            last_line: Instant::now(),
        }
    }

    /// `done` steps are behind, by the pace so far; `note` is what else is worth showing.
    pub fn at(&mut self, done: u64, note: &str) {
        let left = self
            .begun
            .elapsed()
            .mul_f64(self.total.saturating_sub(done) as f64 / done.max(1) as f64);
        self.at_with(done, left, note);
    }

    /// The same with the time left known better.
    pub fn at_with(&mut self, done: u64, left: Duration, note: &str) {
        let left = format!("{} left", short(left));
        let note = [note, &left].into_iter().filter(|n| !n.is_empty());
        let note = note.collect::<Vec<_>>().join("  ");
        match &self.bar {
            Some(bar) => {
                bar.set_message(note);
                bar.set_position(done);
            }
            None if self.last_line.elapsed() >= PAUSE_BETWEEN_LINES => {
                match self.total {
                    0..COUNTED => eprintln!("{} {done}/{}  {note}", self.label, self.total),
                    total => eprintln!("{} {} %  {note}", self.label, 100 * done / total),
                }
                self.last_line = Instant::now();
            }
            None => {}
        }
    }

    /// Says something above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// The work is over, and its bar gone; how long it took.
    pub fn finish(self) -> Duration {
        self.begun.elapsed()
    }
}

/// Work that failed takes its bar with it, so that the reason stands alone.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A time for people: `12 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`.
pub fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `1 sample`, `7 samples`.
pub fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Bytes for people: `512 B`, `9.7 MiB`.
pub fn short_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_bytes_are_short() {
        assert_eq!(short(Duration::from_millis(12)), "12 ms");
        assert_eq!(short(Duration::from_millis(4230)), "4.2 s");
        assert_eq!(short(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(short(Duration::from_secs(7500)), "2 h 5 min");
        assert_eq!(short_bytes(512), "512 B");
        assert_eq!(short_bytes(10 << 20), "10.0 MiB");
    }
}
