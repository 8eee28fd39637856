//! Buffers: bytes that the library made and a program reads.

use std::ptr;

use serde_json::Value;

use crate::call;
use crate::handle::{Handle, exclusive_kind};

/// Bytes, with a NUL behind them that does not count.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

exclusive_kind!(Buffer, "buffer", graft_buffer_release);

impl Buffer {
    /// A buffer of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let mut bytes = bytes.into();
        bytes.push(0);
        Self(bytes)
    }
}

/// A JSON document as a buffer.
pub fn json(value: &Value) -> Buffer {
    Buffer::new(value.to_string())
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_buffer_data(buffer: Handle<Buffer>) -> *const u8 {
    call::value("graft_buffer_data", ptr::null(), || {
        Ok(buffer.get()?.0.as_ptr())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_buffer_size(buffer: Handle<Buffer>) -> usize {
    call::value("graft_buffer_size", 0, || Ok(buffer.get()?.0.len() - 1))
}
