// Quick GELU, a thread to an element. See ops/quick_gelu.rs of the kernels.
//
// forward:  y = x s, s = sigmoid(1.702 x)
// backward: dx += dy s (1 + 1.702 x (1 - s)); `y` is dy

struct Params {
    y_at: u32,
    x_at: u32,
    dx_at: u32,
    count: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

const SLOPE = 1.702;

fn value(v: f32) -> f32 {
    return v * sigmoid(SLOPE * v);
}

fn slope(v: f32) -> f32 {
    let s = sigmoid(SLOPE * v);
    return s * (1.0 + SLOPE * v * (1.0 - s));
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.count {
        return;
    }
    y[p.y_at + i] = value(x[p.x_at + i]);
}

@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.count {
        return;
    }
    dx[p.dx_at + i] += y[p.y_at + i] * slope(x[p.x_at + i]);
}
