//! What is asked for before it is read.

use core::arch::x86_64::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::product::Mat;

/// Bytes that are on their way while keys and values, or low-rank terms, are read: more than the processor's own
/// prefetching dares, which ends with every page.
pub(super) const AHEAD: usize = 4096;

/// Bytes that are on their way while a thin product works. A thread of a Zen 5 multiplies faster than 4 KiB come from
/// memory: from 8 KiB ahead it reads 1.1 times as much. An Intel Xeon was up to 1.07 times as fast from 4 KiB ahead.
static AHEAD_ONCE: AtomicUsize = AtomicUsize::new(AHEAD);

/// Whether bytes that are read once are asked for with the non-temporal hint. AMD's processors then keep them out of
/// the second-level cache, which was a little faster on a Zen 4; Intel's bring them past it, which took up to 1.7 times as
/// long as the ordinary hint on a Xeon.
static NON_TEMPORAL: AtomicBool = AtomicBool::new(false);

/// Of AMD's processors, those of the family of Zen 5.
const ZEN_5: u32 = 0x1a;

/// Learns from the processor's maker and family how to ask for bytes that are read once. Until then they are asked for in
/// the ordinary way.
pub(crate) fn learn() {
    let maker = __cpuid(0);
    let amd = [*b"Auth", *b"enti", *b"cAMD"].map(u32::from_le_bytes);
    let amd = [maker.ebx, maker.edx, maker.ecx] == amd;
    NON_TEMPORAL.store(amd, Ordering::Relaxed);
    let far = amd && family(__cpuid(1).eax) == ZEN_5;
    AHEAD_ONCE.store(if far { 2 * AHEAD } else { AHEAD }, Ordering::Relaxed);
}

/// A processor's family, of its signature: AMD's add a second number to the greatest that the first can be.
fn family(signature: u32) -> u32 {
    (signature >> 8 & 0xf) + (signature >> 20 & 0xff)
}

/// Brings the cache line where `floats` begin closer.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn ask_for(floats: &[f32]) {
    _mm_prefetch::<_MM_HINT_T0>(floats.as_ptr().cast());
}

/// Brings all of a matrix closer, whose columns are adjacent.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn ask_for_rows(x: Mat<'_>) {
    for i in 0..x.rows() {
        for line in x.row(i).chunks(16) {
            ask_for(line);
        }
    }
}

/// Brings what lies `ahead` of `bytes` closer. What lies beyond the end of a matrix is asked for in vain.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn ask_for_bytes(bytes: &[u8], ahead: usize) {
    ask::<_MM_HINT_T0>(bytes, ahead);
}

/// Brings what lies behind `bytes` closer while a thin product works, which reads each byte once.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn ask_once(bytes: &[u8]) {
    let ahead = AHEAD_ONCE.load(Ordering::Relaxed);
    match NON_TEMPORAL.load(Ordering::Relaxed) {
        true => ask::<_MM_HINT_NTA>(bytes, ahead),
        false => ask::<_MM_HINT_T0>(bytes, ahead),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn ask<const HINT: i32>(bytes: &[u8], ahead: usize) {
    for line in (0..bytes.len()).step_by(64) {
        let place = bytes.as_ptr().wrapping_add(ahead + line);
        _mm_prefetch::<HINT>(place.cast());
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_apart() {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").expect("Linux lists its processors");
        learn();
        let amd = cpus.contains("AuthenticAMD");
        assert_eq!(NON_TEMPORAL.load(Ordering::Relaxed), amd);
        let zen_5 = amd && cpus.contains("cpu family\t: 26\n");
        let ahead = if zen_5 { 8192 } else { 4096 };
        assert_eq!(AHEAD_ONCE.load(Ordering::Relaxed), ahead);
    }

    #[test]
    fn families_have_two_parts() {
        assert_eq!(family(0x00b0_0f21), 26, "Zen 5");
        assert_eq!(family(0x00a0_0f11), 25, "Zen 3");
        assert_eq!(family(0x000c_06f2), 6, "Emerald Rapids");
    }
}
