//! Speed of the kernels on one thread, at the shapes of a 160M and a 1.1B LLaMA.

use std::hint::black_box;

use graft_benches::limits::Limits;
use graft_benches::{Time, Work, peak_resident_mib, print_row, random, time};
use graft_kernels::ops::attention::AttentionShape;
use graft_kernels::ops::dropout::Dropout;
use graft_kernels::ops::rope::{RopeLayout, RopeOptions, RopeTable};
use graft_kernels::product::{Mat, MatMut, product};
use graft_kernels::rounded::{GROUP, Parts, Rounded, RoundedMut, Strip, TILE};
use graft_kernels::tiled::{attention, linear};
use graft_kernels::words::{MOST_COLS, WordRoom};
use graft_kernels::{Kernels, QuantType};

/// Widths of the linear layers: inputs, outputs.
const LINEAR: [(usize, usize); 4] = [(768, 768), (768, 2048), (2048, 768), (2048, 5632)];
const TOKENS: usize = 512;

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let kernels = Kernels::detect();
    let limits = Limits::measure(std::thread::available_parallelism().map_or(1, usize::from));
    println!("kernels {}", kernels.name);
    limits.print();
    let wanted = |name: &str| name.contains(&filter);
    if wanted("product") {
        dense_products(&limits);
    }
    if wanted("linear") {
        linear_rows(kernels, &limits);
    }
    if wanted("rounded") {
        rounded_rows(kernels, &limits);
    }
    if wanted("halves") {
        halves_rows(kernels, &limits);
    }
    if wanted("attention") {
        attention_rows(kernels, &limits);
    }
    if wanted("lora") {
        lora_rows(&limits);
    }
    if wanted("rows") {
        elementwise_rows(kernels, &limits);
    }
    println!("peak resident memory {:.0} MiB", peak_resident_mib());
}

fn dense_products(limits: &Limits) {
    for (inputs, outputs) in LINEAR {
        let (x, w) = (random(1, TOKENS * inputs), random(2, outputs * inputs));
        let mut y = vec![0.0; TOKENS * outputs];
        let flop = Work::Flop((2 * TOKENS * inputs * outputs) as f64);
        let took = time(|| {
            let (x, w) = (Mat::new(&x, TOKENS, inputs), Mat::new(&w, outputs, inputs));
            product(MatMut::new(&mut y, TOKENS, outputs), false, 1.0, x, w.t());
        });
        print_row(
            &format!("product {TOKENS} x {inputs} -> {outputs}"),
            took,
            flop,
            1,
            limits,
            "",
        );
        let mut dx = vec![0.0; TOKENS * inputs];
        let took = time(|| {
            let (dy, w) = (Mat::new(&y, TOKENS, outputs), Mat::new(&w, outputs, inputs));
            product(MatMut::new(&mut dx, TOKENS, inputs), false, 1.0, dy, w);
        });
        let name = format!("product {TOKENS} x {outputs} -> {inputs}, W as stored");
        print_row(&name, took, flop, 1, limits, "");
    }
}

/// Products with activations in 8 bits, for prompts, chat turns and generation, and beside them those in words and in floats.
fn rounded_rows(kernels: &Kernels, limits: &Limits) {
    let (inputs, outputs) = (2048, 2048);
    let x = random(1, TOKENS * inputs);
    let groups = x.len() / GROUP;
    let words = if kernels.rounds_to_words() { groups } else { 0 };
    let (mut levels, mut words) = (vec![[0; GROUP]; groups], vec![[0; GROUP]; words]);
    let (mut units, mut sums) = (vec![0.0; groups], vec![0.0; groups]);
    let mut halves = vec![[0.0; 2]; groups];
    let mut parts = vec![Parts::default(); groups];
    let took = time(|| {
        let out = RoundedMut {
            levels: &mut levels,
            words: &mut words,
            units: &mut units,
            sums: &mut sums,
            halves: &mut halves,
            parts: &mut parts,
        };
        kernels.round(out, &x, inputs);
    });
    let bytes = Work::Bytes((4 * x.len()) as f64);
    let name = format!("round {TOKENS} x {inputs}");
    print_row(&name, took, bytes, 1, limits, "");
    let all = |tokens| Rounded {
        levels: &levels[..tokens * inputs / GROUP],
        words: &words[..words.len() / TOKENS * tokens],
        units: &units[..tokens * inputs / GROUP],
        sums: &sums[..tokens * inputs / GROUP],
        halves: &halves[..tokens * inputs / GROUP],
        parts: &parts[..tokens * inputs / GROUP],
        inputs,
    };
    let (mut strip, mut scratch) = (Strip::default(), vec![0.0; linear::SCRATCH]);
    let mut room = WordRoom::default();
    let mut y = vec![0.0; TOKENS * outputs];
    for ty in QuantType::ALL {
        let (rounds, words) = (kernels.rounds(ty), kernels.multiplies_words(ty));
        let w = vec![0x11; outputs * ty.row_bytes(inputs).expect("whole blocks")];
        let weight = linear::Stored {
            quant_type: ty,
            bytes: &w,
            inputs,
        };
        for tokens in [1, 2, 3, 4, 8, 16, 32, 64, 512] {
            let flop = Work::Flop((2 * tokens * inputs * outputs) as f64);
            if rounds {
                let took = time(|| {
                    let y = MatMut::new(&mut y[..tokens * outputs], tokens, outputs);
                    kernels.linear_rounded(y, &all(tokens), &weight, &mut strip);
                });
                print_row(&format!("rounded {ty} {tokens}"), took, flop, 1, limits, "");
            }
            if words && tokens > Kernels::THIN_TOKENS {
                let x = Mat::new(&x[..tokens * inputs], tokens, inputs);
                let took = time(|| {
                    let mut y = MatMut::new(&mut y[..tokens * outputs], tokens, outputs);
                    for row in (0..outputs).step_by(MOST_COLS) {
                        let bytes = &w[row * w.len() / outputs..];
                        let bytes = &bytes[..MOST_COLS * w.len() / outputs];
                        let weight = linear::Stored { bytes, ..weight };
                        let y = y.col_range(row, MOST_COLS);
                        kernels.linear_forward_words(y, x, &weight, &mut room);
                    }
                });
                print_row(&format!("words {ty} {tokens}"), took, flop, 1, limits, "");
            }
            if rounds && tokens <= TILE {
                let thin = time(|| kernels.thin_rounded(&mut y, outputs, &all(tokens), &weight));
                print_row(
                    &format!("rounded {ty} {tokens}, thin"),
                    thin,
                    flop,
                    1,
                    limits,
                    "",
                );
            }
            let floats = time(|| {
                let x = &x[..tokens * inputs];
                if tokens <= Kernels::THIN_TOKENS {
                    kernels.product_thin(&mut y, outputs, x, inputs, ty, &w);
                    return;
                }
                let y = MatMut::new(&mut y[..tokens * outputs], tokens, outputs);
                let mut y = y;
                for row in (0..outputs).step_by(256) {
                    let bytes = &w[row * w.len() / outputs..][..256 * w.len() / outputs];
                    let weight = linear::Stored { bytes, ..weight };
                    let x = Mat::new(x, tokens, inputs);
                    kernels.linear_forward(y.col_range(row, 256), x, &weight, &[], &mut scratch);
                }
            });
            print_row(
                &format!("floats {ty} {tokens}"),
                floats,
                flop,
                1,
                limits,
                "",
            );
        }
    }
}

/// BF16 with activations as they are and, where the processor can, split in two BF16 numbers.
fn halves_rows(kernels: &Kernels, limits: &Limits) {
    let (inputs, outputs, ty) = (2048, 2048, QuantType::BF16);
    let (x, mut y) = (random(1, TOKENS * inputs), vec![0.0; TOKENS * outputs]);
    let w = vec![0x11; outputs * ty.row_bytes(inputs).expect("whole blocks")];
    let mut scratch = vec![0.0; linear::SCRATCH];
    let floats: Multiply = Kernels::linear_forward;
    let halves: Multiply = Kernels::linear_halves;
    for tokens in [9, 16, 32, 64, 128, 512] {
        for (name, multiply) in [("floats", floats), ("halves", halves)] {
            if name == "halves" && !kernels.multiplies_halves(ty, inputs) {
                continue;
            }
            let took = time(|| {
                let mut y = MatMut::new(&mut y[..tokens * outputs], tokens, outputs);
                for row in (0..outputs).step_by(128) {
                    let weight = linear::Stored {
                        quant_type: ty,
                        bytes: &w[row * w.len() / outputs..][..128 * w.len() / outputs],
                        inputs,
                    };
                    let x = Mat::new(&x[..tokens * inputs], tokens, inputs);
                    let y = y.col_range(row, 128);
                    multiply(kernels, y, x, &weight, &[], &mut scratch);
                }
            });
            let flop = Work::Flop((2 * tokens * inputs * outputs) as f64);
            print_row(&format!("{name} {ty} {tokens}"), took, flop, 1, limits, "");
        }
    }
}

type Multiply = fn(&Kernels, MatMut<'_>, Mat<'_>, &linear::Stored<'_>, &[f32], &mut [f32]);

/// A frozen linear layer in training, forward and back, in words where the processor has them and in floats.
fn linear_rows(kernels: &Kernels, limits: &Limits) {
    for ty in [
        QuantType::Q4_0,
        QuantType::Q4K,
        QuantType::Q6K,
        QuantType::Q8_0,
    ] {
        for (inputs, outputs) in LINEAR {
            let row_bytes = ty.row_bytes(inputs).expect("whole blocks");
            let w = vec![0x11; outputs * row_bytes];
            let (x, mut y) = (random(1, TOKENS * inputs), vec![0.0; TOKENS * outputs]);
            let weight = linear::Stored {
                quant_type: ty,
                bytes: &w,
                inputs,
            };
            let mut scratch = vec![0.0; linear::SCRATCH];
            let flop = Work::Flop((2 * TOKENS * inputs * outputs) as f64);
            if kernels.multiplies_words(ty) {
                let mut room = WordRoom::default();
                let took = time(|| {
                    for row in (0..outputs).step_by(MOST_COLS) {
                        let rows = MOST_COLS.min(outputs - row);
                        let bytes = &w[row * row_bytes..][..rows * row_bytes];
                        let weight = linear::Stored { bytes, ..weight };
                        let mut y = MatMut::new(&mut y, TOKENS, outputs);
                        let (y, x) = (y.col_range(row, rows), Mat::new(&x, TOKENS, inputs));
                        kernels.linear_forward_words(y, x, &weight, &mut room);
                    }
                });
                let name = format!("words {ty} {TOKENS} x {inputs} -> {outputs}");
                print_row(&name, took, flop, 1, limits, "");
                let mut dx = vec![0.0; TOKENS * inputs];
                let took = time(|| {
                    for col in (0..inputs).step_by(MOST_COLS) {
                        let cols = MOST_COLS.min(inputs - col);
                        let mut dx = MatMut::new(&mut dx, TOKENS, inputs);
                        let (dx, dy) = (dx.col_range(col, cols), Mat::new(&y, TOKENS, outputs));
                        kernels.linear_backward_words(dx, true, dy, &weight, col, &mut room);
                    }
                });
                print_row(&format!("{name}, backward"), took, flop, 1, limits, "");
            }
            let took = time(|| {
                for row in (0..outputs).step_by(256) {
                    let rows = 256.min(outputs - row);
                    let bytes = &w[row * row_bytes..][..rows * row_bytes];
                    let weight = linear::Stored { bytes, ..weight };
                    let mut y = MatMut::new(&mut y, TOKENS, outputs);
                    let x = Mat::new(&x, TOKENS, inputs);
                    kernels.linear_forward(y.col_range(row, rows), x, &weight, &[], &mut scratch);
                }
            });
            let name = format!("linear {ty} {TOKENS} x {inputs} -> {outputs}");
            print_row(&name, took, flop, 1, limits, "");
            let mut dx = vec![0.0; TOKENS * inputs];
            let took = time(|| {
                for col in (0..inputs).step_by(256) {
                    let cols = 256.min(inputs - col);
                    let mut dx = MatMut::new(&mut dx, TOKENS, inputs);
                    let (dx, dy) = (dx.col_range(col, cols), Mat::new(&y, TOKENS, outputs));
                    kernels.linear_backward(dx, true, dy, &weight, col, &mut scratch);
                }
            });
            let name = format!("linear {ty} {TOKENS} x {inputs} -> {outputs}, backward");
            print_row(&name, took, flop, 1, limits, "");
            let x = random(3, inputs);
            let took =
                time(|| kernels.product_thin(&mut y[..outputs], outputs, &x, inputs, ty, &w));
            let name = format!("thin {ty} 1 x {inputs} -> {outputs}");
            print_row(&name, took, Work::Bytes(w.len() as f64), 1, limits, "");
        }
    }
}

fn attention_rows(kernels: &Kernels, limits: &Limits) {
    for (heads, kv_heads, tokens, positions) in [
        (32, 4, 1, 1024),
        (32, 32, 1, 512),
        (32, 4, 2, 1024),
        (12, 12, 512, 512),
        (32, 4, 512, 512),
        (32, 4, 512, 2048),
        (32, 4, 2048, 2048),
        (32, 4, 8192, 8192),
    ] {
        let d = 64;
        let shape = AttentionShape {
            heads,
            kv_heads,
            head_width: d,
            scale: 0.125,
            causal: true,
        };
        let (n, m) = (heads * d, kv_heads * d);
        let q = random(1, tokens * n);
        // One token comes to keys and values that those of other layers have driven out of the caches.
        let floats = positions * m;
        let layers = if tokens == 1 { (1 << 24) / floats } else { 1 };
        let (all_k, all_v) = (random(2, layers * floats), random(3, layers * floats));
        let (k, v) = (&all_k[..floats], &all_v[..floats]);
        let (mut out, mut lse) = (vec![0.0; tokens * n], vec![0.0; heads * tokens]);
        let most = attention::backward_scratch(tokens, positions)
            .max(attention::forward_scratch(&shape, tokens, positions));
        let mut scratch = vec![0.0; most];
        let mut inputs = attention::Inputs {
            q: Mat::new(&q, tokens, n),
            k: Mat::new(k, positions, m),
            v: Mat::new(v, positions, m),
        };
        let pairs: usize = (0..tokens)
            .map(|t| shape.visible(t, tokens, positions))
            .sum();
        let flop = (4 * pairs * n) as f64; // of forward; backward does 5 products instead of 2
        let name = format!("attention {heads}/{kv_heads} heads, {tokens} of {positions}");
        if tokens == 1 {
            let (mut k, mut v) = (all_k.chunks(floats).cycle(), all_v.chunks(floats).cycle());
            let took = time(|| {
                inputs.k = Mat::new(k.next().expect("layers"), positions, m);
                inputs.v = Mat::new(v.next().expect("layers"), positions, m);
                let out = MatMut::new(&mut out, tokens, n);
                kernels.attention_forward(out, &mut lse, inputs, &shape, &mut scratch);
            });
            let bytes = Work::Bytes((2 * 4 * floats) as f64);
            print_row(&name, took, bytes, 1, limits, "");
            continue;
        }
        let took = time(|| {
            let out = MatMut::new(&mut out, tokens, n);
            kernels.attention_forward(out, &mut lse, inputs, &shape, &mut scratch);
        });
        print_row(&name, took, Work::Flop(flop), 1, limits, "");
        let dout = random(4, tokens * n);
        let (mut dq, mut dk) = (vec![0.0; tokens * n], vec![0.0; positions * m]);
        let mut dv = dk.clone();
        let took = time(|| {
            let grads = attention::Gradients {
                dq: MatMut::new(&mut dq, tokens, n),
                dk: MatMut::new(&mut dk, positions, m),
                dv: MatMut::new(&mut dv, positions, m),
            };
            let saved = attention::Saved {
                out: Mat::new(&out, tokens, n),
                lse: &lse,
            };
            let dout = Mat::new(&dout, tokens, n);
            kernels.attention_backward(grads, dout, inputs, saved, &shape, &mut scratch);
        });
        print_row(
            &format!("{name}, backward"),
            took,
            Work::Flop(2.5 * flop),
            1,
            limits,
            "",
        );
    }
}

/// The products of a low-rank term, as `graft::model::Adapted` cuts them for its threads.
fn lora_rows(limits: &Limits) {
    let rank = 16;
    for (inputs, outputs) in LINEAR {
        let (a, b) = (random(1, rank * inputs), random(2, outputs * rank));
        let (a, b) = (Mat::new(&a, rank, inputs), Mat::new(&b, outputs, rank));
        let (x, dy) = (random(3, TOKENS * inputs), random(4, TOKENS * outputs));
        let (mut y, mut dx) = (dy.clone(), x.clone());
        let (x, dy) = (Mat::new(&x, TOKENS, inputs), Mat::new(&dy, TOKENS, outputs));
        let (mut ax, mut h) = (vec![0.0; TOKENS * rank], vec![0.0; TOKENS * rank]);
        let flop = Work::Flop((2 * TOKENS * rank * (inputs + outputs)) as f64);
        let name = format!("lora {inputs} -> {outputs}, rank {rank}");
        let took = time(|| {
            product(MatMut::new(&mut ax, TOKENS, rank), false, 1.0, x, a.t());
            let ax = Mat::new(&ax, TOKENS, rank);
            product(MatMut::new(&mut y, TOKENS, outputs), true, 2.0, ax, b.t());
        });
        print_row(&name, took, flop, 1, limits, "");
        let took = time(|| {
            product(MatMut::new(&mut h, TOKENS, rank), false, 2.0, dy, b);
            let h = Mat::new(&h, TOKENS, rank);
            product(MatMut::new(&mut dx, TOKENS, inputs), true, 1.0, h, a);
        });
        print_row(&format!("{name}, d x"), took, flop, 1, limits, "");
        let (mut da, mut db) = (vec![0.0; rank * inputs], vec![0.0; outputs * rank]);
        let (ax, h) = (Mat::new(&ax, TOKENS, rank), Mat::new(&h, TOKENS, rank));
        let took = time(|| {
            product(MatMut::new(&mut da, rank, inputs), true, 1.0, h.t(), x);
            product(MatMut::new(&mut db, outputs, rank), true, 2.0, dy.t(), ax);
        });
        print_row(&format!("{name}, d a, d b"), took, flop, 1, limits, "");
    }
}

fn elementwise_rows(kernels: &Kernels, limits: &Limits) {
    let (width, n) = (2048, TOKENS * 2048);
    let (x, u, w) = (random(1, n), random(2, n), random(3, width));
    let (mut y, mut z) = (random(4, n), random(5, n));
    let mut saved = vec![0.0; 2 * TOKENS];
    let row = |name: &str, arrays: usize, took: Time| {
        let note = format!(
            "{:.0} Melements/s",
            n as f64 / took.median.as_secs_f64() / 1e6
        );
        let bytes = Work::Bytes((4 * n * arrays) as f64);
        print_row(name, took, bytes, 1, limits, &note);
    };
    row(
        "rms_norm",
        2,
        time(|| kernels.rms_norm_forward(&mut y, &mut saved, &x, &w, 1e-5)),
    );
    row(
        "rms_norm, backward",
        4,
        time(|| kernels.rms_norm_backward(&mut y, &u, &x, &w, &saved)),
    );
    row(
        "layer_norm",
        2,
        time(|| kernels.layer_norm_forward(&mut y, &mut saved, &x, &w, &w, 1e-5)),
    );
    row(
        "layer_norm, backward",
        4,
        time(|| kernels.layer_norm_backward(&mut y, &u, &x, &w, &saved)),
    );
    row("swiglu", 3, time(|| kernels.swiglu_forward(&mut y, &x, &u)));
    row(
        "swiglu, backward",
        7,
        time(|| kernels.swiglu_backward(&mut y, &mut z, &x, &u, &x)),
    );
    row("gelu", 2, time(|| kernels.gelu_forward(&mut y, &x)));
    row(
        "gelu, backward",
        4,
        time(|| kernels.gelu_backward(&mut y, &u, &x)),
    );
    row(
        "quick_gelu",
        2,
        time(|| kernels.quick_gelu_forward(&mut y, &x)),
    );
    row(
        "quick_gelu, backward",
        4,
        time(|| kernels.quick_gelu_backward(&mut y, &u, &x)),
    );
    for layout in [RopeLayout::Interleaved, RopeLayout::HalfSplit] {
        let table = RopeTable::new(
            &RopeOptions {
                layout,
                dims: 64,
                base: 10_000.0,
                scale: 1.0,
                factors: &[],
            },
            TOKENS,
        );
        row(
            &format!("rope, {layout:?}"),
            2,
            time(|| kernels.rope_forward(&mut z, width / 64, 64, 0, &table)),
        );
    }
    row(
        "dropout",
        2,
        time(|| {
            let dropout = Dropout {
                rate: 0.05,
                ..Dropout::NONE
            };
            kernels.dropout_forward(&mut y, &x, &dropout);
        }),
    );
    let labels: Vec<i32> = (0..32).collect();
    row(
        "softmax_cross_entropy",
        5,
        time(|| {
            black_box(kernels.softmax_cross_entropy(&mut y, &labels, n / 32, 1.0));
        }),
    );
}
