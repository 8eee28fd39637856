//! The worker pool: a fixed number of threads that sleep when there is nothing to do.
//!
//! Sums are cut into the same pieces for any number of threads, so results do not
//! depend on it.

use std::sync::Arc;

use crate::{Error, Result};

/// A pool of worker threads; clones share the workers.
#[derive(Clone, Debug)]
pub struct Pool(Arc<rayon::ThreadPool>);

impl Pool {
    /// The most workers of a pool: a system asked for far too many may fall over instead of refusing.
    pub const MOST: usize = 1024;

    /// A pool of `threads` workers; 0 means one per available core.
    ///
    /// # Errors
    /// If there are more than [`Pool::MOST`], or the operating system refuses them.
    pub fn new(threads: usize) -> Result<Self> {
        if threads > Self::MOST {
            return Err(Error::Threads {
                threads,
                reason: format!("{} are the most", Self::MOST),
            });
        }
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
