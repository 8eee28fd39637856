// RMS norm, a group to a token. See ops/rms_norm.rs of the kernels.
//
// forward:  y = x inv weight, inv = 1 / sqrt(mean(x^2) + eps)
// backward: dx += inv (g - x inv^2 mean(g x)), g = dy weight; `y` is dy

struct Params {
    y_at: u32,
    inv_rms_at: u32,
    x_at: u32,
    weight_at: u32,
    dx_at: u32,
    tokens: u32,
    width: u32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> inv_rms: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let token = group.x + group.y * groups.x;
    if token >= p.tokens {
        return;
    }
    let row = token * p.width;
    var squares = 0.0;
    for (var i = t; i < p.width; i += 256u) {
        let v = x[p.x_at + row + i];
        squares = fma(v, v, squares);
    }
    let inv = 1.0 / sqrt(total(t, squares) / f32(p.width) + p.eps);
    if t == 0u {
        inv_rms[p.inv_rms_at + token] = inv;
    }
    for (var i = t; i < p.width; i += 256u) {
        y[p.y_at + row + i] = x[p.x_at + row + i] * inv * weight[p.weight_at + i];
    }
}

@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let token = group.x + group.y * groups.x;
    if token >= p.tokens {
        return;
    }
    let row = token * p.width;
    var along = 0.0;
    for (var i = t; i < p.width; i += 256u) {
        let g = y[p.y_at + row + i] * weight[p.weight_at + i];
        along = fma(g, x[p.x_at + row + i], along);
    }
    let inv = inv_rms[p.inv_rms_at + token];
    let shared_part = inv * inv * total(t, along) / f32(p.width);
    for (var i = t; i < p.width; i += 256u) {
        let g = y[p.y_at + row + i] * weight[p.weight_at + i];
        dx[p.dx_at + row + i] += inv * (g - x[p.x_at + row + i] * shared_part);
    }
}
