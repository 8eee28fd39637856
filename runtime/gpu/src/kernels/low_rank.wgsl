// Products of floats with any strides, 64 x 16 outputs to a group: what LoRA's forward and backward are made
// of. See ops/lora.rs of the kernels.
//
// product: c[m, n] = (accumulate ? c[m, n] : 0) + scale sum over k of a[m, k] b[k, n]
//          Group z takes the z-th run of k's and writes its own c, `run_size` elements after the one before.
// sum:     c[i] = (accumulate ? c[i] : 0) + sum over runs of a[run, i], in order
//
// KEEP says what dropout does: 0 nothing, 1 it drops elements of a, 2 of what is added to c. Elements are
// numbered in memory order.

struct Params {
    a_at: u32,
    b_at: u32,
    c_at: u32,
    m: u32,
    n: u32,
    k: u32,
    a_m: u32,
    a_k: u32,
    b_k: u32,
    b_n: u32,
    c_m: u32,
    c_n: u32,
    run: u32,
    run_size: u32,
    accumulate: u32,
    scale: f32,
    // Dropout: the key, the number of the first element, how many of 65536 are dropped, what the rest is
    // multiplied by.
    key_low: u32,
    key_high: u32,
    first_low: u32,
    first_high: u32,
    threshold: u32,
    factor: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

const M = 64u;
const N = 16u;
const DEPTH = 16u;

var<workgroup> left: array<f32, 1024>; // [DEPTH, M]
var<workgroup> right: array<f32, 256>; // [DEPTH, N]

// 64-bit arithmetic in (low, high) words.

fn add64(x: vec2<u32>, y: vec2<u32>) -> vec2<u32> {
    let low = x.x + y.x;
    return vec2(low, x.y + y.y + select(0u, 1u, low < x.x));
}

fn mul32(x: u32, y: u32) -> vec2<u32> {
    let low = (x & 65535u) * (y & 65535u);
    let middle = (x >> 16u) * (y & 65535u) + (low >> 16u);
    let other = (x & 65535u) * (y >> 16u) + (middle & 65535u);
    return vec2((other << 16u) | (low & 65535u), (x >> 16u) * (y >> 16u) + (middle >> 16u) + (other >> 16u));
}

fn mul64(x: vec2<u32>, y: vec2<u32>) -> vec2<u32> {
    let product = mul32(x.x, y.x);
    return vec2(product.x, product.y + x.x * y.y + x.y * y.x);
}

// `by` is 1 to 31.
fn shift64(x: vec2<u32>, by: u32) -> vec2<u32> {
    return vec2((x.x >> by) | (x.y << (32u - by)), x.y >> by);
}

// SplitMix64's finaliser.
fn mix(x: vec2<u32>) -> vec2<u32> {
    let y = mul64(x ^ shift64(x, 30u), vec2(0x1ce4e5b9u, 0xbf58476du));
    let z = mul64(y ^ shift64(y, 27u), vec2(0x133111ebu, 0x94d049bbu));
    return z ^ shift64(z, 31u);
}

// What dropout multiplies element `index` by. See ops/dropout.rs of the kernels.
fn keep(index: u32) -> f32 {
    let number = add64(vec2(p.first_low, p.first_high), vec2(index, 0u));
    let word = mix(add64(vec2(p.key_low, p.key_high), mul64(shift64(number, 2u), vec2(0x7f4a7c15u, 0x9e3779b9u))));
    let half = select(word.x, word.y, (number.x & 2u) != 0u);
    let draw = (half >> (16u * (number.x & 1u))) & 65535u;
    return select(p.factor, 0.0, draw < p.threshold);
}

fn a_value(m: u32, k: u32) -> f32 {
    let index = m * p.a_m + k * p.a_k;
    let value = a[p.a_at + index];
    if KEEP == 1u {
        return value * keep(index);
    }
    return value;
}

@compute @workgroup_size(256)
fn product(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let m0 = group.x * M;
    let n0 = group.y * N;
    let k_begin = group.z * p.run;
    let k_end = min(p.k, k_begin + p.run);
    let n = t % N;
    let m4 = t / N * 4u;
    var sums = vec4(0.0);
    for (var k0 = k_begin; k0 < k_end; k0 += DEPTH) {
        workgroupBarrier();
        for (var j = 0u; j < 4u; j++) {
            // Neighbouring threads read neighbouring elements.
            var m = t % M;
            var k = t / M + 4u * j;
            if p.a_k == 1u {
                k = t % DEPTH;
                m = t / DEPTH + 16u * j;
            }
            var value = 0.0;
            if m0 + m < p.m && k0 + k < k_end {
                value = a_value(m0 + m, k0 + k);
            }
            left[k * M + m] = value;
        }
        var b_n = t % N;
        var b_k = t / N;
        if p.b_k == 1u {
            b_n = t / N;
            b_k = t % N;
        }
        var value = 0.0;
        if n0 + b_n < p.n && k0 + b_k < k_end {
            value = b[p.b_at + (k0 + b_k) * p.b_k + (n0 + b_n) * p.b_n];
        }
        right[b_k * N + b_n] = value;
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let at = k * M + m4;
            let l = vec4(left[at], left[at + 1u], left[at + 2u], left[at + 3u]);
            sums = fma(l, vec4(right[k * N + n]), sums);
        }
    }
    for (var j = 0u; j < 4u; j++) {
        let m = m0 + m4 + j;
        if m < p.m && n0 + n < p.n {
            let index = m * p.c_m + (n0 + n) * p.c_n;
            let at = p.c_at + group.z * p.run_size + index;
            var value = p.scale * sums[j];
            if KEEP == 2u {
                value *= keep(index);
            }
            if p.accumulate != 0u {
                value += c[at];
            }
            c[at] = value;
        }
    }
}

@compute @workgroup_size(256)
fn sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let i = (group.x + group.y * groups.x) * 256u + t;
    if i >= p.run_size {
        return;
    }
    var value = 0.0;
    for (var run = 0u; run < p.run; run++) {
        value += a[p.a_at + run * p.run_size + i];
    }
    if p.accumulate != 0u {
        value += c[p.c_at + i];
    }
    c[p.c_at + i] = value;
}
