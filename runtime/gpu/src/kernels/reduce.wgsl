// Sums and maxima over the 256 threads of a group, in an order that is always the same.

var<workgroup> lanes: array<f32, 256>;

// The sum of every thread's value, for every thread.
fn total(t: u32, value: f32) -> f32 {
    workgroupBarrier();
    lanes[t] = value;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if t < half {
            lanes[t] += lanes[t + half];
        }
    }
    workgroupBarrier();
    return lanes[0];
}

// The greatest of every thread's values, for every thread.
fn greatest(t: u32, value: f32) -> f32 {
    workgroupBarrier();
    lanes[t] = value;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if t < half {
            lanes[t] = max(lanes[t], lanes[t + half]);
        }
    }
    workgroupBarrier();
    return lanes[0];
}

