//! A whole layer, forward and backward, in one submission: commands that depend on each other, in memory that
//! they share.

use graft_gpu::{
    Arena, AttentionGradients, AttentionSaved, Device, LoraGradients, LoraLayer, Matrix, Part,
    Recorder, RopeTurns, Tensor,
};
use graft_kernels::QuantType;
use graft_kernels::ops::attention::{self, AttentionShape};
use graft_kernels::ops::dropout::Dropout;
use graft_kernels::ops::rope::{self, RopeLayout, RopeOptions, RopeTable};
use graft_kernels::ops::{linear, lora, rms_norm, swiglu};

use crate::arrays::{Random, near};
use crate::machine;

const TOKENS: usize = 37;
const WIDTH: usize = 64;
const KV: usize = 32;
const HIDDEN: usize = 96;
const RANK: usize = 4;
const EPS: f64 = 1e-5;
const SHAPE: AttentionShape = AttentionShape {
    heads: 4,
    kv_heads: 2,
    head_width: 16,
    scale: 0.25,
    causal: true,
};
/// Query, key, value, output, gate, up, down: rows and inputs.
const MATRICES: [[usize; 2]; 7] = [
    [WIDTH, WIDTH],
    [KV, WIDTH],
    [KV, WIDTH],
    [WIDTH, WIDTH],
    [HIDDEN, WIDTH],
    [HIDDEN, WIDTH],
    [WIDTH, HIDDEN],
];

/// What goes in.
struct Given {
    x: Vec<f32>,
    dy: Vec<f32>,
    norms: [Vec<f32>; 2],
    blocks: [Vec<u8>; 7],
    weights: [Vec<f32>; 7],
    a: Vec<f32>,
    b: Vec<f32>,
    table: RopeTable,
}

/// What comes out: `y`, `dx`, `da`, `db`.
type Results = [Vec<f32>; 4];

fn given() -> Given {
    let mut random = Random::new(80);
    let matrices = MATRICES.map(|[rows, inputs]| random.matrix(QuantType::Q4_0, rows * inputs));
    let small = |values: Vec<f32>| values.iter().map(|v| 0.2 * v).collect();
    let options = RopeOptions {
        layout: RopeLayout::HalfSplit,
        dims: SHAPE.head_width,
        base: 10_000.0,
        scale: 1.0,
        factors: &[],
    };
    Given {
        x: random.floats(TOKENS * WIDTH),
        dy: random.floats(TOKENS * WIDTH),
        norms: [(); 2].map(|()| small(random.floats(WIDTH))),
        blocks: matrices.clone().map(|(blocks, _)| blocks),
        weights: matrices.map(|(_, weights)| weights),
        a: random.floats(RANK * WIDTH),
        b: random.floats(WIDTH * RANK),
        table: RopeTable::new(&options, TOKENS),
    }
}

#[test]
fn a_layer_in_one_submission_is_the_layer_of_the_reference() {
    let Some(device) = machine::device() else {
        return;
    };
    let given = given();
    let want = reference(&given);
    let got = on_device(&device, &given).unwrap();
    for ((name, got), want) in ["y", "dx", "da", "db"].iter().zip(&got).zip(&want) {
        near(name, got, want, 1e-5);
    }
    assert_eq!(got, on_device(&device, &given).unwrap(), "the same bits");
}

fn on_device(device: &Device, given: &Given) -> graft_gpu::Result<Results> {
    let weights = device.arena(Part::StreamedWeights, 1 << 20)?;
    let floats = device.arena(Part::LayerBuffers, 4 << 20)?;
    let mut r = Recorder::new(device)?;
    let mut matrices = vec![];
    for ([rows, inputs], blocks) in MATRICES.into_iter().zip(&given.blocks) {
        let matrix = weights.matrix(QuantType::Q4_0, rows, inputs)?;
        r.write_matrix(&matrix, blocks)?;
        matrices.push(matrix);
    }
    let [wq, wk, wv, wo, gate, up, down]: &[Matrix; 7] = matrices[..].try_into().unwrap();
    let mut there = |values: &[f32], width: usize| -> graft_gpu::Result<Tensor> {
        let tensor = floats.tensor(values.len() / width, width)?;
        r.write(&tensor, values)?;
        Ok(tensor)
    };
    let (x, dy) = (there(&given.x, WIDTH)?, there(&given.dy, WIDTH)?);
    let norms = [
        there(&given.norms[0], WIDTH)?,
        there(&given.norms[1], WIDTH)?,
    ];
    let (a, b) = (there(&given.a, WIDTH)?, there(&given.b, RANK)?);
    let table = RopeTurns {
        layout: given.table.layout(),
        turns: there(given.table.turns().as_flattened(), given.table.dims())?,
    };
    let new = |floats: &Arena, width| floats.tensor(TOKENS, width);
    let zeros = |r: &mut Recorder, rows, width| -> graft_gpu::Result<Tensor> {
        let tensor = floats.tensor(rows, width)?;
        r.fill(&tensor, 0.0)?;
        Ok(tensor)
    };
    let layer = LoraLayer {
        a: &a,
        b: &b,
        scale: 2.0,
        dropout: Dropout::NONE,
    };
    let scratch = floats.tensor(1, Recorder::lora_scratch(TOKENS, WIDTH, WIDTH, RANK))?;

    let [normed, normed2, y] = [(); 3].map(|()| new(&floats, WIDTH));
    let (normed, normed2, y) = (normed?, normed2?, y?);
    let [inv, inv2] = [floats.tensor(1, TOKENS)?, floats.tensor(1, TOKENS)?];
    let (q, k, v, out) = (
        new(&floats, WIDTH)?,
        new(&floats, KV)?,
        new(&floats, KV)?,
        new(&floats, WIDTH)?,
    );
    let (lse, delta) = (floats.tensor(4, TOKENS)?, floats.tensor(4, TOKENS)?);
    let (ax, h) = (new(&floats, RANK)?, new(&floats, RANK)?);
    let (g, u, act) = (
        new(&floats, HIDDEN)?,
        new(&floats, HIDDEN)?,
        new(&floats, HIDDEN)?,
    );
    let (middle, branch) = (new(&floats, WIDTH)?, new(&floats, WIDTH)?);

    r.rms_norm(&normed, &inv, &x, &norms[0], EPS)?;
    r.linear(&q, &normed, wq)?;
    r.lora(&q, &ax, &normed, &layer, &scratch)?;
    r.linear(&k, &normed, wk)?;
    r.linear(&v, &normed, wv)?;
    r.rope(&q, SHAPE.head_width, 0, &table)?;
    r.rope(&k, SHAPE.head_width, 0, &table)?;
    r.attention(&out, &lse, [&q, &k, &v], &SHAPE)?;
    r.linear(&middle, &out, wo)?;
    r.add(&middle, &x, 1.0)?;
    r.rms_norm(&normed2, &inv2, &middle, &norms[1], EPS)?;
    r.linear(&g, &normed2, gate)?;
    r.linear(&u, &normed2, up)?;
    r.swiglu(&act, &g, &u)?;
    r.linear(&branch, &act, down)?;
    r.copy(&y, &middle)?;
    r.add(&y, &branch, 1.0)?;

    let dact = zeros(&mut r, TOKENS, HIDDEN)?;
    let (dg, du) = (
        zeros(&mut r, TOKENS, HIDDEN)?,
        zeros(&mut r, TOKENS, HIDDEN)?,
    );
    let (dnormed2, dmiddle) = (zeros(&mut r, TOKENS, WIDTH)?, zeros(&mut r, TOKENS, WIDTH)?);
    r.add(&dmiddle, &dy, 1.0)?;
    r.mm_q_backward(&dact, &dy, down)?;
    r.swiglu_backward(&dg, &du, &dact, &g, &u)?;
    r.mm_q_backward(&dnormed2, &dg, gate)?;
    r.mm_q_backward(&dnormed2, &du, up)?;
    r.rms_norm_backward(&dmiddle, &dnormed2, &middle, &norms[1], &inv2)?;
    let (dout, dq) = (zeros(&mut r, TOKENS, WIDTH)?, zeros(&mut r, TOKENS, WIDTH)?);
    let (dk, dv) = (zeros(&mut r, TOKENS, KV)?, zeros(&mut r, TOKENS, KV)?);
    r.mm_q_backward(&dout, &dmiddle, wo)?;
    let grads = AttentionGradients {
        dq: &dq,
        dk: &dk,
        dv: &dv,
        delta: &delta,
    };
    let saved = AttentionSaved {
        out: &out,
        lse: &lse,
        q: &q,
        k: &k,
        v: &v,
    };
    r.attention_backward(&grads, &dout, &saved, &SHAPE)?;
    r.rope_backward(&dq, SHAPE.head_width, 0, &table)?;
    r.rope_backward(&dk, SHAPE.head_width, 0, &table)?;
    let dnormed = zeros(&mut r, TOKENS, WIDTH)?;
    let (da, db) = (zeros(&mut r, RANK, WIDTH)?, zeros(&mut r, WIDTH, RANK)?);
    r.mm_q_backward(&dnormed, &dq, wq)?;
    r.mm_q_backward(&dnormed, &dk, wk)?;
    r.mm_q_backward(&dnormed, &dv, wv)?;
    let grads = LoraGradients {
        da: &da,
        db: &db,
        dx: &dnormed,
        h: &h,
    };
    r.lora_backward(&grads, &dq, &normed, &ax, &layer, &scratch)?;
    let dx = zeros(&mut r, TOKENS, WIDTH)?;
    r.add(&dx, &dmiddle, 1.0)?;
    r.rms_norm_backward(&dx, &dnormed, &x, &norms[0], &inv)?;

    let downloads = [r.read(&y)?, r.read(&dx)?, r.read(&da)?, r.read(&db)?];
    r.submit()?;
    let mut results = Results::default();
    for (download, result) in downloads.into_iter().zip(&mut results) {
        result.resize(download.len(), 0.0);
        download.wait(result)?;
    }
    Ok(results)
}

fn reference(given: &Given) -> Results {
    let [wq, wk, wv, wo, gate, up, down] = &given.weights;
    let zeros = |width: usize| vec![0.0_f32; TOKENS * width];
    let head = SHAPE.head_width;
    let layer = lora::Layer {
        a: &given.a,
        b: &given.b,
        scale: 2.0,
        inputs: WIDTH,
        outputs: WIDTH,
        rank: RANK,
        dropout: Dropout::NONE,
    };
    let (mut normed, mut inv) = (zeros(WIDTH), zeros(1));
    rms_norm::forward(&mut normed, &mut inv, &given.x, &given.norms[0], EPS);
    let (mut q, mut k, mut v, mut ax) = (zeros(WIDTH), zeros(KV), zeros(KV), zeros(RANK));
    linear::forward(&mut q, &normed, wq, &[], WIDTH);
    lora::forward(&mut q, &mut ax, &normed, layer);
    linear::forward(&mut k, &normed, wk, &[], WIDTH);
    linear::forward(&mut v, &normed, wv, &[], WIDTH);
    rope::forward(&mut q, SHAPE.heads, head, 0, &given.table);
    rope::forward(&mut k, SHAPE.kv_heads, head, 0, &given.table);
    let (mut out, mut lse) = (zeros(WIDTH), zeros(SHAPE.heads));
    attention::forward(&mut out, &mut lse, &q, &k, &v, &SHAPE);
    let mut middle = zeros(WIDTH);
    linear::forward(&mut middle, &out, wo, &[], WIDTH);
    middle.iter_mut().zip(&given.x).for_each(|(m, x)| *m += x);
    let (mut normed2, mut inv2) = (zeros(WIDTH), zeros(1));
    rms_norm::forward(&mut normed2, &mut inv2, &middle, &given.norms[1], EPS);
    let (mut g, mut u, mut act) = (zeros(HIDDEN), zeros(HIDDEN), zeros(HIDDEN));
    linear::forward(&mut g, &normed2, gate, &[], WIDTH);
    linear::forward(&mut u, &normed2, up, &[], WIDTH);
    swiglu::forward(&mut act, &g, &u);
    let mut y = zeros(WIDTH);
    linear::forward(&mut y, &act, down, &[], HIDDEN);
    y.iter_mut().zip(&middle).for_each(|(y, m)| *y += m);

    let (mut dact, mut dg, mut du) = (zeros(HIDDEN), zeros(HIDDEN), zeros(HIDDEN));
    linear::backward(&mut dact, &given.dy, down, HIDDEN);
    swiglu::backward(&mut dg, &mut du, &dact, &g, &u);
    let (mut dnormed2, mut dmiddle) = (zeros(WIDTH), given.dy.clone());
    linear::backward(&mut dnormed2, &dg, gate, WIDTH);
    linear::backward(&mut dnormed2, &du, up, WIDTH);
    rms_norm::backward(&mut dmiddle, &dnormed2, &middle, &given.norms[1], &inv2);
    let mut dout = zeros(WIDTH);
    linear::backward(&mut dout, &dmiddle, wo, WIDTH);
    let (mut dq, mut dk, mut dv) = (zeros(WIDTH), zeros(KV), zeros(KV));
    let grads = attention::Gradients {
        dq: &mut dq,
        dk: &mut dk,
        dv: &mut dv,
    };
    let saved = attention::Saved {
        out: &out,
        lse: &lse,
        q: &q,
        k: &k,
        v: &v,
    };
    attention::backward(grads, &dout, saved, &SHAPE);
    rope::backward(&mut dq, SHAPE.heads, head, 0, &given.table);
    rope::backward(&mut dk, SHAPE.kv_heads, head, 0, &given.table);
    let (mut dnormed, mut dx) = (zeros(WIDTH), dmiddle);
    linear::backward(&mut dnormed, &dq, wq, WIDTH);
    linear::backward(&mut dnormed, &dk, wk, WIDTH);
    linear::backward(&mut dnormed, &dv, wv, WIDTH);
    let (mut da, mut db) = (vec![0.0; RANK * WIDTH], vec![0.0; WIDTH * RANK]);
    let grads = lora::Gradients {
        da: &mut da,
        db: &mut db,
        dx: &mut dnormed,
        h: &mut [0.0; RANK],
    };
    lora::backward(grads, &dq, &normed, &ax, layer);
    rms_norm::backward(&mut dx, &dnormed, &given.x, &given.norms[0], &inv);
    [y, dx, da, db]
}
