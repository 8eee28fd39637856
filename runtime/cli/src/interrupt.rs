//! Ctrl-C: what it stops, and who hears of it.
//!
//! The process has one flag that Ctrl-C raises, the command's. [`listen`] puts another one in its
//! place for a while; where there is none, Ctrl-C ends the process.

use std::process::exit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use graft::cancel::Cancel;

use crate::failure::Failure;

static FLAG: Mutex<Option<Cancel>> = Mutex::new(None);

/// Puts `cancel` under Ctrl-C for the rest of the process. A second Ctrl-C, while the first still
/// waits for a safe point, ends the process at once.
pub fn install(cancel: &Cancel) -> Result<(), ctrlc::Error> {
    *flag() = Some(cancel.clone());
    ctrlc::set_handler(|| match &*flag() {
        Some(cancel) if !cancel.is_raised() => cancel.raise(),
        _ => exit(Failure::INTERRUPTED.into()),
    })
}

/// Takes the command's flag away: from now on Ctrl-C ends the process, except while somebody listens.
pub fn release() {
    *flag() = None;
}

/// Puts `cancel` under Ctrl-C until the guard is dropped.
#[must_use]
pub fn listen(cancel: &Cancel) -> Listening {
    Listening(flag().replace(cancel.clone()))
}

/// While it lives, a flag of its own is under Ctrl-C.
pub struct Listening(Option<Cancel>);

impl Drop for Listening {
    fn drop(&mut self) {
        *flag() = self.0.take();
    }
}

fn flag() -> MutexGuard<'static, Option<Cancel>> {
    // A flag is whole whatever happened to who held it.
    FLAG.lock().unwrap_or_else(PoisonError::into_inner)
}
