//! Floats that a worker thread works in: a decoded tile of a weight, attention scores.
//!
//! They belong to the thread rather than to a pass, since a pass does not know how many threads
//! it will run on, and they stay allocated until the pool goes.

use std::cell::RefCell;

use graft_kernels::rounded::Strip;

/// Lends the calling thread's buffer, `len` floats of any content, to `work`, which must not
/// enter the pool: another piece of work could start on this thread and want the same buffer.
pub(super) fn with_floats<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static FLOATS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    FLOATS.with_borrow_mut(|floats| {
        if floats.len() < len {
            floats.resize(len, 0.0);
        }
        work(&mut floats[..len])
    })
}

/// Lends the calling thread's strip to `work`, which must not enter the pool.
pub(super) fn with_strip<R>(work: impl FnOnce(&mut Strip) -> R) -> R {
    thread_local! {
        static STRIP: RefCell<Strip> = RefCell::new(Strip::default());
    }
    STRIP.with_borrow_mut(work)
}
