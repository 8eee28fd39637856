//! The C interface of graft: `graft_<noun>_<verb>` is implemented in `<noun>.rs` and described in `include/graft.h`.
//!
//! A function checks what it is given, calls the engine once, and says how it went; there is no logic of the engine's
//! here. What all of them stand on:
//!
//! * `call`: no panic leaves the library, every failure becomes a status and an error object;
//! * `handle`: objects as programs hold them, which can be wrong without harm;
//! * `exclusive`: objects of one call at a time;
//! * `pointer` and `structs`: what programs give by pointer, as types whose methods are safe;
//! * `callback`: functions of the program's;
//! * `fault` and `status_of`: from errors of the engine to statuses.
#![allow(unsafe_code)] // the border with C

mod adapter;
mod adapter_algebra;
mod batch;
mod buffer;
mod call;
mod callback;
mod cancel;
mod chat;
mod dataset;
mod device;
mod error;
#[cfg(feature = "plugins")]
mod evaluation;
mod exclusive;
mod fault;
mod gguf;
mod handle;
mod image;
mod job;
mod library;
mod log;
mod metrics;
mod model;
mod plan;
#[cfg(feature = "plugins")]
mod plugin;
mod pointer;
mod registry;
mod runtime;
mod session;
mod session_generate;
mod signal;
mod source;
#[cfg(feature = "plugins")]
mod source_stream;
mod status;
mod status_of;
mod structs;
mod token;
mod train_options;
mod trainer;
#[cfg(not(feature = "plugins"))]
mod without_plugins;

/// Every struct of the interface as Rust lays it out, for the comparison with `graft.h`.
pub fn layouts() -> Vec<structs::Layout> {
    let layouts = vec![
        structs::layout::<adapter::graft_adapter_binding>(),
        structs::layout::<adapter::graft_adapter_info>(),
        structs::layout::<adapter::graft_adapter_options>(),
        structs::layout::<adapter::graft_adapter_save_options>(),
        structs::layout::<adapter_algebra::graft_compress_options>(),
        structs::layout::<adapter_algebra::graft_difference_options>(),
        structs::layout::<adapter_algebra::graft_merge_options>(),
        structs::layout::<batch::graft_batch_input>(),
        structs::layout::<batch::graft_batch_options>(),
        structs::layout::<batch::graft_batch_request>(),
        structs::layout::<chat::graft_chat_options>(),
        structs::layout::<chat::graft_message>(),
        structs::layout::<dataset::graft_dataset_check_options>(),
        structs::layout::<device::graft_device_info>(),
        structs::layout::<gguf::graft_write_options>(),
        structs::layout::<image::graft_image_info>(),
        structs::layout::<image::graft_image_limits>(),
        structs::layout::<job::graft_event>(),
        structs::layout::<metrics::graft_train_metrics>(),
        structs::layout::<model::graft_model_info>(),
        structs::layout::<model::graft_model_options>(),
        structs::layout::<plan::graft_plan>(),
        structs::layout::<registry::graft_registry_info>(),
        structs::layout::<registry::graft_registry_options>(),
        structs::layout::<runtime::graft_memory_stats>(),
        structs::layout::<runtime::graft_runtime_options>(),
        structs::layout::<session::graft_session_info>(),
        structs::layout::<session::graft_session_options>(),
        structs::layout::<session_generate::graft_generate_request>(),
        structs::layout::<session_generate::graft_generate_result>(),
        structs::layout::<session_generate::graft_sampling>(),
        structs::layout::<source::graft_source>(),
        structs::layout::<train_options::graft_train_options>(),
    ];
    #[cfg(feature = "plugins")]
    let of_plugins = vec![
        structs::layout::<evaluation::graft_evaluation_request>(),
        structs::layout::<plugin::graft_convert_report>(),
        structs::layout::<plugin::graft_convert_request>(),
        structs::layout::<plugin::graft_plugin_limits>(),
        structs::layout::<plugin::graft_plugin_options>(),
    ];
    #[cfg(not(feature = "plugins"))]
    let of_plugins = Vec::new();
    [layouts, of_plugins].concat()
}

/// Every status of the interface, for the comparison with `graft.h`.
pub fn statuses() -> &'static [(i32, &'static std::ffi::CStr)] {
    status::ALL
}

/// How many objects and cancel tokens the programs of this process hold, for tests that look for what is left behind.
pub fn held() -> usize {
    handle::held() + cancel::held()
}
