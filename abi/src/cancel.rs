//! Cancel tokens: a flag that any thread may raise, and a signal handler too.
//!
//! What a signal handler calls may take no lock, so tokens have a table of their own: cells that are never freed, found
//! by a handle like those of [`crate::handle`] that ends with `1 1`. Raising is two loads and a store. A released cell
//! is given out again once no call uses its flag any more.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use graft::cancel::Cancel;

use crate::call::{self, DONE};
use crate::fault::Fault;
use crate::pointer::Out;
use crate::status::{GRAFT_E_HANDLE, GRAFT_E_MEMORY, graft_status};
use crate::structs::Plain;

/// A cancel token as programs hold it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct CancelToken(*mut ());

// SAFETY: a pointer that is looked up and never followed.
unsafe impl Plain for CancelToken {}

struct Cell {
    /// The number of its present use; 0 while it is nobody's.
    uses: AtomicUsize,
    cancel: Cancel,
}

const HALF: u32 = usize::BITS / 2;
const USES: usize = 1 << HALF;
const TAG: usize = 0b11;

/// Cells come in blocks that double, so that a cell never moves.
const FIRST_BLOCK: usize = 64;
const BLOCKS: usize = 12;

static CELLS: [AtomicPtr<Cell>; BLOCKS] = [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS];

/// Places that are nobody's, and how often places were given out.
static FREE: Mutex<Spare> = Mutex::new(Spare {
    free: Vec::new(),
    blocks: 0,
    uses: 0,
});

struct Spare {
    free: Vec<usize>,
    blocks: usize,
    uses: usize,
}

/// The block of a place, and where in it.
fn block_of(place: usize) -> (usize, usize) {
    let block = (place / FIRST_BLOCK + 1).ilog2() as usize;
    (block, place - FIRST_BLOCK * ((1 << block) - 1))
}

fn cell(place: usize) -> Option<&'static Cell> {
    let (block, index) = block_of(place);
    let cells = CELLS.get(block)?.load(Ordering::Acquire);
    if cells.is_null() {
        return None;
    }
    // SAFETY: a block is put here once, whole, has `FIRST_BLOCK << block` cells, of which `index` is one, and is
    // never freed.
    Some(unsafe { &*cells.add(index) })
}

impl Spare {
    /// Makes the next block of cells.
    fn grow(&mut self) -> Result<(), Fault> {
        if self.blocks == BLOCKS {
            let message = "there are too many cancel tokens; release some";
            return Err(Fault::new(GRAFT_E_MEMORY, message));
        }
        let cells: Box<[Cell]> = (0..FIRST_BLOCK << self.blocks)
            .map(|_| Cell {
                uses: AtomicUsize::new(0),
                cancel: Cancel::new(),
            })
            .collect();
        let first = FIRST_BLOCK * ((1 << self.blocks) - 1);
        self.free.extend(first..first + cells.len());
        let cells = Box::leak(cells).as_mut_ptr();
        CELLS[self.blocks].store(cells, Ordering::Release);
        self.blocks += 1;
        Ok(())
    }

    /// A place that no program holds and whose flag no call uses.
    fn take(&mut self) -> Result<usize, Fault> {
        let idle = |&place: &usize| cell(place).is_some_and(|cell| !cell.cancel.is_shared());
        if !self.free.iter().any(idle) {
            self.grow()?;
        }
        let at = self.free.iter().position(idle);
        at.map(|at| self.free.swap_remove(at))
            .ok_or_else(|| Fault::internal("no cell in a new block"))
    }
}

/// How many tokens programs hold.
pub fn held() -> usize {
    let spare = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let all = FIRST_BLOCK * ((1 << spare.blocks) - 1);
    all - spare.free.len()
}

impl CancelToken {
    fn new() -> Result<Self, Fault> {
        let mut spare = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = spare.take()?;
        spare.uses = spare.uses % (USES - 1) + 1;
        let uses = spare.uses;
        drop(spare);
        let cell = cell(place).ok_or_else(|| Fault::internal("a cell is not there"))?;
        cell.cancel.lower();
        cell.uses.store(uses, Ordering::Release);
        let address = uses << HALF | place << 2 | TAG;
        Ok(Self(ptr::without_provenance_mut(address)))
    }

    /// Where its cell is; safe in a signal handler.
    fn find(self) -> Option<(usize, &'static Cell)> {
        let address = self.0.addr();
        let (uses, place) = (address >> HALF, (address & (USES - 1)) >> 2);
        let cell = cell(place).filter(|_| address & 0b11 == TAG)?;
        (cell.uses.load(Ordering::Acquire) == uses && uses != 0).then_some((place, cell))
    }

    fn get(self) -> Result<&'static Cell, Fault> {
        let what = match self.0.is_null() {
            true => "is NULL",
            false => "was released, or never was one",
        };
        self.find().map(|(_, cell)| cell).ok_or_else(|| {
            Fault::new(
                GRAFT_E_HANDLE,
                format!("the cancel token that was given {what}"),
            )
        })
    }

    /// Whether it is NULL.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The flag of one call: raised with the token, and alone where a callback of the call asks to stop, so that the
    /// token of several calls ends no other one. For NULL it is raised alone.
    ///
    /// # Errors
    /// If the token was released.
    pub fn flag(self) -> Result<Cancel, Fault> {
        match self.0.is_null() {
            true => Ok(Cancel::new()),
            false => Ok(self.get()?.cancel.below()),
        }
    }

    fn release(self) -> Result<(), Fault> {
        if self.0.is_null() {
            return Ok(());
        }
        // Two threads that release the same token must not both give it back.
        let mut spare = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = self.get()?;
        if let Some((place, _)) = self.find() {
            cell.uses.store(0, Ordering::Release);
            spare.free.push(place);
        }
        Ok(())
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_cancel_create(out: Out<CancelToken>) -> graft_status {
    call::status("graft_cancel_create", || {
        out.check("out")?;
        out.set(CancelToken::new()?);
        DONE
    })
}

/// See `graft.h`. It does not pass through [`call`], whose bookkeeping is not made for signal handlers; nothing in
/// it can panic.
#[unsafe(no_mangle)]
pub extern "C" fn graft_cancel_signal(token: CancelToken) {
    if let Some((_, cell)) = token.find() {
        cell.cancel.raise();
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_cancel_is_signalled(token: CancelToken) -> i32 {
    call::value("graft_cancel_is_signalled", 0, || {
        Ok(token.get()?.cancel.is_raised().into())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_cancel_reset(token: CancelToken) {
    call::value("graft_cancel_reset", (), || {
        token.get()?.cancel.lower();
        Ok(())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_cancel_release(token: CancelToken) {
    call::value("graft_cancel_release", (), || token.release())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_blocks_agree() {
        let mut place = 0;
        for block in 0..BLOCKS {
            for index in [0, 1, (FIRST_BLOCK << block) - 1] {
                assert_eq!(block_of(place + index), (block, index));
            }
            place += FIRST_BLOCK << block;
        }
    }

    #[test]
    fn a_released_token_raises_nothing() {
        let first = CancelToken::new().unwrap();
        let flag = first.flag().unwrap();
        first.release().unwrap();
        let others: Vec<_> = (0..300).map(|_| CancelToken::new().unwrap()).collect();
        graft_cancel_signal(first);
        assert!(!flag.is_raised() && first.flag().is_err() && first.release().is_err());
        for token in &others {
            assert_eq!(graft_cancel_is_signalled(*token), 0);
        }
        graft_cancel_signal(others[7]);
        assert!(others[7].flag().unwrap().is_raised());
        assert!(!others[8].flag().unwrap().is_raised());
        graft_cancel_reset(others[7]);
        assert!(!others[7].flag().unwrap().is_raised());
        others
            .into_iter()
            .for_each(|token| token.release().unwrap());
    }

    #[test]
    fn a_flag_in_use_is_not_given_out_again() {
        let token = CancelToken::new().unwrap();
        let in_use = token.flag().unwrap();
        token.release().unwrap();
        for _ in 0..200 {
            let other = CancelToken::new().unwrap();
            graft_cancel_signal(other);
            assert!(!in_use.is_raised());
            other.release().unwrap();
        }
    }

    #[test]
    fn whatever_is_no_token_is_refused() {
        let mut local = 0_u64;
        for pointer in [
            (&raw mut local).cast(),
            ptr::null_mut(),
            ptr::without_provenance_mut(3),
            ptr::without_provenance_mut(usize::MAX),
        ] {
            graft_cancel_signal(CancelToken(pointer));
            assert!(CancelToken(pointer).get().is_err());
        }
    }
}
