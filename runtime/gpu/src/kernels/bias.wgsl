// The bias of a linear layer. See ops/linear.rs of the kernels.
//
// forward:  y[t, i] += bias[i], a thread to an element
// backward: bias[i] += sum over t of y[t, i], a thread to a column; here both are gradients

struct Params {
    y_at: u32,
    bias_at: u32,
    tokens: u32,
    width: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> bias: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.tokens * p.width {
        return;
    }
    y[p.y_at + i] += bias[p.bias_at + i % p.width];
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let i = group.x * 256u + t;
    if i >= p.width {
        return;
    }
    var sum = 0.0;
    for (var token = 0u; token < p.tokens; token++) {
        sum += y[p.y_at + token * p.width + i];
    }
    bias[p.bias_at + i] += sum;
}
