//! Bytes per second of decode and of the thin product, beside the machine's read bandwidth.
//!
//!     cargo bench -p graft-kernels --bench bytes -- [threads] [types...]
//!
//! Matrices are larger than the last cache; the bandwidth is measured again beside each type,
//! since neighbours share the memory.

use std::hint::black_box;
use std::time::Instant;

use graft_kernels::{Kernels, QuantType};

const INPUTS: usize = 2048;
const MATRIX_BYTES: usize = 96 << 20;
const SLICE_BYTES: usize = 1 << 20;
const PASSES: usize = 2;

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let threads: usize = args.next().map_or(1, |a| a.parse().expect("threads"));
    let names: Vec<String> = args.collect();
    println!("{threads} thread(s), inputs {INPUTS}; GB/s of stored weights");
    println!("type     table     read | decode | product of 1, 2, 4, 8 tokens | 1 token / read");
    for ty in QuantType::ALL {
        if !names.is_empty() && !names.iter().any(|n| n == ty.name()) {
            continue;
        }
        let row_bytes = ty.row_bytes(INPUTS).expect("whole blocks");
        let rows = MATRIX_BYTES / row_bytes / threads;
        let shares: Vec<Vec<u8>> = (0..threads)
            .map(|_| weights(ty, rows * row_bytes))
            .collect();
        let read = rate(&shares, row_bytes, read_all);
        for table in Kernels::available() {
            let decode = rate(&shares, row_bytes, |w| {
                let mut out = [0.0; INPUTS];
                for row in w.chunks_exact(row_bytes) {
                    table.decode(ty, row, black_box(&mut out));
                }
            });
            let product = [1, 2, 4, 8].map(|tokens| {
                rate(&shares, row_bytes, |w| {
                    let x = Aligned([0.5; 8 * INPUTS]);
                    let mut y = [0.0; 8 * 64];
                    for rows in w.chunks(64 * row_bytes) {
                        let x = &x.0[..tokens * INPUTS];
                        table.product_thin(black_box(&mut y), 64, x, INPUTS, ty, rows);
                    }
                })
            });
            let [one, two, four, eight] = product;
            println!(
                "{:8} {:8} {read:5.1} | {decode:6.1} | {one:6.1} {two:6.1} {four:6.1} {eight:6.1} | {:3.0} %",
                ty.name(),
                table.name,
                100.0 * one / read
            );
        }
    }
}

/// GB/s of all threads together. Each share is walked in slices of about a millisecond or
/// less, and the rate is that of its fastest tenth: other processes on the machine slow a
/// slice down, nothing speeds one up.
fn rate(shares: &[Vec<u8>], row_bytes: usize, slice: impl Fn(&[u8]) + Sync) -> f64 {
    let slice_bytes = SLICE_BYTES / row_bytes * row_bytes;
    let of_share = |share: &Vec<u8>| {
        let mut seconds: Vec<f64> = (0..PASSES)
            .flat_map(|_| share.chunks_exact(slice_bytes))
            .map(|bytes| {
                let start = Instant::now();
                slice(bytes);
                start.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        slice_bytes as f64 / seconds[seconds.len() / 10] / 1e9
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares.iter().map(|s| scope.spawn(|| of_share(s))).collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .sum()
    })
}

fn read_all(bytes: &[u8]) {
    let mut sums = [0u64; 32];
    for run in bytes.as_chunks::<256>().0 {
        for (sum, word) in sums.iter_mut().zip(run.as_chunks().0) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
    black_box(sums);
}

/// Stored weights that decode to finite values of moderate size.
fn weights(ty: QuantType, bytes: usize) -> Vec<u8> {
    let block: Vec<f32> = (0..256).map(|i| (i % 17) as f32 / 17.0 - 0.4).collect();
    let mut encoded = vec![0; ty.row_bytes(256).expect("256 is whole blocks")];
    if graft_kernels::blocks::encode(ty, &block, &mut encoded).is_err() {
        encoded.fill(0x11); // read-only types: any small scale will do
    }
    encoded.into_iter().cycle().take(bytes).collect()
}

/// Activations as the runtime's buffers hold them.
#[repr(align(64))]
struct Aligned([f32; 8 * INPUTS]);
