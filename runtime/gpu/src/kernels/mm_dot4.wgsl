// mm_q's forward in integers: of weights those that are stored, of x the ones that its floats are rounded to on
// their way into shared memory, each 32 to multiples of their greatest over 127, as graft-kernels does for
// inference. Four products at a time; sums of a run are exact.
//
// y[t, first + r] = sum over i of x[t, i] w[r, i]. Shapes as in product.wgsl; inputs are whole blocks.
//
// A thread makes LINES x 8 outputs. What bounds these products after arithmetic is bringing tokens and weights, of which
// an output takes the less the larger the group's tile is: with eight lines it has twice as many rows.

const GROUP = max(32u * LINES, 128u);
const TILE = GROUP / 2u;
const TOKENS = 16u * LINES;
const DEPTH = 32u;
// Threads beside each other; each has rows so far apart.
const ACROSS = TILE / 8u;
// Vectors of weights that share a scale, of which there are RUNS in DEPTH.
const VECTORS = RUN / 16u;
// Eights of the tokens' floats that a thread brings.
const EIGHTS = max(64u * LINES / GROUP, 1u);

// [TOKENS, DEPTH] and [TILE, DEPTH], sixteen integers to a vector: see place. What different threads write is no part of
// one vector, of which a device may write the rest as well.
var<workgroup> left: array<array<vec2<u32>, 2>, 2u * TOKENS>;
var<workgroup> right: array<vec4<u32>, 2u * TILE>;
// What an integer of a token is worth; sums of each eight of its integers.
var<workgroup> units: array<f32, TOKENS>;
var<workgroup> eights: array<array<i32, 4>, TOKENS>;
// [TILE, RUNS]: scales and offsets.
var<workgroup> forms: array<vec2<f32>, TILE * RUNS>;
// Of each eight floats the greatest.
var<workgroup> greatest: array<array<u32, 4>, TOKENS>;

// Where a line's first or second vector is: those of eight neighbouring lines are in different banks. Eight lines on, it
// is 16 on.
fn place(line: u32, vector: u32) -> u32 {
    return 2u * line + (vector ^ (line / 4u % 2u));
}

fn x4(at: u32) -> vec4<f32> {
    return vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
}

// Adds a run's products of a thread's tokens with half of its rows.
fn add_run(sums: ptr<function, Sums>, half: u32, run: u32, up: u32, across: u32) {
    let row = across + 4u * ACROSS * half;
    var rows: array<array<vec4<u32>, 4>, VECTORS>;
    for (var v = 0u; v < VECTORS; v++) {
        let at = place(row, run * VECTORS + v);
        for (var b = 0u; b < 4u; b++) {
            rows[v][b] = right[at + 2u * ACROSS * b];
        }
    }
    let f0 = forms[row * RUNS + run];
    let f1 = forms[(row + ACROSS) * RUNS + run];
    let f2 = forms[(row + 2u * ACROSS) * RUNS + run];
    let f3 = forms[(row + 3u * ACROSS) * RUNS + run];
    for (var a = 0u; a < LINES; a++) {
        let token = up + 16u * a;
        var exact = vec4(WHOLE_BITS);
        for (var v = 0u; v < VECTORS; v++) {
            let l = left[place(up, run * VECTORS + v) + 32u * a];
            for (var j = 0u; j < 4u; j++) {
                let word = l[j / 2u][j % 2u];
                exact += vec4(
                    dot4I8Packed(word, rows[v][0][j]),
                    dot4I8Packed(word, rows[v][1][j]),
                    dot4I8Packed(word, rows[v][2][j]),
                    dot4I8Packed(word, rows[v][3][j]),
                );
            }
        }
        var product = (bitcast<vec4<f32>>(exact) - WHOLE) * vec4(f0.x, f1.x, f2.x, f3.x);
        if OFFSETS {
            let first = select(2u * run, 0u, RUNS == 1u);
            var all = eights[token][first] + eights[token][first + 1u];
            if RUNS == 1u {
                all += eights[token][2] + eights[token][3];
            }
            product += f32(all) * vec4(f0.y, f1.y, f2.y, f3.y);
        }
        (*sums)[a][half] += units[token] * product;
    }
}

// Thread t makes the outputs of tokens t / ACROSS + 16 a and rows t % ACROSS + ACROSS b.
@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token0 = group.y * TOKENS;
    let row0 = group.x * TILE;
    let row = row0 + t / 2u;
    let w_row = p.w_at * 4u + row * p.row_bytes;
    let part = t % 4u;
    let up = t / ACROSS;
    let across = t % ACROSS;
    var sums: Sums;
    for (var k0 = 0u; k0 < p.inputs; k0 += DEPTH) {
        var low: array<vec4<f32>, EIGHTS>;
        var high: array<vec4<f32>, EIGHTS>;
        for (var n = 0u; n < EIGHTS; n++) {
            let line = t / 4u + GROUP / 4u * n;
            if (LINES > 1u || t < 64u) && token0 + line < p.tokens {
                let at = p.x_at + (token0 + line) * p.inputs + k0 + 8u * part;
                low[n] = x4(at);
                high[n] = x4(at + 4u);
            }
        }
        var integers = vec4(0u);
        var form = vec2(0.0);
        if row < p.rows {
            let block = w_row + k0 / BLOCK * BLOCK_BYTES;
            let j = k0 % BLOCK + 16u * (t % 2u);
            integers = vec4(signed8(integers8(block, j)), signed8(integers8(block, j + 8u)));
            if t % 2u < RUNS {
                form = scale_offset(block, j);
            }
        }
        for (var n = 0u; n < EIGHTS; n++) {
            let line = t / 4u + GROUP / 4u * n;
            if LINES > 1u || t < 64u {
                greatest[line][part] = greatest_of(low[n], high[n]);
            }
        }
        workgroupBarrier();
        right[place(t / 2u, t % 2u)] = integers;
        if t % 2u < RUNS {
            forms[t / 2u * RUNS + t % 2u] = form;
        }
        for (var n = 0u; n < EIGHTS; n++) {
            let line = t / 4u + GROUP / 4u * n;
            if LINES > 1u || t < 64u {
                let four = greatest[line];
                let unit = unit_of(max(max(four[0], four[1]), max(four[2], four[3])));
                let inverse = inverse_of(unit);
                let a = rounded(low[n], inverse);
                let b = rounded(high[n], inverse);
                left[place(line, part / 2u)][part % 2u] = vec2(a, b);
                if OFFSETS {
                    eights[line][part] = dot4I8Packed(a, 0x01010101u) + dot4I8Packed(b, 0x01010101u);
                }
                if part == 0u {
                    units[line] = unit;
                }
            }
        }
        workgroupBarrier();
        for (var run = 0u; run < RUNS; run++) {
            add_run(&sums, 0u, run, up, across);
            // Or compilers read for both halves at once and keep it in registers, of which there are too few then.
            workgroupBarrier();
            add_run(&sums, 1u, run, up, across);
        }
    }
    write_sums(&sums, token0 + up, row0 + across, ACROSS);
}
