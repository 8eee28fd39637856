// Products by threads, for devices without matrix units: the same to the order of sums. A thread has the sums of four
// tokens with eight rows or inputs.

struct Thread {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
}

var<private> sums: array<array<f32, 8>, 4>;

fn add_products(thread: Thread) {
    let first = thread.t / 8u * 4u;
    let across = thread.t % 8u * 8u;
    for (var k = 0u; k < DEPTH; k++) {
        var a: array<f32, 4>;
        for (var i = 0u; i < 4u; i++) {
            let at = (first + i) * LINE + k;
            a[i] = f32(left[at]) + f32(rest[at]);
        }
        for (var j = 0u; j < 8u; j++) {
            let b = f32(right[(across + j) * LINE + k]);
            for (var i = 0u; i < 4u; i++) {
                sums[i][j] += a[i] * b;
            }
        }
    }
}

fn put(line: u32, thread: Thread) {
    if thread.t / 32u == line {
        for (var i = 0u; i < 4u; i++) {
            for (var j = 0u; j < 8u; j++) {
                tile[(thread.t / 8u % 4u * 4u + i) * TILE + thread.t % 8u * 8u + j] = sums[i][j];
            }
        }
    }
}

