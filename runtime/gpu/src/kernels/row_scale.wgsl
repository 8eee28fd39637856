// A power of two for each row, which brings its greatest number to between 2^14 and 2^15: see mm_half.wgsl.

struct Params {
    scales_at: u32,
    x_at: u32,
    rows: u32,
    width: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> scales: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

var<workgroup> lanes: array<u32, 64>;

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let row = group.x + group.y * groups.x;
    // Bits without sign: integers compare infinities and NaN as well.
    var bits = 0u;
    if row < p.rows {
        for (var i = t; i < p.width; i += 64u) {
            bits = max(bits, bitcast<u32>(x[p.x_at + row * p.width + i]) & 0x7fffffffu);
        }
    }
    lanes[t] = bits;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if t < half {
            lanes[t] = max(lanes[t], lanes[t + half]);
        }
    }
    if t == 0u && row < p.rows {
        // 127 + 14 is the exponent of 2^14. No scale is so great that its inverse is not there; what is not
        // finite stays so.
        let exponent = lanes[0] >> 23u;
        let scale = select(min(268u - exponent, 240u), 127u, exponent == 255u);
        scales[p.scales_at + row] = bitcast<f32>(scale << 23u);
    }
}
