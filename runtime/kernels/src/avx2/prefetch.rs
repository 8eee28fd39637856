//! What is asked for before it is read.

use core::arch::x86_64::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are on their way while a thin product works: more than the processor's own prefetching
/// dares, which ends with every page.
pub(super) const AHEAD: usize = 4096;

/// Whether bytes that are read once are asked for with the non-temporal hint. AMD's processors then keep them out of
/// the second-level cache, which was a little faster on a Zen 4; Intel's bring them past it, which took up to 1.7 times as
/// long as the ordinary hint on a Xeon.
static NON_TEMPORAL: AtomicBool = AtomicBool::new(false);

/// Learns from the processor's maker how to ask for bytes that are read once. Until then they are asked for in the
/// ordinary way.
pub(crate) fn learn() {
    let maker = __cpuid(0);
    let amd = [*b"Auth", *b"enti", *b"cAMD"].map(u32::from_le_bytes);
    NON_TEMPORAL.store([maker.ebx, maker.edx, maker.ecx] == amd, Ordering::Relaxed);
}

/// Brings the cache line where `floats` begin closer.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn ask_for(floats: &[f32]) {
    _mm_prefetch::<_MM_HINT_T0>(floats.as_ptr().cast());
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
    match NON_TEMPORAL.load(Ordering::Relaxed) {
        true => ask::<_MM_HINT_NTA>(bytes, AHEAD),
        false => ask::<_MM_HINT_T0>(bytes, AHEAD),
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
    fn amd_is_told_from_others() {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").expect("Linux lists its processors");
        learn();
        assert_eq!(
            NON_TEMPORAL.load(Ordering::Relaxed),
            cpus.contains("AuthenticAMD")
        );
    }
}
