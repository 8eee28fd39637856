//! The K types' second level: sub-block scales are small integers times a block's scale.
//!
//! First every sub-block (N weights) finds its own best scale as if it could be stored;
//! then the integers nearby and the block's scale are improved in turn, each by the error
//! of the weights themselves, not by how well it approximates the ideal scales.

use super::floats::{half, to_half};
use super::scale_search::{evenly, fit_scale, fit_scale_min, inverse, nearest};

/// Scales of a block whose weights are near `d * scale[j] * q`.
pub(super) struct Scales<const SUBS: usize> {
    pub d: [u8; 2],
    pub scale: [i8; SUBS],
}

/// Scales of a block whose weights are near `d * scale[j] * q - dmin * min[j]`.
pub(super) struct ScalesAndMins<const SUBS: usize> {
    pub d: [u8; 2],
    pub dmin: [u8; 2],
    pub scale: [u8; SUBS],
    pub min: [u8; SUBS],
}

const ROUNDS: usize = 3;

/// Scales in `-top..top` for levels in `-high..high` (both without the upper end).
#[inline(always)]
pub(super) fn fit_scales<const SUBS: usize, const N: usize>(
    x: &[[f32; N]; SUBS],
    high: f32,
    top: f32,
) -> Scales<SUBS> {
    let level = |v| nearest(v, -high, high - 1.0);
    let tops = || evenly(-high - 1.0, 1.5 - high, 11).chain(evenly(high - 1.5, high + 0.5, 9));
    let ideal = x.each_ref().map(|x| fit_scale(x, tops(), level));
    let extreme = super::scale_search::extreme(&ideal);

    let mut best = (
        f32::MAX,
        Scales {
            d: [0; 2],
            scale: [0; SUBS],
        },
    );
    for end in [-top, top - 1.0] {
        let mut d = extreme / end;
        for _ in 0..ROUNDS {
            let d_bytes = to_half(d);
            d = half(&d_bytes);
            let (mut total, mut scale, mut xa, mut aa) = (0.0, [0i8; SUBS], 0.0, 0.0);
            for (j, x) in x.iter().enumerate() {
                let middle = nearest(ideal[j] * inverse(d), -top, top - 1.0);
                let mut least = (f32::MAX, 0.0, 0.0, 0.0);
                for step in [0.0, -1.0, 1.0] {
                    let integer = (middle + step).clamp(-top, top - 1.0);
                    let (s, to_level) = (d * integer, inverse(d * integer));
                    let (mut error, mut xq, mut qq) = ([0.0f32; 8], [0.0f32; 8], [0.0f32; 8]);
                    for run in x.as_chunks::<8>().0 {
                        for l in 0..8 {
                            let q = level(run[l] * to_level);
                            let e = run[l] - s * q;
                            error[l] += e * e;
                            xq[l] += run[l] * q;
                            qq[l] += q * q;
                        }
                    }
                    let [error, xq, qq] = [error, xq, qq].map(|l| l.iter().sum::<f32>());
                    if error < least.0 {
                        least = (error, integer, xq * integer, qq * integer * integer);
                    }
                }
                total += least.0;
                scale[j] = least.1 as i8;
                xa += least.2;
                aa += least.3;
            }
            if total < best.0 {
                best = (total, Scales { d: d_bytes, scale });
            }
            d = xa * inverse(aa);
        }
    }
    best.1
}

/// Scales and minimums in `0..=top` for levels in `0..=high`.
#[inline(always)]
pub(super) fn fit_scales_and_mins<const SUBS: usize, const N: usize>(
    x: &[[f32; N]; SUBS],
    high: f32,
    top: f32,
) -> ScalesAndMins<SUBS> {
    let ideal = x.each_ref().map(|x| fit_scale_min(x, high, true));
    let largest = ideal.iter().fold(0.0f32, |a, fit| a.max(fit.0));
    let lowest = ideal.iter().fold(0.0f32, |a, fit| a.min(fit.1));
    let (mut d, mut dmin) = (largest / top, -lowest / top);

    let mut best = (
        f32::MAX,
        ScalesAndMins {
            d: [0; 2],
            dmin: [0; 2],
            scale: [0; SUBS],
            min: [0; SUBS],
        },
    );
    for _ in 0..ROUNDS {
        let (d_bytes, dmin_bytes) = (to_half(d), to_half(dmin));
        (d, dmin) = (half(&d_bytes), half(&dmin_bytes));
        let (mut total, mut scale, mut min) = (0.0, [0; SUBS], [0; SUBS]);
        let mut sums = Sums::default();
        for (j, x) in x.iter().enumerate() {
            let middle = nearest(ideal[j].0 * inverse(d), 0.0, top);
            let mut least = (f32::MAX, 0.0, 0.0, Sums::default());
            for scale_step in [0.0, -1.0, 1.0] {
                let scale = (middle + scale_step).clamp(0.0, top);
                let s = d * scale;
                // A smaller scale wants its minimum nearer to zero, by half the span lost.
                let m = -ideal[j].1 + 0.5 * high * (s - ideal[j].0);
                let middle_min = nearest(m * inverse(dmin), 0.0, top);
                for min_step in [0.0, -1.0, 1.0] {
                    let min = (middle_min + min_step).clamp(0.0, top);
                    let (error, sums) = error_of(x, high, (scale, s), (min, dmin * min));
                    if error < least.0 {
                        least = (error, scale, min, sums);
                    }
                }
            }
            total += least.0;
            scale[j] = least.1 as u8;
            min[j] = least.2 as u8;
            sums.add(&least.3);
        }
        if total < best.0 {
            best = (
                total,
                ScalesAndMins {
                    d: d_bytes,
                    dmin: dmin_bytes,
                    scale,
                    min,
                },
            );
        }
        (d, dmin) = sums.solve();
    }
    best.1
}

/// What the least-squares fit of `x = d * a - dmin * b` needs, where `a = scale * q` and
/// `b = min`.
#[derive(Default)]
struct Sums {
    aa: f32,
    ab: f32,
    bb: f32,
    xa: f32,
    xb: f32,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.aa += other.aa;
        self.ab += other.ab;
        self.bb += other.bb;
        self.xa += other.xa;
        self.xb += other.xb;
    }

    /// `(d, dmin)`, neither below zero.
    fn solve(&self) -> (f32, f32) {
        let determinant = self.aa * self.bb - self.ab * self.ab;
        let d = (self.xa * self.bb - self.xb * self.ab) / determinant;
        let dmin = (self.xa * self.ab - self.xb * self.aa) / determinant;
        if determinant > 0.0 && d >= 0.0 && dmin >= 0.0 {
            (d, dmin)
        } else {
            ((self.xa * inverse(self.aa)).max(0.0), 0.0)
        }
    }
}

/// Square error of one sub-block, its levels chosen for scale `s` and minimum `m`.
#[inline(always)]
fn error_of<const N: usize>(
    x: &[f32; N],
    high: f32,
    (scale, s): (f32, f32),
    (min, m): (f32, f32),
) -> (f32, Sums) {
    let to_level = inverse(s);
    let [mut error, mut q1, mut q2, mut qx] = [[0.0f32; 8]; 4];
    let mut sum_x = 0.0;
    for run in x.as_chunks::<8>().0 {
        for l in 0..8 {
            let q = nearest((run[l] + m) * to_level, 0.0, high);
            let e = run[l] - (s * q - m);
            error[l] += e * e;
            q1[l] += q;
            q2[l] += q * q;
            qx[l] += q * run[l];
        }
        sum_x += run.iter().sum::<f32>();
    }
    let [error, q1, q2, qx] = [error, q1, q2, qx].map(|lanes| lanes.iter().sum::<f32>());
    let sums = Sums {
        aa: scale * scale * q2,
        ab: scale * min * q1,
        bb: min * min * N as f32,
        xa: scale * qx,
        xb: min * sum_x,
    };
    (error, sums)
}
