// Products with a stored matrix, 64 x 64 outputs to a group, weights decoded on their way into shared memory.
//
// forward:  y[t, first + r] = sum over i of x[t, i] w[r, i]
// backward: x[t, i] += sum over r of y[t, first + r] w[r, i]; here y and x are gradients
//
// x is [tokens, inputs], y is [tokens, y_width]; w has `rows` rows of row_bytes bytes, a piece of a matrix
// whose first row makes column `first` of y.

struct Params {
    w_at: u32,
    y_at: u32,
    x_at: u32,
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

const TILE = 64u;
const DEPTH = 16u;

// [DEPTH, TILE]: 64 tokens, and 64 rows or inputs.
var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<f32, 1024>;

// Adds the product of what is in shared memory to the 4 x 4 outputs of thread `t`.
fn multiply(t: u32, sums: ptr<function, array<vec4<f32>, 4>>) {
    let a = t / 16u * 4u;
    let b = t % 16u * 4u;
    for (var k = 0u; k < DEPTH; k++) {
        let at = k * TILE;
        let l = vec4(left[at + a], left[at + a + 1u], left[at + a + 2u], left[at + a + 3u]);
        let r = vec4(right[at + b], right[at + b + 1u], right[at + b + 2u], right[at + b + 3u]);
        (*sums)[0] = fma(vec4(l.x), r, (*sums)[0]);
        (*sums)[1] = fma(vec4(l.y), r, (*sums)[1]);
        (*sums)[2] = fma(vec4(l.z), r, (*sums)[2]);
        (*sums)[3] = fma(vec4(l.w), r, (*sums)[3]);
    }
}

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = group.y * TILE;
    let row0 = group.x * TILE;
    let line = t / 4u;
    let part = t % 4u * 4u;
    let token = token0 + line;
    let row = row0 + line;
    let w_row = p.w_at * 4u + row * p.row_bytes;
    let x_row = p.x_at + token * p.inputs;
    var sums: array<vec4<f32>, 4>;
    for (var k0 = 0u; k0 < p.inputs; k0 += DEPTH) {
        let i = k0 + part;
        var l = vec4(0.0);
        for (var j = 0u; j < 4u; j++) {
            if token < p.tokens && i + j < p.inputs {
                l[j] = x[x_row + i + j];
            }
        }
        var r = vec4(0.0);
        if row < p.rows && i < p.inputs {
            r = decode4(w_row, i);
        }
        workgroupBarrier();
        for (var j = 0u; j < 4u; j++) {
            left[(part + j) * TILE + line] = l[j];
            right[(part + j) * TILE + line] = r[j];
        }
        workgroupBarrier();
        multiply(t, &sums);
    }
    for (var a = 0u; a < 4u; a++) {
        let out_token = token0 + t / 16u * 4u + a;
        for (var b = 0u; b < 4u; b++) {
            let out_row = row0 + t % 16u * 4u + b;
            if out_token < p.tokens && out_row < p.rows {
                y[p.y_at + out_token * p.y_width + p.y_first + out_row] = sums[a][b];
            }
        }
    }
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = group.y * TILE;
    let input0 = group.x * TILE;
    let line = t / 4u;
    let part = t % 4u * 4u;
    let token = token0 + line;
    let y_row = p.y_at + token * p.y_width + p.y_first;
    let deep = t / 16u;
    let wide = t % 16u * 4u;
    let i = input0 + wide;
    var sums: array<vec4<f32>, 4>;
    for (var k0 = 0u; k0 < p.rows; k0 += DEPTH) {
        var l = vec4(0.0);
        for (var j = 0u; j < 4u; j++) {
            if token < p.tokens && k0 + part + j < p.rows {
                l[j] = y[y_row + k0 + part + j];
            }
        }
        var r = vec4(0.0);
        let row = k0 + deep;
        if row < p.rows && i < p.inputs {
            r = decode4(p.w_at * 4u + row * p.row_bytes, i);
        }
        workgroupBarrier();
        for (var j = 0u; j < 4u; j++) {
            left[(part + j) * TILE + line] = l[j];
            right[deep * TILE + wide + j] = r[j];
        }
        workgroupBarrier();
        multiply(t, &sums);
    }
    for (var a = 0u; a < 4u; a++) {
        let out_token = token0 + t / 16u * 4u + a;
        for (var b = 0u; b < 4u; b++) {
            let out_input = input0 + t % 16u * 4u + b;
            if out_token < p.tokens && out_input < p.inputs {
                x[p.x_at + out_token * p.inputs + out_input] += sums[a][b];
            }
        }
    }
}
