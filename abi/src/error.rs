//! Error objects: what went wrong in a call, in words and by key.

use std::ffi::{CString, c_char};
use std::ptr;

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::fault::Fault;
use crate::handle::{Handle, exclusive_kind};
use crate::pointer::{Out, Text};
use crate::status::{GRAFT_E_HANDLE, graft_status};

/// A failure that a program holds.
#[derive(Debug)]
pub struct ErrorObject {
    fault: Fault,
    message: CString,
    details: Vec<(&'static str, CString)>,
}

exclusive_kind!(ErrorObject, "error", graft_error_release);

impl ErrorObject {
    fn new(fault: Fault) -> Self {
        let details = fault.details().iter();
        Self {
            message: c_text(fault.message()),
            details: details.map(|(key, value)| (*key, c_text(value))).collect(),
            fault,
        }
    }
}

/// A text for C; zero bytes in it become blanks.
pub fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// Where a call's error object goes, or NULL.
#[repr(transparent)]
#[derive(Debug)]
pub struct ErrorOut(Out<Handle<ErrorObject>>);

impl ErrorOut {
    /// Gives the failure to the caller, and returns its status.
    pub fn give(&self, fault: Fault) -> graft_status {
        let status = fault.status();
        // Without room for the object the status has to do.
        let _ = self.0.give(ErrorObject::new(fault));
        status
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_error_status(error: Handle<ErrorObject>) -> graft_status {
    call::value("graft_error_status", GRAFT_E_HANDLE, || {
        Ok(error.get()?.fault.status())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_error_message(error: Handle<ErrorObject>) -> *const c_char {
    call::value("graft_error_message", c"".as_ptr(), || {
        Ok(error.get()?.message.as_ptr())
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_error_detail(error: Handle<ErrorObject>, key: Text) -> *const c_char {
    call::value("graft_error_detail", ptr::null(), || {
        let (error, key) = (error.get()?, key.required("key")?);
        let found = error.details.iter().find(|(name, _)| *name == key);
        Ok(found.map_or(ptr::null(), |(_, value)| value.as_ptr()))
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_error_json(
    error: Handle<ErrorObject>,
    out: Out<Handle<Buffer>>,
) -> graft_status {
    call::status("graft_error_json", || {
        out.give(buffer::json(&error.get()?.fault.to_json()))?;
        DONE
    })
}
