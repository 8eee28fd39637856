// SwiGLU, a thread to an element. See ops/swiglu.rs of the kernels.
//
// forward:  y = gate s up, s = sigmoid(gate)
// backward: dgate += dy up s (1 + gate (1 - s)), dup += dy gate s; `y` is dy

struct Params {
    y_at: u32,
    gate_at: u32,
    up_at: u32,
    dgate_at: u32,
    dup_at: u32,
    count: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> gate: array<f32>;
@group(0) @binding(2) var<storage, read_write> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> dgate: array<f32>;
@group(0) @binding(4) var<storage, read_write> dup: array<f32>;

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
    let g = gate[p.gate_at + i];
    y[p.y_at + i] = g * sigmoid(g) * up[p.up_at + i];
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
    let g = gate[p.gate_at + i];
    let dy = y[p.y_at + i];
    let s = sigmoid(g);
    dgate[p.dgate_at + i] += dy * up[p.up_at + i] * s * (1.0 + g * (1.0 - s));
    dup[p.dup_at + i] += dy * g * s;
}
