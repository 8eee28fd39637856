// Products of 16 x 16 x 16 by threads, for devices without matrix units: the same to the order of sums. A thread
// has the same elements of every product, next to each other in a line.

const ELEMENTS = 256u / LANES;

var<private> sums: array<array<f32, ELEMENTS>, 16u / SUBGROUPS>;

fn subgroup_of(t: u32) -> u32 {
    return t / LANES;
}

fn term4(at: u32) -> vec4<f32> {
    return vec4<f32>(left[at]) + vec4<f32>(rest[at]);
}

fn add_products(up: u32, t: u32, l: u32) {
    let first = t % LANES * ELEMENTS;
    for (var across = 0u; across < 4u; across++) {
        for (var k = 0u; k < 4u; k++) {
            let a = term4(l + first / 16u * LINE + k);
            for (var j = 0u; j < ELEMENTS; j++) {
                let b = vec4<f32>(right[(16u * across + first % 16u + j) * LINE + k]);
                sums[4u * up + across][j] += dot(a, b);
            }
        }
    }
}

fn add_products_turned(up: u32, t: u32, l: u32) {
    let first = t % LANES * ELEMENTS;
    for (var across = 0u; across < 4u; across++) {
        for (var k = 0u; k < 16u; k++) {
            let a = term4(l + first / 16u * LINE + k / 4u)[k % 4u];
            for (var j = 0u; j < ELEMENTS; j++) {
                let column = 16u * across + first % 16u + j;
                sums[4u * up + across][j] += a * f32(right[k * WIDE_LINE + column / 4u][column % 4u]);
            }
        }
    }
}

fn put(i: u32, t: u32, at: u32) {
    let first = t % LANES * ELEMENTS;
    for (var j = 0u; j < ELEMENTS; j++) {
        tile[at + first + j] = sums[i][j];
    }
}
