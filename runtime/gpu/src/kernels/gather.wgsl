// Some rows of an array, a thread to an element. Numbers that are no row are passed over.
//
// forward:  y[r] = x[ids[r]]
// backward: x[ids[r]] += y[r], no number twice; here both are gradients

struct Params {
    y_at: u32,
    x_at: u32,
    ids_at: u32,
    count: u32,
    width: u32,
    rows: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<i32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.count * p.width {
        return;
    }
    let id = ids[p.ids_at + i / p.width];
    if id >= 0 && u32(id) < p.rows {
        y[p.y_at + i] = x[p.x_at + u32(id) * p.width + i % p.width];
    }
}

@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.count * p.width {
        return;
    }
    let id = ids[p.ids_at + i / p.width];
    if id >= 0 && u32(id) < p.rows {
        x[p.x_at + u32(id) * p.width + i % p.width] += y[p.y_at + i];
    }
}
