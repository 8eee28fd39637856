// Softmax and cross-entropy over a vocabulary that comes in chunks, a group to a row.
// See ops/softmax_cross_entropy.rs of the kernels.
//
// `logits` is [rows, width], the classes `first..first + width` of each row. `state` is [rows, 3]: the greatest
// logit, the sum of e^(logit - greatest), and the label's logit, of all chunks so far.
//
// observe:  takes a chunk into the state; the chunk with first = 0 comes first
// forward:  loss[row] = log of the sum of e^logit - the label's logit; 0 for an ignored row
// backward: logits = (softmax - one_hot(label)) scale; 0 for an ignored row

struct Params {
    logits_at: u32,
    labels_at: u32,
    state_at: u32,
    loss_at: u32,
    rows: u32,
    width: u32,
    first: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> labels: array<i32>;
@group(0) @binding(2) var<storage, read_write> state: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

const IGNORED = -100;

@compute @workgroup_size(256)
fn observe(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= p.rows {
        return;
    }
    let at = p.logits_at + row * p.width;
    let state_at = p.state_at + 3u * row;
    let begun = p.first > 0u;
    var most = logits[at];
    for (var i = t; i < p.width; i += 256u) {
        most = max(most, logits[at + i]);
    }
    most = greatest(t, most);
    if begun {
        most = max(most, state[state_at]);
    }
    var sum = 0.0;
    for (var i = t; i < p.width; i += 256u) {
        sum += exp(logits[at + i] - most);
    }
    sum = total(t, sum);
    if t == 0u {
        if begun {
            sum += state[state_at + 1u] * exp(state[state_at] - most);
        } else {
            state[state_at + 2u] = 0.0;
        }
        state[state_at] = most;
        state[state_at + 1u] = sum;
        let label = labels[p.labels_at + row];
        if label >= 0 && u32(label) >= p.first && u32(label) - p.first < p.width {
            state[state_at + 2u] = logits[at + u32(label) - p.first];
        }
    }
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = (group.x + group.y * groups.x) * 256u + t;
    if row >= p.rows {
        return;
    }
    let at = p.state_at + 3u * row;
    let value = state[at] + log(state[at + 1u]) - state[at + 2u];
    loss[p.loss_at + row] = select(value, 0.0, labels[p.labels_at + row] == IGNORED);
}

@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= p.rows {
        return;
    }
    let at = p.logits_at + row * p.width;
    let label = labels[p.labels_at + row];
    let shift = state[p.state_at + 3u * row] + log(state[p.state_at + 3u * row + 1u]);
    for (var i = t; i < p.width; i += 256u) {
        var d = 0.0;
        if label != IGNORED {
            d = exp(logits[at + i] - shift) * p.scale;
            if label >= 0 && u32(label) == p.first + i {
                d -= p.scale;
            }
        }
        logits[at + i] = d;
    }
}
