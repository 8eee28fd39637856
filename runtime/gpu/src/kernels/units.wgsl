// Products of 16 x 16 x 16 by matrix units. SUBGROUPS must be how many a group has; a device where that is not so
// computes what no trial lets through.

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

var<private> sums: array<Sums, 16u / SUBGROUPS>;

fn subgroup_of(t: u32) -> u32 {
    return subgroupBroadcastFirst(t / LANES);
}

fn add_products(up: u32, t: u32, l: u32) {
    let a = coopLoadT<Left>(&left[l], LINE);
    let more = coopLoadT<Left>(&rest[l], LINE);
    var b = coopLoad<Right>(&right[0], LINE);
    sums[4u * up] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up]));
    b = coopLoad<Right>(&right[16u * LINE], LINE);
    sums[4u * up + 1u] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up + 1u]));
    b = coopLoad<Right>(&right[32u * LINE], LINE);
    sums[4u * up + 2u] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up + 2u]));
    b = coopLoad<Right>(&right[48u * LINE], LINE);
    sums[4u * up + 3u] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up + 3u]));
}

fn add_products_turned(up: u32, t: u32, l: u32) {
    let a = coopLoadT<Left>(&left[l], LINE);
    let more = coopLoadT<Left>(&rest[l], LINE);
    var b = coopLoadT<Right>(&right[0], WIDE_LINE);
    sums[4u * up] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up]));
    b = coopLoadT<Right>(&right[4], WIDE_LINE);
    sums[4u * up + 1u] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up + 1u]));
    b = coopLoadT<Right>(&right[8], WIDE_LINE);
    sums[4u * up + 2u] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up + 2u]));
    b = coopLoadT<Right>(&right[12], WIDE_LINE);
    sums[4u * up + 3u] = coopMultiplyAdd(a, b, coopMultiplyAdd(more, b, sums[4u * up + 3u]));
}

fn put(i: u32, t: u32, at: u32) {
    coopStoreT(sums[i], &tile[at], 16u);
}
