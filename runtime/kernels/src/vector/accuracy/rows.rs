//! Rows beside f64: norms, rotary positions, softmax and cross-entropy.

use super::{HALF, ulp};
use crate::Kernels;
use crate::ops::rope::{RopeLayout, RopeOptions, RopeTable};
use crate::ops::{layer_norm, rms_norm, softmax_cross_entropy};
use crate::vector::tests::random;

/// Half the distance of the smallest numbers.
const LEAST: f64 = HALF * f32::MIN_POSITIVE as f64;

const WIDTHS: [usize; 6] = [1, 7, 77, 2048, 5000, 32_000];

/// Rows that an operator may meet: random ones of every scale, the same with some large elements
/// and with a large mean, and rows that are hardly there.
fn rows(width: usize) -> Vec<Vec<f32>> {
    let scaled = |scale: f32| -> Vec<f32> {
        let x = random(scale.to_bits().into(), width);
        x.iter().map(|x| x * scale).collect()
    };
    let mut rows = vec![vec![0.0; width], scaled(1e-39)];
    for scale in [1e-20, 1e-9, 1e-3, 1.0, 1e3, 1e9, 1e20] {
        let x = scaled(scale);
        let large = |(i, x): (usize, &f32)| if i % 97 == 3 { 1000.0 * x } else { *x };
        rows.push(x.iter().enumerate().map(large).collect());
        rows.push(x.iter().map(|x| x + 300.0 * scale).collect());
        rows.push(x);
    }
    rows
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

/// The largest error so far of one result.
struct Worst {
    name: &'static str,
    bound: f64,
    so_far: f64,
}

impl Worst {
    fn new(name: &'static str, bound: f64) -> Self {
        Self {
            name,
            bound,
            so_far: 0.0,
        }
    }

    /// Divides errors by the unit of each element.
    fn see<T: Copy + Into<f64>>(&mut self, got: &[T], want: &[f64], unit: impl Fn(usize) -> f64) {
        assert_eq!(got.len(), want.len());
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            let got = got.into();
            let error = (got - want).abs() / unit(i);
            let Self { name, bound, .. } = self;
            assert!(error <= *bound, "{name} {i}: {got} {want}, {error}");
            self.so_far = self.so_far.max(error);
        }
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        println!("{}: {:.2} of {}", self.name, self.so_far, self.bound);
    }
}

#[test]
fn rms_norm_keeps_its_bounds() {
    let kernels = Kernels::detect();
    let mut of_y = Worst::new("y", 3.0);
    let mut of_inv = Worst::new("inv_rms", 2.0);
    let mut of_dx = Worst::new("dx", 5.0);
    for width in WIDTHS {
        let (w, dy) = (random(1, width), random(2, width));
        let (w64, dy64) = (wide(&w), wide(&dy));
        for (x, eps) in rows(width).iter().flat_map(|x| [(x, 1e-5), (x, 1e-12)]) {
            let (mut y, mut inv, mut dx) = (vec![0.0; width], [0.0], vec![0.0; width]);
            kernels.rms_norm_forward(&mut y, &mut inv, x, &w, eps);
            kernels.rms_norm_backward(&mut dx, &dy, x, &w, &inv);

            let x = wide(x);
            let (mut y64, mut inv64, mut dx64) = (vec![0.0; width], [0.0], vec![0.0; width]);
            rms_norm::forward(&mut y64, &mut inv64, &x, &w64, eps.into());
            rms_norm::backward(&mut dx64, &dy64, &x, &w64, &inv64);

            of_y.see(&y, &y64, |i| ulp(y64[i]));
            of_inv.see(&inv, &inv64, |_| ulp(inv64[0]));
            let inv = inv64[0];
            let g = |i: usize| (dy64[i] * w64[i]).abs();
            let mean = (0..width).map(|i| g(i) * x[i].abs()).sum::<f64>() / width as f64;
            let terms = |i: usize| inv * (g(i) + x[i].abs() * inv * inv * mean);
            of_dx.see(&dx, &dx64, |i| HALF * terms(i) + LEAST);
        }
    }
}

#[test]
fn layer_norm_keeps_its_bounds() {
    let kernels = Kernels::detect();
    let mut of_y = Worst::new("y", 4.0);
    let mut of_mean = Worst::new("mean", 2.0);
    let mut of_inv = Worst::new("inverse deviation", 3.0);
    let mut of_dx = Worst::new("dx", 4.0);
    for width in WIDTHS {
        let (w, b, dy) = (random(1, width), random(2, width), random(3, width));
        let (w64, b64, dy64) = (wide(&w), wide(&b), wide(&dy));
        for (x, eps) in rows(width).iter().flat_map(|x| [(x, 1e-5), (x, 1e-12)]) {
            let (mut y, mut saved, mut dx) = (vec![0.0; width], [0.0; 2], vec![0.0; width]);
            kernels.layer_norm_forward(&mut y, &mut saved, x, &w, &b, eps);
            kernels.layer_norm_backward(&mut dx, &dy, x, &w, &saved);

            let x = wide(x);
            let (mut y64, mut saved64, mut dx64) = (vec![0.0; width], [0.0; 2], vec![0.0; width]);
            layer_norm::forward(&mut y64, &mut saved64, &x, &w64, &b64, eps.into());
            layer_norm::backward(&mut dx64, &dy64, &x, &w64, &saved64);

            let [mean, inv] = saved64;
            let n = |i: usize| ((x[i] - mean) * inv).abs();
            of_y.see(&y, &y64, |i| {
                HALF * ((1.0 + n(i)) * w64[i].abs() + b64[i].abs())
            });
            let size = x.iter().map(|x| x.abs()).sum::<f64>() / width as f64;
            of_mean.see(&saved[..1], &[mean], |_| HALF * size + LEAST);
            of_inv.see(&saved[1..], &[inv], |_| ulp(inv));
            let g = |i: usize| (dy64[i] * w64[i]).abs();
            let terms = (0..width).map(|i| g(i) * (1.0 + n(i))).sum::<f64>() / width as f64;
            let offset = 1.0 + mean.abs() * inv;
            let terms = |i: usize| inv * (g(i) + (1.0 + n(i)) * offset * terms);
            of_dx.see(&dx, &dx64, |i| HALF * terms(i) + LEAST);
        }
    }
}

/// With base 10,000 and eight elements the frequencies are powers of a tenth, so the angles are
/// quotients that f64 rounds correctly.
#[test]
fn rope_keeps_its_bounds() {
    const POSITIONS: usize = 131_072;
    let kernels = Kernels::detect();
    let mut of_table = Worst::new("cosines and sines", 0.501);
    let mut of_y = Worst::new("turned pairs", 2.5);
    for (layout, second) in [(RopeLayout::Interleaved, 1), (RopeLayout::HalfSplit, 4)] {
        let options = RopeOptions {
            layout,
            dims: 8,
            base: 10_000.0,
            scale: 1.0,
            factors: &[],
        };
        let table = RopeTable::new(&options, POSITIONS);
        let first = |i: usize| if second == 1 { 2 * i } else { i };
        for start in [0, 4000, 100_000, POSITIONS - 500] {
            let x = random(start as u64, 500 * 8);
            let mut y = x.clone();
            kernels.rope_forward(&mut y, 1, 8, start, &table);
            let tokens = x.chunks_exact(8).zip(y.chunks_exact(8));
            for ((x, y), position) in tokens.zip(start..) {
                for (i, got) in table.at(position).iter().enumerate() {
                    let angle = position as f64 / 10f64.powi(i as i32);
                    let (sin, cos) = angle.sin_cos();
                    of_table.see(got, &[cos, sin], |_| HALF);
                    let (f, s) = (first(i), first(i) + second);
                    let (a, b) = (x[f] as f64, x[s] as f64);
                    let want = [a * cos - b * sin, a * sin + b * cos];
                    of_y.see(&[y[f], y[s]], &want, |_| HALF * a.hypot(b));
                }
            }
        }
    }
}

/// Values of mpmath 1.4.1 with 50 digits, base 500,000 and 128 elements as in LLaMA 3.
#[test]
fn the_angle_of_a_far_position_is_exact() {
    let options = RopeOptions {
        layout: RopeLayout::HalfSplit,
        dims: 128,
        base: 500_000.0,
        scale: 1.0,
        factors: &[],
    };
    let table = RopeTable::new(&options, 131_072);
    for (position, pair, cos, sin) in [
        (100_000, 0, -0.9993608, 0.0357488),
        (100_000, 1, 0.9745978, 0.22396222),
        (100_000, 13, 0.44571242, 0.8951762),
        (99_999, 40, -0.66014045, 0.75114214),
        (131_071, 1, -0.8173162, 0.57618946),
        (131_071, 5, -0.4641789, 0.8857415),
        (131_071, 63, 0.94866836, 0.31627256),
    ] {
        let [got_cos, got_sin] = table.at(position)[pair];
        assert_eq!((got_cos, got_sin), (cos, sin), "{position}, {pair}");
    }
}

#[test]
fn softmax_and_cross_entropy_keep_their_bounds() {
    let kernels = Kernels::detect();
    let mut of_exp = Worst::new("exponentials by their own size", 1.0);
    let mut of_large = Worst::new("exponentials by the largest", 1.0);
    let mut of_sum = Worst::new("sums", 16.0);
    let mut of_loss = Worst::new("loss", 16.0);
    let mut of_other = Worst::new("other gradients by their own size", 16.0);
    let mut of_class = Worst::new("the label's gradient", 2.0);
    let scale = 0.7_f32;
    for width in WIDTHS {
        let (label, class) = (width as i32 / 2, width / 2);
        for row in rows(width) {
            let mut e = row.clone();
            let (max, sum) = kernels.exponentials_above(&mut e, f32::NEG_INFINITY);
            let mut dx = row.clone();
            let loss = kernels.softmax_cross_entropy(&mut dx, &[label], width, scale);

            let x = wide(&row);
            let gap = |i: usize| max as f64 - x[i];
            let e64: Vec<f64> = (0..width).map(|i| (-gap(i)).exp()).collect();
            let sum64: f64 = e64.iter().sum();
            let loss64 = softmax_cross_entropy::forward(&x, &[label], width);
            let mut dx64 = x.clone();
            softmax_cross_entropy::backward(&mut dx64, &[label], width, scale.into());

            of_exp.see(&e, &e64, |i| ulp(e64[i]) * (1.0 + gap(i)));
            of_large.see(&e, &e64, |_| HALF);
            of_sum.see(&[sum], &[sum64], |_| HALF * sum64);
            of_loss.see(&[loss], &[loss64], |_| HALF + 1e-15 * loss64);
            of_class.see(&[dx[class]], &[dx64[class]], |_| HALF * scale as f64);
            (dx[class], dx64[class]) = (0.0, 0.0);
            of_other.see(&dx, &dx64, |i| ulp(dx64[i]) * (1.0 + gap(i)));
        }
    }
}

#[test]
fn the_backward_of_attention_rows_keeps_its_bounds() {
    let kernels = Kernels::detect();
    let mut of_p = Worst::new("p", 1.0);
    let mut of_ds = Worst::new("ds", 4.0);
    for width in WIDTHS {
        let (dp, delta) = (random(7, width), 0.3_f32);
        for scores in rows(width) {
            let x = wide(&scores);
            let max = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
            let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
            let lse = (max + sum.ln()) as f32;
            let (mut p, mut ds) = (scores.clone(), dp.clone());
            kernels.attention_row_backward(&mut p, &mut ds, lse, delta);

            let gap = |i: usize| (lse as f64 - x[i]).abs();
            let p64: Vec<f64> = x.iter().map(|x| (x - lse as f64).exp()).collect();
            of_p.see(&p, &p64, |i| ulp(p64[i]) * (1.0 + gap(i)));
            let ds64: Vec<f64> = p64
                .iter()
                .zip(&dp)
                .map(|(p, &dp)| p * (dp as f64 - delta as f64))
                .collect();
            let terms = |i: usize| p64[i] * (dp[i].abs() + delta) as f64;
            of_ds.see(&ds, &ds64, |i| {
                HALF * terms(i) * (1.0 + gap(i)) + 2.0 * LEAST
            });
        }
    }
}

#[test]
fn every_isa_has_the_same_bits() {
    let results = |kernels: &Kernels, x: &[f32]| {
        let width = x.len();
        let (w, dy) = (random(1, width), random(2, width));
        let (mut y, mut inv, mut dx) = (vec![0.0; width], [0.0], vec![0.0; width]);
        kernels.rms_norm_forward(&mut y, &mut inv, x, &w, 1e-5);
        kernels.rms_norm_backward(&mut dx, &dy, x, &w, &inv);
        let (mut z, mut saved) = (vec![0.0; width], [0.0; 2]);
        kernels.layer_norm_forward(&mut z, &mut saved, x, &w, &w, 1e-5);
        kernels.layer_norm_backward(&mut dx, &dy, x, &w, &saved);
        let mut e = x.to_vec();
        let (max, sum) = kernels.exponentials_above(&mut e, f32::NEG_INFINITY);
        let all = [y, dx, z, e, inv.into(), saved.into(), vec![max, sum]].concat();
        all.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let portable = Kernels::available().next().expect("portable");
    for x in WIDTHS.iter().flat_map(|&width| rows(width)) {
        let want = results(portable, &x);
        for kernels in Kernels::available() {
            assert!(results(kernels, &x) == want, "{} elements", x.len());
        }
    }
}
