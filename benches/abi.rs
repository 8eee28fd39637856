//! What the C interface costs: answers beside those of the Rust API in one run, opening a model, sessions in threads, and
//! how soon a raised token ends calls of every kind.
//!
//! `bench-abi <folder> [shape] [quant type] [rounds]`, by default `target/bench-models 160m Q4_K 5`
#![allow(unsafe_code)] // calls as a C program makes them

mod abi_cancel;
#[path = "../tests/hostile/c_functions.rs"]
mod c_functions;
#[path = "../tests/hostile/c_struct.rs"]
mod c_struct;

use std::ffi::{CString, c_char, c_void};
use std::ops::ControlFlow;
use std::thread;
use std::time::Instant;

use c_functions::*;
use c_struct::{Struct, address};
use graft::session::{GenerateOptions, Session, SessionOptions};
use graft_benches::random_model;

const PROMPT: usize = 32;
const ANSWER: u32 = 64;
const SESSIONS: usize = 8;

extern "C" fn count(userdata: *mut c_void, _: *const c_char, length: usize) -> i32 {
    // SAFETY: every request of this program gives the place of a number.
    unsafe { *userdata.cast::<usize>() += length };
    0
}

/// A session as a C program has it.
struct CSession(Object);

impl CSession {
    fn new(model: Object) -> Self {
        let mut session = 0;
        assert_eq!(graft_session_create(model, 0, &mut session, 0), 0);
        Self(session)
    }

    /// Answers from the beginning; returns the status and the bytes of text.
    fn answer(&self, tokens: &[i32], most: u32, cancel: Object) -> (Status, usize) {
        let mut bytes = 0_usize;
        let count: extern "C" fn(_, _, _) -> _ = count;
        let request = Struct::new("graft_generate_request")
            .set("max_tokens", most.into())
            .set("tokens", address(tokens.as_ptr()))
            .set("n_tokens", tokens.len() as u64)
            .set("cancel", cancel as u64)
            .set("on_text", count as usize as u64)
            .set("userdata", address(&raw mut bytes));
        graft_session_reset(self.0, 0);
        let status = graft_session_generate(self.0, request.at(), 0, 0);
        (status, bytes)
    }
}

impl Drop for CSession {
    fn drop(&mut self) {
        graft_session_release(self.0);
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
    let mut model = 0;

    let opening = (0..rounds).map(|_| {
        let begun = Instant::now();
        graft_model_release(model);
        let path = name.as_ptr().expose_provenance();
        assert_eq!(graft_model_open(0, path, 0, &mut model, 0), 0);
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
        let (status, same) = c.answer(&prompt, ANSWER, 0);
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
    let each = |session: &CSession| session.answer(&prompt, ANSWER, 0).1;
    let begun = Instant::now();
    let one_by_one: Vec<usize> = sessions.iter().map(each).collect();
    let sequential = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let threads = sessions.into_iter().map(|session| {
        let prompt = prompt.clone();
        thread::spawn(move || {
            let session = session;
            session.answer(&prompt, ANSWER, 0).1
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
    abi_cancel::print("a prompt of 2000 tokens", |cancel| {
        c.answer(&long, 1, cancel).0
    });
    drop(c);
    abi_cancel::of_files(&path, model)?;
    graft_model_release(model);
    Ok(())
}
