//! What this machine can do, and how fast it reads memory.

use std::hint::black_box;
use std::time::Instant;

/// The instruction sets of this processor that matter here.
pub fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look_for {
        ($detect:ident: $($name:tt)*) => { $(if std::arch::$detect!($name) { found.push($name); })* };
    }
    #[cfg(target_arch = "x86_64")]
    look_for!(is_x86_feature_detected:
        "sse4.1" "avx" "f16c" "fma" "avx2" "avxvnni" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni"
        "avx512bf16" "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    look_for!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "sve" "sve2");
    found
}

/// 10^9 bytes per second that `threads` threads together read from memory: the best of three rounds
/// over a buffer far larger than the caches.
pub fn read_gigabytes_per_second(threads: usize) -> f64 {
    const WORDS: usize = 32 << 20;
    let threads = threads.clamp(1, 64);
    let buffer = vec![1u64; WORDS];
    let share = WORDS / threads;
    let round = || {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for part in buffer.chunks_exact(share) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        (threads * share * size_of::<u64>()) as f64 / begun.elapsed().as_secs_f64() / 1e9
    };
    (0..3).map(|_| round()).fold(0.0, f64::max)
}

/// Adds in lanes, so that the loop becomes vector instructions and memory is what it waits for.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for words in words.as_chunks::<32>().0 {
        for (lane, &word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(word);
        }
    }
    lanes.iter().fold(0, |sum, &lane| sum.wrapping_add(lane))
}
