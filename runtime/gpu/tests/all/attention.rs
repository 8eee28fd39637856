//! Attention and its gradients.

use graft_gpu::{AttentionGradients, AttentionSaved, GpuError, Recorder};
use graft_kernels::ops::attention::{self, AttentionShape};

use crate::arrays::{Bench, Random, near};
use crate::machine;

fn shape(heads: usize, kv_heads: usize, head_width: usize, causal: bool) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_width,
        scale: 1.0 / (head_width as f32).sqrt(),
        causal,
    }
}

#[test]
fn attention_and_its_gradients_are_those_of_the_reference() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(40));
    for (shape, tokens, positions) in [
        (shape(4, 2, 40, true), 35, 35),
        (shape(2, 2, 64, true), 19, 50),
        (shape(3, 1, 8, false), 33, 18),
        (shape(2, 1, 130, true), 17, 17),
        (shape(2, 1, 32, true), 70, 100),
        (shape(2, 2, 24, true), 1, 40),
        (shape(2, 1, 50, true), 3, 600),
    ] {
        let what = format!("{shape:?}, {tokens} of {positions}");
        let (wide, narrow) = (
            shape.heads * shape.head_width,
            shape.kv_heads * shape.head_width,
        );
        // Scores of up to 20 or so: softmaxes from flat to nearly one position.
        let scaled = |values: Vec<f32>| -> Vec<f32> { values.iter().map(|v| v * 3.0).collect() };
        let q = scaled(random.floats(tokens * wide));
        let k = scaled(random.floats(positions * narrow));
        let [v, dk, dv] = [(); 3].map(|()| random.floats(positions * narrow));
        let [dout, dq] = [(); 2].map(|()| random.floats(tokens * wide));
        let (mut out, mut lse) = (vec![0.0; tokens * wide], vec![0.0; shape.heads * tokens]);
        attention::forward(&mut out, &mut lse, &q, &k, &v, &shape);

        let [q_t, dout_t, dq_t] = [&q, &dout, &dq].map(|a| bench.tensor(a, wide));
        let [k_t, v_t, dk_t, dv_t] = [&k, &v, &dk, &dv].map(|a| bench.tensor(a, narrow));
        let out_t = bench.tensor(&vec![5.0; tokens * wide], wide);
        let [lse_t, delta] = [(); 2].map(|()| bench.tensor(&vec![0.0; lse.len()], tokens));
        let saved = AttentionSaved {
            out: &out_t,
            lse: &lse_t,
            q: &q_t,
            k: &k_t,
            v: &v_t,
        };
        let grads = AttentionGradients {
            dq: &dq_t,
            dk: &dk_t,
            dv: &dv_t,
            delta: &delta,
        };
        bench.record(|r| {
            r.attention(&out_t, &lse_t, [&q_t, &k_t, &v_t], &shape)?;
            r.attention_backward(&grads, &dout_t, &saved, &shape)
        });
        near(&what, &bench.read(&out_t), &out, 2e-6);
        near(&what, &bench.read(&lse_t), &lse, 1e-6);

        let floats = Recorder::attention_thin_scratch(tokens, positions, &shape);
        let scratch = bench.tensor(&vec![0.0; floats], 1);
        let thin = bench.tensor(&vec![5.0; tokens * wide], wide);
        bench.record(|r| r.attention_thin(&thin, [&q_t, &k_t, &v_t], &shape, &scratch));
        near(&what, &bench.read(&thin), &out, 2e-6);

        let (mut dq, mut dk, mut dv) = (dq, dk, dv);
        let wanted = attention::Gradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        let kept = attention::Saved {
            out: &out,
            lse: &lse,
            q: &q,
            k: &k,
            v: &v,
        };
        attention::backward(wanted, &dout, kept, &shape);
        let got = [&dq_t, &dk_t, &dv_t].map(|tensor| bench.read(tensor));
        for (got, want) in got.iter().zip([&dq, &dk, &dv]) {
            near(&what, got, want, 4e-6);
        }

        // The same again from the same gradients: the same bits.
        let again = bench.read(&out_t);
        bench.record(|r| {
            r.fill(&dk_t, 0.0)?;
            r.fill(&dq_t, 0.0)?;
            r.attention_backward(&grads, &dout_t, &saved, &shape)
        });
        let first = [&dq_t, &dk_t].map(|tensor| bench.read(tensor));
        bench.record(|r| {
            r.fill(&dk_t, 0.0)?;
            r.fill(&dq_t, 0.0)?;
            r.attention(&out_t, &lse_t, [&q_t, &k_t, &v_t], &shape)?;
            r.attention_backward(&grads, &dout_t, &saved, &shape)
        });
        assert_eq!(again, bench.read(&out_t));
        assert_eq!(first, [&dq_t, &dk_t].map(|tensor| bench.read(tensor)));
    }
}

#[test]
fn attention_of_the_wrong_shape_is_refused() {
    let Some(device) = machine::device() else {
        return;
    };
    let bench = Bench::new(&device);
    let [q, out, k, v] = [(); 4].map(|()| bench.tensor(&[0.0; 64], 16));
    let lse = bench.tensor(&[0.0; 8], 4);
    let late = k.slice(0..3).unwrap();
    bench.record(|r| {
        let mut refused = |[q, k, v]: [&_; 3], shape: AttentionShape| {
            let refused = r.attention(&out, &lse, [q, k, v], &shape).unwrap_err();
            assert!(matches!(refused, GpuError::Shape { .. }), "{refused}");
        };
        refused([&q, &k, &v], shape(2, 0, 8, true));
        refused([&q, &k, &v], shape(0, 0, 8, true));
        refused([&q, &k, &v], shape(2, 1, 8, true));
        refused([&q, &k, &v], shape(2, 2, 0, true));
        refused([&q, &k, &v], shape(2, 2, usize::MAX, true));
        refused([&q, &late, &late], shape(2, 2, 8, true));
        refused([&q, &k, &late], shape(2, 2, 8, false));
        refused([&out, &k, &v], shape(2, 2, 8, true));
        Ok(())
    });
}
