// Products whose terms are f16: what mm_q.wgsl computes, 64 x 64 outputs to a group, sums in f32.
//
// Inputs are taken in two f16, the second what the first leaves over: rounded to one, a layer's answers are off by
// more than rounding of the weights alone explains. They are taken times a power of two, a token's own
// (row_scale.wgsl), which brings the greatest of its row just below what f16 holds: gradients are often smaller than
// f16 shows, and activations may be greater. Weights are taken times 64 for all tokens, and no greater than 1023,
// where no model has any.
//
// The threads of a subgroup compute products of 16 x 16 x 16 together. How is in another file, units.wgsl or
// threads.wgsl, which has
//
//   subgroup_of(t)                the number of a thread's subgroup
//   add_products(up, t, l)        adds to the subgroup's sums of line `up`, which are four products side by side; l is
//                                 where in `left` and `rest` their terms begin
//   add_products_turned(up, t, l) the same where lines of `right` are along the sums
//   put(i, t, at)                 writes the i-th sums to `tile`, from `at` on

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
// Threads of a subgroup.
const LANES = 128u / SUBGROUPS;
// Lines of shared memory in fours, longer than what is in them so that neighbours begin in different banks.
const LINE = 6u;
const WIDE_LINE = 18u;
// Sixteens of tokens that a subgroup has: of those, each with all four sixteens of the other side.
const LINES = 4u / SUBGROUPS;
const WEIGHT_SCALE = 64.0;

// [TILE, DEPTH]: terms of the tokens, and what is left over of them.
var<workgroup> left: array<vec4<f16>, 384>;
var<workgroup> rest: array<vec4<f16>, 384>;
// Forward [TILE, DEPTH], terms of 64 rows; backward [DEPTH, TILE], rows of 64 inputs.
var<workgroup> right: array<vec4<f16>, 384>;
// [SUBGROUPS, 16, 16]: sums on their way out.
var<workgroup> tile: array<f32, 256u * SUBGROUPS>;

fn weights4(row: u32, i: u32) -> vec4<f16> {
    return vec4<f16>(clamp(decode4(row, i) * WEIGHT_SCALE, vec4(-65504.0), vec4(65504.0)));
}

fn put_terms(at: u32, terms: vec4<f32>) {
    // By bits: some compilers take a number's way through f16 and back for no change.
    let first = bitcast<vec4<f32>>((bitcast<vec4<u32>>(terms) + 0x1000u) & vec4(0xffffe000u));
    left[at] = vec4<f16>(first);
    rest[at] = vec4<f16>(terms - first);
}

// What sums of a token are worth.
fn unscaled(token: u32) -> f32 {
    return 1.0 / scales[p.scales_at + token] / WEIGHT_SCALE;
}

@compute @workgroup_size(128)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let subgroup = subgroup_of(t);
    let token0 = group.y * TILE;
    let row0 = group.x * TILE;
    let line = t / 2u;
    let part = t % 2u;
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
            let i = k0 + 8u * part + 4u * j;
            if token < p.tokens && i < p.inputs {
                l[j] = x4(x_row + i, p.inputs - i) * scale;
            }
            if row < p.rows && i < p.inputs {
                r[j] = weights4(w_row, i);
            }
        }
        workgroupBarrier();
        for (var j = 0u; j < 2u; j++) {
            put_terms(line * LINE + 2u * part + j, l[j]);
            right[line * LINE + 2u * part + j] = r[j];
        }
        workgroupBarrier();
        for (var up = 0u; up < LINES; up++) {
            add_products(up, t, 16u * (subgroup * LINES + up) * LINE);
        }
    }
    for (var i = 0u; i < 4u * LINES; i++) {
        put(i, t, 256u * subgroup);
        workgroupBarrier();
        for (var at = t % LANES; at < 256u; at += LANES) {
            let out_token = token0 + 16u * (subgroup * LINES + i / 4u) + at / 16u;
            let out_row = row0 + 16u * (i % 4u) + at % 16u;
            if out_token < p.tokens && out_row < p.rows {
                let sum = tile[256u * subgroup + at] * unscaled(out_token);
                y[p.y_at + out_token * p.y_width + p.y_first + out_row] = sum;
            }
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(128)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let subgroup = subgroup_of(t);
    let token0 = group.y * TILE;
    let input0 = group.x * TILE;
    let line = t / 2u;
    let part = t % 2u;
    let token = token0 + line;
    let y_row = p.y_at + token * p.y_width + p.y_first;
    let across = input0 + 8u * (t % 8u);
    var scale = 0.0;
    if token < p.tokens {
        scale = scales[p.scales_at + token];
    }
    for (var k0 = 0u; k0 < p.rows; k0 += DEPTH) {
        let row = k0 + t / 8u;
        let w_row = p.w_at * 4u + row * p.row_bytes;
        var l: array<vec4<f32>, 2>;
        var r: array<vec4<f16>, 2>;
        for (var j = 0u; j < 2u; j++) {
            let first = k0 + 8u * part + 4u * j;
            if token < p.tokens && first < p.rows {
                l[j] = y4(y_row + first, p.rows - first) * scale;
            }
            let i = across + 4u * j;
            if row < p.rows && i < p.inputs {
                r[j] = weights4(w_row, i);
            }
        }
        workgroupBarrier();
        for (var j = 0u; j < 2u; j++) {
            put_terms(line * LINE + 2u * part + j, l[j]);
            right[t / 8u * WIDE_LINE + 2u * (t % 8u) + j] = r[j];
        }
        workgroupBarrier();
        for (var up = 0u; up < LINES; up++) {
            add_products_turned(up, t, 16u * (subgroup * LINES + up) * LINE);
        }
    }
    for (var i = 0u; i < 4u * LINES; i++) {
        put(i, t, 256u * subgroup);
        workgroupBarrier();
        for (var at = t % LANES; at < 256u; at += LANES) {
            let out_token = token0 + 16u * (subgroup * LINES + i / 4u) + at / 16u;
            let out_input = input0 + 16u * (i % 4u) + at % 16u;
            if out_token < p.tokens && out_input < p.inputs {
                let sum = tile[256u * subgroup + at] * unscaled(out_token);
                x[p.x_at + out_token * p.inputs + out_input] += sum;
            }
        }
        workgroupBarrier();
    }
}
