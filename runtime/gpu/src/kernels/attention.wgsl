// Attention with grouped key/value heads, 32 tokens against 32 positions at a time, so that nothing is ever
// tokens x positions. See ops/attention.rs of the kernels.
//
// q, out, dout, dq are [tokens, heads * HEAD_WIDTH]; k, v, dk, dv are [positions, kv_heads * HEAD_WIDTH]; lse and
// delta are [heads, tokens]. The queries are the last tokens of the positions.
//
// forward:      a group to a head and 32 tokens; the softmax is kept as a running maximum and sum
// sum_delta:    sum over a head of dout * out, a thread to a token and head
// backward_kv:  a group to a key/value head and 32 positions, over all tokens and query heads that see them
// backward_q:   a group to a head and 32 tokens, over all positions that they see
//
// Tiles of q, k, v and dout come through shared memory a slice of the head's width at a time.

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

const TILE = 32u;
const LOWEST = -3e38;

// Elements of the four arrays: from `d` on of a head, zeros beyond the end of anything.

fn of_token(token: u32, head: u32) -> u32 {
    return (token * p.heads + head) * HEAD_WIDTH;
}

fn of_position(position: u32, kv_head: u32) -> u32 {
    return (position * p.kv_heads + kv_head) * HEAD_WIDTH;
}

fn q4(token: u32, head: u32, d: u32) -> vec4<f32> {
    var few = vec4(0.0);
    if token < p.tokens {
        let at = p.q_at + of_token(token, head) + d;
        if d + 4u <= HEAD_WIDTH {
            return vec4(q[at], q[at + 1u], q[at + 2u], q[at + 3u]);
        }
        for (var j = 0u; d + j < HEAD_WIDTH; j++) {
            few[j] = q[at + j];
        }
    }
    return few;
}

fn dout4(token: u32, head: u32, d: u32) -> vec4<f32> {
    var few = vec4(0.0);
    if token < p.tokens {
        let at = p.dout_at + of_token(token, head) + d;
        if d + 4u <= HEAD_WIDTH {
            return vec4(dout[at], dout[at + 1u], dout[at + 2u], dout[at + 3u]);
        }
        for (var j = 0u; d + j < HEAD_WIDTH; j++) {
            few[j] = dout[at + j];
        }
    }
    return few;
}

fn k4(position: u32, kv_head: u32, d: u32) -> vec4<f32> {
    var few = vec4(0.0);
    if position < p.positions {
        let at = p.k_at + of_position(position, kv_head) + d;
        if d + 4u <= HEAD_WIDTH {
            return vec4(k[at], k[at + 1u], k[at + 2u], k[at + 3u]);
        }
        for (var j = 0u; d + j < HEAD_WIDTH; j++) {
            few[j] = k[at + j];
        }
    }
    return few;
}

fn v4(position: u32, kv_head: u32, d: u32) -> vec4<f32> {
    var few = vec4(0.0);
    if position < p.positions {
        let at = p.v_at + of_position(position, kv_head) + d;
        if d + 4u <= HEAD_WIDTH {
            return vec4(v[at], v[at + 1u], v[at + 2u], v[at + 3u]);
        }
        for (var j = 0u; d + j < HEAD_WIDTH; j++) {
            few[j] = v[at + j];
        }
    }
    return few;
}

// Positions that a token sees.
fn visible(token: u32) -> u32 {
    return select(p.positions, p.positions - p.tokens + token + 1u, p.causal != 0u);
}

// Scores, then weights of a tile: [TILE tokens, TILE positions], a line in 33 floats so that lines begin in
// different banks.
const LINE = 33u;
var<workgroup> weights: array<f32, 1056>;
var<workgroup> dscores: array<f32, 1056>;

// Forward takes 32 elements of a head at a time: two tiles of [TILE, 8] vectors, a line in 9.
const WIDE = 9u;
const WIDE_SLICES = (HEAD_WIDTH + 31u) / 32u;
var<workgroup> wide: array<vec4<f32>, 576>;
const WIDE_SECOND = 288u;

// Scores: thread t makes those of tokens t / 16 + 16 a and positions t % 16 + 16 b. The rest: it is one of
// eight threads of token t / 8.
@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let head = group.y;
    let kv_head = head / (p.heads / p.kv_heads);
    let token0 = group.x * TILE;
    let up = t / 16u;
    let across = t % 16u;
    let line = t / 8u;
    let part = t % 8u;
    let token = token0 + line;
    let end = visible(min(token0 + TILE, p.tokens) - 1u);
    var most = LOWEST;
    var sum = 0.0;
    var sums: array<vec4<f32>, WIDE_SLICES>;
    for (var position0 = 0u; position0 < end; position0 += TILE) {
        // (a, b): 0 0, 0 1, 1 0, 1 1
        var scores = vec4(0.0);
        for (var slice = 0u; slice < WIDE_SLICES; slice++) {
            let d = slice * 32u + 4u * part;
            workgroupBarrier();
            wide[line * WIDE + part] = q4(token, head, d);
            wide[WIDE_SECOND + line * WIDE + part] = k4(position0 + line, kv_head, d);
            workgroupBarrier();
            for (var i = 0u; i < 8u; i++) {
                let q0 = wide[up * WIDE + i];
                let q1 = wide[(up + 16u) * WIDE + i];
                let k0 = wide[WIDE_SECOND + across * WIDE + i];
                let k1 = wide[WIDE_SECOND + (across + 16u) * WIDE + i];
                scores += vec4(dot(q0, k0), dot(q0, k1), dot(q1, k0), dot(q1, k1));
            }
        }
        for (var i = 0u; i < 4u; i++) {
            let a = up + i / 2u * 16u;
            let b = across + i % 2u * 16u;
            let seen = position0 + b < visible(token0 + a);
            weights[a * LINE + b] = select(LOWEST, p.scale * scores[i], seen);
        }
        workgroupBarrier();
        var highest = most;
        for (var j = 0u; j < TILE; j++) {
            highest = max(highest, weights[line * LINE + j]);
        }
        let shrink = exp(most - highest);
        most = highest;
        workgroupBarrier();
        for (var j = 4u * part; j < 4u * part + 4u; j++) {
            weights[line * LINE + j] = exp(weights[line * LINE + j] - most);
        }
        workgroupBarrier();
        sum *= shrink;
        for (var j = 0u; j < TILE; j++) {
            sum += weights[line * LINE + j];
        }
        for (var slice = 0u; slice < WIDE_SLICES; slice++) {
            workgroupBarrier();
            wide[line * WIDE + part] = v4(position0 + line, kv_head, slice * 32u + 4u * part);
            workgroupBarrier();
            var value = sums[slice] * shrink;
            for (var j = 0u; j < TILE; j++) {
                value = fma(vec4(weights[line * LINE + j]), wide[j * WIDE + part], value);
            }
            sums[slice] = value;
        }
    }
    if token >= p.tokens {
        return;
    }
    for (var slice = 0u; slice < WIDE_SLICES; slice++) {
        let d = slice * 32u + 4u * part;
        for (var j = 0u; j < 4u && d + j < HEAD_WIDTH; j++) {
            out[p.out_at + of_token(token, head) + d + j] = sums[slice][j] / sum;
        }
    }
    if part == 0u {
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

// Backward takes 16 elements of a head at a time: two tiles of [TILE, 4] vectors, a line in 5. Half of the
// threads loads each; thread t is one of four of line t % 128 / 4.
const NARROW = 5u;
const SLICES = (HEAD_WIDTH + 15u) / 16u;
var<workgroup> narrow: array<vec4<f32>, 320>;
const SECOND = 160u;

// The products of the two tiles' lines t / 16 + 16 a and t % 16 + 16 b, in the order of (a, b).
fn dots(t: u32) -> vec4<f32> {
    var products = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        let l0 = narrow[t / 16u * NARROW + i];
        let l1 = narrow[(t / 16u + 16u) * NARROW + i];
        let r0 = narrow[SECOND + t % 16u * NARROW + i];
        let r1 = narrow[SECOND + (t % 16u + 16u) * NARROW + i];
        products += vec4(dot(l0, r0), dot(l0, r1), dot(l1, r0), dot(l1, r1));
    }
    return products;
}

// Leaves the softmax's weights and the scores' gradients of a tile in shared memory.
fn recompute(t: u32, token0: u32, head: u32, position0: u32, kv_head: u32) {
    let second = t >= 128u;
    let line = t % 128u / 4u;
    let part = t % 4u;
    let place = select(0u, SECOND, second) + line * NARROW + part;
    var scores = vec4(0.0);
    var dweights = vec4(0.0);
    for (var slice = 0u; slice < SLICES; slice++) {
        let d = slice * 16u + 4u * part;
        workgroupBarrier();
        if second {
            narrow[place] = k4(position0 + line, kv_head, d);
        } else {
            narrow[place] = q4(token0 + line, head, d);
        }
        workgroupBarrier();
        scores += dots(t);
        workgroupBarrier();
        if second {
            narrow[place] = v4(position0 + line, kv_head, d);
        } else {
            narrow[place] = dout4(token0 + line, head, d);
        }
        workgroupBarrier();
        dweights += dots(t);
    }
    for (var i = 0u; i < 4u; i++) {
        let a = t / 16u + i / 2u * 16u;
        let b = t % 16u + i % 2u * 16u;
        let token = token0 + a;
        var weight = 0.0;
        var dscore = 0.0;
        if token < p.tokens && position0 + b < visible(token) {
            let at = head * p.tokens + token;
            weight = exp(p.scale * scores[i] - lse[p.lse_at + at]);
            dscore = p.scale * weight * (dweights[i] - delta[p.delta_at + at]);
        }
        weights[a * LINE + b] = weight;
        dscores[a * LINE + b] = dscore;
    }
    workgroupBarrier();
}

// The first half of the threads adds up dk, the second dv.
@compute @workgroup_size(256)
fn backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let kv_head = group.y;
    let shared_by = p.heads / p.kv_heads;
    let position0 = group.x * TILE;
    let second = t >= 128u;
    let line = t % 128u / 4u;
    let part = t % 4u;
    // The first tile of tokens that sees the first of these positions.
    var first = 0u;
    if p.causal != 0u && position0 > p.positions - p.tokens {
        first = (position0 - (p.positions - p.tokens)) / TILE * TILE;
    }
    var sums: array<vec4<f32>, SLICES>;
    for (var h = 0u; h < shared_by; h++) {
        let head = kv_head * shared_by + h;
        for (var token0 = first; token0 < p.tokens; token0 += TILE) {
            recompute(t, token0, head, position0, kv_head);
            for (var slice = 0u; slice < SLICES; slice++) {
                let d = slice * 16u + 4u * part;
                workgroupBarrier();
                if second {
                    narrow[SECOND + line * NARROW + part] = dout4(token0 + line, head, d);
                } else {
                    narrow[line * NARROW + part] = q4(token0 + line, head, d);
                }
                workgroupBarrier();
                var value = sums[slice];
                if second {
                    for (var j = 0u; j < TILE; j++) {
                        value = fma(vec4(weights[j * LINE + line]), narrow[SECOND + j * NARROW + part], value);
                    }
                } else {
                    for (var j = 0u; j < TILE; j++) {
                        value = fma(vec4(dscores[j * LINE + line]), narrow[j * NARROW + part], value);
                    }
                }
                sums[slice] = value;
            }
        }
    }
    let position = position0 + line;
    if position >= p.positions {
        return;
    }
    for (var slice = 0u; slice < SLICES; slice++) {
        let d = slice * 16u + 4u * part;
        for (var j = 0u; j < 4u && d + j < HEAD_WIDTH; j++) {
            let at = of_position(position, kv_head) + d + j;
            if second {
                dv[p.dv_at + at] += sums[slice][j];
            } else {
                dk[p.dk_at + at] += sums[slice][j];
            }
        }
    }
}

// The two halves of the threads take every other slice.
@compute @workgroup_size(256)
fn backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let head = group.y;
    let kv_head = head / (p.heads / p.kv_heads);
    let token0 = group.x * TILE;
    let own = select(0u, SECOND, t >= 128u);
    let line = t % 128u / 4u;
    // Among the eight vectors of two slices.
    let part = t % 4u + t / 128u * 4u;
    let end = visible(min(token0 + TILE, p.tokens) - 1u);
    var sums: array<vec4<f32>, WIDE_SLICES>;
    for (var position0 = 0u; position0 < end; position0 += TILE) {
        recompute(t, token0, head, position0, kv_head);
        for (var slice = 0u; slice < WIDE_SLICES; slice++) {
            workgroupBarrier();
            narrow[own + line * NARROW + t % 4u] = k4(position0 + line, kv_head, slice * 32u + 4u * part);
            workgroupBarrier();
            var value = sums[slice];
            for (var j = 0u; j < TILE; j++) {
                value = fma(vec4(dscores[line * LINE + j]), narrow[own + j * NARROW + t % 4u], value);
            }
            sums[slice] = value;
        }
    }
    let token = token0 + line;
    if token >= p.tokens {
        return;
    }
    for (var slice = 0u; slice < WIDE_SLICES; slice++) {
        let d = slice * 32u + 4u * part;
        for (var j = 0u; j < 4u && d + j < HEAD_WIDTH; j++) {
            dq[p.dq_at + of_token(token, head) + d + j] += sums[slice][j];
        }
    }
}
