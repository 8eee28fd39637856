//! Where the bytes of a file come from: a path, an open file, memory, or functions of the program's.

use std::ffi::c_void;
use std::fs::File;
use std::path::Path;
use std::slice;
use std::sync::Arc;

use graft::cancel::Cancel;
use graft::gguf::Gguf;

use crate::callback::{Destroy, Progress, UserData, graft_destroy_fn};
use crate::fault::Fault;
use crate::pointer::{In, Text};
use crate::status::{GRAFT_E_CALLBACK, GRAFT_E_MEMORY};
use crate::structs::{CStruct, c_struct};

/// The source is a file at a path.
pub const GRAFT_SOURCE_PATH: u32 = 0;
/// The source is a part of an open file.
pub const GRAFT_SOURCE_FD: u32 = 1;
/// The source is memory that the program lends.
pub const GRAFT_SOURCE_MEMORY: u32 = 2;
/// The source is a function that reads.
pub const GRAFT_SOURCE_READER: u32 = 3;

/// Reads exactly `length` bytes at `offset`; 0 if it did.
#[allow(non_camel_case_types)]
pub type graft_read_fn = Option<
    unsafe extern "C" fn(
        userdata: UserData,
        offset: u64,
        buffer: *mut c_void,
        length: usize,
    ) -> i32,
>;

c_struct! {
    /// Where the bytes of a file come from.
    graft_source {
        /// Which of the fields below count.
        kind: u32,
        /// Of [`GRAFT_SOURCE_PATH`]: the path.
        path: Text,
        /// Of [`GRAFT_SOURCE_MEMORY`]: the bytes.
        data: In<u8>,
        /// Of [`GRAFT_SOURCE_READER`]: reads bytes.
        read: graft_read_fn,
        /// First argument of `read` and `destroy`.
        userdata: UserData,
        /// Called once, when the memory or the reader is not needed any more.
        destroy: graft_destroy_fn,
        /// Of [`GRAFT_SOURCE_FD`]: where the part begins.
        offset: u64,
        /// Bytes of the part, of the memory, or of all there is to read; 0 with a file: to its end.
        length: u64,
        /// Of [`GRAFT_SOURCE_FD`]: the open file, which is duplicated.
        fd: i32,
        /// Zero.
        reserved_0: u32,
    }
}

/// How to read a source.
pub struct Reading<'a> {
    /// What messages call it.
    pub name: &'static str,
    /// Told of what a reader has read.
    pub progress: &'a Progress,
    /// Stops it between two parts.
    pub cancel: &'a Cancel,
}

/// Memory of the program's.
struct Lent {
    data: *const u8,
    length: usize,
    _destroy: Destroy,
}

// SAFETY: the program promises that the bytes stay as they are until `destroy` is called.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: checked by `In::slice` when it came in; the program promises that it stays.
        unsafe { slice::from_raw_parts(self.data, self.length) }
    }
}

/// A source that was handed over: whatever becomes of the call, its end is told once.
pub struct Source {
    /// What the program gave.
    pub from: graft_source,
    destroy: Destroy,
}

impl Source {
    /// Takes the source that a call is given; the first thing a call does, so that the program is told of its end
    /// whatever else is refused.
    ///
    /// # Errors
    /// If it is NULL, or as [`In::read`].
    pub fn take(source: &In<graft_source>) -> Result<Self, Fault> {
        let known = source.known()?;
        let destroy = Destroy::new(known.destroy, known.userdata);
        let from = source.required("source")?;
        Ok(Self { from, destroy })
    }

    /// The same for a source that a struct leads to, if it does.
    ///
    /// # Errors
    /// As [`Source::take`]; what else is wrong with the struct is for who reads it.
    pub fn take_from<T: CStruct>(
        options: &In<T>,
        field: impl FnOnce(&T) -> &In<graft_source>,
    ) -> Result<Option<Self>, Fault> {
        let known = options.known()?;
        let source = field(&known);
        (!source.is_null()).then(|| Self::take(source)).transpose()
    }

    /// Opens it as a GGUF file.
    ///
    /// # Errors
    /// If it cannot be read, or is no GGUF file.
    pub fn gguf(self, reading: &Reading<'_>) -> Result<Arc<Gguf>, Fault> {
        let Self { from, destroy } = self;
        let gguf = match from.kind {
            GRAFT_SOURCE_PATH => Gguf::open(from.path.path("source.path")?)?,
            GRAFT_SOURCE_FD => from.part(reading.name)?,
            GRAFT_SOURCE_MEMORY => {
                let bytes = from.data.slice(from.length()?, "source.data")?;
                Gguf::from_lent(Lent {
                    data: bytes.as_ptr(),
                    length: bytes.len(),
                    _destroy: destroy,
                })?
            }
            GRAFT_SOURCE_READER => Gguf::from_bytes(from.read_all(reading)?)?,
            kind => return Err(unknown(kind)),
        };
        Ok(Arc::new(gguf))
    }
}

/// Refuses a kind that is none.
pub fn unknown(kind: u32) -> Fault {
    Fault::argument(format!("source.kind is {kind}; 0 to 3 are known"))
}

impl graft_source {
    /// Its length in bytes, as memory counts.
    pub fn length(&self) -> Result<usize, Fault> {
        usize::try_from(self.length)
            .map_err(|_| Fault::argument(format!("source.length is {}", self.length)))
    }

    fn part(&self, name: &str) -> Result<Gguf, Fault> {
        let length = (self.length > 0).then_some(self.length);
        let file = self.duplicate(name)?;
        Ok(Gguf::open_part(
            &file,
            self.offset,
            length,
            Path::new(name),
        )?)
    }

    #[cfg(unix)]
    /// The open file once more, for ourselves.
    pub fn duplicate(&self, name: &str) -> Result<File, Fault> {
        use std::os::fd::BorrowedFd;
        if self.fd < 0 {
            return Err(Fault::argument(format!("source.fd is {}", self.fd)));
        }
        // SAFETY: the program promises an open file for as long as the call takes; one that is not open makes
        // the system refuse to duplicate it.
        let file = unsafe { BorrowedFd::borrow_raw(self.fd) }.try_clone_to_owned();
        Ok(File::from(file.map_err(|source| {
            let (action, path) = ("duplicate", name.into());
            graft::Error::Io {
                action,
                path,
                source,
            }
        })?))
    }

    #[cfg(not(unix))]
    /// The open file once more, for ourselves.
    pub fn duplicate(&self, _: &str) -> Result<File, Fault> {
        let message = "this system has no file descriptors; give a path or memory";
        Err(Fault::new(crate::status::GRAFT_E_UNSUPPORTED, message))
    }

    fn read_all(&self, reading: &Reading<'_>) -> Result<Vec<u8>, Fault> {
        const CHUNK: usize = 4 << 20;
        let read = self
            .read
            .ok_or_else(|| Fault::argument("source.read is NULL"))?;
        let length = self.length()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| {
            let message = format!("the system has no {length} bytes for what is read");
            Fault::new(GRAFT_E_MEMORY, message)
        })?;
        // Room is only promised until something is read into it, so that a length which cannot be meant ends with the
        // reader's refusal.
        while bytes.len() < length {
            reading.cancel.check()?;
            let offset = bytes.len();
            let chunk = CHUNK.min(length - offset);
            bytes.resize(offset + chunk, 0);
            let buffer = bytes[offset..].as_mut_ptr().cast();
            let at = offset as u64;
            // SAFETY: the program gave this function for this pointer; the buffer has as many bytes as it says.
            if unsafe { read(self.userdata, at, buffer, chunk) } != 0 {
                let message = format!("source.read failed at byte {offset}");
                return Err(Fault::new(GRAFT_E_CALLBACK, message).with("offset", offset));
            }
            let (done, total) = (bytes.len() as u64, length as u64);
            reading
                .progress
                .tell(c"reading", done, total, reading.cancel);
        }
        Ok(bytes)
    }
}
