// What a thread makes of products of many tokens: sums of LINES tokens, 16 apart, and eight columns.

alias Sums = array<array<vec4<f32>, 2>, LINES>;

// Writes them to y, columns `apart` from each other.
fn write_sums(sums: ptr<function, Sums>, token: u32, column: u32, apart: u32) {
    for (var a = 0u; a < LINES; a++) {
        let out_token = token + 16u * a;
        for (var b = 0u; b < 8u; b++) {
            let out_row = column + apart * b;
            if out_token < p.tokens && out_row < p.rows {
                y[p.y_at + out_token * p.y_width + p.y_first + out_row] = (*sums)[a][b / 4u][b % 4u];
            }
        }
    }
}
