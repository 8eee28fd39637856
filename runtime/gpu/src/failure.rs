//! What went wrong on a device, kept until somebody asks.
//!
//! Drivers report most errors later and elsewhere than where they were made. The first one is kept
//! here; everything that waits for the device, or gives it more to do, asks first.

use std::sync::{Mutex, PoisonError};

use crate::{GpuError, Result};

/// The first failure of a device, if there was one.
#[derive(Debug)]
pub(crate) struct Failure {
    adapter: String,
    first: Mutex<Option<GpuError>>,
}

impl Failure {
    pub(crate) fn new(adapter: String) -> Self {
        Self {
            adapter,
            first: Mutex::new(None),
        }
    }

    /// # Errors
    /// The failure, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.first.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Notes that the device is lost. That explains errors noted before, so it takes their place.
    pub(crate) fn lose(&self, reason: String) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*first, Some(GpuError::Lost { .. })) {
            *first = Some(GpuError::Lost {
                adapter: self.adapter.clone(),
                reason,
            });
        }
    }

    /// Notes an error that belongs to no call of ours.
    pub(crate) fn note(&self, reason: String) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(self.internal(reason));
        }
    }

    /// An error that only a mistake in this crate explains.
    pub(crate) fn internal(&self, reason: String) -> GpuError {
        GpuError::Internal {
            adapter: self.adapter.clone(),
            reason,
        }
    }
}
