//! Operators on rows: norms, rotary embedding, bias, gathering.

use graft_gpu::{DeviceOptions, GpuError, IGNORED, RopeTurns};
use graft_kernels::ops;
use graft_kernels::ops::rope::{RopeLayout, RopeOptions, RopeTable};

use crate::arrays::{Bench, Random, near};
use crate::machine;

#[test]
fn norms_and_their_gradients_are_those_of_the_reference() {
    // The second device sees 3 rows of the wider arrays at once.
    let options = DeviceOptions {
        binding_bytes: Some(5 << 10),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    for (device, width) in [(&whole, 5), (&whole, 1030), (&small, 400)] {
        let (bench, mut random) = (Bench::new(device), Random::new(20));
        let (tokens, eps) = (7, 1e-5);
        let len = tokens * width;
        // Far from zero, where a variance taken as a difference of squares would be lost.
        let x: Vec<f32> = random.floats(len).iter().map(|v| v + 3.0).collect();
        let (dy, mut dx) = (random.floats(len), random.floats(len));
        let (weight, bias) = (random.floats(width), random.floats(width));
        let there = |values: &[f32]| bench.tensor(values, width);
        let (x_t, dy_t, weight_t, bias_t) = (there(&x), there(&dy), there(&weight), there(&bias));
        let (y_t, dx_t) = (there(&vec![9.0; len]), there(&dx));
        let before = dx.clone();

        let inv_t = bench.tensor(&vec![0.0; tokens], 1);
        bench.record(|r| {
            r.rms_norm(&y_t, &inv_t, &x_t, &weight_t, eps)?;
            r.rms_norm_backward(&dx_t, &dy_t, &x_t, &weight_t, &inv_t)
        });
        let (mut y, mut inv) = (vec![0.0; len], vec![0.0; tokens]);
        ops::rms_norm::forward(&mut y, &mut inv, &x, &weight, eps);
        ops::rms_norm::backward(&mut dx, &dy, &x, &weight, &inv);
        near("rms_norm", &bench.read(&y_t), &y, 1e-6);
        near("inv_rms", &bench.read(&inv_t), &inv, 1e-6);
        near("rms_norm backward", &bench.read(&dx_t), &dx, 1e-6);

        let saved_t = bench.tensor(&vec![0.0; 2 * tokens], 2);
        dx.copy_from_slice(&before);
        bench.record(|r| {
            r.write(&dx_t, &before)?;
            r.layer_norm(&y_t, &saved_t, &x_t, &weight_t, &bias_t, eps)?;
            r.layer_norm_backward(&dx_t, &dy_t, &x_t, &weight_t, &saved_t)
        });
        let mut saved = vec![0.0; 2 * tokens];
        ops::layer_norm::forward(&mut y, &mut saved, &x, &weight, &bias, eps);
        ops::layer_norm::backward(&mut dx, &dy, &x, &weight, &saved);
        near("layer_norm", &bench.read(&y_t), &y, 4e-6);
        near(
            "mean and inverse deviation",
            &bench.read(&saved_t),
            &saved,
            1e-6,
        );
        near("layer_norm backward", &bench.read(&dx_t), &dx, 4e-6);
    }
}

#[test]
fn rope_turns_as_the_reference_and_back() {
    let options = DeviceOptions {
        binding_bytes: Some(2048),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    for (device, layout, dims) in [
        (&whole, RopeLayout::Interleaved, 20),
        (&whole, RopeLayout::HalfSplit, 12),
        (&small, RopeLayout::HalfSplit, 20),
    ] {
        let (bench, mut random) = (Bench::new(device), Random::new(21));
        let (tokens, heads, head_width, start) = (11, 3, 20, 40);
        let options = RopeOptions {
            layout,
            dims,
            base: 10_000.0,
            scale: 1.0,
            factors: &[],
        };
        let table = RopeTable::new(&options, start + tokens);
        let turns = RopeTurns {
            layout: table.layout(),
            turns: bench.tensor(table.turns().as_flattened(), table.dims()),
        };
        let x = random.floats(tokens * heads * head_width);
        let x_t = bench.tensor(&x, heads * head_width);
        let mut turned = x.clone();
        ops::rope::forward(&mut turned, heads, head_width, start, &table);
        bench.record(|r| r.rope(&x_t, head_width, start, &turns));
        near("rope", &bench.read(&x_t), &turned, 2e-7);
        bench.record(|r| r.rope_backward(&x_t, head_width, start, &turns));
        near("rope and back", &bench.read(&x_t), &x, 5e-7);
        bench.record(|r| {
            for refused in [
                r.rope(&x_t, head_width, start + 1, &turns),
                r.rope(&x_t, head_width, usize::MAX, &turns),
                r.rope(&x_t, 7, start, &turns),
                r.rope(&x_t, 10, start, &turns),
            ] {
                let refused = refused.unwrap_err();
                assert!(matches!(refused, GpuError::Shape { .. }), "{refused}");
            }
            Ok(())
        });
    }
}

#[test]
fn a_bias_is_added_to_every_row_and_gets_the_sum_of_their_gradients() {
    let options = DeviceOptions {
        binding_bytes: Some(4096),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    for device in [whole, small] {
        let (bench, mut random) = (Bench::new(&device), Random::new(22));
        let (tokens, width) = (9, 300);
        let (bias, y) = (random.floats(width), random.floats(tokens * width));
        let (bias_t, y_t) = (bench.tensor(&bias, width), bench.tensor(&y, width));
        bench.record(|r| r.bias(&y_t, &bias_t));
        let want: Vec<f32> = y
            .iter()
            .zip(bias.iter().cycle())
            .map(|(y, b)| y + b)
            .collect();
        assert_eq!(bench.read(&y_t), want);
        bench.record(|r| {
            r.write(&y_t, &y)?;
            r.bias_backward(&bias_t, &y_t)
        });
        let (mut want, x) = (bias, vec![0.0; tokens]);
        ops::linear::backward_parameters(&mut vec![0.0; width], &mut want, &y, &x, 1);
        near("dbias", &bench.read(&bias_t), &want, 1e-6);
    }
}

#[test]
fn rows_are_gathered_and_their_gradients_go_back_to_them() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(23));
    let (rows, width) = (6, 37);
    let numbers = [5, 0, IGNORED, 3];
    let (x, y) = (
        random.floats(rows * width),
        random.floats(numbers.len() * width),
    );
    let ids = bench.ids(&numbers, rows);
    let (x_t, y_t) = (bench.tensor(&x, width), bench.tensor(&y, width));
    bench.record(|r| r.gather(&y_t, &x_t, &ids));
    let gathered = bench.read(&y_t);
    bench.record(|r| {
        r.write(&y_t, &y)?;
        r.gather_backward(&x_t, &y_t, &ids)
    });
    let mut want = x.clone();
    for (r, number) in numbers.iter().enumerate() {
        let (got, was) = (&gathered[r * width..][..width], &y[r * width..][..width]);
        let Ok(row) = usize::try_from(*number) else {
            assert_eq!(got, was);
            continue;
        };
        assert_eq!(got, &x[row * width..][..width]);
        let sums = want[row * width..][..width].iter_mut();
        sums.zip(was).for_each(|(want, dy)| *want += dy);
    }
    assert_eq!(bench.read(&x_t), want);
    bench.record(|r| {
        let refused = r.write_ids(&ids, &[0, 6, 1, 1], rows).unwrap_err();
        assert!(
            refused.to_string().contains("6 is not below 6"),
            "{refused}"
        );
        assert!(r.write_ids(&ids, &[0, -1, 1, 1], rows).is_err());
        Ok(())
    });
}

#[test]
fn more_rows_than_a_device_takes_groups_are_all_normed() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(24));
    // A device takes 65535 groups in one dimension.
    let (tokens, width) = (65_536 + 3, 1);
    let (x, weight) = (random.floats(tokens * width), [2.0]);
    let (x_t, weight_t) = (bench.tensor(&x, width), bench.tensor(&weight, width));
    let [y_t, inv_t] = [(); 2].map(|()| bench.tensor(&vec![0.0; tokens], width));
    bench.record(|r| r.rms_norm(&y_t, &inv_t, &x_t, &weight_t, 1e-5));
    let (mut y, mut inv) = (vec![0.0; tokens], vec![0.0; tokens]);
    ops::rms_norm::forward(&mut y, &mut inv, &x, &weight, 1e-5);
    near("rms_norm", &bench.read(&y_t), &y, 1e-6);
}
