// Products of 16 x 16 x 16 by matrix units. SUBGROUPS must be how many a group has; a device where that is not so
// computes what no trial lets through.

var<private> sums: array<coop_mat16x16<f32, C>, 16u / SUBGROUPS>;

fn subgroup_of(t: u32) -> u32 {
    return subgroupBroadcastFirst(t / LANES);
}

fn add_product(i: u32, t: u32, l: u32, r: u32) {
    let a = coopLoadT<coop_mat16x16<f16, A>>(&left[l], LINE);
    let b = coopLoad<coop_mat16x16<f16, B>>(&right[r], LINE);
    sums[i] = coopMultiplyAdd(a, b, sums[i]);
}

fn add_product_turned(i: u32, t: u32, l: u32, r: u32) {
    let a = coopLoadT<coop_mat16x16<f16, A>>(&left[l], LINE);
    let b = coopLoadT<coop_mat16x16<f16, B>>(&right[r], WIDE_LINE);
    sums[i] = coopMultiplyAdd(a, b, sums[i]);
}

fn put(i: u32, t: u32, at: u32) {
    coopStoreT(sums[i], &tile[at], 16u);
}
