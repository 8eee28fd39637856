//! The memory of a plugin: an allocator for many small pieces that live as long as a record.
//!
//! Reading a record takes hundreds of pieces of a few dozen bytes, and gives all of them back. Pieces of
//! the same size are kept in a list, so that either is a few instructions; larger ones are the standard
//! allocator's. A plugin has one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Sizes are multiples of this, and so are addresses.
const STEP: usize = 16;
/// The largest piece that is kept in a list.
const LARGEST: usize = 1024;
/// Bytes taken from the standard allocator at a time.
const CHUNK: usize = 64 << 10;

/// The allocator.
pub(crate) struct Pieces(UnsafeCell<Lists>);

struct Lists {
    /// Pieces given back, by size; the first bytes of each point to the next.
    free: [*mut u8; LARGEST / STEP],
    /// What is left of the last chunk.
    rest: *mut u8,
    rest_bytes: usize,
}

// SAFETY: WebAssembly without threads has nobody to share it with; tests use it on one thread.
unsafe impl Sync for Pieces {}

impl Pieces {
    pub const fn new() -> Self {
        Self(UnsafeCell::new(Lists {
            free: [ptr::null_mut(); LARGEST / STEP],
            rest: ptr::null_mut(),
            rest_bytes: 0,
        }))
    }
}

/// The list of a piece, if it is small.
fn list(layout: &Layout) -> Option<usize> {
    let small = layout.size() <= LARGEST && layout.size() > 0 && layout.align() <= STEP;
    small.then(|| (layout.size() - 1) / STEP)
}

// SAFETY: a piece comes from a chunk that is never given back, has at least the bytes of its layout at a
// multiple of STEP, and is in no list while it is in use; all else is the standard allocator's.
unsafe impl GlobalAlloc for Pieces {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(list) = list(&layout) else {
            // SAFETY: as the caller says.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: one thread, and nothing below calls back.
        let lists = unsafe { &mut *self.0.get() };
        let piece = lists.free[list];
        if !piece.is_null() {
            // SAFETY: a piece in a list begins with the address of the next.
            lists.free[list] = unsafe { piece.cast::<*mut u8>().read() };
            return piece;
        }
        let bytes = (list + 1) * STEP;
        if lists.rest_bytes < bytes {
            let chunk = Layout::from_size_align(CHUNK, STEP).expect("a power of two");
            // SAFETY: a chunk has bytes.
            let chunk = unsafe { System.alloc(chunk) };
            if chunk.is_null() {
                return chunk;
            }
            lists.rest = chunk;
            lists.rest_bytes = CHUNK;
        }
        let piece = lists.rest;
        // SAFETY: the chunk has this many bytes left.
        lists.rest = unsafe { piece.add(bytes) };
        lists.rest_bytes -= bytes;
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let Some(list) = list(&layout) else {
            // SAFETY: as the caller says; it came from there.
            return unsafe { System.dealloc(piece, layout) };
        };
        // SAFETY: one thread; the piece has room for an address and belongs to nobody now.
        unsafe {
            let lists = &mut *self.0.get();
            piece.cast::<*mut u8>().write(lists.free[list]);
            lists.free[list] = piece;
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller gives a size that a layout may have.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (list(&layout), list(&wanted)) {
            (Some(before), Some(after)) if before == after => piece,
            // SAFETY: as the caller says; it came from there.
            (None, None) => unsafe { System.realloc(piece, layout, bytes) },
            // SAFETY: both pieces have the bytes that are copied.
            _ => unsafe {
                let other = self.alloc(wanted);
                if !other.is_null() {
                    ptr::copy_nonoverlapping(piece, other, layout.size().min(bytes));
                    self.dealloc(piece, layout);
                }
                other
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_keep_their_bytes_and_are_used_again() {
        let pieces = Pieces::new();
        let mut seed = 1u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            (seed >> 33) as usize % n
        };
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let whole = |(piece, layout, mark): (*mut u8, Layout, u8)| {
            // SAFETY: it is held.
            let bytes = unsafe { std::slice::from_raw_parts(piece, layout.size()) };
            bytes.iter().all(|&b| b == mark)
        };
        for round in 0..20_000 {
            let most = [40, 1100, 5000][random(3)];
            let size = 1 + random(most);
            let layout = Layout::from_size_align(size, 1 << random(5)).unwrap();
            let mark = round as u8;
            if held.len() < 300 {
                // SAFETY: the layout has bytes, and they are written before they are read.
                unsafe {
                    let piece = pieces.alloc(layout);
                    assert_eq!(piece as usize % layout.align(), 0);
                    piece.write_bytes(mark, size);
                    held.push((piece, layout, mark));
                }
            }
            let one = random(held.len());
            assert!(whole(held[one]));
            match random(3) {
                0 => {
                    let (piece, layout, _) = held.swap_remove(one);
                    // SAFETY: it was held.
                    unsafe { pieces.dealloc(piece, layout) };
                }
                1 => {
                    let (piece, layout, mark) = held[one];
                    let wanted = Layout::from_size_align(size, layout.align()).unwrap();
                    // SAFETY: it was held; the new bytes are written before they are read.
                    unsafe {
                        let piece = pieces.realloc(piece, layout, size);
                        let kept = (
                            piece,
                            Layout::from_size_align(size.min(layout.size()), 1).unwrap(),
                            mark,
                        );
                        assert!(whole(kept));
                        piece.write_bytes(mark, size);
                        held[one] = (piece, wanted, mark);
                    }
                }
                _ => {}
            }
        }
        for (piece, layout, mark) in held {
            assert!(whole((piece, layout, mark)));
            // SAFETY: it was held.
            unsafe { pieces.dealloc(piece, layout) };
        }
        let layout = Layout::from_size_align(40, 8).unwrap();
        // SAFETY: the layout has bytes.
        unsafe {
            let piece = pieces.alloc(layout);
            pieces.dealloc(piece, layout);
            assert_eq!(
                pieces.alloc(layout),
                piece,
                "the last given back is the next"
            );
        }
    }
}
