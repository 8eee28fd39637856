// Layer norm, a group to a token. See ops/layer_norm.rs of the kernels.
//
// forward:  y = (x - mean) inv weight + bias, inv = 1 / sqrt(mean((x - mean)^2) + eps); saves mean and inv
// backward: dx += inv (g - mean(g) - n mean(g n)), g = dy weight, n = (x - mean) inv; `y` is dy

struct Params {
    y_at: u32,
    saved_at: u32,
    x_at: u32,
    weight_at: u32,
    bias_at: u32,
    dx_at: u32,
    tokens: u32,
    width: u32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> saved: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

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
    let n = f32(p.width);
    var sum = 0.0;
    for (var i = t; i < p.width; i += 256u) {
        sum += x[p.x_at + row + i];
    }
    let mean = total(t, sum) / n;
    var squares = 0.0;
    for (var i = t; i < p.width; i += 256u) {
        let v = x[p.x_at + row + i] - mean;
        squares = fma(v, v, squares);
    }
    let inv = 1.0 / sqrt(total(t, squares) / n + p.eps);
    if t == 0u {
        saved[p.saved_at + 2u * token] = mean;
        saved[p.saved_at + 2u * token + 1u] = inv;
    }
    for (var i = t; i < p.width; i += 256u) {
        let normed = (x[p.x_at + row + i] - mean) * inv;
        y[p.y_at + row + i] = normed * weight[p.weight_at + i] + bias[p.bias_at + i];
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
    let mean = saved[p.saved_at + 2u * token];
    let inv = saved[p.saved_at + 2u * token + 1u];
    var sum = 0.0;
    var along = 0.0;
    for (var i = t; i < p.width; i += 256u) {
        let g = y[p.y_at + row + i] * weight[p.weight_at + i];
        sum += g;
        along = fma(g, (x[p.x_at + row + i] - mean) * inv, along);
    }
    let mean_g = total(t, sum) / f32(p.width);
    let mean_along = total(t, along) / f32(p.width);
    for (var i = t; i < p.width; i += 256u) {
        let g = y[p.y_at + row + i] * weight[p.weight_at + i];
        let normed = (x[p.x_at + row + i] - mean) * inv;
        dx[p.dx_at + row + i] += inv * (g - mean_g - normed * mean_along);
    }
}
