// AdamW with decoupled weight decay, a thread to an element, in the order in which PyTorch computes it:
//
//   p *= keep   m += new1 (g - m)   v = beta2 v + new2 g^2   p -= step m / (sqrt(v) / correction + eps)

struct Params {
    parameters_at: u32,
    mean_at: u32,
    square_at: u32,
    gradients_at: u32,
    count: u32,
    gradient_scale: f32,
    keep: f32,
    new1: f32,
    beta2: f32,
    new2: f32,
    step: f32,
    correction: f32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(1) var<storage, read_write> mean: array<f32>;
@group(0) @binding(2) var<storage, read_write> square: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.count {
        return;
    }
    let g = gradients[p.gradients_at + i] * p.gradient_scale;
    let old = mean[p.mean_at + i];
    let m = old + p.new1 * (g - old);
    let v = p.beta2 * square[p.square_at + i] + p.new2 * g * g;
    mean[p.mean_at + i] = m;
    square[p.square_at + i] = v;
    let kept = parameters[p.parameters_at + i] * p.keep;
    parameters[p.parameters_at + i] = kept - p.step * m / (sqrt(v) / p.correction + p.eps);
}
