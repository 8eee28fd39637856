//! Stored matrices: decoding, products, gradients.

use graft_gpu::{DeviceOptions, GpuError, IGNORED};
use graft_kernels::{QuantType, ops};

use crate::arrays::{Bench, Random, near};
use crate::machine;

#[test]
fn every_type_decodes_to_what_its_reference_says() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(1));
    for ty in QuantType::ALL {
        let inputs = match ty.block_len() {
            1 => 37,
            32 => 96,
            len => 2 * len,
        };
        let rows = 9;
        let (bytes, decoded) = random.blocks(ty, rows * inputs);
        let matrix = bench.matrix(ty, rows, inputs, &bytes);
        let numbers = [3, 8, IGNORED, 0, 3];
        let before = random.floats(numbers.len() * inputs);
        let (y, ids) = (bench.tensor(&before, inputs), bench.ids(&numbers, rows));
        bench.record(|r| r.rows_q(&y, &ids, &matrix));
        let got = bench.read(&y);
        for (t, &number) in numbers.iter().enumerate() {
            let got = &got[t * inputs..][..inputs];
            let Ok(row) = usize::try_from(number) else {
                assert_eq!(got, &before[t * inputs..][..inputs], "{ty}: an ignored row");
                continue;
            };
            // A block at a time: others may be greater by any power of two.
            let blocks = decoded[row * inputs..][..inputs].chunks(ty.block_len());
            for (got, want) in got.chunks(ty.block_len()).zip(blocks) {
                near(ty.name(), got, want, 1e-6);
            }
        }
    }
}

#[test]
fn products_of_every_type_are_those_of_the_reference() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(2));
    for ty in QuantType::ALL {
        let inputs = match ty.block_len() {
            1 => 75,
            32 => 96,
            len => len,
        };
        // Tiles of 128 x 64 and lines of 8, all with tails.
        let (tokens, rows) = (70, 67);
        let (bytes, w) = random.matrix(ty, rows * inputs);
        let matrix = bench.matrix(ty, rows, inputs, &bytes);
        let x = random.floats(tokens * inputs);
        let x_there = bench.tensor(&x, inputs);
        let y_there = bench.tensor(&vec![7.0; tokens * rows], rows);
        bench.record(|r| r.mm_q(&y_there, &x_there, &matrix));
        let mut y = vec![0.0; tokens * rows];
        ops::linear::forward(&mut y, &x, &w, &[], inputs);
        let whole = bench.read(&y_there);
        near(ty.name(), &whole, &y, 2e-6);
        // Groups of fewer tokens; how a type is decoded does not depend on them.
        let every = ty == QuantType::Q5K;
        let few: &[usize] = if every { &[1, 2, 3, 8] } else { &[1, 8] };
        for &tokens in few {
            let some = bench.tensor(&vec![7.0; tokens * rows], rows);
            let x = x_there.slice(5..5 + tokens).unwrap();
            bench.record(|r| r.mv_q(&some, &x, &matrix));
            let want = &y[5 * rows..][..tokens * rows];
            near(ty.name(), &bench.read(&some), want, 2e-6);
        }
        let dy = random.floats(tokens * rows);
        let mut dx = random.floats(tokens * inputs);
        let (dy_there, dx_there) = (bench.tensor(&dy, rows), bench.tensor(&dx, inputs));
        bench.record(|r| r.mm_q_backward(&dx_there, &dy_there, &matrix));
        ops::linear::backward(&mut dx, &dy, &w, inputs);
        near(ty.name(), &bench.read(&dx_there), &dx, 2e-6);
        let fewer: &[usize] = if every { &[7, 30, 64] } else { &[] };
        for &tokens in fewer {
            let some = bench.tensor(&vec![7.0; tokens * rows], rows);
            let x = x_there.slice(5..5 + tokens).unwrap();
            bench.record(|r| r.mm_q(&some, &x, &matrix));
            assert!(
                bench.read(&some) == whole[5 * rows..][..tokens * rows],
                "{ty}"
            );
            let fewer = bench.tensor(&vec![0.0; tokens * inputs], inputs);
            bench.record(|r| {
                r.mm_q_backward(&fewer, &dy_there.slice(5..5 + tokens).unwrap(), &matrix)
            });
            let mut want = vec![0.0; tokens * inputs];
            ops::linear::backward(&mut want, &dy[5 * rows..][..tokens * rows], &w, inputs);
            near(ty.name(), &bench.read(&fewer), &want, 2e-6);
        }
        // The same again: the same bits.
        bench.record(|r| r.mm_q(&y_there, &x_there, &matrix));
        assert_eq!(whole, bench.read(&y_there), "{ty}");
    }
}

/// Programs run kernels without checks of indices, tests with them.
#[test]
fn kernels_compute_the_same_without_checks() {
    let unchecked = DeviceOptions {
        checked: false,
        ..machine::options()
    };
    let (Some(fast), Some(safe)) = (machine::open(&unchecked), machine::device()) else {
        return;
    };
    for ty in [QuantType::F16, QuantType::Q4_0, QuantType::Q6K] {
        let mut random = Random::new(5);
        let (tokens, rows, inputs) = (9, 10, 256);
        let (bytes, _) = random.matrix(ty, rows * inputs);
        let x = random.floats(tokens * inputs);
        let [fast, safe] = [&fast, &safe].map(|device| {
            let bench = Bench::new(device);
            let matrix = bench.matrix(ty, rows, inputs, &bytes);
            let x = bench.tensor(&x, inputs);
            let [y, thin] = [tokens, 3].map(|n| bench.tensor(&vec![0.0; n * rows], rows));
            bench.record(|r| {
                r.mm_q(&y, &x, &matrix)?;
                r.mv_q(&thin, &x.slice(2..5)?, &matrix)
            });
            [bench.read(&y), bench.read(&thin)]
        });
        assert_eq!(fast, safe, "{ty}");
    }
}

#[test]
fn trained_floats_are_multiplied_as_stored_ones() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(3));
    for tokens in [3, 11] {
        let (rows, inputs) = (5, 17);
        let (x, w) = (random.floats(tokens * inputs), random.floats(rows * inputs));
        let mut y = vec![0.0; tokens * rows];
        let there = bench.tensor(&y, rows);
        let (x_there, w_there) = (bench.tensor(&x, inputs), bench.tensor(&w, inputs));
        bench.record(|r| r.linear(&there, &x_there, &w_there));
        ops::linear::forward(&mut y, &x, &w, &[], inputs);
        near("y", &bench.read(&there), &y, 1e-6);
    }
}

#[test]
fn a_matrix_in_pieces_is_multiplied_as_a_whole_one() {
    // What a kernel sees holds 11 rows of the matrix, and 13 tokens of the wider side.
    let options = DeviceOptions {
        binding_bytes: Some(4096),
        ..machine::options()
    };
    let (Some(small), Some(large)) = (machine::open(&options), machine::device()) else {
        return;
    };
    let mut random = Random::new(4);
    let (ty, tokens, rows, inputs) = (QuantType::Q8_0, 40, 70, 320);
    let (bytes, _) = random.matrix(ty, rows * inputs);
    let (x, dy) = (random.floats(tokens * inputs), random.floats(tokens * rows));
    let ids: Vec<i32> = (0..rows as i32).rev().step_by(3).collect();
    let results = [&small, &large].map(|device| {
        let bench = Bench::new(device);
        let matrix = bench.matrix(ty, rows, inputs, &bytes);
        assert_eq!(matrix.pieces() > 1, device.memory() == small.memory());
        let (x, dy) = (bench.tensor(&x, inputs), bench.tensor(&dy, rows));
        let y = bench.tensor(&vec![0.0; tokens * rows], rows);
        let dx = bench.tensor(&vec![0.0; tokens * inputs], inputs);
        let thin = bench.tensor(&vec![0.0; 2 * rows], rows);
        let embedded = bench.tensor(&vec![0.0; ids.len() * inputs], inputs);
        let ids = bench.ids(&ids, rows);
        bench.record(|r| {
            r.mm_q(&y, &x, &matrix)?;
            r.mm_q_backward(&dx, &dy, &matrix)?;
            r.mv_q(&thin, &x.slice(1..3)?, &matrix)?;
            r.rows_q(&embedded, &ids, &matrix)
        });
        [&y, &dx, &thin, &embedded].map(|tensor| bench.read(tensor))
    });
    let [pieces, whole] = results;
    // Gradients are added a piece at a time, so their last bits may differ.
    near("dx", &pieces[1], &whole[1], 1e-6);
    for i in [0, 2, 3] {
        assert_eq!(pieces[i], whole[i], "array {i}");
    }
}

#[test]
fn products_of_the_wrong_shape_are_refused() {
    let Some(device) = machine::device() else {
        return;
    };
    let bench = Bench::new(&device);
    let matrix = bench.matrix(QuantType::F32, 2, 3, &[0; 24]);
    let [x, y, long] = [[2, 3], [2, 2], [9, 3]].map(|[rows, width]| {
        let zeros = vec![0.0; rows * width];
        bench.tensor(&zeros, width)
    });
    bench.record(|r| {
        let refusals = [
            r.mm_q(&x, &x, &matrix).unwrap_err(),
            r.mm_q(&y, &y, &matrix).unwrap_err(),
            r.mv_q(&long, &long, &matrix).unwrap_err(),
            r.mm_q_backward(&y, &x, &matrix).unwrap_err(),
            r.linear(&y, &x, &x.slice(0..1)?).unwrap_err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, GpuError::Shape { .. }), "{refusal}");
        }
        let square = y.slice(0..2)?;
        let refused = r.linear(&y, &square, &y).unwrap_err();
        assert!(refused.to_string().contains("overlaps"), "{refused}");
        r.linear(&y, &x, &matrix)
    });
}
