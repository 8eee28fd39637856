//! A C program in the hands of a fuzzer: its structs, its sources of bytes, its calls, and what must be true after each
//! of them and in the end.
//!
//! An input is a program's choices ([`CHOICES`] bytes, zeros for what is usual), the length of a second file (three
//! bytes), this file, and the file. After a call that fails there is an error object with the same status and a sentence;
//! a panic is a defect also where the library has caught it; in the end, whatever failed on the way, no object is
//! left, no memory is taken, and everything that was handed over was given back once.
#![allow(unsafe_code)] // functions that the library calls, and texts it returns

use std::ffi::{CStr, CString, c_char, c_void};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::panic;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Once};

use crate::c_functions::*;
use crate::c_struct::{Struct, address};

/// Bytes of an input that say what the program does.
pub const CHOICES: usize = 80;

const GRAFT_E_INTERNAL: Status = -1;
const GRAFT_E_STATE: Status = -4;

/// Panics so far, on any thread, caught or not.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The library's own hook is there from its first call on; ours comes before it.
        graft_library_abi();
        let theirs = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            theirs(info);
        }));
    });
}

/// Bytes that the library was lent, or reads.
struct Lent {
    /// The file, behind `before` other bytes.
    bytes: Vec<u8>,
    before: usize,
    /// Calls of the reader that succeed.
    reads: usize,
    /// How often the library has given it back.
    ended: AtomicUsize,
    open: Option<std::fs::File>,
    path: CString,
    _kept: Option<tempfile::NamedTempFile>,
}

/// What the program does, what it holds, and what it must find in the end.
pub struct Program {
    choices: Vec<u8>,
    used: usize,
    objects: Vec<(Object, extern "C" fn(Object))>,
    /// What was lent, and how often it must come back.
    lent: Vec<(Box<Lent>, usize)>,
    texts: Vec<CString>,
    panics: usize,
}

/// Runs the program of an input: `body` gets its second file, where there is one, and the file. `None` if the bytes were
/// refused.
pub fn run(
    bytes: &[u8],
    body: impl FnOnce(&mut Program, Option<&[u8]>, &[u8]) -> Option<()>,
) -> Option<()> {
    count_panics();
    let (choices, rest) = bytes.split_at_checked(CHOICES)?;
    let (&[low, middle, high], rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
    let (second, file) = rest.split_at_checked(length)?;
    let mut program = Program {
        choices: choices.to_vec(),
        used: 0,
        objects: Vec::new(),
        lent: Vec::new(),
        texts: Vec::new(),
        panics: PANICS.load(Ordering::SeqCst),
    };
    let (held, planned) = (graft_abi::held(), planned());
    let second = (length > 0).then_some(second);
    let done = body(&mut program, second, file);
    program.release();
    assert_eq!(graft_abi::held(), held, "objects were left");
    assert_eq!(self::planned(), planned, "memory was left");
    program.check_lent();
    done
}

/// Bytes that are planned for in the runtime of [`runtime`].
fn planned() -> u64 {
    let mut stats = Struct::new("graft_memory_stats");
    assert_eq!(graft_runtime_memory(runtime(), stats.to()), 0);
    stats.get("planned")
}

/// One thread, and memory enough for any input of a fuzzer.
pub fn runtime() -> Object {
    static RUNTIME: LazyLock<Object> = LazyLock::new(|| {
        count_panics();
        let options = Struct::new("graft_runtime_options")
            .set("n_threads", 1)
            .set("memory_limit", 256 << 20);
        let mut runtime = 0;
        assert_eq!(graft_runtime_create(options.at(), &mut runtime, 0), 0);
        runtime
    });
    *RUNTIME
}

impl Program {
    /// The next choice; 0, what is usual, when there are no more.
    pub fn choice(&mut self) -> u8 {
        let choice = self.choices.get(self.used).copied();
        self.used += 1;
        choice.unwrap_or(0)
    }

    /// What is usual for three quarters of the choices, else one of the others.
    pub fn pick<T: Copy>(&mut self, usual: T, others: &[T]) -> T {
        match usize::from(self.choice()) {
            0..192 => usual,
            choice => others[(choice - 192) % others.len()],
        }
    }

    /// A text that lasts as long as the program.
    pub fn text(&mut self, text: &[u8]) -> Address {
        let end = text.iter().position(|&byte| byte == 0);
        let text = CString::new(&text[..end.unwrap_or(text.len())]).unwrap_or_default();
        let at = text.as_ptr().expose_provenance();
        self.texts.push(text);
        at
    }

    /// Makes a call that gives an error object where it fails, and checks how it ends; `None` if it fails.
    pub fn call(&mut self, name: &str, call: impl FnOnce(Address) -> Status) -> Option<Status> {
        let mut error: Object = 0;
        let status = call((&raw mut error).expose_provenance());
        self.no_panic(name, status);
        if status >= 0 {
            assert_eq!(error, 0, "{name} succeeds with an error");
            return Some(status);
        }
        assert_ne!(error, 0, "{name}: {status} without an error");
        assert_eq!(graft_error_status(error), status, "{name}");
        let message = text_at(graft_error_message(error));
        assert!(!message.is_empty(), "{name}: {status} without a sentence");
        // The object of an earlier panic is shut with this status, and there is none.
        let shut = status == GRAFT_E_STATE && message.contains("bug of graft");
        assert!(!shut, "{name}: {message}");
        let mut json = 0;
        assert_eq!(graft_error_json(error, &mut json), 0, "{name}");
        assert!(!self.read(json).is_empty());
        graft_error_release(error);
        None
    }

    /// The same for a call without an error object.
    pub fn status(&mut self, name: &str, status: Status) -> Option<Status> {
        self.no_panic(name, status);
        (status >= 0).then_some(status)
    }

    /// A call that makes an object, which is released in the end.
    pub fn make(
        &mut self,
        name: &str,
        release: extern "C" fn(Object),
        call: impl FnOnce(&mut Object, Address) -> Status,
    ) -> Option<Object> {
        let mut object = 0;
        let done = self.call(name, |err| call(&mut object, err));
        assert_eq!(
            done.is_some(),
            object != 0,
            "{name}: a result and its status"
        );
        done?;
        self.objects.push((object, release));
        Some(object)
    }

    /// A call that makes a buffer, which is read and released.
    pub fn buffer(
        &mut self,
        name: &str,
        call: impl FnOnce(&mut Object, Address) -> Status,
    ) -> Option<Vec<u8>> {
        let mut buffer = 0;
        let done = self.call(name, |err| call(&mut buffer, err));
        assert_eq!(
            done.is_some(),
            buffer != 0,
            "{name}: a result and its status"
        );
        done?;
        Some(self.read(buffer))
    }

    /// A token that is raised for some choices; NULL for what is usual.
    pub fn cancel(&mut self) -> Object {
        let choice = self.choice();
        if choice < 224 {
            return 0;
        }
        let mut token = 0;
        assert_eq!(graft_cancel_create(&mut token), 0);
        self.objects.push((token, graft_cancel_release));
        if choice >= 240 {
            graft_cancel_signal(token);
        }
        token
    }

    /// The bytes as a source of any kind.
    pub fn source(&mut self, bytes: &[u8]) -> Struct {
        let (kind, odd) = (self.choice(), self.choice());
        // Memory is what is usual.
        let way = u64::from(kind & 3 ^ 2);
        let before = usize::from(kind >> 2 & 7);
        let mut lent = Box::new(Lent {
            bytes: [&vec![0; before][..], bytes].concat(),
            before,
            reads: if odd < 192 {
                usize::MAX
            } else {
                usize::from(odd & 1)
            },
            ended: AtomicUsize::new(0),
            open: None,
            path: CString::default(),
            _kept: None,
        });
        let length = match odd {
            192..208 => bytes.len() as u64 / 2,
            208..216 => bytes.len() as u64 - u64::from(!bytes.is_empty()),
            _ => bytes.len() as u64,
        };
        let mut source = Struct::new("graft_source").set("kind", way);
        let mut handed_over = 0;
        let room = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.write_all(bytes).expect("room for a small file");
            file
        };
        match way {
            0 => {
                let file = room(bytes);
                lent.path = path_of(file.path());
                source = source.set("path", address(lent.path.as_ptr()));
                lent._kept = Some(file);
            }
            1 => {
                let file = room(&lent.bytes).into_file();
                let fd = if odd == 255 { -1 } else { file.as_raw_fd() };
                source = source
                    .set("fd", u64::from(fd.cast_unsigned()))
                    .set("offset", before as u64 + u64::from(odd == 254) * (1 << 40))
                    .set("length", if odd < 128 { 0 } else { length });
                lent.open = Some(file);
            }
            2 => {
                let from = lent.bytes[before..].as_ptr();
                source = source.set("data", address(from)).set("length", length);
                handed_over = 1;
            }
            _ => {
                // A reader that says it has more than there is fails where that ends.
                let length = if odd == 255 { u64::MAX >> 20 } else { length };
                let read: extern "C" fn(_, _, _, _) -> _ = read;
                source = source
                    .set("read", read as usize as u64)
                    .set("length", length);
                handed_over = 1;
            }
        }
        if handed_over > 0 {
            let destroy: extern "C" fn(_) = destroy;
            source = source
                .set("userdata", address(&raw const *lent))
                .set("destroy", destroy as usize as u64);
        }
        let source = source.sized(self.choice());
        if !source.reaches("destroy") {
            handed_over = 0;
        }
        self.lent.push((lent, handed_over));
        source
    }

    /// The latest source was not to be seen by the library, and so gives nothing back.
    pub fn was_not_taken(&mut self) {
        if let Some((_, handed_over)) = self.lent.last_mut() {
            *handed_over = 0;
        }
    }

    /// The bytes of a buffer, which is released.
    fn read(&mut self, buffer: Object) -> Vec<u8> {
        let (data, size) = (graft_buffer_data(buffer), graft_buffer_size(buffer));
        let mut bytes = self.bytes_at(data, size + 1);
        assert_eq!(bytes.pop(), Some(0), "no NUL behind a buffer");
        graft_buffer_release(buffer);
        bytes
    }

    /// A copy of as many bytes of the library's as it says there are.
    pub fn bytes_at(&self, data: Address, size: usize) -> Vec<u8> {
        assert_ne!(data, 0, "no bytes");
        let data = std::ptr::with_exposed_provenance(data);
        // SAFETY: the library says that so many are there, and their object is alive.
        unsafe { slice::from_raw_parts::<u8>(data, size) }.to_vec()
    }

    fn no_panic(&self, name: &str, status: Status) {
        let panics = PANICS.load(Ordering::SeqCst);
        assert_eq!(panics, self.panics, "{name} has panicked inside");
        assert_ne!(status, GRAFT_E_INTERNAL, "{name} has met a bug");
        let known = text_at(graft_status_name(status));
        assert_ne!(known, "unknown", "{name}: {status}");
    }

    /// Releases all objects, in either order.
    fn release(&mut self) {
        let mut objects = std::mem::take(&mut self.objects);
        if self.choices[0] & 1 == 0 {
            objects.reverse();
        }
        for (object, release) in objects {
            release(object);
            self.no_panic("a release", 0);
        }
    }

    fn check_lent(&self) {
        for (lent, handed_over) in &self.lent {
            let ended = lent.ended.load(Ordering::SeqCst);
            assert_eq!(ended, *handed_over, "times that destroy was called");
        }
    }
}

/// A path for the library.
pub fn path_of(path: &std::path::Path) -> CString {
    CString::new(path.to_str().unwrap_or_default()).unwrap_or_default()
}

/// A text of the library's.
fn text_at(text: Address) -> String {
    assert_ne!(text, 0, "no text");
    // SAFETY: the library's texts end with a NUL, and this one's object is alive.
    let text = unsafe { CStr::from_ptr(std::ptr::with_exposed_provenance::<c_char>(text)) };
    text.to_str().expect("texts are UTF-8").to_owned()
}

/// A reader of [`Lent`] bytes.
extern "C" fn read(userdata: *mut c_void, offset: u64, buffer: *mut c_void, length: usize) -> i32 {
    // SAFETY: this function is given with its `Lent`, which outlives every object, and called by one thread.
    let lent = unsafe { &mut *userdata.cast::<Lent>() };
    if lent.reads == 0 {
        return 1;
    }
    lent.reads -= 1;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let bytes = lent.bytes[lent.before..].get(offset..);
    match bytes.and_then(|bytes| bytes.get(..length)) {
        Some(bytes) => {
            // SAFETY: the library gives a buffer of that length.
            unsafe {
                buffer
                    .cast::<u8>()
                    .copy_from_nonoverlapping(bytes.as_ptr(), length)
            };
            0
        }
        None => 1,
    }
}

/// The end of [`Lent`] bytes.
extern "C" fn destroy(userdata: *mut c_void) {
    // SAFETY: this function is given with its `Lent`, which outlives every object.
    let lent = unsafe { &*userdata.cast::<Lent>() };
    lent.ended.fetch_add(1, Ordering::SeqCst);
}
