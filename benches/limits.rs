//! What the machine can do at most: arithmetic with 32-bit floats, and reading memory.
//!
//! Arithmetic is measured with the instruction set that the engine's products of floats use. Calling code
//! compiled for it makes this file a room for `unsafe`.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use graft_kernels::{Isa, Kernels};

/// The limits of one thread and of all of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    threads: usize,
    gflops: [f64; 2],
    read_gbs: [f64; 2],
}

impl Limits {
    /// Measures with one thread and with `threads`, for about two seconds.
    pub fn measure(threads: usize) -> Self {
        let arithmetic = |threads| fastest(threads, |_| multiply_add(2_000_000));
        let buffer = vec![1; 1 << 28]; // far more than any cache holds
        let reading = |threads| fastest(threads, |i| read(share(&buffer, i, threads)));
        Self {
            threads,
            gflops: [arithmetic(1), arithmetic(threads)],
            read_gbs: [reading(1), reading(threads)],
        }
    }

    /// 10^9 bytes per second that `threads` threads read of `parts` at this moment, each of them its share of every part: a
    /// shared machine has twice as much for minutes or for seconds, and pages of a file may be larger than those of a buffer.
    pub fn read_gbs_now(threads: usize, parts: &[&[u8]]) -> f64 {
        once(threads, &|i| {
            let shares = parts.iter().map(|part| share(part, i, threads));
            shares.map(read).sum()
        })
    }

    /// 10^9 floating-point operations per second of `threads` threads at this moment: the clock of a machine that is
    /// shared changes by a fifth within seconds. It takes about 40 ms, since neighbours come and go within less.
    pub fn gflops_now(threads: usize) -> f64 {
        once(threads, &|_| multiply_add(20_000_000))
    }

    /// 10^9 floating-point operations per second of that many threads.
    pub fn gflops(&self, threads: usize) -> f64 {
        self.gflops[usize::from(threads > 1)]
    }

    /// 10^9 bytes per second of that many threads.
    pub fn read_gbs(&self, threads: usize) -> f64 {
        self.read_gbs[usize::from(threads > 1)]
    }

    /// Prints both.
    pub fn print(&self) {
        let Self {
            threads,
            gflops,
            read_gbs,
        } = self;
        println!(
            "f32 multiply-add: {:.1} GFLOP/s, {threads} threads {:.1}",
            gflops[0], gflops[1]
        );
        println!(
            "memory read: {:.1} GB/s, {threads} threads {:.1}",
            read_gbs[0], read_gbs[1]
        );
    }
}

/// 10^9 units per second of `threads` threads, the best of five rounds.
fn fastest(threads: usize, work: impl Fn(usize) -> f64 + Sync) -> f64 {
    (0..5).map(|_| once(threads, &work)).fold(0.0, f64::max)
}

/// 10^9 units per second of `threads` threads that start together; `work` is given its thread's number and returns the
/// units it did.
fn once(threads: usize, work: &(impl Fn(usize) -> f64 + Sync)) -> f64 {
    let start_line = Barrier::new(threads);
    let run = |i| {
        start_line.wait();
        let start = Instant::now();
        let units = work(i);
        (units, start.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> = (0..threads).map(|i| scope.spawn(move || run(i))).collect();
        let results = workers
            .into_iter()
            .map(|w| w.join().expect("a worker ends"));
        let add = |(u, s): (f64, f64), (units, seconds): (f64, f64)| (u + units, s.max(seconds));
        let (units, seconds) = results.fold((0.0, 0.0), add);
        units / seconds / 1e9
    })
}

/// Independent chains of multiply-adds; returns the operations done.
fn multiply_add(rounds: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        let isa = Kernels::detect().isa;
        if isa == Isa::Avx512 {
            // SAFETY: the processor has the instruction set.
            return unsafe { multiply_add_avx512(rounds) };
        }
        if isa == Isa::Avx2 {
            // SAFETY: the processor has the instruction sets.
            return unsafe { multiply_add_avx2(rounds) };
        }
    }
    chains(rounds, [0.5_f32; 12], |x| x * 0.999 + 0.001) // scalar: a floor, not the limit
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_add_avx512(rounds: usize) -> f64 {
    let (factor, term) = (_mm512_set1_ps(0.999), _mm512_set1_ps(0.001));
    chains(rounds, [factor; 12], |x| _mm512_fmadd_ps(x, factor, term))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_avx2(rounds: usize) -> f64 {
    let (factor, term) = (_mm256_set1_ps(0.999), _mm256_set1_ps(0.001));
    chains(rounds, [factor; 12], |x| _mm256_fmadd_ps(x, factor, term))
}

/// Twelve chains, enough to hide the latency of a step; `V` is a vector of 32-bit floats.
#[inline(always)]
fn chains<V: Copy>(rounds: usize, mut chains: [V; 12], step: impl Fn(V) -> V) -> f64 {
    for _ in 0..rounds {
        for chain in &mut chains {
            *chain = step(*chain);
        }
    }
    black_box(&chains);
    (2 * size_of_val(&chains) / size_of::<f32>() * rounds) as f64
}

/// What thread `i` of `threads` reads of a part.
fn share(part: &[u8], i: usize, threads: usize) -> &[u8] {
    let each = part.len() / threads;
    &part[i * each..][..each]
}

/// Adds the bytes up as numbers of eight; returns how many were read.
fn read(bytes: &[u8]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instruction set.
        return unsafe { read_avx2(bytes) };
    }
    sum(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(bytes: &[u8]) -> f64 {
    sum(bytes)
}

/// Brings what lies a page ahead closer: the processor's own prefetching ends with every page.
#[inline(always)]
fn ask_ahead(bytes: &[u8; 256]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        let place = line.as_ptr().wrapping_add(4096);
        // SAFETY: every x86-64 has SSE; a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    let _ = bytes;
}

#[inline(always)]
fn sum(bytes: &[u8]) -> f64 {
    let mut lanes = [0_u64; 32];
    let steps = bytes.as_chunks::<256>().0;
    for step in steps {
        ask_ahead(step);
        for (lane, number) in lanes.iter_mut().zip(step.as_chunks().0) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*number));
        }
    }
    black_box(lanes);
    size_of_val(steps) as f64
}
