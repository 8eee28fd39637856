//! What the C interface costs: answers beside those of the Rust API in one run, opening a model, sessions in threads, and
//! how soon a raised token ends a call.
//!
//! `bench-abi <folder> [shape] [quant type] [rounds]`, by default `target/bench-models 160m Q4_K 5`
#![allow(unsafe_code)] // calls as a C program makes them

use std::ffi::{CString, c_char, c_void};
use std::ops::ControlFlow;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use graft::session::{GenerateOptions, Session, SessionOptions};
use graft_benches::random_model;

// What answers the names below.
use graft_abi as _;

const PROMPT: usize = 32;
const ANSWER: u32 = 64;
const SESSIONS: usize = 8;

/// The beginning of `graft_generate_request`; what is left out reads as zeros.
#[repr(C)]
struct Request {
    struct_size: u32,
    flags: u32,
    timeout_ms: u64,
    max_tokens: u32,
    reserved_0: u32,
    messages: [usize; 3],
    text: [usize; 2],
    tokens: *const i32,
    n_tokens: usize,
    images: [usize; 2],
    sampling: usize,
    stops: [usize; 2],
    cancel: *mut c_void,
    on_text: Option<unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> i32>,
    on_progress: usize,
    userdata: *mut usize,
}

unsafe extern "C" {
    fn graft_model_open(
        runtime: *mut c_void,
        path: *const c_char,
        options: *const c_void,
        out: *mut *mut c_void,
        err: *mut *mut c_void,
    ) -> i32;
    fn graft_model_release(model: *mut c_void);
    fn graft_session_create(
        model: *mut c_void,
        options: *const c_void,
        out: *mut *mut c_void,
        err: *mut *mut c_void,
    ) -> i32;
    fn graft_session_reset(session: *mut c_void, err: *mut *mut c_void) -> i32;
    fn graft_session_release(session: *mut c_void);
    fn graft_session_generate(
        session: *mut c_void,
        request: *const Request,
        out: *mut c_void,
        err: *mut *mut c_void,
    ) -> i32;
    fn graft_cancel_create(out: *mut *mut c_void) -> i32;
    fn graft_cancel_signal(cancel: *mut c_void);
    fn graft_cancel_release(cancel: *mut c_void);
}

unsafe extern "C" fn count(userdata: *mut c_void, _: *const c_char, length: usize) -> i32 {
    // SAFETY: every request of this program gives the place of a number.
    unsafe { *userdata.cast::<usize>() += length };
    0
}

/// A session as a C program has it.
struct CSession(*mut c_void);

// SAFETY: handles are numbers, and the library checks them.
unsafe impl Send for CSession {}

impl CSession {
    fn new(model: *mut c_void) -> Self {
        let mut session = ptr::null_mut();
        // SAFETY: there is room for the handle.
        let status =
            unsafe { graft_session_create(model, ptr::null(), &raw mut session, ptr::null_mut()) };
        assert_eq!(status, 0, "graft_session_create");
        Self(session)
    }

    /// Answers from the beginning; returns the status and the bytes of text.
    fn answer(&self, tokens: &[i32], most: u32, cancel: *mut c_void) -> (i32, usize) {
        let mut bytes = 0;
        let request = Request {
            struct_size: size_of::<Request>() as u32,
            flags: 0,
            timeout_ms: 0,
            max_tokens: most,
            reserved_0: 0,
            messages: [0; 3],
            text: [0; 2],
            tokens: tokens.as_ptr(),
            n_tokens: tokens.len(),
            images: [0; 2],
            sampling: 0,
            stops: [0; 2],
            cancel,
            on_text: Some(count),
            on_progress: 0,
            userdata: &raw mut bytes,
        };
        // SAFETY: the request and what it leads to outlive the call.
        let status = unsafe {
            graft_session_reset(self.0, ptr::null_mut());
            graft_session_generate(self.0, &raw const request, ptr::null_mut(), ptr::null_mut())
        };
        (status, bytes)
    }
}

impl Drop for CSession {
    fn drop(&mut self) {
        // SAFETY: a handle, released once.
        unsafe { graft_session_release(self.0) };
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut next = |usual: &str| words.next().unwrap_or_else(|| usual.to_owned());
    let folder = next("target/bench-models");
    let (shape, kind) = (next("160m"), next("Q4_K"));
    let rounds: usize = next("5").parse()?;
    let (_, engine) = random_model::open(&folder, &shape, &kind, 0)?;
    let path = engine
        .gguf()
        .path()
        .ok_or("the model has a file")?
        .to_owned();
    let name = CString::new(path.display().to_string())?;
    let mut model = ptr::null_mut();

    let opening = (0..rounds).map(|_| {
        let begun = Instant::now();
        // SAFETY: there is room for the handle; a handle is released once.
        unsafe {
            graft_model_release(model);
            let out = &raw mut model;
            let (none, nobody) = (ptr::null(), ptr::null_mut());
            assert_eq!(
                graft_model_open(ptr::null_mut(), name.as_ptr(), none, out, nobody),
                0
            );
        }
        begun.elapsed().as_secs_f64()
    });
    let gigabytes = std::fs::metadata(&path)?.len() as f64 / 1e9;
    let opening = median(opening.collect());
    println!("open         {gigabytes:.2} GB in {:.1} ms", opening * 1e3);

    let prompt: Vec<i32> = (0..PROMPT as i32).map(|i| 300 + 7 * i).collect();
    let tokens: Vec<u32> = prompt.iter().map(|&t| t.unsigned_abs()).collect();
    let mut rust = Session::new(engine, &SessionOptions::default())?;
    let c = CSession::new(model);
    let asking = GenerateOptions {
        max_tokens: ANSWER as usize,
        ..GenerateOptions::default()
    };
    let (mut by_rust, mut by_c) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let begun = Instant::now();
        let mut bytes = 0;
        rust.reset();
        rust.feed(&tokens)?;
        rust.generate(&asking, |text| {
            bytes += text.len();
            ControlFlow::Continue(())
        })?;
        let first = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let (status, same) = c.answer(&prompt, ANSWER, ptr::null_mut());
        let second = begun.elapsed().as_secs_f64();
        assert_eq!((status, same), (0, bytes), "both answer the same");
        // The first round warms up.
        if round > 0 {
            by_rust.push(first);
            by_c.push(second);
        }
    }
    let (rust_seconds, c_seconds) = (median(by_rust), median(by_c));
    println!(
        "answer       {ANSWER} tokens: Rust {:.1} ms, C {:.1} ms, ratio {:.4}",
        rust_seconds * 1e3,
        c_seconds * 1e3,
        c_seconds / rust_seconds
    );

    let sessions: Vec<CSession> = (0..SESSIONS).map(|_| CSession::new(model)).collect();
    let each = |session: &CSession| session.answer(&prompt, ANSWER, ptr::null_mut()).1;
    let begun = Instant::now();
    let one_by_one: Vec<usize> = sessions.iter().map(each).collect();
    let sequential = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let threads = sessions.into_iter().map(|session| {
        let prompt = prompt.clone();
        thread::spawn(move || {
            let session = session;
            session.answer(&prompt, ANSWER, ptr::null_mut()).1
        })
    });
    let threads: Vec<_> = threads.collect();
    let together: Vec<usize> = threads.into_iter().map(|t| t.join().unwrap_or(0)).collect();
    let parallel = begun.elapsed().as_secs_f64();
    assert_eq!(one_by_one, together, "sessions in threads answer the same");
    println!(
        "sessions     {SESSIONS} one by one {sequential:.2} s, in threads {parallel:.2} s, {:.2}x",
        sequential / parallel
    );

    let long: Vec<i32> = (0..2000).map(|i| 300 + i % 20_000).collect();
    let mut latest = Vec::new();
    for moment in [5, 20, 50, 100, 200, 400, 800] {
        let mut cancel = ptr::null_mut();
        // SAFETY: there is room for the handle.
        assert_eq!(unsafe { graft_cancel_create(&raw mut cancel) }, 0);
        let address = cancel.addr();
        let raised = thread::spawn(move || {
            thread::sleep(Duration::from_millis(moment));
            // SAFETY: a handle, and one that is alive.
            unsafe { graft_cancel_signal(ptr::without_provenance_mut(address)) };
            Instant::now()
        });
        let (status, _) = c.answer(&long, 0, cancel);
        let ended = Instant::now();
        let raised = raised
            .join()
            .map_err(|_| "the thread that raises the token died")?;
        if status == -6 {
            latest.push(ended.saturating_duration_since(raised).as_secs_f64());
        }
        // SAFETY: a handle, released once.
        unsafe { graft_cancel_release(cancel) };
    }
    let worst = latest.iter().copied().fold(0.0, f64::max);
    println!(
        "cancel       {} calls with a prompt of {} ended at most {:.1} ms after the token was raised",
        latest.len(),
        long.len(),
        worst * 1e3
    );
    drop(c);
    // SAFETY: a handle, released once.
    unsafe { graft_model_release(model) };
    Ok(())
}
