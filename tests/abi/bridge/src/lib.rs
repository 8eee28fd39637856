//! The C++ header of graft, driven from Rust: what throws there is an error here, and answers are those of the engine.
#![allow(unsafe_code)] // what cxx writes
#![allow(missing_docs)] // the C++ header has them

// Its functions are what the C++ half calls.
use graft_abi as _;

#[cxx::bridge(namespace = "driver")]
pub mod ffi {
    unsafe extern "C++" {
        include!("driver.h");

        type Talk;
        fn open(model: &str) -> Result<UniquePtr<Talk>>;
        fn fingerprint(&self) -> Result<String>;
        fn positions(&self) -> Result<u32>;
        fn ask(self: Pin<&mut Talk>, question: &str, tokens: u32, most: u32) -> Result<String>;
        fn fail(self: Pin<&mut Talk>, question: &str) -> Result<()>;
    }
}
