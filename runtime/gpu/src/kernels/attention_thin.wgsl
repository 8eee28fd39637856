// Attention of a few tokens, as when text is generated: the positions are divided among groups. Nothing is kept
// for a backward. Shapes and meaning as in attention.wgsl.
//
// partial: a group to 256 positions, a head and a token. It leaves the greatest score, the sum of
//          e^(score - greatest) and the values weighted by it in `parts`, [tokens, heads, runs, 2 + HEAD_WIDTH].
// join:    a group to a head and a token puts the runs together, in order

struct Params {
    out_at: u32,
    q_at: u32,
    k_at: u32,
    v_at: u32,
    parts_at: u32,
    tokens: u32,
    positions: u32,
    heads: u32,
    kv_heads: u32,
    causal: u32,
    scale: f32,
    runs: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@group(0) @binding(1) var<storage, read_write> q: array<f32>;
@group(0) @binding(2) var<storage, read_write> k: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> parts: array<f32>;

const RUN = 256u;
const LOWEST = -3e38;
const PART = HEAD_WIDTH + 2u;
// Vectors of a head, and how many threads share the positions of each.
const VECTORS = (HEAD_WIDTH + 3u) / 4u;
const STRIPES = 256u / VECTORS;

var<workgroup> query: array<f32, HEAD_WIDTH>;
var<workgroup> weights: array<f32, 256>;
var<workgroup> striped: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let head = group.y;
    let token = group.z;
    let kv_head = head / (p.heads / p.kv_heads);
    let start = group.x * RUN;
    let end = select(p.positions, p.positions - p.tokens + token + 1u, p.causal != 0u);
    for (var d = t; d < HEAD_WIDTH; d += 256u) {
        query[d] = q[p.q_at + (token * p.heads + head) * HEAD_WIDTH + d];
    }
    workgroupBarrier();
    // Eight threads to a position, 32 positions at a time.
    for (var round = 0u; round < 8u; round++) {
        let position = start + 32u * round + t / 8u;
        var product = 0.0;
        if position < end {
            let at = p.k_at + (position * p.kv_heads + kv_head) * HEAD_WIDTH;
            for (var d = t % 8u; d < HEAD_WIDTH; d += 8u) {
                product = fma(query[d], k[at + d], product);
            }
        }
        workgroupBarrier();
        lanes[t] = product;
        workgroupBarrier();
        if t < 32u {
            var score = 0.0;
            for (var j = 0u; j < 8u; j++) {
                score += lanes[8u * t + j];
            }
            weights[32u * round + t] = p.scale * score;
        }
    }
    workgroupBarrier();
    let seen = start + t < end;
    let score = select(LOWEST, weights[t], seen);
    let most = greatest(t, score);
    let weight = select(0.0, exp(score - most), seen);
    weights[t] = weight;
    let sum = total(t, weight);
    let vector = t % VECTORS;
    let stripe = t / VECTORS;
    var value = vec4(0.0);
    if stripe < STRIPES {
        for (var j = stripe; j < RUN && start + j < end; j += STRIPES) {
            let at = p.v_at + ((start + j) * p.kv_heads + kv_head) * HEAD_WIDTH + 4u * vector;
            for (var i = 0u; i < 4u; i++) {
                if 4u * vector + i < HEAD_WIDTH {
                    value[i] = fma(weights[j], v[at + i], value[i]);
                }
            }
        }
    }
    striped[t] = value;
    workgroupBarrier();
    let part = p.parts_at + ((token * p.heads + head) * p.runs + group.x) * PART;
    if t == 0u {
        parts[part] = most;
        parts[part + 1u] = sum;
    }
    if t < VECTORS {
        var all = vec4(0.0);
        for (var j = 0u; j < STRIPES; j++) {
            all += striped[j * VECTORS + t];
        }
        for (var i = 0u; i < 4u && 4u * t + i < HEAD_WIDTH; i++) {
            parts[part + 2u + 4u * t + i] = all[i];
        }
    }
}

@compute @workgroup_size(64)
fn join(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = group.y * p.heads + group.x;
    let first = p.parts_at + row * p.runs * PART;
    var most = LOWEST;
    for (var run = 0u; run < p.runs; run++) {
        most = max(most, parts[first + run * PART]);
    }
    for (var d = t; d < HEAD_WIDTH; d += 64u) {
        var sum = 0.0;
        var value = 0.0;
        for (var run = 0u; run < p.runs; run++) {
            let part = first + run * PART;
            let share = exp(parts[part] - most);
            sum = fma(share, parts[part + 1u], sum);
            value = fma(share, parts[part + 2u + d], value);
        }
        out[p.out_at + row * HEAD_WIDTH + d] = value / sum;
    }
}
