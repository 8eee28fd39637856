// The sum of an array's squares in two steps, in an order that depends on the array's length only. It is not
// finite if an element is not.
//
// partial: a group to 4096 elements
// finish:  one group adds the groups' sums

struct Params {
    x_at: u32,
    partial_at: u32,
    sum_at: u32,
    count: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial_sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> sum: array<f32>;

const RUN = 4096u;

@compute @workgroup_size(256)
fn partial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let run = group.x + group.y * groups.x;
    if run * RUN >= p.count {
        return;
    }
    let end = min(p.count, (run + 1u) * RUN);
    var squares = 0.0;
    for (var i = run * RUN + t; i < end; i += 256u) {
        let v = x[p.x_at + i];
        squares = fma(v, v, squares);
    }
    let value = total(t, squares);
    if t == 0u {
        partial_sums[p.partial_at + run] = value;
    }
}

@compute @workgroup_size(256)
fn finish(@builtin(local_invocation_index) t: u32) {
    var squares = 0.0;
    for (var i = t; i < p.count; i += 256u) {
        squares += partial_sums[p.partial_at + i];
    }
    let value = total(t, squares);
    if t == 0u {
        sum[p.sum_at] = value;
    }
}
