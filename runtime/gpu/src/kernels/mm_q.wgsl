// Products with a stored matrix, 16 LINES x 64 outputs to a group, weights decoded on their way into shared memory.
//
// forward:  y[t, first + r] = sum over i of x[t, i] w[r, i]
// backward: x[t, i] += sum over r of y[t, first + r] w[r, i]; here y and x are gradients
//
// Shapes as in product.wgsl.

const TILE = 64u;
const TOKENS = 16u * LINES;
const DEPTH = 16u;
// A line of DEPTH floats, and one more vector so that neighbouring lines begin in different banks.
const LINE = 5u;

// [TOKENS, DEPTH]: terms of the tokens.
var<workgroup> left: array<vec4<f32>, 80u * LINES>;
// Forward [TILE, DEPTH], terms of 64 rows; backward [DEPTH, TILE], rows of 64 inputs.
var<workgroup> right: array<vec4<f32>, 320>;

// Thread t makes the outputs of tokens t / 16 + 16 a and rows t % 16 + 16 b.
@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = group.y * TOKENS;
    let row0 = group.x * TILE;
    let line = t / 4u;
    let part = t % 4u;
    let token = token0 + line;
    let row = row0 + line;
    let w_row = p.w_at * 4u + row * p.row_bytes;
    let x_row = p.x_at + token * p.inputs;
    let up = t / 16u;
    let across = t % 16u;
    var sums: array<vec4<f32>, LINES>;
    for (var k0 = 0u; k0 < p.inputs; k0 += DEPTH) {
        let i = k0 + 4u * part;
        var l = vec4(0.0);
        if line < TOKENS && token < p.tokens && i < p.inputs {
            l = x4(x_row + i, p.inputs - i);
        }
        var r = vec4(0.0);
        if row < p.rows && i < p.inputs {
            r = decode4(w_row, i);
        }
        workgroupBarrier();
        if line < TOKENS {
            left[line * LINE + part] = l;
        }
        right[line * LINE + part] = r;
        workgroupBarrier();
        for (var k = 0u; k < DEPTH / 4u; k++) {
            let r0 = right[across * LINE + k];
            let r1 = right[(across + 16u) * LINE + k];
            let r2 = right[(across + 32u) * LINE + k];
            let r3 = right[(across + 48u) * LINE + k];
            for (var a = 0u; a < LINES; a++) {
                let l = left[(up + 16u * a) * LINE + k];
                sums[a] += vec4(dot(l, r0), dot(l, r1), dot(l, r2), dot(l, r3));
            }
        }
    }
    for (var a = 0u; a < LINES; a++) {
        let out_token = token0 + up + 16u * a;
        for (var b = 0u; b < 4u; b++) {
            let out_row = row0 + across + 16u * b;
            if out_token < p.tokens && out_row < p.rows {
                y[p.y_at + out_token * p.y_width + p.y_first + out_row] = sums[a][b];
            }
        }
    }
}

// Thread t makes the outputs of tokens t / 16 + 16 a and the four inputs from t % 16 * 4 on.
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = group.y * TOKENS;
    let input0 = group.x * TILE;
    let line = t / 4u;
    let part = t % 4u;
    let token = token0 + line;
    let y_row = p.y_at + token * p.y_width + p.y_first;
    let up = t / 16u;
    let across = t % 16u;
    let i = input0 + 4u * across;
    var sums: array<vec4<f32>, LINES>;
    for (var k0 = 0u; k0 < p.rows; k0 += DEPTH) {
        let first = k0 + 4u * part;
        var l = vec4(0.0);
        if line < TOKENS && token < p.tokens && first < p.rows {
            l = y4(y_row + first, p.rows - first);
        }
        let row = k0 + up;
        var r = vec4(0.0);
        if row < p.rows && i < p.inputs {
            r = decode4(p.w_at * 4u + row * p.row_bytes, i);
        }
        workgroupBarrier();
        if line < TOKENS {
            left[line * LINE + part] = l;
        }
        right[t] = r;
        workgroupBarrier();
        for (var k = 0u; k < DEPTH / 4u; k++) {
            let r0 = right[64u * k + across];
            let r1 = right[64u * k + 16u + across];
            let r2 = right[64u * k + 32u + across];
            let r3 = right[64u * k + 48u + across];
            for (var a = 0u; a < LINES; a++) {
                let l = left[(up + 16u * a) * LINE + k];
                sums[a] = fma(vec4(l.w), r3, fma(vec4(l.z), r2, fma(vec4(l.y), r1, fma(vec4(l.x), r0, sums[a]))));
            }
        }
    }
    for (var a = 0u; a < LINES; a++) {
        let out_token = token0 + up + 16u * a;
        for (var b = 0u; b < 4u; b++) {
            if out_token < p.tokens && i + b < p.inputs {
                x[p.x_at + out_token * p.inputs + i + b] += sums[a][b];
            }
        }
    }
}
