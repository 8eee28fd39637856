// mm_q's forward in integers: of weights those that are stored, of x the ones that its floats are rounded to on
// their way into shared memory, each 32 to multiples of their greatest over 127, as graft-kernels does for
// inference. Four products at a time; sums of a run are exact.
//
// y[t, first + r] = sum over i of x[t, i] w[r, i]. Shapes as in product.wgsl; inputs are whole blocks.

const TILE = 64u;
const TOKENS = 16u * LINES;
const DEPTH = 32u;
// Words of weights that share a scale, of which there are RUNS in DEPTH.
const WORDS = RUN / 4u;
// A line of DEPTH integers, and one more word so that neighbouring lines begin in different banks.
const LINE = 9u;

// [TOKENS, DEPTH] and [TILE, DEPTH], four to a word.
var<workgroup> left: array<u32, 144u * LINES>;
var<workgroup> right: array<u32, 576>;
// What an integer of a token is worth; sums of each eight of its integers.
var<workgroup> units: array<f32, 16u * LINES>;
var<workgroup> eights: array<i32, 64u * LINES>;
// [TILE, RUNS]: scales and offsets.
var<workgroup> forms: array<vec2<f32>, 128>;
// Of each eight floats the greatest.
var<workgroup> greatest: array<u32, 256>;

fn x4(at: u32) -> vec4<f32> {
    return vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
}

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
        var low = vec4(0.0);
        var high = vec4(0.0);
        if line < TOKENS && token < p.tokens {
            low = x4(x_row + k0 + 8u * part);
            high = x4(x_row + k0 + 8u * part + 4u);
        }
        var integers = vec2(0u);
        var form = vec2(0.0);
        if row < p.rows {
            let block = w_row + k0 / BLOCK * BLOCK_BYTES;
            let j = k0 % BLOCK + 8u * part;
            integers = signed8(integers8(block, j));
            if part < RUNS {
                form = scale_offset(block, k0 % BLOCK + RUN * part);
            }
        }
        greatest[t] = greatest_of(low, high);
        workgroupBarrier();
        right[line * LINE + 2u * part] = integers.x;
        right[line * LINE + 2u * part + 1u] = integers.y;
        if part < RUNS {
            forms[line * RUNS + part] = form;
        }
        if line < TOKENS {
            let first = 4u * line;
            let two = max(greatest[first], greatest[first + 1u]);
            let unit = unit_of(max(two, max(greatest[first + 2u], greatest[first + 3u])));
            let a = rounded(low, unit);
            let b = rounded(high, unit);
            left[line * LINE + 2u * part] = pack4xI8(a);
            left[line * LINE + 2u * part + 1u] = pack4xI8(b);
            if OFFSETS {
                let both = a + b;
                eights[t] = both.x + both.y + both.z + both.w;
            }
            if part == 0u {
                units[line] = unit;
            }
        }
        workgroupBarrier();
        for (var run = 0u; run < RUNS; run++) {
            var exact: array<vec4<i32>, LINES>;
            for (var k = run * WORDS; k < (run + 1u) * WORDS; k++) {
                let r0 = right[across * LINE + k];
                let r1 = right[(across + 16u) * LINE + k];
                let r2 = right[(across + 32u) * LINE + k];
                let r3 = right[(across + 48u) * LINE + k];
                for (var a = 0u; a < LINES; a++) {
                    let l = left[(up + 16u * a) * LINE + k];
                    exact[a] += vec4(dot4I8Packed(l, r0), dot4I8Packed(l, r1), dot4I8Packed(l, r2), dot4I8Packed(l, r3));
                }
            }
            let f0 = forms[across * RUNS + run];
            let f1 = forms[(across + 16u) * RUNS + run];
            let f2 = forms[(across + 32u) * RUNS + run];
            let f3 = forms[(across + 48u) * RUNS + run];
            for (var a = 0u; a < LINES; a++) {
                let at = up + 16u * a;
                var product = vec4<f32>(exact[a]) * vec4(f0.x, f1.x, f2.x, f3.x);
                if OFFSETS {
                    var all = eights[4u * at + 2u * run] + eights[4u * at + 2u * run + 1u];
                    if RUNS == 1u {
                        all += eights[4u * at + 2u] + eights[4u * at + 3u];
                    }
                    product += f32(all) * vec4(f0.y, f1.y, f2.y, f3.y);
                }
                sums[a] += units[at] * product;
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
