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
    /// Counts as well.
    above: Option<Box<Cancel>>,
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
            deadline: Some(deadline),
            ..self.clone()
        }
    }

    /// Another flag, which counts as raised as soon as this one is; raising it leaves this one as it is. For work
    /// that may also end itself.
    #[must_use]
    pub fn below(&self) -> Self {
        Self {
            above: Some(Box::new(self.clone())),
            ..Self::default()
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

    /// Whether it may come to be raised while somebody works with it alone: others have the flag, it has a deadline,
    /// or there is one above it.
    pub fn may_be_raised(&self) -> bool {
        self.is_shared() || self.deadline.is_some() || self.above.is_some()
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
            _ => self.above.as_ref().map_or(Ok(()), |above| above.check()),
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

    #[test]
    fn a_flag_below_another_is_raised_with_it_and_alone() {
        let all = Cancel::new();
        let one = all.below();
        assert!(one.may_be_raised() && all.is_shared() && !one.is_raised());
        one.raise();
        assert!(one.is_raised() && !all.is_raised());
        let other = all.below();
        all.raise();
        assert!(other.is_raised() && all.until(Instant::now()).below().is_raised());
        drop((one, other));
        assert!(!all.is_shared());
    }
}
