// Products of 16 x 16 x 16 by threads, for devices without matrix units: the same to the order of sums. A thread
// has the same elements of every product, next to each other in a line.

const ELEMENTS = 256u / LANES;

var<private> sums: array<array<f32, ELEMENTS>, 16u / SUBGROUPS>;

fn subgroup_of(t: u32) -> u32 {
    return t / LANES;
}

fn add_product(i: u32, t: u32, l: u32, r: u32) {
    let first = t % LANES * ELEMENTS;
    for (var k = 0u; k < 16u; k++) {
        let a = f32(left[l + first / 16u * LINE + k]);
        for (var j = 0u; j < ELEMENTS; j++) {
            sums[i][j] += a * f32(right[r + (first % 16u + j) * LINE + k]);
        }
    }
}

fn add_product_turned(i: u32, t: u32, l: u32, r: u32) {
    let first = t % LANES * ELEMENTS;
    for (var k = 0u; k < 16u; k++) {
        let a = f32(left[l + first / 16u * LINE + k]);
        for (var j = 0u; j < ELEMENTS; j++) {
            sums[i][j] += a * f32(right[r + k * WIDE_LINE + first % 16u + j]);
        }
    }
}

fn put(i: u32, t: u32, at: u32) {
    let first = t % LANES * ELEMENTS;
    for (var j = 0u; j < ELEMENTS; j++) {
        tile[at + first + j] = sums[i][j];
    }
}
