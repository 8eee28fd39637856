// Rotary position embedding in place, a thread to a pair. See ops/rope.rs of the kernels.
//
// `table` is [tokens, dims / 2, 2]: cosine, sine. Backward turns the other way: `direction` is -1.

struct Params {
    x_at: u32,
    table_at: u32,
    tokens: u32,
    heads: u32,
    head_width: u32,
    pairs: u32,
    half_split: u32,
    direction: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> table: array<f32>;

@compute @workgroup_size(256)
fn turn(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.tokens * p.heads * p.pairs {
        return;
    }
    let pair = i % p.pairs;
    let head = i / p.pairs;
    let turn_at = p.table_at + 2u * ((head / p.heads) * p.pairs + pair);
    let cosine = table[turn_at];
    let sine = table[turn_at + 1u] * p.direction;
    var first = 2u * pair;
    var second = first + 1u;
    if p.half_split != 0u {
        first = pair;
        second = pair + p.pairs;
    }
    let at = p.x_at + head * p.head_width;
    let a = x[at + first];
    let b = x[at + second];
    x[at + first] = a * cosine - b * sine;
    x[at + second] = a * sine + b * cosine;
}
