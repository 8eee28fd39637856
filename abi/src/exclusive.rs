//! Objects of one call at a time.

use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::fault::Fault;
use crate::status::{GRAFT_E_BUSY, GRAFT_E_STATE};

/// Something that one call at a time may use: a second one is refused, not kept waiting.
#[derive(Debug)]
pub struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    /// An object that nobody uses.
    pub fn new(object: T) -> Self {
        Self(Mutex::new(object))
    }

    /// The object, for a call; `name` is what messages call it.
    ///
    /// # Errors
    /// If another call uses it, or one was ended by a bug of ours and left it in pieces.
    pub fn enter(&self, name: &str) -> Result<MutexGuard<'_, T>, Fault> {
        self.0.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Fault::new(
                GRAFT_E_BUSY,
                format!("another call uses the {name}; wait for its end, or use one {name} per thread"),
            ),
            TryLockError::Poisoned(_) => Fault::new(
                GRAFT_E_STATE,
                format!("an earlier call has met a bug of graft and left the {name} unusable; release it"),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_is_refused_and_a_broken_object_stays_shut() {
        let object = Exclusive::new(1);
        let first = object.enter("thing").unwrap();
        assert_eq!(object.enter("thing").unwrap_err().status(), GRAFT_E_BUSY);
        drop(first);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _inside = object.enter("thing").unwrap();
            std::panic::resume_unwind(Box::new("a bug"));
        }));
        assert!(broken.is_err());
        assert_eq!(object.enter("thing").unwrap_err().status(), GRAFT_E_STATE);
    }
}
