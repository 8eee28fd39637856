//! Floats that a worker thread works in: a decoded tile of a weight, attention scores.
//!
//! They belong to the thread rather than to a pass, since a pass does not know how many threads
//! it will run on, and they stay allocated until the pool goes.

use std::cell::RefCell;

use graft_kernels::rounded::Strip;
use graft_kernels::words::WordRoom;

/// Floats of a cache line.
const LINE: usize = 16;

/// Lends the calling thread's buffer, `len` floats of any content that start a cache line, to `work`, which must not
/// enter the pool: another piece of work could start on this thread and want the same buffer.
pub(super) fn with_floats<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static FLOATS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    FLOATS.with_borrow_mut(|floats| {
        if floats.len() < len + LINE {
            floats.resize(len + LINE, 0.0);
        }
        // A vector that reaches into a second line takes as long as two.
        let first = floats.as_ptr().align_offset(LINE * size_of::<f32>());
        work(&mut floats[first.min(LINE)..][..len])
    })
}

/// Lends the calling thread's strip to `work`, which must not enter the pool.
pub(super) fn with_strip<R>(work: impl FnOnce(&mut Strip) -> R) -> R {
    thread_local! {
        static STRIP: RefCell<Strip> = RefCell::new(Strip::default());
    }
    STRIP.with_borrow_mut(work)
}

/// Lends the calling thread's room for words to `work`, which must not enter the pool.
pub(super) fn with_words<R>(work: impl FnOnce(&mut WordRoom) -> R) -> R {
    thread_local! {
        static ROOM: RefCell<WordRoom> = RefCell::new(WordRoom::default());
    }
    ROOM.with_borrow_mut(work)
}
