// What products with a stored matrix are given.
//
// x is [tokens, inputs], y is [tokens, y_width]; w has `rows` rows of row_bytes bytes, a piece of a matrix
// whose first row makes column `y_first` of y.

struct Params {
    w_at: u32,
    y_at: u32,
    x_at: u32,
    tokens: u32,
    rows: u32,
    inputs: u32,
    row_bytes: u32,
    y_first: u32,
    y_width: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

