//! A flag that any thread may raise to stop long work at its next safe point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{Error, Result};

/// A shared flag; clones are the same flag. One with a deadline also counts as raised once that has passed.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// A flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same flag, which counts as raised from `deadline` on; other clones do not.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self {
            flag: Arc::clone(&self.flag),
            deadline: Some(deadline),
        }
    }

    /// Raises the flag.
    pub fn raise(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Takes the flag down, to use it again; work that has not looked meanwhile goes on.
    pub fn lower(&self) {
        self.flag.store(false, Ordering::Relaxed);
    }

    /// Whether there are other clones of the flag.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.flag) > 1
    }

    /// Whether it may come to be raised while somebody works with it alone: others have the flag, or it has a
    /// deadline.
    pub fn may_be_raised(&self) -> bool {
        self.is_shared() || self.deadline.is_some()
    }

    /// Whether the flag is raised.
    pub fn is_raised(&self) -> bool {
        self.check().is_err()
    }

    /// [`Error::Cancelled`] once the flag is raised, [`Error::TimedOut`] after the deadline; long loops call this at
    /// safe points.
    pub fn check(&self) -> Result<()> {
        if self.flag.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::TimedOut),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_is_its_own_and_the_flag_is_everybodys() {
        let flag = Cancel::new();
        assert!(!flag.may_be_raised());
        let late = flag.until(Instant::now());
        let early = flag.until(Instant::now() + Duration::from_secs(3600));
        assert!(matches!(late.check(), Err(Error::TimedOut)) && late.is_raised());
        assert!(early.check().is_ok() && flag.check().is_ok());
        assert!(early.may_be_raised());
        early.raise();
        assert!(matches!(late.check(), Err(Error::Cancelled)) && flag.is_raised());
        flag.lower();
        assert!(!early.is_raised());
    }
}
