//! Functions of the caller's, as we call them.

use std::ffi::{CStr, c_char, c_void};
use std::ops::ControlFlow;

use graft::cancel::Cancel;
use graft::dataset::{Diagnostic, Severity};

use crate::error::c_text;
use crate::structs::Plain;

/// A pointer that callers get back and that we never follow.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct UserData(*mut c_void);

// SAFETY: a pointer that is never followed.
unsafe impl Plain for UserData {}
// SAFETY: `graft.h` says of each retained function which threads it is called from.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

/// Ends what was retained.
#[allow(non_camel_case_types)]
pub type graft_destroy_fn = Option<unsafe extern "C" fn(userdata: UserData)>;

/// Told how far work is; anything but 0 stops it.
#[allow(non_camel_case_types)]
pub type graft_progress_fn = Option<
    unsafe extern "C" fn(userdata: UserData, stage: *const c_char, done: u64, total: u64) -> i32,
>;

/// Given text that was generated; anything but 0 ends the answer.
#[allow(non_camel_case_types)]
pub type graft_text_fn =
    Option<unsafe extern "C" fn(userdata: UserData, text: *const c_char, text_len: usize) -> i32>;

/// Calls the caller's `destroy` once, when it is dropped.
#[derive(Debug)]
pub struct Destroy {
    function: graft_destroy_fn,
    userdata: UserData,
}

impl Destroy {
    /// From now on it will be called, whatever becomes of the call.
    pub fn new(function: graft_destroy_fn, userdata: UserData) -> Self {
        Self { function, userdata }
    }
}

impl Drop for Destroy {
    fn drop(&mut self) {
        if let Some(function) = self.function {
            // SAFETY: the caller gave this function for this pointer, and it is called once.
            unsafe { function(self.userdata) };
        }
    }
}

/// Progress of a call, for the caller's function on the caller's thread.
#[derive(Debug)]
pub struct Progress {
    function: graft_progress_fn,
    userdata: UserData,
}

impl Progress {
    /// Tells `function`, or nobody.
    pub fn new(function: graft_progress_fn, userdata: UserData) -> Self {
        Self { function, userdata }
    }

    /// Says how far it is; raises `cancel` if the caller's function asks to stop.
    pub fn tell(&self, stage: &CStr, done: u64, total: u64, cancel: &Cancel) {
        if self.ask(stage, done, total).is_break() {
            cancel.raise();
        }
    }

    /// Says how far it is; breaks if the caller's function asks to stop.
    pub fn ask(&self, stage: &CStr, done: u64, total: u64) -> ControlFlow<()> {
        let Some(function) = self.function else {
            return ControlFlow::Continue(());
        };
        // SAFETY: the caller gave this function for this pointer; the text outlives the call.
        match unsafe { function(self.userdata, stage.as_ptr(), done, total) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// Text of a call, for the caller's function on the caller's thread.
#[derive(Debug)]
pub struct TextSink {
    function: graft_text_fn,
    userdata: UserData,
    /// The text with a NUL behind it.
    bytes: Vec<u8>,
}

impl TextSink {
    /// Gives it to `function`, or to nobody.
    pub fn new(function: graft_text_fn, userdata: UserData) -> Self {
        Self {
            function,
            userdata,
            bytes: Vec::new(),
        }
    }

    /// Gives a text; breaks if the caller's function asks to stop.
    pub fn give(&mut self, text: &str) -> ControlFlow<()> {
        let Some(function) = self.function else {
            return ControlFlow::Continue(());
        };
        self.bytes.clear();
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        // SAFETY: the caller gave this function for this pointer; the text outlives the call.
        match unsafe { function(self.userdata, self.bytes.as_ptr().cast(), text.len()) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// Gets a remark about data; anything but 0 stops the work.
#[allow(non_camel_case_types)]
pub type graft_diagnostic_fn = Option<
    unsafe extern "C" fn(
        userdata: UserData,
        severity: u32,
        code: *const c_char,
        message: *const c_char,
        json: *const c_char,
    ) -> i32,
>;

/// Worth knowing; nothing was lost.
pub const GRAFT_SEVERITY_NOTE: u32 = 0;
/// Something was skipped or guessed.
pub const GRAFT_SEVERITY_WARNING: u32 = 1;
/// The data is wrong.
pub const GRAFT_SEVERITY_ERROR: u32 = 2;

/// Remarks of a call, for the caller's function on the caller's thread.
#[derive(Debug)]
pub struct Diagnostics {
    function: graft_diagnostic_fn,
    userdata: UserData,
}

impl Diagnostics {
    /// Tells `function`, or nobody.
    pub fn new(function: graft_diagnostic_fn, userdata: UserData) -> Self {
        Self { function, userdata }
    }

    /// Tells a remark; breaks off if the caller's function asks to stop.
    pub fn tell(&self, diagnostic: &Diagnostic) -> ControlFlow<()> {
        let Some(function) = self.function else {
            return ControlFlow::Continue(());
        };
        let severity = match diagnostic.severity {
            Severity::Note => GRAFT_SEVERITY_NOTE,
            Severity::Warning => GRAFT_SEVERITY_WARNING,
            Severity::Error => GRAFT_SEVERITY_ERROR,
        };
        let json = serde_json::to_string(diagnostic).unwrap_or_default();
        let (code, message, json) = (
            c_text(&diagnostic.code),
            c_text(&diagnostic.to_string()),
            c_text(&json),
        );
        let (code, message, json) = (code.as_ptr(), message.as_ptr(), json.as_ptr());
        // SAFETY: the caller gave this function for this pointer; the texts outlive the call.
        match unsafe { function(self.userdata, severity, code, message, json) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}
