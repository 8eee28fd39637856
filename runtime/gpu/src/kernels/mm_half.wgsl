// Products whose terms are f16: what mm_q.wgsl computes, 64 x 64 outputs to a group, sums in f32.
//
// Inputs are taken in two f16, the second what the first leaves over: rounded to one, a layer's answers are off by
// more than rounding of the weights alone explains. They are taken times a power of two, a token's own
// (row_scale.wgsl), which brings the greatest of its row just below what f16 holds: gradients are often smaller than
// f16 shows, and activations may be greater. Weights are taken times 64 for all tokens, and no greater than 1023,
// where no model has any.
//
// Who computes which products is in other files, units.wgsl and threads.wgsl, which have
//
//   Thread                what a thread is told: the number of its group and its own, at least
//   add_products(thread)  adds what `left`, `rest` and `right` hold to the sums
//   put(line, thread)     writes the sums of 16 tokens, number `line` of four, to `tile`

struct Params {
    w_at: u32,
    y_at: u32,
    x_at: u32,
    scales_at: u32,
    tokens: u32,
    rows: u32,
    inputs: u32,
    row_bytes: u32,
    y_first: u32,
    y_width: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

const TILE = 64u;
const DEPTH = 16u;
// Numbers from line to line of shared memory, more than are in one so that neighbours begin in different banks.
const LINE = 24u;
const WEIGHT_SCALE = 64.0;

// [TILE, DEPTH], not in fours because Metal's matrices are read from single numbers: terms of the tokens, what is left
// over of them, and weights of the rows or the inputs.
var<workgroup> left: array<f16, 1536>;
var<workgroup> rest: array<f16, 1536>;
var<workgroup> right: array<f16, 1536>;
// [16, TILE]: sums on their way out.
var<workgroup> tile: array<f32, 1024>;

// Eight weights of a row, `i` on; the row begins at byte `row`.
fn halves8(row: u32, i: u32) -> array<vec4<f16>, 2> {
    var weights: array<vec4<f16>, 2>;
    if i < p.inputs {
        let decoded = decode8(row, i);
        for (var j = 0u; j < 2u; j++) {
            let scaled = decoded[j] * WEIGHT_SCALE;
            weights[j] = vec4<f16>(clamp(scaled, vec4(-65504.0), vec4(65504.0)));
        }
    }
    return weights;
}

fn put_terms(at: u32, terms: vec4<f32>) {
    // By bits: some compilers take a number's way through f16 and back for no change.
    let first = bitcast<vec4<f32>>((bitcast<vec4<u32>>(terms) + 0x1000u) & vec4(0xffffe000u));
    let l = vec4<f16>(first);
    let r = vec4<f16>(terms - first);
    left[at] = l.x;
    left[at + 1u] = l.y;
    left[at + 2u] = l.z;
    left[at + 3u] = l.w;
    rest[at] = r.x;
    rest[at + 1u] = r.y;
    rest[at + 2u] = r.z;
    rest[at + 3u] = r.w;
}

// What sums of a token are worth.
fn unscaled(token: u32) -> f32 {
    return 1.0 / scales[p.scales_at + token] / WEIGHT_SCALE;
}

@compute @workgroup_size(128)
fn forward(thread: Thread) {
    let t = thread.t;
    let token0 = thread.group.y * TILE;
    let row0 = thread.group.x * TILE;
    let line = t / 2u;
    let part = 8u * (t % 2u);
    let token = token0 + line;
    let row = row0 + line;
    let x_row = p.x_at + token * p.inputs;
    let w_row = p.w_at * 4u + row * p.row_bytes;
    var scale = 0.0;
    if token < p.tokens {
        scale = scales[p.scales_at + token];
    }
    for (var k0 = 0u; k0 < p.inputs; k0 += DEPTH) {
        var l: array<vec4<f32>, 2>;
        var r: array<vec4<f16>, 2>;
        for (var j = 0u; j < 2u; j++) {
            let i = k0 + part + 4u * j;
            if token < p.tokens && i < p.inputs {
                l[j] = x4(x_row + i, p.inputs - i);
            }
        }
        if row < p.rows {
            r = halves8(w_row, k0 + part);
        }
        workgroupBarrier();
        for (var j = 0u; j < 2u; j++) {
            let at = line * LINE + part + 4u * j;
            put_terms(at, l[j] * scale);
            right[at] = r[j].x;
            right[at + 1u] = r[j].y;
            right[at + 2u] = r[j].z;
            right[at + 3u] = r[j].w;
        }
        workgroupBarrier();
        add_products(thread);
    }
    for (var out = 0u; out < 4u; out++) {
        put(out, thread);
        workgroupBarrier();
        let out_row = row0 + t % TILE;
        for (var i = t / TILE; i < 16u; i += 2u) {
            let out_token = token0 + 16u * out + i;
            if out_token < p.tokens && out_row < p.rows {
                let sum = tile[i * TILE + t % TILE] * unscaled(out_token);
                y[p.y_at + out_token * p.y_width + p.y_first + out_row] = sum;
            }
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(128)
fn backward(thread: Thread) {
    let t = thread.t;
    let token0 = thread.group.y * TILE;
    let input0 = thread.group.x * TILE;
    let line = t / 2u;
    let part = 8u * (t % 2u);
    let token = token0 + line;
    let y_row = p.y_at + token * p.y_width + p.y_first;
    // Eight inputs of a row.
    let across = 8u * (t / 16u);
    let along = t % 16u;
    var scale = 0.0;
    if token < p.tokens {
        scale = scales[p.scales_at + token];
    }
    for (var k0 = 0u; k0 < p.rows; k0 += DEPTH) {
        var l: array<vec4<f32>, 2>;
        var r: array<vec4<f16>, 2>;
        for (var j = 0u; j < 2u; j++) {
            let first = k0 + part + 4u * j;
            if token < p.tokens && first < p.rows {
                l[j] = y4(y_row + first, p.rows - first);
            }
        }
        if k0 + along < p.rows {
            r = halves8(p.w_at * 4u + (k0 + along) * p.row_bytes, input0 + across);
        }
        workgroupBarrier();
        for (var j = 0u; j < 2u; j++) {
            put_terms(line * LINE + part + 4u * j, l[j] * scale);
        }
        for (var i = 0u; i < 8u; i++) {
            right[(across + i) * LINE + along] = r[i / 4u][i % 4u];
        }
        workgroupBarrier();
        add_products(thread);
    }
    for (var out = 0u; out < 4u; out++) {
        put(out, thread);
        workgroupBarrier();
        let out_input = input0 + t % TILE;
        for (var i = t / TILE; i < 16u; i += 2u) {
            let out_token = token0 + 16u * out + i;
            if out_token < p.tokens && out_input < p.inputs {
                let sum = tile[i * TILE + t % TILE] * unscaled(out_token);
                x[p.x_at + out_token * p.inputs + out_input] += sum;
            }
        }
        workgroupBarrier();
    }
}
