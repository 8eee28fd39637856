//! The worker pool: a fixed number of threads that sleep when there is nothing to do.
//!
//! Work is cut into the same pieces for any number of threads, so results do not
//! depend on it.

use std::sync::Arc;

use crate::{Error, Result};

/// A pool of worker threads; clones share the workers.
#[derive(Clone, Debug)]
pub struct Pool(Arc<rayon::ThreadPool>);

impl Pool {
    /// A pool of `threads` workers; 0 means one per available core.
    ///
    /// # Errors
    /// If the operating system refuses the threads.
    pub fn new(threads: usize) -> Result<Self> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("graft-{i}"))
            .build()
            .map(|pool| Self(Arc::new(pool)))
            .map_err(|e| Error::Threads {
                threads,
                reason: e.to_string(),
            })
    }

    /// Number of workers.
    pub fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs `work` inside the pool: rayon's parallel iterators in it use these workers.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}
