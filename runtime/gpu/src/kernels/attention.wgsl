// Attention with grouped key/value heads, 16 tokens against 16 positions at a time, so that nothing is ever
// tokens x positions. See ops/attention.rs of the kernels.
//
// q, out, dout, dq are [tokens, heads * HEAD_WIDTH]; k, v, dk, dv are [positions, kv_heads * HEAD_WIDTH]; lse and
// delta are [heads, tokens]. The queries are the last tokens of the positions.
//
// forward:      a group to a head and 16 tokens; the softmax is kept as a running maximum and sum
// sum_delta:    sum over a head of dout * out, a thread to a token and head
// backward_kv:  a group to a key/value head and 16 positions, over all tokens and query heads that see them
// backward_q:   a group to a head and 16 tokens, over all positions that they see
//
// In a group, thread t is of line t / 16 and column t % 16.

struct Params {
    out_at: u32,
    lse_at: u32,
    q_at: u32,
    k_at: u32,
    v_at: u32,
    dout_at: u32,
    delta_at: u32,
    dq_at: u32,
    dk_at: u32,
    dv_at: u32,
    tokens: u32,
    positions: u32,
    heads: u32,
    kv_heads: u32,
    causal: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;
@group(0) @binding(2) var<storage, read_write> q: array<f32>;
@group(0) @binding(3) var<storage, read_write> k: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> dout: array<f32>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> dq: array<f32>;
@group(0) @binding(8) var<storage, read_write> dk: array<f32>;
@group(0) @binding(9) var<storage, read_write> dv: array<f32>;

const TILE = 16u;
// A slice of a head's width, and the length of its line in shared memory: odd, so that a column of lines is
// read from different banks.
const SLICE = 32u;
const LINE = 33u;
const SLICES = (HEAD_WIDTH + SLICE - 1u) / SLICE;
const LOWEST = -3e38;

var<workgroup> q_slice: array<f32, 528>; // [TILE, LINE]
var<workgroup> k_slice: array<f32, 528>;
var<workgroup> v_slice: array<f32, 528>;
var<workgroup> dout_slice: array<f32, 528>;
var<workgroup> weights: array<f32, 256>; // [TILE, TILE]
var<workgroup> dscores: array<f32, 256>;

// First element of a token's head in q and its like, of a position's head in k and its like.
fn of_token(token: u32, head: u32) -> u32 {
    return (token * p.heads + head) * HEAD_WIDTH;
}

fn of_position(position: u32, kv_head: u32) -> u32 {
    return (position * p.kv_heads + kv_head) * HEAD_WIDTH;
}

// Positions that a token sees.
fn visible(token: u32) -> u32 {
    return select(p.positions, p.positions - p.tokens + token + 1u, p.causal != 0u);
}

// Each loads 32 elements of the heads of 16 tokens or positions, from element d0 on; zeros beyond the end.

fn load_q(t: u32, token0: u32, head: u32, d0: u32) {
    for (var j = t; j < TILE * SLICE; j += 256u) {
        let token = token0 + j / SLICE;
        let d = d0 + j % SLICE;
        var value = 0.0;
        if token < p.tokens && d < HEAD_WIDTH {
            value = q[p.q_at + of_token(token, head) + d];
        }
        q_slice[j / SLICE * LINE + j % SLICE] = value;
    }
}

fn load_dout(t: u32, token0: u32, head: u32, d0: u32) {
    for (var j = t; j < TILE * SLICE; j += 256u) {
        let token = token0 + j / SLICE;
        let d = d0 + j % SLICE;
        var value = 0.0;
        if token < p.tokens && d < HEAD_WIDTH {
            value = dout[p.dout_at + of_token(token, head) + d];
        }
        dout_slice[j / SLICE * LINE + j % SLICE] = value;
    }
}

fn load_k(t: u32, position0: u32, kv_head: u32, d0: u32) {
    for (var j = t; j < TILE * SLICE; j += 256u) {
        let position = position0 + j / SLICE;
        let d = d0 + j % SLICE;
        var value = 0.0;
        if position < p.positions && d < HEAD_WIDTH {
            value = k[p.k_at + of_position(position, kv_head) + d];
        }
        k_slice[j / SLICE * LINE + j % SLICE] = value;
    }
}

fn load_v(t: u32, position0: u32, kv_head: u32, d0: u32) {
    for (var j = t; j < TILE * SLICE; j += 256u) {
        let position = position0 + j / SLICE;
        let d = d0 + j % SLICE;
        var value = 0.0;
        if position < p.positions && d < HEAD_WIDTH {
            value = v[p.v_at + of_position(position, kv_head) + d];
        }
        v_slice[j / SLICE * LINE + j % SLICE] = value;
    }
}

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let head = group.y;
    let kv_head = head / (p.heads / p.kv_heads);
    let token0 = group.x * TILE;
    let line = t / TILE;
    let column = t % TILE;
    let token = token0 + line;
    let last = min(token0 + TILE, p.tokens) - 1u;
    let end = visible(last);
    var most = LOWEST;
    var sum = 0.0;
    var sums: array<f32, 2u * SLICES>;
    for (var position0 = 0u; position0 < end; position0 += TILE) {
        var score = 0.0;
        for (var d0 = 0u; d0 < HEAD_WIDTH; d0 += SLICE) {
            workgroupBarrier();
            load_q(t, token0, head, d0);
            load_k(t, position0, kv_head, d0);
            workgroupBarrier();
            for (var d = 0u; d < SLICE; d++) {
                score = fma(q_slice[line * LINE + d], k_slice[column * LINE + d], score);
            }
        }
        let seen = token < p.tokens && position0 + column < visible(token);
        score = select(LOWEST, p.scale * score, seen);
        weights[t] = score;
        workgroupBarrier();
        var highest = most;
        for (var j = 0u; j < TILE; j++) {
            highest = max(highest, weights[line * TILE + j]);
        }
        let shrink = exp(most - highest);
        most = highest;
        workgroupBarrier();
        weights[t] = select(0.0, exp(score - most), seen);
        workgroupBarrier();
        sum *= shrink;
        for (var j = 0u; j < TILE; j++) {
            sum += weights[line * TILE + j];
        }
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load_v(t, position0, kv_head, slice * SLICE);
            workgroupBarrier();
            for (var part = 0u; part < 2u; part++) {
                var value = sums[2u * slice + part] * shrink;
                for (var j = 0u; j < TILE; j++) {
                    value = fma(weights[line * TILE + j], v_slice[j * LINE + part * TILE + column], value);
                }
                sums[2u * slice + part] = value;
            }
        }
    }
    if token >= p.tokens {
        return;
    }
    for (var i = 0u; i < 2u * SLICES; i++) {
        let d = i * TILE + column;
        if d < HEAD_WIDTH {
            out[p.out_at + of_token(token, head) + d] = sums[i] / sum;
        }
    }
    if column == 0u {
        lse[p.lse_at + head * p.tokens + token] = most + log(sum);
    }
}

@compute @workgroup_size(256)
fn sum_delta(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.tokens * p.heads {
        return;
    }
    let token = i / p.heads;
    let head = i % p.heads;
    let at = of_token(token, head);
    var sum = 0.0;
    for (var d = 0u; d < HEAD_WIDTH; d++) {
        sum = fma(dout[p.dout_at + at + d], out[p.out_at + at + d], sum);
    }
    delta[p.delta_at + head * p.tokens + token] = sum;
}

// Leaves the softmax's weights and the scores' gradients of 16 tokens (lines) and 16 positions (columns) in
// shared memory.
fn recompute(t: u32, token0: u32, head: u32, position0: u32, kv_head: u32) {
    let line = t / TILE;
    let column = t % TILE;
    var score = 0.0;
    var dweight = 0.0;
    for (var d0 = 0u; d0 < HEAD_WIDTH; d0 += SLICE) {
        workgroupBarrier();
        load_q(t, token0, head, d0);
        load_dout(t, token0, head, d0);
        load_k(t, position0, kv_head, d0);
        load_v(t, position0, kv_head, d0);
        workgroupBarrier();
        for (var d = 0u; d < SLICE; d++) {
            score = fma(q_slice[line * LINE + d], k_slice[column * LINE + d], score);
            dweight = fma(dout_slice[line * LINE + d], v_slice[column * LINE + d], dweight);
        }
    }
    let token = token0 + line;
    var weight = 0.0;
    var dscore = 0.0;
    if token < p.tokens && position0 + column < visible(token) {
        let at = head * p.tokens + token;
        weight = exp(p.scale * score - lse[p.lse_at + at]);
        dscore = p.scale * weight * (dweight - delta[p.delta_at + at]);
    }
    weights[t] = weight;
    dscores[t] = dscore;
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let kv_head = group.y;
    let shared_by = p.heads / p.kv_heads;
    let position0 = group.x * TILE;
    let line = t / TILE;
    let column = t % TILE;
    // The first token that sees the first of these positions.
    var first = 0u;
    if p.causal != 0u && position0 > p.positions - p.tokens {
        first = (position0 - (p.positions - p.tokens)) / TILE * TILE;
    }
    var dk_sums: array<f32, 2u * SLICES>;
    var dv_sums: array<f32, 2u * SLICES>;
    for (var h = 0u; h < shared_by; h++) {
        let head = kv_head * shared_by + h;
        for (var token0 = first; token0 < p.tokens; token0 += TILE) {
            recompute(t, token0, head, position0, kv_head);
            for (var slice = 0u; slice < SLICES; slice++) {
                workgroupBarrier();
                load_q(t, token0, head, slice * SLICE);
                load_dout(t, token0, head, slice * SLICE);
                workgroupBarrier();
                for (var part = 0u; part < 2u; part++) {
                    var dk_sum = dk_sums[2u * slice + part];
                    var dv_sum = dv_sums[2u * slice + part];
                    for (var j = 0u; j < TILE; j++) {
                        let at = j * LINE + part * TILE + column;
                        dk_sum = fma(dscores[j * TILE + line], q_slice[at], dk_sum);
                        dv_sum = fma(weights[j * TILE + line], dout_slice[at], dv_sum);
                    }
                    dk_sums[2u * slice + part] = dk_sum;
                    dv_sums[2u * slice + part] = dv_sum;
                }
            }
        }
    }
    let position = position0 + line;
    if position >= p.positions {
        return;
    }
    for (var i = 0u; i < 2u * SLICES; i++) {
        let d = i * TILE + column;
        if d < HEAD_WIDTH {
            let at = of_position(position, kv_head) + d;
            dk[p.dk_at + at] += dk_sums[i];
            dv[p.dv_at + at] += dv_sums[i];
        }
    }
}

@compute @workgroup_size(256)
fn backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let head = group.y;
    let kv_head = head / (p.heads / p.kv_heads);
    let token0 = group.x * TILE;
    let line = t / TILE;
    let column = t % TILE;
    let token = token0 + line;
    let end = visible(min(token0 + TILE, p.tokens) - 1u);
    var sums: array<f32, 2u * SLICES>;
    for (var position0 = 0u; position0 < end; position0 += TILE) {
        recompute(t, token0, head, position0, kv_head);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load_k(t, position0, kv_head, slice * SLICE);
            workgroupBarrier();
            for (var part = 0u; part < 2u; part++) {
                var value = sums[2u * slice + part];
                for (var j = 0u; j < TILE; j++) {
                    value = fma(dscores[line * TILE + j], k_slice[j * LINE + part * TILE + column], value);
                }
                sums[2u * slice + part] = value;
            }
        }
    }
    if token >= p.tokens {
        return;
    }
    for (var i = 0u; i < 2u * SLICES; i++) {
        let d = i * TILE + column;
        if d < HEAD_WIDTH {
            dq[p.dq_at + of_token(token, head) + d] += sums[i];
        }
    }
}
