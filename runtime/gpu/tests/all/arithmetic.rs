//! Products in other numbers than f32: what they compute, and where they may be used.

use graft_gpu::{Arithmetic, DeviceOptions, KernelChoice, Product, Rounding, Trial};
use graft_kernels::{QuantType, ops};

use crate::arrays::{Bench, Random, near};
use crate::machine;

fn only(arithmetic: Arithmetic) -> DeviceOptions {
    DeviceOptions {
        kernels: KernelChoice::Only(arithmetic),
        ..machine::options()
    }
}

/// What is left of floats of which each 32 are rounded to multiples of their greatest over 127.
fn rounded(x: &[f32]) -> Vec<f32> {
    let groups = x.chunks(32).map(|group| {
        let greatest = group.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let unit = greatest / 127.0;
        let level = move |v: &f32| (v * (1.0 / unit)).round_ties_even() * unit;
        group.iter().map(level).collect::<Vec<_>>()
    });
    groups.flatten().collect()
}

#[test]
fn products_in_integers_are_those_of_rounded_inputs() {
    let Some(device) = machine::open(&only(Arithmetic::Dot4)) else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(90));
    for ty in QuantType::ALL.into_iter().filter(|ty| ty.block_len() > 1) {
        // More than the 1024 that few tokens take at a time, with a tail.
        let inputs = if ty.block_len() == 32 { 1120 } else { 1280 };
        let (tokens, rows) = (21, 67);
        let (bytes, w) = random.matrix(ty, rows * inputs);
        let matrix = bench.matrix(ty, rows, inputs, &bytes);
        // Groups of 32 of different greatest floats.
        let mut x = random.floats(tokens * inputs);
        for (i, group) in x.chunks_mut(32).enumerate() {
            let scale = (2.0_f32).powi(i as i32 % 9 - 4);
            group.iter_mut().for_each(|v| *v *= scale);
        }
        let mut want = vec![0.0; tokens * rows];
        ops::linear::forward(&mut want, &rounded(&x), &w, &[], inputs);
        let mut exact = vec![0.0; tokens * rows];
        ops::linear::forward(&mut exact, &x, &w, &[], inputs);
        let x_there = bench.tensor(&x, inputs);
        for count in [tokens, 2, 8] {
            let y = bench.tensor(&vec![7.0; count * rows], rows);
            let some = x_there.slice(tokens - count..tokens).unwrap();
            let first = (tokens - count) * rows;
            let mut again = vec![];
            for rounding in [Rounding::Bytes, Rounding::Bytes, Rounding::Halves] {
                bench.record(|r| {
                    r.round(rounding);
                    r.linear(&y, &some, &matrix)
                });
                let got = bench.read(&y);
                if rounding == Rounding::Bytes {
                    near(ty.name(), &got, &want[first..], 2e-6);
                    assert!(again.is_empty() || again == got, "{ty}: other bits");
                    again = got;
                } else {
                    // Not allowed to, it does not round.
                    near(ty.name(), &got, &exact[first..], 2e-6);
                }
            }
        }
    }
}

#[test]
fn products_in_integers_are_the_same_bits_in_groups_of_any_size() {
    let Some(device) = machine::open(&only(Arithmetic::Dot4)) else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(93));
    // 32 and 16 weights to a scale, with offsets and without.
    for ty in [
        QuantType::Q8_0,
        QuantType::Q4K,
        QuantType::Q6K,
        QuantType::Q2K,
    ] {
        // So many rows that the largest groups are enough; with tails.
        let (tokens, rows, inputs) = (70, 8100, ty.block_len());
        let (bytes, w) = random.matrix(ty, rows * inputs);
        let matrix = bench.matrix(ty, rows, inputs, &bytes);
        let x = random.floats(tokens * inputs);
        let x_there = bench.tensor(&x, inputs);
        let computed = |count: usize| {
            let y = bench.tensor(&vec![7.0; count * rows], rows);
            let some = x_there.slice(0..count).unwrap();
            bench.record(|r| {
                r.round(Rounding::Bytes);
                r.mm_q(&y, &some, &matrix)
            });
            bench.read(&y)
        };
        let whole = computed(tokens);
        let mut want = vec![0.0; tokens * rows];
        ops::linear::forward(&mut want, &rounded(&x), &w, &[], inputs);
        near(ty.name(), &whole, &want, 2e-6);
        for count in [9, 30, 50] {
            assert!(computed(count) == whole[..count * rows], "{ty}: {count}");
        }
    }
}

/// A float with the 11 bits of an f16, of any greatness.
fn short(v: &f32) -> f32 {
    let bits = v.to_bits();
    f32::from_bits((bits + 0x0fff + ((bits >> 13) & 1)) & !0x1fff)
}

#[test]
fn products_in_halves_are_those_of_shortened_weights_however_great_a_token_is() {
    are_those_of_shortened_weights(Arithmetic::Half);
}

#[test]
fn products_by_matrix_units_are_those_of_shortened_weights() {
    are_those_of_shortened_weights(Arithmetic::Matrix);
}

fn are_those_of_shortened_weights(arithmetic: Arithmetic) {
    // Kernels see 20 rows of a matrix at most, so that there are pieces.
    let options = DeviceOptions {
        binding_bytes: Some(16 << 10),
        ..only(arithmetic)
    };
    let Some(device) = machine::open(&options) else {
        return;
    };
    if arithmetic == Arithmetic::Matrix && !device.adapter().features.cooperative_matrices {
        // It takes f32: see below.
        return;
    }
    let (bench, mut random) = (Bench::new(&device), Random::new(92));
    let types = QuantType::ALL.into_iter();
    for ty in types.filter(|ty| !matches!(ty, QuantType::F32 | QuantType::BF16)) {
        let inputs = match ty.block_len() {
            1 => 75,
            32 => 96,
            len => len,
        };
        let (tokens, rows) = (70, 67);
        let (bytes, w) = random.matrix(ty, rows * inputs);
        let matrix = bench.matrix(ty, rows, inputs, &bytes);
        let scaled = |mut values: Vec<f32>, width: usize| {
            for (token, row) in values.chunks_mut(width).enumerate() {
                let scale = 10.0_f32.powi(token as i32 % 13 * 5 - 30);
                row.iter_mut().for_each(|v| *v *= scale);
            }
            values
        };
        let (x, dy) = (
            scaled(random.floats(tokens * inputs), inputs),
            scaled(random.floats(tokens * rows), rows),
        );
        let short_w: Vec<f32> = w.iter().map(short).collect();
        let (mut y, mut dx) = (vec![0.0; tokens * rows], vec![0.0; tokens * inputs]);
        ops::linear::forward(&mut y, &x, &short_w, &[], inputs);
        ops::linear::backward(&mut dx, &dy, &short_w, inputs);
        let (x, dy) = (bench.tensor(&x, inputs), bench.tensor(&dy, rows));
        let y_there = bench.tensor(&vec![7.0; y.len()], rows);
        let dx_there = bench.tensor(&vec![0.0; dx.len()], inputs);
        bench.record(|r| {
            r.mm_q(&y_there, &x, &matrix)?;
            r.mm_q_backward(&dx_there, &dy, &matrix)
        });
        for (there, want, width) in [(&y_there, &y, rows), (&dx_there, &dx, inputs)] {
            let got = bench.read(there);
            for (got, want) in got.chunks(width).zip(want.chunks(width)) {
                near(ty.name(), got, want, 2e-6);
            }
        }
        // Not allowed to round, and again.
        let before = bench.read(&y_there);
        bench.record(|r| r.mm_q(&y_there, &x, &matrix));
        assert_eq!(bench.read(&y_there), before, "{ty}: other bits");
        bench.record(|r| {
            r.round(Rounding::None);
            r.mm_q(&y_there, &x, &matrix)
        });
        assert_ne!(bench.read(&y_there), before, "{ty}");
    }
}

#[test]
fn a_device_without_matrix_units_takes_f32_in_their_place() {
    if graft_gpu::adapters()
        .iter()
        .any(|a| a.features.cooperative_matrices)
    {
        return;
    }
    let (Some(asked), Some(plain)) = (machine::open(&only(Arithmetic::Matrix)), machine::device())
    else {
        return;
    };
    let mut random = Random::new(93);
    let (ty, tokens, rows, inputs) = (QuantType::Q8_0, 20, 30, 64);
    let (bytes, _) = random.matrix(ty, rows * inputs);
    let x = random.floats(tokens * inputs);
    let [asked, plain] = [&asked, &plain].map(|device| {
        let bench = Bench::new(device);
        let (x, y) = (
            bench.tensor(&x, inputs),
            bench.tensor(&vec![0.0; tokens * rows], rows),
        );
        let matrix = bench.matrix(ty, rows, inputs, &bytes);
        bench.record(|r| r.mm_q(&y, &x, &matrix));
        bench.read(&y)
    });
    assert_eq!(asked, plain);
}

#[test]
fn what_a_trial_found_and_what_was_compiled_are_kept_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let options = DeviceOptions {
        kernels: KernelChoice::Tried,
        cache: Some(folder.path().join("gpu")),
        ..machine::options()
    };
    let open = || machine::open(&options).map(|device| device.trial().unwrap().clone());
    let Some(device) = machine::open(&options) else {
        return;
    };
    let (first, adapter) = (device.trial().unwrap(), device.adapter());
    // All that the device has is right.
    let by_units = adapter.features.cooperative_matrices;
    for (product, arithmetic, there) in [
        (Product::Forward, Arithmetic::Matrix, by_units),
        (Product::Backward, Arithmetic::Matrix, by_units),
        (Product::Thin, Arithmetic::Matrix, false),
        (Product::Forward, Arithmetic::Dot4, true),
        (Product::Thin, Arithmetic::Dot4, true),
    ] {
        let time = first.time(product, arithmetic);
        assert_eq!(time.is_some(), there, "{first}");
    }
    for product in Product::ALL {
        assert!(first.time(product, Arithmetic::F32).is_some(), "{first}");
        let fastest = first.fastest(product, Rounding::None);
        assert_eq!(fastest, Arithmetic::F32);
    }
    // Times are those of the first start, to the nanosecond.
    assert_eq!(&open().unwrap(), first);
    let home = folder.path().join("gpu");
    assert_eq!(Trial::kept(adapter, &home).as_ref(), Some(first));
    assert_eq!(Trial::kept(adapter, folder.path()), None);
    let kept = |what: &str| {
        let files = std::fs::read_dir(folder.path().join("gpu")).unwrap();
        let names = files.map(|file| file.unwrap().path());
        names
            .filter(|path| path.to_str().unwrap().contains(what))
            .collect::<Vec<_>>()
    };
    let trials = kept("trial-");
    let [trial] = &trials[..] else {
        panic!("{trials:?}");
    };
    // Vulkan only.
    let compiled = kept("pipelines-");
    for path in std::iter::once(trial).chain(&compiled) {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(Trial::kept(adapter, &home), None);
    let again = open().unwrap();
    assert_ne!(&again, first);
    assert_eq!(open().unwrap(), again);
    let asked = Trial::again(adapter, Some(&home)).unwrap();
    assert_ne!(asked, again);
    assert_eq!(Trial::kept(adapter, &home), Some(asked));
}

#[test]
fn what_is_not_finite_is_not_hidden_by_rounding() {
    let Some(device) = machine::open(&only(Arithmetic::Dot4)) else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(91));
    let (ty, rows, inputs) = (QuantType::Q4_0, 3, 64);
    let (bytes, _) = random.matrix(ty, rows * inputs);
    let matrix = bench.matrix(ty, rows, inputs, &bytes);
    for tokens in [3, 9] {
        let mut x = random.floats(tokens * inputs);
        x[5] = f32::INFINITY;
        x[inputs + 40] = f32::NAN;
        x[2 * inputs..3 * inputs].fill(0.0);
        let (x, y) = (
            bench.tensor(&x, inputs),
            bench.tensor(&vec![7.0; tokens * rows], rows),
        );
        bench.record(|r| {
            r.round(Rounding::Bytes);
            r.linear(&y, &x, &matrix)
        });
        let y = bench.read(&y);
        let (lost, kept) = y.split_at(2 * rows);
        assert!(lost.iter().all(|v| !v.is_finite()), "{lost:?}");
        assert!(kept[..rows].iter().all(|&v| v == 0.0), "{kept:?}");
        assert!(kept.iter().all(|v| v.is_finite()), "{kept:?}");
    }
}
