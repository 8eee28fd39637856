//! The f32 operators against their references, and every instruction set against the portable one.

use crate::Kernels;
use crate::ops::dropout::Dropout;
use crate::ops::real::values;
use crate::ops::rope::{RopeLayout, RopeOptions, RopeTable};
use crate::ops::softmax_cross_entropy::IGNORED;
use crate::ops::{
    dropout, gelu, layer_norm, quick_gelu, rms_norm, rope, softmax_cross_entropy, swiglu,
};

/// Repeatable values in -1..1.
pub(crate) fn random(seed: u64, n: usize) -> Vec<f32> {
    values(seed, n).into_iter().map(|v| v as f32).collect()
}

/// `tolerance` is relative to the largest magnitude in `want`.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (got as f64 - want).abs();
        assert!(
            error <= tolerance * size,
            "element {i}: {got} instead of {want}"
        );
    }
}

/// One operator on one shape: its f32 result on a table, and its reference in f64.
type Case = (&'static str, Box<dyn Fn(&Kernels) -> Vec<f32>>, Vec<f64>);

fn cases(rows: usize, width: usize) -> Vec<Case> {
    let n = rows * width;
    let (x, dy, w, b) = (
        random(1, n),
        random(2, n),
        random(3, width),
        random(4, width),
    );
    let z: Vec<f32> = random(5, n).iter().map(|v| 9.0 * v).collect();
    let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
    let (x64, dy64, w64, b64, z64) = (wide(&x), wide(&dy), wide(&w), wide(&b), wide(&z));
    let mut cases: Vec<Case> = vec![];
    let eps = 1e-5;

    let (mut y, mut inv, mut dx) = (vec![0.0; n], vec![0.0; rows], vec![1.0; n]);
    rms_norm::forward(&mut y, &mut inv, &x64, &w64, eps);
    rms_norm::backward(&mut dx, &dy64, &x64, &w64, &inv);
    let (xs, dys, ws) = (x.clone(), dy.clone(), w.clone());
    let run = move |k: &Kernels| {
        let (mut y, mut inv, mut dx) = (vec![0.0; n], vec![0.0; rows], vec![1.0; n]);
        k.rms_norm_forward(&mut y, &mut inv, &xs, &ws, eps as f32);
        k.rms_norm_backward(&mut dx, &dys, &xs, &ws, &inv);
        [y, inv, dx].concat()
    };
    cases.push(("rms_norm", Box::new(run), [y, inv, dx].concat()));

    let (mut y, mut saved, mut dx) = (vec![0.0; n], vec![0.0; 2 * rows], vec![1.0; n]);
    layer_norm::forward(&mut y, &mut saved, &x64, &w64, &b64, eps);
    layer_norm::backward(&mut dx, &dy64, &x64, &w64, &saved);
    let (xs, dys, ws, bs) = (x.clone(), dy.clone(), w.clone(), b.clone());
    let run = move |k: &Kernels| {
        let (mut y, mut saved, mut dx) = (vec![0.0; n], vec![0.0; 2 * rows], vec![1.0; n]);
        k.layer_norm_forward(&mut y, &mut saved, &xs, &ws, &bs, eps as f32);
        k.layer_norm_backward(&mut dx, &dys, &xs, &ws, &saved);
        [y, saved, dx].concat()
    };
    cases.push(("layer_norm", Box::new(run), [y, saved, dx].concat()));

    let (mut y, mut dg, mut du) = (vec![0.0; n], vec![1.0; n], vec![1.0; n]);
    swiglu::forward(&mut y, &z64, &x64);
    swiglu::backward(&mut dg, &mut du, &dy64, &z64, &x64);
    let (zs, xs, dys) = (z.clone(), x.clone(), dy.clone());
    let run = move |k: &Kernels| {
        let (mut y, mut dg, mut du) = (vec![0.0; n], vec![1.0; n], vec![1.0; n]);
        k.swiglu_forward(&mut y, &zs, &xs);
        k.swiglu_backward(&mut dg, &mut du, &dys, &zs, &xs);
        [y, dg, du].concat()
    };
    cases.push(("swiglu", Box::new(run), [y, dg, du].concat()));

    let (mut y, mut dx) = (vec![0.0; n], vec![1.0; n]);
    gelu::forward(&mut y, &z64);
    gelu::backward(&mut dx, &dy64, &z64);
    let (zs, dys) = (z.clone(), dy.clone());
    let run = move |k: &Kernels| {
        let (mut y, mut dx) = (vec![0.0; n], vec![1.0; n]);
        k.gelu_forward(&mut y, &zs);
        k.gelu_backward(&mut dx, &dys, &zs);
        [y, dx].concat()
    };
    cases.push(("gelu", Box::new(run), [y, dx].concat()));

    let (mut y, mut dx) = (vec![0.0; n], vec![1.0; n]);
    quick_gelu::forward(&mut y, &z64);
    quick_gelu::backward(&mut dx, &dy64, &z64);
    let (zs, dys) = (z.clone(), dy.clone());
    let run = move |k: &Kernels| {
        let (mut y, mut dx) = (vec![0.0; n], vec![1.0; n]);
        k.quick_gelu_forward(&mut y, &zs);
        k.quick_gelu_backward(&mut dx, &dys, &zs);
        [y, dx].concat()
    };
    cases.push(("quick_gelu", Box::new(run), [y, dx].concat()));

    let labels: Vec<i32> = (0..rows)
        .map(|r| {
            if r % 3 == 1 {
                IGNORED
            } else {
                (r * 7 % width) as i32
            }
        })
        .collect();
    let loss = softmax_cross_entropy::forward(&z64, &labels, width);
    let mut dlogits = z64.clone();
    softmax_cross_entropy::backward(&mut dlogits, &labels, width, 0.5);
    dlogits.push(loss / rows as f64);
    let zs = z.clone();
    let run = move |k: &Kernels| {
        let mut logits = zs.clone();
        let loss = k.softmax_cross_entropy(&mut logits, &labels, width, 0.5);
        logits.push((loss / rows as f64) as f32);
        logits
    };
    cases.push(("softmax_cross_entropy", Box::new(run), dlogits));

    let dropout = Dropout {
        rate: 0.4,
        seed: 1,
        stream: 2,
        first: 3,
    };
    let (mut y, mut dx) = (vec![0.0; n], vec![1.0; n]);
    dropout::forward(&mut y, &x64, &dropout);
    dropout::backward(&mut dx, &dy64, &dropout);
    let (xs, dys) = (x.clone(), dy.clone());
    let run = move |k: &Kernels| {
        let (mut y, mut dx) = (vec![0.0; n], vec![1.0; n]);
        k.dropout_forward(&mut y, &xs, &dropout);
        k.dropout_backward(&mut dx, &dys, &dropout);
        [y, dx].concat()
    };
    cases.push(("dropout", Box::new(run), [y, dx].concat()));

    for layout in [RopeLayout::Interleaved, RopeLayout::HalfSplit] {
        if width < 2 {
            continue;
        }
        let options = RopeOptions {
            layout,
            dims: width - width % 2,
            base: 10_000.0,
            scale: 1.0,
            factors: &[],
        };
        let table = RopeTable::new(&options, rows + 3);
        let (mut y, mut dx) = (x64.clone(), dy64.clone());
        rope::forward(&mut y, 1, width, 3, &table);
        rope::backward(&mut dx, 1, width, 3, &table);
        let (xs, dys) = (x.clone(), dy.clone());
        let run = move |k: &Kernels| {
            let (mut y, mut dx) = (xs.clone(), dys.clone());
            k.rope_forward(&mut y, 1, width, 3, &table);
            k.rope_backward(&mut dx, 1, width, 3, &table);
            [y, dx].concat()
        };
        cases.push(("rope", Box::new(run), [y, dx].concat()));
    }
    cases
}

#[test]
fn every_isa_agrees_with_the_reference_and_to_the_bit_with_portable() {
    let portable = Kernels::available().next().expect("portable");
    for (rows, width) in [(1, 1), (2, 7), (5, 32), (3, 77), (4, 200)] {
        for (name, run, want) in cases(rows, width) {
            let first = run(portable);
            println!("{name} {rows} x {width}");
            assert_close(&first, &want, 2e-6);
            for kernels in Kernels::available() {
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(
                    bits(&run(kernels)),
                    bits(&first),
                    "{name} on {:?}",
                    kernels.isa
                );
            }
        }
    }
    let ran: Vec<_> = Kernels::available().map(|t| t.isa).collect();
    println!("instruction sets compared: {ran:?}");
}
