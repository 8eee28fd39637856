//! What `graft.h` says that threads may share, in the hands of many: one runtime and one model, adapters that are
//! published, attached and released meanwhile, tokens raised by others, jobs that others ask and cancel, objects that end
//! while they are used, a log function that is replaced while it is told.
//!
//! `.ci/thread-sanitizer` runs this with every access to memory watched.
#![allow(unsafe_code)] // a log function, as C programs have it

#[path = "../../tests/hostile/c_functions.rs"]
mod c_functions;
#[path = "../../tests/hostile/c_struct.rs"]
mod c_struct;

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use c_functions::*;
use c_struct::{Struct, address};

const MODEL: &[u8] = include_bytes!("../../tests/fuzz/corpus/model/seed.gguf");
const ADAPTER: &[u8] = include_bytes!("../../tests/fuzz/corpus/c_adapter/seed-text");
/// Where the file begins in that input of a fuzzer, see `tests/hostile/c_program.rs`.
const CHOICES: usize = 83;

/// Answers of each session that talks.
const TURNS: usize = 150;
/// Sessions that talk.
const TALKERS: usize = 2;

const OK: Status = 0;
const DONE: Status = 1;
const PENDING: Status = 2;
const HANDLE: Status = -3;
const STATE: Status = -4;
const BUSY: Status = -5;
const CANCELLED: Status = -6;
const NOT_FOUND: Status = -12;

/// What a call may come to.
#[track_caller]
fn any(status: Status, allowed: &[Status]) -> Status {
    assert!(allowed.contains(&status), "{status}");
    status
}

/// A call that makes an object.
#[track_caller]
fn made(call: impl FnOnce(&mut Object) -> Status) -> Object {
    let mut object = 0;
    assert_eq!(call(&mut object), OK);
    object
}

fn memory(bytes: &'static [u8]) -> Struct {
    Struct::new("graft_source")
        .set("kind", 2)
        .set("data", address(bytes.as_ptr()))
        .set("length", bytes.len() as u64)
}

fn text(text: &std::ffi::CStr) -> Address {
    text.as_ptr().expose_provenance()
}

/// What a log function counts in, until it is ended.
struct Listener {
    heard: AtomicUsize,
    ended: &'static AtomicUsize,
}

extern "C" fn hear(
    userdata: *mut c_void,
    _: u32,
    _: *const c_char,
    message: *const c_char,
    _: usize,
) {
    assert!(!message.is_null());
    // SAFETY: given with a `Listener`, and not called after `end`.
    let listener = unsafe { &*userdata.cast::<Listener>() };
    listener.heard.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn end(userdata: *mut c_void) {
    // SAFETY: the box that the function was given with, which comes back once.
    let listener = unsafe { Box::from_raw(userdata.cast::<Listener>()) };
    assert!(listener.heard.into_inner() < usize::MAX);
    listener.ended.fetch_add(1, Ordering::Relaxed);
}

/// All that the threads share.
struct Shared {
    runtime: Object,
    model: Object,
    adapter: Object,
    registry: Object,
    /// A token of many calls, raised and lowered by others.
    token: Object,
    /// Whatever objects the threads show each other: jobs, sessions, models; some are over.
    shown: [AtomicUsize; 4],
    talking: AtomicUsize,
    done: AtomicBool,
}

impl Shared {
    fn busy(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }

    fn shown(&self, place: usize) -> Object {
        self.shown[place % self.shown.len()].load(Ordering::Relaxed)
    }

    fn session(&self) -> Object {
        let options = Struct::new("graft_session_options").set("n_context", 8);
        made(|out| graft_session_create(self.model, options.at(), out, 0))
    }

    /// Asks with what a name stands for; returns whether it was answered.
    fn ask(&self, session: Object, turn: usize) -> bool {
        let mut adapter = 0;
        let name = text(c"live");
        any(
            graft_registry_get(self.registry, name, &mut adapter, 0, 0),
            &[OK, NOT_FOUND],
        );
        let binding = Struct::new("graft_adapter_binding")
            .set("strength", 1.0_f32.to_bits().into())
            .set("adapter", adapter as u64);
        let count = usize::from(adapter != 0);
        let keep = turn as u32 & 1;
        let set = graft_session_set_adapters(session, binding.at(), count, keep, 0);
        any(set, &[OK, BUSY, HANDLE]);
        // The session keeps it.
        graft_adapter_release(adapter);
        let tokens = [1, 5, 6];
        let request = Struct::new("graft_generate_request")
            .set("max_tokens", 3)
            .set("tokens", address(tokens.as_ptr()))
            .set("n_tokens", 3)
            .set("cancel", self.token as u64);
        let mut result = Struct::new("graft_generate_result");
        let status = graft_session_generate(session, request.at(), result.to(), 0);
        any(status, &[OK, BUSY, CANCELLED]) == OK
    }

    /// Sessions that answer under whatever the name stands for.
    fn talk(&self) {
        let session = self.session();
        let mut answers = 0;
        for turn in 0.. {
            answers += usize::from(self.ask(session, turn));
            let fork = made_or_none(|out| graft_session_fork(session, 0, out, 0));
            graft_session_release(fork);
            assert_eq!(graft_session_reset(session, 0), OK);
            if answers == TURNS {
                break;
            }
        }
        graft_session_release(session);
        if self.talking.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.store(true, Ordering::Relaxed);
        }
    }

    /// What the name stands for changes, and it comes and goes.
    fn publish(&self, first: usize) {
        let name = text(c"live");
        for turn in (first..).take_while(|_| self.busy()) {
            let factor = 1.0 + (turn % 7) as f32;
            let next = made(|out| graft_adapter_scale(self.adapter, factor, out, 0));
            match turn % 4 {
                0 => any(
                    graft_registry_unload(self.registry, name, 0),
                    &[OK, NOT_FOUND],
                ),
                1 => any(
                    graft_registry_pin(self.registry, name, 1, 0),
                    &[OK, NOT_FOUND],
                ),
                _ => any(
                    graft_registry_publish(self.registry, name, next, 1, 0, 0, 0),
                    &[OK],
                ),
            };
            let json = made(|out| graft_registry_list(self.registry, out, 0));
            assert!(graft_buffer_size(json) > 0);
            graft_buffer_release(json);
            graft_adapter_release(next);
        }
    }

    /// A token goes up and down under the calls that have it, and others come and go.
    fn cancel(&self) {
        while self.busy() {
            graft_cancel_signal(self.token);
            graft_cancel_is_signalled(self.token);
            graft_cancel_reset(self.token);
            let other = made(|out| graft_cancel_create(out));
            graft_cancel_signal(other);
            graft_cancel_release(other);
            // Whatever it is now.
            graft_cancel_signal(other);
            thread::yield_now();
        }
    }

    /// Answers in the background, which others ask, cancel and let go.
    fn start(&self, place: usize) {
        while self.busy() {
            let session = self.session();
            let tokens = [1, 5];
            let request = Struct::new("graft_generate_request")
                .set("max_tokens", 4)
                .set("tokens", address(tokens.as_ptr()))
                .set("n_tokens", 2);
            let job = made(|out| graft_session_generate_start(session, request.at(), out, 0));
            self.shown[place].store(job, Ordering::Relaxed);
            self.shown[place + 1].store(session, Ordering::Relaxed);
            // The session is the job's until that ends.
            any(graft_session_reset(session, 0), &[OK, BUSY]);
            any(graft_job_wait(job, 1, 0), &[OK, PENDING, CANCELLED, HANDLE]);
            graft_session_release(session);
            graft_job_release(job);
        }
    }

    /// Whatever another thread has shown, used as everything it might be.
    fn pry(&self, first: usize) {
        for turn in (first..).take_while(|_| self.busy()) {
            let object = self.shown(turn);
            let mut event = Struct::new("graft_event");
            let over = [OK, DONE, PENDING, HANDLE, BUSY, CANCELLED];
            any(graft_job_next_event(object, 0, event.to()), &over);
            any(graft_job_wait(object, 0, 0), &over);
            let mut descriptor = 0;
            any(
                graft_job_event_fd(object, &mut descriptor, 0),
                &[OK, HANDLE],
            );
            if turn.is_multiple_of(3) {
                graft_job_cancel(object);
            }
            if turn.is_multiple_of(5) {
                graft_job_release(object);
            }
            let mut info = Struct::new("graft_session_info");
            any(
                graft_session_get_info(object, info.to()),
                &[OK, BUSY, HANDLE],
            );
            let mut info = Struct::new("graft_model_info");
            any(graft_model_get_info(object, info.to()), &[OK, HANDLE]);
        }
    }

    /// Models that end while others look at them.
    fn open(&self, place: usize) {
        let source = memory(MODEL);
        while self.busy() {
            let model = made(|out| graft_model_open_source(self.runtime, source.at(), 0, out, 0));
            self.shown[place].store(model, Ordering::Relaxed);
            let options = Struct::new("graft_session_options").set("n_context", 4);
            let session = made(|out| graft_session_create(model, options.at(), out, 0));
            graft_model_retain(model);
            graft_model_release(model);
            graft_model_release(model);
            let tokens = [1, 5];
            let at = tokens.as_ptr().expose_provenance();
            assert_eq!(graft_session_feed(session, at, 2, 0, 0), OK);
            graft_session_release(session);
        }
    }

    /// Two sessions in two batches at once: one of them is refused, and nothing else happens.
    fn batch(&self, sessions: [Object; 2]) {
        let options = Struct::new("graft_batch_options")
            .set("n_sessions", 2)
            .set("n_context", 8);
        let batch = made(|out| graft_batch_create(self.model, options.at(), out, 0));
        let tokens = [5];
        let inputs = sessions.map(|session| {
            let input = Struct::new("graft_batch_input")
                .set("session", session as u64)
                .set("tokens", address(tokens.as_ptr()))
                .set("n_tokens", 1);
            input.words()
        });
        let inputs = inputs.concat();
        let at = inputs.as_ptr().expose_provenance();
        while self.busy() {
            any(
                graft_batch_feed(batch, at, 2, self.token, 0),
                &[OK, BUSY, CANCELLED, -19],
            );
            any(graft_session_reset(sessions[0], 0), &[OK, BUSY]);
            any(graft_session_reset(sessions[1], 0), &[OK, BUSY]);
        }
        graft_batch_release(batch);
    }

    /// A run that others look at, pause and go on with.
    fn train(&self, data: Object, place: usize) {
        while self.busy() {
            let options = Struct::new("graft_train_options")
                .set("rank", 1)
                .set("max_length", 0)
                .set("targets", address(c"q_proj".as_ptr()))
                .set("max_steps", 3);
            let trainer =
                made(|out| graft_trainer_create(self.model, data, 0, options.at(), out, 0));
            let job = made(|out| graft_trainer_start(trainer, out, 0));
            self.shown[place].store(job, Ordering::Relaxed);
            let mut metrics = Struct::new("graft_train_metrics");
            assert_eq!(graft_trainer_metrics(trainer, metrics.to()), OK);
            graft_trainer_pause(trainer);
            let mut adapter = 0;
            let found = graft_trainer_adapter(trainer, &mut adapter, 0);
            any(found, &[OK, BUSY]);
            graft_adapter_release(adapter);
            graft_job_release(job);
            graft_trainer_release(trainer);
        }
    }

    /// Another log function each time; everything is told to the one of the moment.
    fn listen(&self, ended: &'static AtomicUsize) -> usize {
        let (function, end): (extern "C" fn(_, _, _, _, _), extern "C" fn(_)) = (hear, end);
        let mut given = 0;
        while self.busy() {
            let listener = Box::new(Listener {
                heard: AtomicUsize::new(0),
                ended,
            });
            let listener = Box::into_raw(listener).expose_provenance();
            let (function, end) = (function as usize, end as usize);
            let set = graft_runtime_set_log(self.runtime, 5, function, listener, end, 0);
            assert_eq!(set, OK);
            given += 1;
            thread::yield_now();
        }
        assert_eq!(graft_runtime_set_log(self.runtime, 0, 0, 0, 0, 0), OK);
        given
    }
}

fn made_or_none(call: impl FnOnce(&mut Object) -> Status) -> Object {
    let mut object = 0;
    any(call(&mut object), &[OK, STATE]);
    object
}

#[test]
fn what_threads_may_share_they_share_without_a_race() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let before = graft_abi::held();
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let options = Struct::new("graft_runtime_options").set("n_threads", 2);
    let runtime = made(|out| graft_runtime_create(options.at(), out, 0));
    let (model, adapter) = (memory(MODEL), memory(&ADAPTER[CHOICES..]));
    let model = made(|out| graft_model_open_source(runtime, model.at(), 0, out, 0));
    let adapter = made(|out| graft_adapter_open_source(model, adapter.at(), 0, out, 0));
    let shared = Shared {
        runtime,
        model,
        adapter,
        registry: made(|out| graft_registry_create(model, 0, out, 0)),
        token: made(|out| graft_cancel_create(out)),
        shown: [const { AtomicUsize::new(0) }; 4],
        talking: AtomicUsize::new(TALKERS),
        done: AtomicBool::new(false),
    };
    let pair = [shared.session(), shared.session()];
    let given = thread::scope(|scope| {
        for _ in 0..TALKERS {
            scope.spawn(|| shared.talk());
        }
        scope.spawn(|| shared.publish(0));
        scope.spawn(|| shared.publish(2));
        scope.spawn(|| shared.cancel());
        scope.spawn(|| shared.start(0));
        scope.spawn(|| shared.open(2));
        scope.spawn(|| shared.train(data, 3));
        scope.spawn(|| shared.pry(0));
        scope.spawn(|| shared.pry(2));
        scope.spawn(|| shared.batch(pair));
        scope.spawn(|| shared.batch([pair[1], pair[0]]));
        let listener = scope.spawn(|| shared.listen(&ENDED));
        listener.join().unwrap()
    });
    assert!(
        given > 1 && ENDED.load(Ordering::Relaxed) == given,
        "{given} listeners"
    );
    for session in pair {
        graft_session_release(session);
    }
    graft_dataset_release(data);
    graft_registry_release(shared.registry);
    graft_cancel_release(shared.token);
    graft_adapter_release(adapter);
    graft_model_release(model);
    graft_runtime_release(runtime);
    assert_eq!(graft_abi::held(), before, "objects were left");
}

/// Two samples without images.
fn data(folder: &Path) -> Object {
    let line = |id: u8| {
        format!(
            r#"{{"id":"{id}","conversations":[{{"from":"human","value":"a"}},{{"from":"gpt","value":"ab"}}]}}"#
        )
    };
    let path = folder.join("data.json");
    std::fs::write(&path, format!("{}\n{}", line(1), line(2))).unwrap();
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    made(|out| graft_dataset_open(text(&path), 0, out, 0))
}
