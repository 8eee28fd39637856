//! The interface `graft:plugin@0.1.0`, generated from its WIT text.

#![allow(missing_docs, unsafe_code, clippy::all)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

/// World `converter-plugin`.
pub mod converter {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        world: "converter-plugin",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "graft_plugin::bindings::converter",
    });
}

/// World `evaluator-plugin`; its shared values are those of [`converter`].
pub mod evaluator {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        world: "evaluator-plugin",
        pub_export_macro: true,
        default_bindings_module: "graft_plugin::bindings::evaluator",
        with: {
            "graft:plugin/types@0.1.0": crate::bindings::converter::graft::plugin::types,
            "graft:plugin/host@0.1.0": crate::bindings::converter::graft::plugin::host,
            "graft:plugin/dataset@0.1.0": crate::bindings::converter::graft::plugin::dataset,
        },
    });
}

/// What the world `judge-plugin` imports beside `evaluator-plugin`. A plugin that calls it is of both, and
/// so of `judge-plugin`.
pub mod judge {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        inline: "
            package graft:asking;
            world asking { import graft:plugin/model@0.1.0; }
        ",
        world: "graft:asking/asking",
        with: {
            "graft:plugin/types@0.1.0": crate::bindings::converter::graft::plugin::types,
            "graft:plugin/dataset@0.1.0": crate::bindings::converter::graft::plugin::dataset,
            "graft:plugin/model@0.1.0": generate,
        },
    });
}
