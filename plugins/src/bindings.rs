//! The interface `graft:plugin@0.1.0` as the host sees it, generated from its WIT text.

#![allow(missing_docs)]

/// World `converter-plugin`.
pub mod converter {
    wasmtime::component::bindgen!({
        path: "wit/0.1.0",
        world: "converter-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "graft:plugin/input.source": crate::imports::OpenSource,
            "graft:plugin/dataset.sink": crate::imports::OpenSink,
        },
    });
}

/// World `judge-plugin`, of which `evaluator-plugin` is a part.
pub mod judge {
    wasmtime::component::bindgen!({
        path: "wit/0.1.0",
        world: "judge-plugin",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "graft:plugin/types": crate::bindings::converter::graft::plugin::types,
            "graft:plugin/input": crate::bindings::converter::graft::plugin::input,
            "graft:plugin/host": crate::bindings::converter::graft::plugin::host,
            "graft:plugin/dataset": crate::bindings::converter::graft::plugin::dataset,
        },
    });
}

pub use converter::graft::plugin::{dataset, host, input, types};
pub use judge::graft::plugin::model;
