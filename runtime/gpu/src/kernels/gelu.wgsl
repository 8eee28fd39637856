// GELU in its exact form, a thread to an element. See ops/gelu.rs of the kernels.
//
// forward:  y = x P(x)
// backward: dx += dy (P(x) + x e^(-x^2 / 2) / sqrt(2 pi)); `y` is dy

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

// The standard normal distribution P(x), and e^(-x^2 / 2); the polynomial is that of vector/elementary.rs.
fn normal(x: f32) -> vec2<f32> {
    let t = min(abs(x), 14.5);
    let e = exp(-0.5 * t * t);
    let u = 1.0 / (1.0 + 0.34570312 * t);
    let v = u - 0.75;
    var q = -0.028487168;
    q = fma(q, v, -0.025835255);
    q = fma(q, v, 0.044101167);
    q = fma(q, v, 0.013701081);
    q = fma(q, v, -0.106622495);
    q = fma(q, v, -6.4733843e-3);
    q = fma(q, v, 0.3246265);
    q = fma(q, v, 0.499097);
    q = fma(q, v, 0.3554321);
    let tail = e * u * q;
    return vec2(select(1.0 - tail, tail, x < 0.0), e);
}

fn value(v: f32) -> f32 {
    return v * normal(v).x;
}

fn slope(v: f32) -> f32 {
    let n = normal(v);
    return n.x + v * n.y * 0.3989423; // 1 / sqrt(2 pi)
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
