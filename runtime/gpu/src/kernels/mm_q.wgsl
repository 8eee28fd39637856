// Products with a stored matrix, 16 LINES x 64 outputs to a group, weights decoded on their way into shared memory.
//
// forward:  y[t, first + r] = sum over i of x[t, i] w[r, i]
// backward: x[t, i] += sum over r of y[t, first + r] w[r, i]; here y and x are gradients
//
// A thread makes LINES x 8 outputs: what bounds these products after arithmetic is reading shared memory, of which an
// output takes the less the more of both sides a thread has. Shapes as in product.wgsl.

const TILE = 64u;
const TOKENS = 16u * LINES;
const DEPTH = 16u;
// A line of DEPTH floats, and one more vector so that neighbouring lines begin in different banks.
const LINE = 5u;
// Fours of the tokens' terms that a thread brings.
const FOURS = (LINES + 1u) / 2u;

// [TOKENS, DEPTH]: terms of the tokens.
var<workgroup> left: array<vec4<f32>, 80u * LINES>;
// Forward [TILE, DEPTH], terms of 64 rows; backward [DEPTH, TILE], rows of 64 inputs.
var<workgroup> right: array<vec4<f32>, 320>;

// Thread t makes the outputs of tokens t / 8 + 16 a and rows t % 8 + 8 b.
@compute @workgroup_size(128)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = group.y * TOKENS;
    let row0 = group.x * TILE;
    let row = row0 + t / 2u;
    let w_row = p.w_at * 4u + row * p.row_bytes;
    let up = t / 8u;
    let across = t % 8u;
    var sums: Sums;
    for (var k0 = 0u; k0 < p.inputs; k0 += DEPTH) {
        var l: array<vec4<f32>, FOURS>;
        for (var n = 0u; n < FOURS; n++) {
            let token = token0 + t / 4u + 32u * n;
            let i = k0 + 4u * (t % 4u);
            if token < p.tokens && i < p.inputs {
                l[n] = x4(p.x_at + token * p.inputs + i, p.inputs - i);
            }
        }
        var r: array<vec4<f32>, 2>;
        let first = k0 + 8u * (t % 2u);
        if row < p.rows && first < p.inputs {
            r = decode8(w_row, first);
        }
        workgroupBarrier();
        for (var n = 0u; n < FOURS; n++) {
            if LINES > 1u || t < 64u {
                left[(t / 4u + 32u * n) * LINE + t % 4u] = l[n];
            }
        }
        right[t / 2u * LINE + 2u * (t % 2u)] = r[0];
        right[t / 2u * LINE + 2u * (t % 2u) + 1u] = r[1];
        workgroupBarrier();
        for (var k = 0u; k < DEPTH / 4u; k++) {
            var rows: array<vec4<f32>, 8>;
            for (var b = 0u; b < 8u; b++) {
                rows[b] = right[(across + 8u * b) * LINE + k];
            }
            for (var a = 0u; a < LINES; a++) {
                let l = left[(up + 16u * a) * LINE + k];
                for (var j = 0u; j < 4u; j++) {
                    for (var half = 0u; half < 2u; half++) {
                        let b = 4u * half;
                        let r = vec4(rows[b][j], rows[b + 1u][j], rows[b + 2u][j], rows[b + 3u][j]);
                        sums[a][half] = fma(vec4(l[j]), r, sums[a][half]);
                    }
                }
            }
        }
    }
    write_sums(&sums, token0 + up, row0 + across, 8u);
}

// Thread t makes the outputs of tokens t / 8 + 16 a and four inputs each from t % 8 * 4 and 32 behind it on.
@compute @workgroup_size(128)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = group.y * TOKENS;
    let input0 = group.x * TILE;
    let up = t / 8u;
    let across = t % 8u;
    var sums: Sums;
    for (var k0 = 0u; k0 < p.rows; k0 += DEPTH) {
        var l: array<vec4<f32>, FOURS>;
        for (var n = 0u; n < FOURS; n++) {
            let token = token0 + t / 4u + 32u * n;
            let first = k0 + 4u * (t % 4u);
            if token < p.tokens && first < p.rows {
                l[n] = y4(p.y_at + token * p.y_width + p.y_first + first, p.rows - first);
            }
        }
        let row = k0 + up;
        let i = input0 + 8u * across;
        var r: array<vec4<f32>, 2>;
        if row < p.rows && i < p.inputs {
            r = decode8(p.w_at * 4u + row * p.row_bytes, i);
        }
        workgroupBarrier();
        for (var n = 0u; n < FOURS; n++) {
            if LINES > 1u || t < 64u {
                left[(t / 4u + 32u * n) * LINE + t % 4u] = l[n];
            }
        }
        right[2u * t] = r[0];
        right[2u * t + 1u] = r[1];
        workgroupBarrier();
        for (var k = 0u; k < DEPTH / 4u; k++) {
            var fours: array<array<vec4<f32>, 2>, 4>;
            for (var j = 0u; j < 4u; j++) {
                fours[j] = array(right[64u * k + 16u * j + across], right[64u * k + 16u * j + 8u + across]);
            }
            for (var a = 0u; a < LINES; a++) {
                let l = left[(up + 16u * a) * LINE + k];
                for (var j = 0u; j < 4u; j++) {
                    for (var half = 0u; half < 2u; half++) {
                        sums[a][half] = fma(vec4(l[j]), fours[j][half], sums[a][half]);
                    }
                }
            }
        }
    }
    for (var a = 0u; a < LINES; a++) {
        let out_token = token0 + up + 16u * a;
        for (var b = 0u; b < 8u; b++) {
            let i = input0 + 4u * across + 32u * (b / 4u) + b % 4u;
            if out_token < p.tokens && i < p.inputs {
                x[p.x_at + out_token * p.inputs + i] += sums[a][b / 4u][b % 4u];
            }
        }
    }
}
