//! Reservations against a byte limit: refused before anything is loaded, released on drop.

use std::sync::{Arc, Mutex, PoisonError};

/// A limit that several owners share; clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: u64,
    reserved: Mutex<u64>,
}

/// What was asked for does not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{asked} bytes do not fit: {reserved} of {limit} are in use; release something or raise the limit"
)]
pub struct BudgetError {
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes in use.
    pub reserved: u64,
    /// The limit.
    pub limit: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Account {
            limit,
            reserved: Mutex::new(0),
        }))
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes in use.
    pub fn reserved(&self) -> u64 {
        *self
            .0
            .reserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `bytes` until the reservation is dropped.
    ///
    /// # Errors
    /// If they do not fit; nothing is taken then.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, BudgetError> {
        let mut reservation = Reservation {
            budget: self.clone(),
            bytes: 0,
        };
        reservation.resize(bytes)?;
        Ok(reservation)
    }
}

/// Bytes of a budget, held until dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` from now on.
    ///
    /// # Errors
    /// If that is more than before and does not fit; it holds what it held then.
    pub fn resize(&mut self, bytes: u64) -> Result<(), BudgetError> {
        let account = &self.budget.0;
        let mut reserved = account
            .reserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let others = *reserved - self.bytes;
        if bytes > self.bytes && bytes > account.limit.saturating_sub(others) {
            return Err(BudgetError {
                asked: bytes,
                reserved: others,
                limit: account.limit,
            });
        }
        *reserved = others + bytes;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let account = &self.budget.0;
        let mut reserved = account
            .reserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *reserved -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_never_exceeds_the_limit_and_comes_back() {
        let budget = Budget::new(100);
        let mut a = budget.reserve(60).unwrap();
        let refused = budget.reserve(41).unwrap_err();
        assert_eq!(
            (refused.asked, refused.reserved, refused.limit),
            (41, 60, 100)
        );
        let b = budget.reserve(40).unwrap();
        assert!(a.resize(61).is_err());
        assert_eq!((a.bytes(), budget.reserved()), (60, 100));
        a.resize(10).unwrap();
        assert_eq!(budget.reserved(), 50);
        assert!(budget.reserve(u64::MAX).is_err());
        drop(b);
        drop(a);
        assert_eq!((budget.reserved(), budget.limit()), (0, 100));
    }
}
