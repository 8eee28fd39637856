//! The encoders' arithmetic: which scale (and minimum) loses least of a run of weights.
//!
//! Notation: `x` weights, `q` integer levels (kept as f32), `s` scale, `m` minimum. For
//! fixed levels the best scale is a least-squares fit, and for a fixed scale the best level
//! is the nearest one; the two alternate from several starting scales, and the best of all
//! wins. One run (N weights) shares `s` and `m`.
//!
//! One scale:    error = sum x^2 - (sum x q)^2 / (sum q^2),  s = (sum x q) / (sum q^2)
//! With minimum: the two-parameter fit of `x = s q + m`.

/// The nearest integer level in `low..=high`.
#[inline(always)]
pub(super) fn nearest(v: f32, low: f32, high: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves no bits for a fraction; plain comparisons compile to min/max.
    const ROUND: f32 = 12_582_912.0;
    let v = if v > low { v } else { low };
    let v = if v < high { v } else { high };
    (v + ROUND) - ROUND
}

/// `1 / s`, or 0 where a run has no scale: everything then takes the level nearest to 0.
#[inline(always)]
pub(super) fn inverse(s: f32) -> f32 {
    let inverse = 1.0 / s;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The weight of largest magnitude, with its sign.
pub(super) fn extreme(x: &[f32]) -> f32 {
    x.iter()
        .fold(0.0, |a: f32, &b| if b.abs() > a.abs() { b } else { a })
}

/// The scale `s` of least `sum (x - s * level(x / s))^2` found from the starting points
/// `x_max * s^-1 = t` for `t` in `tops`, where `x_max` is the run's [`extreme`].
#[inline(always)]
pub(super) fn fit_scale<const N: usize>(
    x: &[f32; N],
    tops: impl Iterator<Item = f32>,
    level: impl Fn(f32) -> f32,
) -> f32 {
    let to_top = inverse(extreme(x));
    let fit = |inverse: f32| {
        let (mut xq, mut qq) = ([0.0f32; 8], [0.0f32; 8]);
        for run in x.as_chunks::<8>().0 {
            for l in 0..8 {
                let q = level(run[l] * inverse);
                xq[l] += run[l] * q;
                qq[l] += q * q;
            }
        }
        let (xq, qq) = (xq.iter().sum::<f32>(), qq.iter().sum::<f32>());
        let s = if qq > 0.0 { xq / qq } else { 0.0 };
        (xq * s, s) // the gain: how much of sum x^2 is explained
    };
    let mut best = (0.0, 0.0);
    for top in tops {
        let found = fit(top * to_top);
        if found.0 > best.0 {
            best = found;
        }
    }
    loop {
        let found = fit(inverse(best.1));
        if found.0 <= best.0 * 1.000_001 {
            return best.1;
        }
        best = found;
    }
}

/// Scale and minimum of a run: `x` is near `s * q + m`, `q` in `0..=high`, `s >= 0`, and
/// `m <= 0` where only a minimum below zero can be stored.
#[inline(always)]
pub(super) fn fit_scale_min<const N: usize>(
    x: &[f32; N],
    high: f32,
    min_below_zero: bool,
) -> (f32, f32) {
    let (mut low, mut top) = if min_below_zero {
        (0.0, f32::MIN)
    } else {
        (f32::MAX, f32::MIN)
    };
    for &x in x {
        low = if x < low { x } else { low };
        top = if x > top { x } else { top };
    }
    if top <= low {
        return (0.0, low);
    }
    let count = N as f32;
    let sum_x: f32 = x.iter().sum();
    let fit = |s: f32, m: f32| {
        let (mut q1, mut q2, mut qx, mut error) = ([0.0; 8], [0.0; 8], [0.0; 8], [0.0f32; 8]);
        let inverse = inverse(s);
        for run in x.as_chunks::<8>().0 {
            for l in 0..8 {
                let q = nearest((run[l] - m) * inverse, 0.0, high);
                let e = run[l] - (s * q + m);
                q1[l] += q;
                q2[l] += q * q;
                qx[l] += q * run[l];
                error[l] += e * e;
            }
        }
        let [q1, q2, qx, error] = [q1, q2, qx, error].map(|lanes| lanes.iter().sum::<f32>());
        let determinant = count * q2 - q1 * q1;
        let (mut s, mut m) = (0.0, sum_x / count);
        if determinant > 0.0 {
            s = (count * qx - sum_x * q1) / determinant;
            m = (sum_x - s * q1) / count;
        }
        if min_below_zero && m > 0.0 {
            (s, m) = (if q2 > 0.0 { qx / q2 } else { 0.0 }, 0.0);
        }
        (error, s, m)
    };
    let mut best = (f32::MAX, 0.0, low);
    // Clipping either end by a few tenths of a level often costs less than it gains.
    for (clip_low, clip_top) in CLIPS {
        let s = (top - low) / (high - clip_low - clip_top);
        let (mut s, mut m) = (s, low + clip_low * s);
        for _ in 0..3 {
            if min_below_zero && m > 0.0 {
                m = 0.0;
            }
            let (error, next_s, next_m) = fit(s, m);
            if error < best.0 {
                best = (error, s, m);
            }
            (s, m) = (next_s, next_m);
        }
    }
    (best.1, best.2)
}

/// By how many levels the starting points of [`fit_scale_min`] clip the two ends.
const CLIPS: [(f32, f32); 8] = [
    (0.0, 0.0),
    (0.3, 0.3),
    (-0.4, -0.4),
    (0.5, 0.0),
    (0.0, 0.5),
    (0.6, 0.6),
    (0.9, 0.2),
    (0.2, 0.9),
];

/// `(1 - t) * from + t * to` for `steps` evenly spaced `t` from 0 to 1.
pub(super) fn evenly(from: f32, to: f32, steps: usize) -> impl Iterator<Item = f32> {
    (0..steps).map(move |k| from + (to - from) * k as f32 / (steps - 1) as f32)
}
