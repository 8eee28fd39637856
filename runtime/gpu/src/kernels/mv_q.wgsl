// The product of a stored matrix with a few tokens: y[t, first + r] = sum over i of x[t, i] w[r, i].
//
// Each weight is read once, for up to TOKENS tokens. Four rows to a group, 64 threads to a row; the
// threads' sums are added in a fixed order. Shapes as in mm_q.wgsl.

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

const ROWS = 4u;
const LANES = 64u;

// [TOKENS, ROWS, LANES]
var<workgroup> partial: array<f32, TOKENS * 256u>;

fn x4(token: u32, i: u32) -> vec4<f32> {
    let at = p.x_at + token * p.inputs + i;
    if i + 3u < p.inputs {
        return vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
    }
    var few = vec4(0.0);
    for (var j = 0u; i + j < p.inputs; j++) {
        few[j] = x[at + j];
    }
    return few;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = (group.x + group.y * groups.x) * ROWS + t / LANES;
    let lane = t % LANES;
    let w_row = p.w_at * 4u + row * p.row_bytes;
    var sums: array<f32, TOKENS>;
    if row < p.rows {
        for (var i = lane * 4u; i < p.inputs; i += LANES * 4u) {
            let weights = decode4(w_row, i);
            for (var token = 0u; token < TOKENS; token++) {
                // A token beyond the last repeats it, and is not kept.
                sums[token] += dot(weights, x4(min(token, p.tokens - 1u), i));
            }
        }
    }
    for (var token = 0u; token < TOKENS; token++) {
        partial[token * 256u + t] = sums[token];
    }
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            for (var token = 0u; token < TOKENS; token++) {
                let at = token * 256u + t;
                partial[at] += partial[at + half];
            }
        }
    }
    workgroupBarrier();
    if lane == 0u && row < p.rows {
        for (var token = 0u; token < p.tokens; token++) {
            y[p.y_at + token * p.y_width + p.y_first + row] = partial[token * 256u + t];
        }
    }
}
