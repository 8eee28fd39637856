//! Runtimes: the threads, the memory limit and the log that models share.

#[cfg(feature = "plugins")]
use std::path::PathBuf;
#[cfg(feature = "plugins")]
use std::sync::OnceLock;
use std::sync::{Arc, Mutex, PoisonError};

use graft::memory::{Budget, peak_bytes};
use graft::threads::Pool;

use crate::call::{self, DONE};
use crate::callback::{Destroy, UserData, graft_destroy_fn};
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::{Handle, shared_kind};
use crate::log::{self, Listener, Listening, graft_log_fn, graft_log_level};
use crate::pointer::{In, Out, OutStruct, Text};
use crate::status::graft_status;
use crate::structs::{CStruct, c_struct};

/// What models, trainers and plugins of a program share.
pub struct Runtime {
    pool: Pool,
    budget: Budget,
    #[cfg(feature = "plugins")]
    cache_dir: Option<PathBuf>,
    listening: Mutex<Option<Listening>>,
    #[cfg(feature = "plugins")]
    plugins: OnceLock<graft_plugins::Host>,
}

shared_kind!(
    Runtime,
    "runtime",
    graft_runtime_retain,
    graft_runtime_release
);

c_struct! {
    /// How to make a runtime.
    graft_runtime_options {
        /// Worker threads; 0 takes one per core.
        n_threads: u32,
        /// How much the log function is told.
        log_level: graft_log_level,
        /// Flags, of which there are none yet.
        flags: u32,
        /// Gets the log; NULL for nobody.
        log: graft_log_fn,
        /// The log function's first argument.
        log_userdata: UserData,
        /// Called once, when the log function is not called any more.
        log_destroy: graft_destroy_fn,
        /// Where compiled plugins are kept; NULL for nowhere.
        cache_dir: Text,
        /// Most bytes that sessions and trainers may take together; 0 for no limit.
        memory_limit: u64,
    }
}

c_struct! {
    /// Memory of a runtime and of the process.
    graft_memory_stats {
        /// Zero.
        reserved_0: u32,
        /// Bytes that live sessions and trainers have planned for.
        planned: u64,
        /// The limit; 0 if there is none.
        limit: u64,
        /// Most bytes the process had resident at once, mapped files included; 0 where the system does not say.
        process_peak: u64,
        /// Bytes the process has resident now, without mapped files; 0 where the system does not say.
        process_anonymous: u64,
    }
}

impl Runtime {
    fn new(options: &graft_runtime_options, listener: Listener) -> Result<Self, Fault> {
        if options.flags != 0 {
            let message = format!("flags is {:#x}; a runtime knows none", options.flags);
            return Err(Fault::argument(message));
        }
        let limit = match options.memory_limit {
            0 => u64::MAX,
            bytes => bytes,
        };
        Ok(Self {
            pool: Pool::new(options.n_threads as usize)?,
            budget: Budget::new(limit),
            #[cfg(feature = "plugins")]
            cache_dir: options
                .cache_dir
                .optional_path("cache_dir")?
                .map(Into::into),
            listening: Mutex::new(Some(listener.listen())),
            #[cfg(feature = "plugins")]
            plugins: OnceLock::new(),
        })
    }

    /// The runtime of a handle; the process's own for NULL.
    ///
    /// # Errors
    /// If the handle is none, or the system has no threads.
    pub fn of(handle: Handle<Self>) -> Result<Arc<Self>, Fault> {
        static OWN: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
        if !handle.is_null() {
            return handle.get();
        }
        let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        match &*own {
            Some(runtime) => Ok(Arc::clone(runtime)),
            None => {
                let options = graft_runtime_options::zeroed();
                let runtime = Arc::new(Self::new(&options, listener(&options)?)?);
                Ok(Arc::clone(own.insert(runtime)))
            }
        }
    }

    /// The workers.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What sessions and trainers take their memory from.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The host of its plugins.
    ///
    /// # Errors
    /// If the WebAssembly engine does not start, or the cache folder cannot be made.
    #[cfg(feature = "plugins")]
    pub fn plugins(&self) -> Result<&graft_plugins::Host, Fault> {
        use graft_plugins::{Cache, Host, Limits};
        if self.plugins.get().is_none() {
            let cache = self.cache_dir.clone().map(Cache::at);
            // If another thread was faster, its host is the one.
            let _ = self.plugins.set(Host::new(Limits::default(), cache)?);
        }
        self.plugins
            .get()
            .ok_or_else(|| Fault::internal("a host that was set is not there"))
    }
}

fn listener(options: &graft_runtime_options) -> Result<Listener, Fault> {
    let destroy = Destroy::new(options.log_destroy, options.log_userdata);
    let level = log::check(options.log_level)?;
    let (function, userdata) = (options.log, options.log_userdata);
    Ok(Listener::new(level, function, userdata, destroy))
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_runtime_create(
    options: In<graft_runtime_options>,
    out: Out<Handle<Runtime>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_runtime_create", err, || {
        // Taken whatever else is refused.
        let listener = listener(&options.known()?)?;
        let options = options.read()?;
        out.check("out")?;
        out.give(Runtime::new(&options, listener)?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_runtime_set_log(
    runtime: Handle<Runtime>,
    level: graft_log_level,
    function: graft_log_fn,
    userdata: UserData,
    destroy: graft_destroy_fn,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_runtime_set_log", err, || {
        let destroy = Destroy::new(destroy, userdata);
        let runtime = Runtime::of(runtime)?;
        let level = log::check(level)?;
        let listening = Listener::new(level, function, userdata, destroy).listen();
        let mut place = runtime
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = place.replace(listening);
        drop(place);
        drop(before);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_runtime_memory(
    runtime: Handle<Runtime>,
    out: OutStruct<graft_memory_stats>,
) -> graft_status {
    call::status("graft_runtime_memory", || {
        let runtime = Runtime::of(runtime)?;
        out.check("out")?;
        let limit = runtime.budget.limit();
        out.set(&graft_memory_stats {
            planned: runtime.budget.reserved(),
            limit: if limit == u64::MAX { 0 } else { limit },
            process_peak: peak_bytes().unwrap_or(0),
            process_anonymous: graft::memory::anonymous_bytes().unwrap_or(0),
            ..graft_memory_stats::zeroed()
        })?;
        DONE
    })
}
