//! The C interface of graft: `graft_<noun>_<verb>` is implemented in `<noun>.rs` and described in `include/graft.h`.
//! What makes adapters of adapters is in `adapter_algebra.rs`, what an answer needs in `generate.rs`.
//!
//! A function checks what it is given, calls the engine once, and says how it went; there is no logic of the engine's
//! here. What all of them stand on:
//!
//! * [`call`]: no panic leaves the library, every failure becomes a status and an error object;
//! * [`handle`]: objects as programs hold them, which can be wrong without harm;
//! * [`exclusive`]: objects of one call at a time;
//! * [`pointer`] and [`structs`]: what programs give by pointer, as types whose methods are safe;
//! * [`callback`]: functions of the program's;
//! * [`fault`] and [`status_of`]: from errors of the engine to statuses.
#![allow(unsafe_code)] // the border with C

mod adapter;
mod adapter_algebra;
mod buffer;
mod call;
mod callback;
mod cancel;
mod chat;
mod device;
mod error;
mod exclusive;
mod fault;
mod generate;
mod handle;
mod image;
mod library;
mod log;
mod model;
mod pointer;
mod runtime;
mod session;
mod source;
mod status;
mod status_of;
mod structs;
mod token;

/// Every struct of the interface as Rust lays it out, for the comparison with `graft.h`.
pub fn layouts() -> Vec<structs::Layout> {
    vec![
        structs::layout::<adapter::graft_adapter_binding>(),
        structs::layout::<adapter::graft_adapter_info>(),
        structs::layout::<adapter::graft_adapter_options>(),
        structs::layout::<adapter::graft_adapter_save_options>(),
        structs::layout::<adapter_algebra::graft_compress_options>(),
        structs::layout::<adapter_algebra::graft_difference_options>(),
        structs::layout::<adapter_algebra::graft_merge_options>(),
        structs::layout::<chat::graft_chat_options>(),
        structs::layout::<chat::graft_message>(),
        structs::layout::<device::graft_device_info>(),
        structs::layout::<generate::graft_generate_request>(),
        structs::layout::<generate::graft_generate_result>(),
        structs::layout::<generate::graft_sampling>(),
        structs::layout::<image::graft_image_info>(),
        structs::layout::<image::graft_image_limits>(),
        structs::layout::<model::graft_model_info>(),
        structs::layout::<model::graft_model_options>(),
        structs::layout::<runtime::graft_memory_stats>(),
        structs::layout::<runtime::graft_runtime_options>(),
        structs::layout::<session::graft_session_info>(),
        structs::layout::<session::graft_session_options>(),
        structs::layout::<source::graft_source>(),
    ]
}

/// Every status of the interface, for the comparison with `graft.h`.
pub fn statuses() -> &'static [(i32, &'static std::ffi::CStr)] {
    status::ALL
}
