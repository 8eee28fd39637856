//! Statuses: numbers that never change their meaning. `graft.h` has the same list; a test compares them.

use std::ffi::{CStr, c_char};
use std::io;

use crate::call;

/// What a call came to: 0 done, above 0 no failure, below 0 an error.
#[allow(non_camel_case_types)]
pub type graft_status = i32;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $(
            $(#[$doc])*
            #[allow(dead_code)] // some are for devices to come
            pub const $name: graft_status = $number;
        )*

        /// Every status with its name.
        pub const ALL: &[(graft_status, &CStr)] = &[$(($number, {
            match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a name without zero bytes"),
            }
        })),*];
    };
}

statuses! {
    /// Nothing more will come.
    GRAFT_DONE = 1;
    /// Not yet: still at work.
    GRAFT_PENDING = 2;
    /// Done.
    GRAFT_OK = 0;
    /// A bug of graft; a panic was caught.
    GRAFT_E_INTERNAL = -1;
    /// An argument that cannot be meant.
    GRAFT_E_ARGUMENT = -2;
    /// NULL, a released object or one of another kind.
    GRAFT_E_HANDLE = -3;
    /// The object is in no state for this.
    GRAFT_E_STATE = -4;
    /// Another call uses the object.
    GRAFT_E_BUSY = -5;
    /// The caller asked to stop.
    GRAFT_E_CANCELLED = -6;
    /// The time given was not enough.
    GRAFT_E_TIMEOUT = -7;
    /// The system has no memory left.
    GRAFT_E_MEMORY = -8;
    /// The device has no memory left.
    GRAFT_E_DEVICE_MEMORY = -9;
    /// It does not fit the budget; nothing was allocated.
    GRAFT_E_BUDGET = -10;
    /// Reading or writing failed.
    GRAFT_E_IO = -11;
    /// There is no such file or name.
    GRAFT_E_NOT_FOUND = -12;
    /// Not permitted.
    GRAFT_E_DENIED = -13;
    /// graft, or this build of it, cannot do this.
    GRAFT_E_UNSUPPORTED = -14;
    /// Made for another version.
    GRAFT_E_VERSION = -15;
    /// A file is malformed.
    GRAFT_E_FORMAT = -16;
    /// A file is damaged: a size or a digest does not agree.
    GRAFT_E_CORRUPT = -17;
    /// Made for another model.
    GRAFT_E_INCOMPATIBLE = -18;
    /// No position is left in the session.
    GRAFT_E_CONTEXT_FULL = -19;
    /// The buffer is too small; `*needed` says how large it must be.
    GRAFT_E_BUFFER_SIZE = -20;
    /// A plugin returned an error or trapped.
    GRAFT_E_PLUGIN = -21;
    /// A plugin reached a limit.
    GRAFT_E_PLUGIN_LIMIT = -22;
    /// The device failed.
    GRAFT_E_DEVICE = -23;
    /// A value that is not finite.
    GRAFT_E_NUMERIC = -24;
    /// The caller's callback asked to fail.
    GRAFT_E_CALLBACK = -25;
}

/// The name of a status, `"unknown"` for a number that is none.
pub fn name(status: graft_status) -> &'static str {
    c_name(status).to_str().unwrap_or("unknown")
}

fn c_name(status: graft_status) -> &'static CStr {
    let known = ALL.iter().find(|(number, _)| *number == status);
    known.map_or(c"unknown", |(_, name)| name)
}

/// The status of an error of the operating system.
pub fn of_io(error: &io::Error) -> graft_status {
    match error.kind() {
        io::ErrorKind::NotFound => GRAFT_E_NOT_FOUND,
        io::ErrorKind::PermissionDenied => GRAFT_E_DENIED,
        io::ErrorKind::OutOfMemory => GRAFT_E_MEMORY,
        _ => GRAFT_E_IO,
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_status_name(status: graft_status) -> *const c_char {
    call::value("graft_status_name", c"unknown".as_ptr(), || {
        Ok(c_name(status).as_ptr())
    })
}
