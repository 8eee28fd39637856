// Products of 16 x 16 x 16 by matrix units. SUBGROUPS must be how many a group has; a device where that is not so
// computes what no trial lets through.

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

var<private> sums: array<Sums, 16u / SUBGROUPS>;

fn subgroup_of(t: u32) -> u32 {
    return subgroupBroadcastFirst(t / LANES);
}

fn add_products(up: u32, t: u32, l: u32, r: u32) {
    let a = coopLoadT<Left>(&left[l], LINE);
    sums[4u * up] = coopMultiplyAdd(a, coopLoad<Right>(&right[r], LINE), sums[4u * up]);
    sums[4u * up + 1u] = coopMultiplyAdd(a, coopLoad<Right>(&right[r + 16u * LINE], LINE), sums[4u * up + 1u]);
    sums[4u * up + 2u] = coopMultiplyAdd(a, coopLoad<Right>(&right[r + 32u * LINE], LINE), sums[4u * up + 2u]);
    sums[4u * up + 3u] = coopMultiplyAdd(a, coopLoad<Right>(&right[r + 48u * LINE], LINE), sums[4u * up + 3u]);
}

fn add_products_turned(up: u32, t: u32, l: u32, r: u32) {
    let a = coopLoadT<Left>(&left[l], LINE);
    sums[4u * up] = coopMultiplyAdd(a, coopLoadT<Right>(&right[r], WIDE_LINE), sums[4u * up]);
    sums[4u * up + 1u] = coopMultiplyAdd(a, coopLoadT<Right>(&right[r + 4u], WIDE_LINE), sums[4u * up + 1u]);
    sums[4u * up + 2u] = coopMultiplyAdd(a, coopLoadT<Right>(&right[r + 8u], WIDE_LINE), sums[4u * up + 2u]);
    sums[4u * up + 3u] = coopMultiplyAdd(a, coopLoadT<Right>(&right[r + 12u], WIDE_LINE), sums[4u * up + 3u]);
}

fn put(i: u32, t: u32, at: u32) {
    coopStoreT(sums[i], &tile[at], 16u);
}
