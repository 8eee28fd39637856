//! How far the operators are from f64: the bounds that their documentation states.
//!
//! An error in ulp (units in the last place) is divided by the distance of f32 numbers at the exact
//! result, which is computed in f64.

mod rows;

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::Kernels;
use crate::ops::quick_gelu::SLOPE;
use crate::ops::real::Real;

/// 2^-24, half an ulp of 1.
const HALF: f64 = 1.0 / (1 << 24) as f64;

/// The distance of f32 numbers at `x`.
fn ulp(x: f64) -> f64 {
    let exponent = (x.abs().to_bits() >> 52) as i32 - 1023;
    2f64.powi(exponent.max(-126) - 23)
}

/// An elementwise operator, and how far it may be from f64.
struct Case {
    name: &'static str,
    run: fn(&Kernels, &[f32]) -> Vec<f32>,
    want: fn(f64) -> f64,
    /// What the error is divided by, given the exact result.
    unit: fn(f64) -> f64,
    /// Arguments whose result must be the same, or as much NaN.
    exact: &'static [f32],
    /// The ends of runs of numbers of one sign, and the bound of each run.
    bounds: &'static [(f32, f32, f64)],
}

/// Walks each run in equal steps through its bit patterns, so that every exponent is visited, on
/// every instruction set.
fn walk(case: &Case) {
    for (x, got) in case.exact.iter().zip(run(case, case.exact)) {
        let want = (case.want)(*x as f64) as f32;
        let same = got == want || got.is_nan() && want.is_nan();
        assert!(same, "{} of {x}: {got} instead of {want}", case.name);
    }
    for &(first, last, bound) in case.bounds {
        let bits = first.to_bits()..=last.to_bits();
        let step = ((last.to_bits() - first.to_bits()) as usize / 200_000) | 1;
        let x = bits.step_by(step).map(f32::from_bits).chain([last]);
        let x: Vec<f32> = x.collect();
        let errors = x.iter().zip(run(case, &x)).map(|(&x, got)| {
            let want = (case.want)(x as f64);
            let error = (got as f64 - want).abs() / (case.unit)(want);
            assert!(error <= bound, "{} of {x:e}: {got:e}, {error}", case.name);
            error
        });
        let worst = errors.fold(0.0, f64::max);
        println!("{} of {first:e} to {last:e}: {worst:.2}", case.name);
    }
}

/// The operator's results, after a check that every instruction set has the same.
fn run(case: &Case, x: &[f32]) -> Vec<f32> {
    let mut tables = Kernels::available().map(|kernels| (case.run)(kernels, x));
    let first = tables.next().expect("portable");
    for other in tables {
        for ((x, a), b) in x.iter().zip(&first).zip(&other) {
            let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(same, "{} of {x:e}: {a:e} and {b:e}", case.name);
        }
    }
    first
}

/// Errors relative to the result.
fn of_result(want: f64) -> f64 {
    ulp(want)
}

/// Errors in units of half an ulp of 1.
fn of_one(_: f64) -> f64 {
    HALF
}

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// The derivative of `x * sigmoid(x)`.
fn silu_derivative(x: f64) -> f64 {
    sigmoid(x) * (1.0 + x * sigmoid(-x))
}

fn normal(x: f64) -> f64 {
    0.5 * Real::erfc(-x * FRAC_1_SQRT_2)
}

/// The derivative of `x * normal(x)`.
fn gelu_derivative(x: f64) -> f64 {
    let density = 0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI * (-0.5 * x * x).exp();
    normal(x) + x * density
}

/// `exp` of numbers below 0, as the largest element of the row.
fn exponentials(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let mut row = [&[0.0], x].concat();
    kernels.exponentials_above(&mut row, f32::NEG_INFINITY);
    row.split_off(1)
}

fn swiglu(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    kernels.swiglu_forward(&mut y, x, &vec![1.0; x.len()]);
    y
}

const UP: f32 = 1.9;

fn swiglu_up(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    kernels.swiglu_forward(&mut y, x, &vec![UP; x.len()]);
    y
}

fn swiglu_backward(kernels: &Kernels, x: &[f32]) -> [Vec<f32>; 2] {
    let (mut dgate, mut dup) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let ones = vec![1.0; x.len()];
    kernels.swiglu_backward(&mut dgate, &mut dup, &ones, x, &ones);
    [dgate, dup]
}

fn swiglu_dgate(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let [dgate, _] = swiglu_backward(kernels, x);
    dgate
}

fn swiglu_dup(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let [_, dup] = swiglu_backward(kernels, x);
    dup
}

fn gelu(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    kernels.gelu_forward(&mut y, x);
    y
}

fn gelu_backward(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; x.len()];
    kernels.gelu_backward(&mut dx, &vec![1.0; x.len()], x);
    dx
}

fn quick_gelu(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    kernels.quick_gelu_forward(&mut y, x);
    y
}

fn quick_gelu_backward(kernels: &Kernels, x: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; x.len()];
    kernels.quick_gelu_backward(&mut dx, &vec![1.0; x.len()], x);
    dx
}

const MOST: f32 = f32::MAX;
const NOT_FINITE: &[f32] = &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

#[test]
fn exponentials_keep_their_bound() {
    walk(&Case {
        name: "exp",
        run: exponentials,
        want: f64::exp,
        unit: of_result,
        exact: &[f32::NAN, f32::NEG_INFINITY, 0.0],
        bounds: &[
            (-0.0, -1e-3, 1.0),
            (-1e-3, -87.0, 1.0),
            (-87.0, -104.0, 1.0),
            (-104.0, -MOST, 0.5),
        ],
    });
}

#[test]
fn swiglu_keeps_its_bounds() {
    let forward = Case {
        name: "swiglu",
        run: swiglu,
        want: |x| x * sigmoid(x),
        unit: of_result,
        exact: NOT_FINITE,
        bounds: &[
            (0.0, 1e-3, 2.5),
            (1e-3, 100.0, 2.5),
            (100.0, MOST, 2.5),
            (-0.0, -1e-3, 3.5),
            (-1e-3, -85.0, 3.5),
            (-85.0, -MOST, 52.5),
        ],
    };
    let with_up = Case {
        name: "swiglu of another up",
        run: swiglu_up,
        want: |x| x * sigmoid(x) * UP as f64,
        bounds: &[(1e-3, 100.0, 5.0), (-1e-3, -85.0, 5.0)],
        ..forward
    };
    let dup = Case {
        name: "swiglu, dup",
        run: swiglu_dup,
        bounds: &[
            (0.0, MOST, 2.5),
            (-0.0, -1e-3, 4.0),
            (-1e-3, -85.0, 4.0),
            (-85.0, -MOST, 52.5),
        ],
        ..forward
    };
    let dgate = Case {
        name: "swiglu, dgate",
        run: swiglu_dgate,
        want: silu_derivative,
        unit: of_one,
        exact: NOT_FINITE,
        bounds: &[
            (0.0, 1e-3, 4.0),
            (1e-3, 100.0, 4.0),
            (100.0, MOST, 4.0),
            (-0.0, -1e-3, 2.0),
            (-1e-3, -MOST, 2.0),
        ],
    };
    let dgate_in_ulp = Case {
        unit: of_result,
        bounds: &[
            (0.0, MOST, 3.0),
            (-0.0, -1.0, 5.0),
            (-1.6, -2.0, 12.5),
            (-2.0, -80.0, 7.5),
        ],
        ..dgate
    };
    let cases = [forward, with_up, dup, dgate, dgate_in_ulp];
    cases.iter().for_each(walk);
}

#[test]
fn gelu_keeps_its_bounds() {
    let forward = Case {
        name: "gelu",
        run: gelu,
        want: |x| x * normal(x),
        unit: of_result,
        exact: NOT_FINITE,
        bounds: &[
            (0.0, 1e-3, 5.0),
            (1e-3, 16.0, 5.0),
            (16.0, MOST, 0.0),
            (-0.0, -1e-3, 5.5),
            (-1e-3, -12.5, 5.5),
            (-12.5, -MOST, 11.0),
        ],
    };
    let backward = Case {
        name: "gelu, dx",
        run: gelu_backward,
        want: gelu_derivative,
        unit: of_one,
        exact: NOT_FINITE,
        bounds: &[
            (0.0, 1e-3, 3.0),
            (1e-3, 16.0, 3.0),
            (16.0, MOST, 0.0),
            (-0.0, -1e-3, 3.0),
            (-1e-3, -MOST, 3.0),
        ],
    };
    let backward_in_ulp = Case {
        unit: of_result,
        bounds: &[(0.0, 16.0, 3.0), (-1.5, -12.5, 5.0)],
        ..backward
    };
    [forward, backward, backward_in_ulp].iter().for_each(walk);
}

#[test]
fn quick_gelu_keeps_its_bounds() {
    let forward = Case {
        name: "quick_gelu",
        run: quick_gelu,
        want: |x| x * sigmoid(SLOPE * x),
        unit: of_result,
        exact: NOT_FINITE,
        bounds: &[
            (0.0, 1e-3, 2.5),
            (1e-3, 60.0, 2.5),
            (60.0, MOST, 2.5),
            (-0.0, -1e-3, 3.5),
            (-1e-3, -50.0, 3.5),
            (-50.0, -MOST, 31.0),
        ],
    };
    let backward = Case {
        name: "quick_gelu, dx",
        run: quick_gelu_backward,
        want: |x| silu_derivative(SLOPE * x),
        unit: of_one,
        exact: NOT_FINITE,
        bounds: &[
            (0.0, 1e-3, 4.0),
            (1e-3, 60.0, 4.0),
            (60.0, MOST, 4.0),
            (-0.0, -1e-3, 2.0),
            (-1e-3, -MOST, 2.0),
        ],
    };
    let backward_in_ulp = Case {
        unit: of_result,
        bounds: &[(0.0, MOST, 3.0), (-0.0, -0.5, 5.0), (-1.0, -47.0, 8.0)],
        ..backward
    };
    [forward, backward, backward_in_ulp].iter().for_each(walk);
}
