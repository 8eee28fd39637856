//! LoRA and the gradients of trained layers.

use graft_gpu::{Device, DeviceOptions, LoraGradients, LoraLayer, Recorder};
use graft_kernels::ops::dropout::Dropout;
use graft_kernels::ops::{linear, lora};

use crate::arrays::{Bench, Random, near};
use crate::machine;

#[test]
fn lora_and_its_gradients_are_those_of_the_reference_dropout_included() {
    // The second device sees 10 tokens of the widest array at once.
    let options = DeviceOptions {
        binding_bytes: Some(88 << 10),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    let dropout = Dropout {
        rate: 0.3,
        seed: 0xfedc_ba98_7654_3210,
        stream: 77,
        // The low word overflows on the way.
        first: 0xffff_ff00,
    };
    // Sums over inputs in one run, and in three; ranks around a tile of 16.
    for (device, [tokens, inputs, outputs, rank], dropout) in [
        (&whole, [67, 130, 33, 16], Dropout::NONE),
        (&whole, [20, 2100, 70, 5], dropout),
        (&whole, [5, 40, 1030, 17], dropout),
        (&small, [25, 2100, 70, 5], dropout),
    ] {
        let (bench, mut random) = (Bench::new(device), Random::new(50));
        let what = format!("{tokens} x {inputs} x {outputs}, rank {rank}");
        let scale = 0.5;
        let (x, dy) = (
            random.floats(tokens * inputs),
            random.floats(tokens * outputs),
        );
        let (a, b) = (random.floats(rank * inputs), random.floats(outputs * rank));
        let y = random.floats(tokens * outputs);
        let (da, db) = (random.floats(a.len()), random.floats(b.len()));
        let dx = random.floats(x.len());

        let [x_t, a_t, da_t, dx_t] = [&x, &a, &da, &dx].map(|v| bench.tensor(v, inputs));
        let [dy_t, y_t] = [&dy, &y].map(|v| bench.tensor(v, outputs));
        let [b_t, db_t] = [&b, &db].map(|v| bench.tensor(v, rank));
        let [ax_t, h] = [(); 2].map(|()| bench.tensor(&vec![0.0; tokens * rank], rank));
        let floats = Recorder::lora_scratch(tokens, inputs, outputs, rank);
        let scratch = bench.tensor(&vec![0.0; floats], 1);
        let layer = LoraLayer {
            a: &a_t,
            b: &b_t,
            scale,
            dropout,
        };
        let grads = LoraGradients {
            da: &da_t,
            db: &db_t,
            dx: &dx_t,
            h: &h,
        };
        bench.record(|r| {
            r.lora(&y_t, &ax_t, &x_t, &layer, &scratch)?;
            r.lora_backward(&grads, &dy_t, &x_t, &ax_t, &layer, &scratch)
        });

        let reference = lora::Layer {
            a: &a,
            b: &b,
            scale,
            inputs,
            outputs,
            rank,
            dropout,
        };
        let (mut y, mut ax) = (y, vec![0.0; tokens * rank]);
        lora::forward(&mut y, &mut ax, &x, reference);
        let (mut da, mut db, mut dx) = (da, db, dx);
        let wanted = lora::Gradients {
            da: &mut da,
            db: &mut db,
            dx: &mut dx,
            h: &mut vec![0.0; rank],
        };
        lora::backward(wanted, &dy, &x, &ax, reference);
        let got = [&y_t, &ax_t, &da_t, &db_t, &dx_t].map(|tensor| bench.read(tensor));
        for (got, want) in got.iter().zip([&y, &ax, &da, &db, &dx]) {
            near(&what, got, want, 3e-6);
        }
        // The same again: the same bits.
        bench.record(|r| {
            [&y_t, &da_t, &db_t, &dx_t]
                .into_iter()
                .try_for_each(|t| r.fill(t, 0.0))?;
            r.lora(&y_t, &ax_t, &x_t, &layer, &scratch)?;
            r.lora_backward(&grads, &dy_t, &x_t, &ax_t, &layer, &scratch)
        });
        let first = [&y_t, &ax_t, &da_t, &db_t, &dx_t].map(|tensor| bench.read(tensor));
        bench.record(|r| {
            [&y_t, &da_t, &db_t, &dx_t]
                .into_iter()
                .try_for_each(|t| r.fill(t, 0.0))?;
            r.lora(&y_t, &ax_t, &x_t, &layer, &scratch)?;
            r.lora_backward(&grads, &dy_t, &x_t, &ax_t, &layer, &scratch)
        });
        let again = [&y_t, &ax_t, &da_t, &db_t, &dx_t].map(|tensor| bench.read(tensor));
        assert_eq!(first, again, "{what}");
        bench.record(|r| {
            let few = scratch.slice(0..scratch.rows() - 1)?;
            let layer = LoraLayer { a: &x_t, ..layer };
            assert!(r.lora(&y_t, &ax_t, &x_t, &layer, &few).is_err());
            Ok(())
        });
    }
}

#[test]
fn a_trained_layers_gradient_is_that_of_the_reference() {
    // The second device sees the tokens in two parts, and the gradient whole.
    let options = DeviceOptions {
        binding_bytes: Some(20 << 10),
        ..machine::options()
    };
    let (Some(whole), Some(small)) = (machine::device(), machine::open(&options)) else {
        return;
    };
    for device in [whole, small] {
        trained(&device);
    }
}

fn trained(device: &Device) {
    let (bench, mut random) = (Bench::new(device), Random::new(51));
    let (tokens, inputs, outputs) = (100, 70, 65);
    let (x, dy) = (
        random.floats(tokens * inputs),
        random.floats(tokens * outputs),
    );
    let mut dweight = random.floats(outputs * inputs);
    let (x_t, dy_t) = (bench.tensor(&x, inputs), bench.tensor(&dy, outputs));
    let dweight_t = bench.tensor(&dweight, inputs);
    bench.record(|r| r.linear_backward_parameters(&dweight_t, &dy_t, &x_t));
    linear::backward_parameters(&mut dweight, &mut [], &dy, &x, inputs);
    near("dweight", &bench.read(&dweight_t), &dweight, 1e-6);
}
