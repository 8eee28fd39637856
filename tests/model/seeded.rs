//! Numbers by name: the generator that `tests/golden/llava/clip_l.py` repeats.

/// SplitMix64 (Steele, Lea & Flood 2014) from the FNV-1a hash of a name on.
pub fn words(name: &str) -> impl Iterator<Item = u64> + use<> {
    let hash = |value: u64, byte: u8| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// `count` numbers from `middle - spread` to `middle + spread`.
pub fn values(name: &str, count: usize, spread: f32, middle: f32) -> Vec<f32> {
    let unit = words(name).map(|w| (w >> 40) as f32 / (1 << 23) as f32 - 1.0);
    unit.take(count).map(|u| middle + spread * u).collect()
}
