//! What stands for `plugin.rs` and `evaluation.rs` in a build without plugins: every library has every function.

use crate::call;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::status::{GRAFT_E_UNSUPPORTED, graft_status};

macro_rules! absent {
    ($($name:ident($($argument:ident),*);)*) => { $(
        /// See `graft.h`.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($(_: absent!(@word $argument),)* err: ErrorOut) -> graft_status {
            call::call(stringify!($name), err, || {
                let message = "this build of graft has no plugins; take one that was not built with --minimal";
                Err(Fault::new(GRAFT_E_UNSUPPORTED, message))
            })
        }
    )* };
    // Whatever it is, it takes the place of a word.
    (@word $argument:ident) => { usize };
}

absent! {
    graft_plugin_load(runtime, path, options, out);
    graft_plugin_load_memory(runtime, name, wasm, size, options, out);
    graft_plugin_info(plugin, out);
    graft_plugin_detect(plugin, head, size, name, out);
    graft_plugin_convert(plugin, request, report);
    graft_evaluation_run(request, report);
}

/// See `graft.h`. There is no plugin.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plugin_retain(_: usize) {
    call::value("graft_plugin_retain", (), || Ok(()));
}

/// See `graft.h`. There is no plugin.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plugin_release(_: usize) {
    call::value("graft_plugin_release", (), || Ok(()));
}
