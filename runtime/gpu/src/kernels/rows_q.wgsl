// Rows of a stored matrix as floats: y[t, i] = w[ids[t] - first, i], for the tokens whose row is in this
// piece of the matrix. Rows of IGNORED tokens are left as they are.

struct Params {
    w_at: u32,
    y_at: u32,
    ids_at: u32,
    first: u32,
    rows: u32,
    inputs: u32,
    row_bytes: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<i32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token = group.x;
    let id = ids[p.ids_at + token];
    if id < 0 || u32(id) < p.first || u32(id) - p.first >= p.rows {
        return;
    }
    let w_row = p.w_at * 4u + (u32(id) - p.first) * p.row_bytes;
    for (var i = t * 8u; i < p.inputs; i += 512u) {
        let weights = decode8(w_row, i);
        for (var j = 0u; j < 8u && i + j < p.inputs; j++) {
            y[p.y_at + token * p.inputs + i + j] = weights[j / 4u][j % 4u];
        }
    }
}
