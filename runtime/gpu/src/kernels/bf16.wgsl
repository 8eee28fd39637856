// Floats rounded to BF16 and back, a thread to a word of two. See blocks/floats.rs of the kernels: to nearest,
// ties to even. A row of odd width ends in half a word.

struct Params {
    words_at: u32,
    x_at: u32,
    rows: u32,
    width: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

fn round(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return (bits >> 16u) | 64u; // not a number, and stays so
    }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    let row_words = (p.width + 1u) / 2u;
    if i >= p.rows * row_words {
        return;
    }
    let column = 2u * (i % row_words);
    let at = p.x_at + i / row_words * p.width + column;
    var word = round(x[at]);
    if column + 1u < p.width {
        word |= round(x[at + 1u]) << 16u;
    }
    words[p.words_at + i] = word;
}

@compute @workgroup_size(256)
fn back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    let row_words = (p.width + 1u) / 2u;
    if i >= p.rows * row_words {
        return;
    }
    let column = 2u * (i % row_words);
    let at = p.x_at + i / row_words * p.width + column;
    let word = words[p.words_at + i];
    x[at] = bitcast<f32>(word << 16u);
    if column + 1u < p.width {
        x[at + 1u] = bitcast<f32>(word & 0xffff0000u);
    }
}
