//! Operators that treat every element alike.

use graft_gpu::{DeviceOptions, GpuError, Part};
use graft_kernels::{QuantType, blocks, ops};

use crate::arrays::{Bench, Random, near};
use crate::machine;

#[test]
fn activations_and_their_gradients_are_those_of_the_reference() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(10));
    let len = 3 * 259;
    // From where everything is zero to where nothing is, and both ends of f32's exponential.
    let mut wide = |scale: f32| -> Vec<f32> {
        let mut x: Vec<f32> = random.floats(len).iter().map(|v| v * scale).collect();
        x[..6].copy_from_slice(&[0.0, -0.0, 120.0, -120.0, 14.5, -14.5]);
        x
    };
    for scale in [1.0, 30.0] {
        let (x, up, dy, before) = (wide(scale), wide(1.0), wide(1.0), wide(1.0));
        let there = |values: &[f32]| bench.tensor(values, 259);
        let (x_t, up_t, dy_t) = (there(&x), there(&up), there(&dy));
        let [y, dx, dup] = [&before, &before, &before].map(|v| there(v));
        let (mut want, mut dwant, mut dup_want) = (vec![0.0; len], before.clone(), before.clone());

        bench.record(|r| {
            r.gelu(&y, &x_t)?;
            r.gelu_backward(&dx, &dy_t, &x_t)
        });
        ops::gelu::forward(&mut want, &x);
        ops::gelu::backward(&mut dwant, &dy, &x);
        near("gelu", &bench.read(&y), &want, 1e-6);
        near("gelu backward", &bench.read(&dx), &dwant, 1e-6);

        bench.record(|r| {
            r.write(&dx, &before)?;
            r.quick_gelu(&y, &x_t)?;
            r.quick_gelu_backward(&dx, &dy_t, &x_t)
        });
        dwant.copy_from_slice(&before);
        ops::quick_gelu::forward(&mut want, &x);
        ops::quick_gelu::backward(&mut dwant, &dy, &x);
        near("quick_gelu", &bench.read(&y), &want, 1e-6);
        near("quick_gelu backward", &bench.read(&dx), &dwant, 1e-6);

        bench.record(|r| {
            r.write(&dx, &before)?;
            r.swiglu(&y, &x_t, &up_t)?;
            r.swiglu_backward(&dx, &dup, &dy_t, &x_t, &up_t)
        });
        dwant.copy_from_slice(&before);
        ops::swiglu::forward(&mut want, &x, &up);
        ops::swiglu::backward(&mut dwant, &mut dup_want, &dy, &x, &up);
        near("swiglu", &bench.read(&y), &want, 1e-6);
        near("swiglu dgate", &bench.read(&dx), &dwant, 1e-6);
        near("swiglu dup", &bench.read(&dup), &dup_want, 1e-6);
    }
}

#[test]
fn sums_multiples_copies_and_constants_are_exact() {
    // The second device sees a tenth of the arrays at once.
    let options = DeviceOptions {
        binding_bytes: Some(1024),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    let mut random = Random::new(11);
    let (x, y) = (random.floats(2000), random.floats(2000));
    for device in [whole, small] {
        let bench = Bench::new(&device);
        let (x_t, y_t) = (bench.tensor(&x, 20), bench.tensor(&y, 50));
        let (sum, copy) = (bench.tensor(&y, 40), bench.tensor(&y, 40));
        bench.record(|r| {
            r.add(&sum, &x_t, 0.5)?;
            r.copy(&copy, &x_t)?;
            r.scale(&copy, -2.0)?;
            // Rows 10 to 30 only.
            r.fill(&y_t.slice(10..30)?, 3.0)
        });
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| y + 0.5 * x).collect();
        assert_eq!(bench.read(&sum), want);
        let want: Vec<f32> = x.iter().map(|x| -2.0 * x).collect();
        assert_eq!(bench.read(&copy), want);
        let filled = bench.read(&y_t);
        assert_eq!(filled[..500], y[..500]);
        assert_eq!(filled[500..1500], [3.0; 1000]);
        assert_eq!(filled[1500..], y[1500..]);
    }
}

#[test]
fn floats_are_rounded_to_bf16_as_the_reference_rounds_them() {
    // The second device sees 3 rows at once.
    let options = DeviceOptions {
        binding_bytes: Some(1024),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    for device in [whole, small] {
        let (bench, mut random) = (Bench::new(&device), Random::new(12));
        let (rows, width) = (11, 61);
        let mut x = random.floats(rows * width);
        // Ties, both ways; beyond the greatest; what is not finite.
        let bits = [
            0x3f80_8000,
            0x3f81_8000,
            0xbf80_8001,
            0x7f7f_ffff,
            0x7f80_0000,
            0xff80_0000,
        ];
        x.iter_mut()
            .zip(bits)
            .for_each(|(x, bits)| *x = f32::from_bits(bits));
        let mut bytes = vec![0; 2 * x.len()];
        let mut want = vec![0.0; x.len()];
        blocks::encode(QuantType::BF16, &x, &mut bytes).unwrap();
        blocks::decode(QuantType::BF16, &bytes, &mut want);
        let arena = device.arena(Part::SavedActivations, 1 << 14).unwrap();
        let halves = arena.bf16_tensor(rows, width).unwrap();
        assert_eq!((halves.rows(), halves.width()), (rows, width));
        let (x_t, back) = (
            bench.tensor(&x, width),
            bench.tensor(&vec![7.0; x.len()], width),
        );
        bench.record(|r| {
            r.to_bf16(&halves, &x_t)?;
            r.from_bf16(&back, &halves)?;
            assert!(r.from_bf16(&back.reshape(width, rows)?, &halves).is_err());
            Ok(())
        });
        assert_eq!(bench.read(&back), want);
        bench.record(|r| {
            r.fill(&x_t, f32::NAN)?;
            r.to_bf16(&halves, &x_t)?;
            r.from_bf16(&back, &halves)
        });
        assert!(bench.read(&back).iter().all(|v| v.is_nan()));
    }
}

#[test]
fn lengths_that_differ_and_arrays_that_overlap_are_refused() {
    let Some(device) = machine::device() else {
        return;
    };
    let bench = Bench::new(&device);
    let (x, y) = (bench.tensor(&[0.0; 6], 3), bench.tensor(&[0.0; 8], 4));
    bench.record(|r| {
        for refusal in [
            r.add(&y, &x, 1.0).unwrap_err(),
            r.copy(&x, &x).unwrap_err(),
            r.copy(&y.slice(0..1)?, &y.reshape(8, 1)?.slice(3..7)?)
                .unwrap_err(),
            r.swiglu_backward(&x, &x, &y, &y, &y).unwrap_err(),
        ] {
            assert!(matches!(refusal, GpuError::Shape { .. }), "{refusal}");
        }
        Ok(())
    });
}
