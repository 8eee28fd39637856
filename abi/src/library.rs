//! What this library is.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use graft_kernels::Kernels;
use serde_json::json;

use crate::call;
use crate::error::c_text;
use crate::pointer::Text;

/// The number in the library's name, `libgraft.so.0`; 0 promises nothing yet.
pub const GRAFT_ABI: u32 = 0;

/// What can be left out of a build, and whether it is in.
const FEATURES: &[(&str, bool)] = &[
    ("plugins", cfg!(feature = "plugins")),
    ("failpoints", cfg!(feature = "failpoints")),
];

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_library_abi() -> u32 {
    call::value("graft_library_abi", GRAFT_ABI, || Ok(GRAFT_ABI))
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_library_version() -> u32 {
    call::value("graft_library_version", 0, || {
        let part = |text: &str| text.parse::<u32>().unwrap_or(0);
        let major = part(env!("CARGO_PKG_VERSION_MAJOR"));
        let minor = part(env!("CARGO_PKG_VERSION_MINOR"));
        let patch = part(env!("CARGO_PKG_VERSION_PATCH"));
        Ok(major << 16 | minor << 8 | patch)
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_library_version_string() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    call::value("graft_library_version_string", c"".as_ptr(), || {
        Ok(VERSION.as_ptr().cast())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_library_build_info() -> *const c_char {
    static INFO: OnceLock<CString> = OnceLock::new();
    call::value("graft_library_build_info", c"{}".as_ptr(), || {
        let info = INFO.get_or_init(|| {
            let features = FEATURES.iter().filter(|(_, is_in)| *is_in);
            let document = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "abi": GRAFT_ABI,
                "architecture": std::env::consts::ARCH,
                "system": std::env::consts::OS,
                "features": features.map(|(name, _)| *name).collect::<Vec<_>>(),
                "kernels": Kernels::detect().name,
                "kernels_available": Kernels::available().map(|k| k.name).collect::<Vec<_>>(),
            });
            c_text(&document.to_string())
        });
        Ok(info.as_ptr())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_library_has_feature(name: Text) -> i32 {
    call::value("graft_library_has_feature", 0, || {
        let name = name.required("name")?;
        Ok(FEATURES.contains(&(name, true)).into())
    })
}
