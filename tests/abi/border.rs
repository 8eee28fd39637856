//! The border itself: what the header says, what the libraries have, and what either does with arguments that cannot
//! be meant.
#![allow(unsafe_code)] // calls into the library as C programs do

mod header;
mod program;

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use libloading::Library;
use regex::Regex;

/// The names in `abi/symbols.txt`.
fn listed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(program::root().join("abi/symbols.txt")).unwrap();
    let names = text.lines().map(|line| line.split(' ').next().unwrap());
    names.map(str::to_owned).collect()
}

/// The visible names of a library.
fn visible(library: &Path, dynamic: &[&str]) -> BTreeSet<String> {
    let mut nm = Command::new("nm");
    nm.args(["-g", "--defined-only"]).args(dynamic).arg(library);
    let said = program::succeed(&mut nm);
    let names = said.lines().filter_map(|line| line.split(' ').nth(2));
    let names = names.filter(|name| !name.starts_with("GRAFT_"));
    names.map(str::to_owned).collect()
}

#[test]
fn header_list_and_libraries_have_the_same_functions_and_nothing_else() {
    let declared: BTreeSet<String> = header::functions().into_keys().collect();
    assert_eq!(declared, listed(), "graft.h and abi/symbols.txt");
    let folder = program::release();
    let versioned: BTreeSet<String> = listed().iter().map(|n| format!("{n}@@GRAFT_0.1")).collect();
    let shared = visible(&folder.join("lib/libgraft.so"), &["-D"]);
    assert_eq!(shared, versioned, "libgraft.so");
    assert_eq!(
        visible(&folder.join("lib/libgraft.a"), &[]),
        listed(),
        "libgraft.a"
    );
}

#[test]
fn each_function_is_in_a_file_of_its_noun() {
    let sources = std::fs::read_dir(program::root().join("abi/src")).unwrap();
    let sources: Vec<_> = sources.map(|entry| entry.unwrap().path()).collect();
    for name in listed() {
        let noun = name.split('_').nth(1).unwrap();
        // `adapter.rs`, and where that is long `adapter_algebra.rs`.
        let of_noun = sources.iter().filter(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            stem.strip_prefix(noun)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        });
        let mut texts = of_noun.map(|path| std::fs::read_to_string(path).unwrap());
        assert!(
            texts.any(|text| text.contains(&name)),
            "{name} is in no file of {noun}"
        );
    }
}

/// Compiles a text as C.
fn compiles(name: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("{name}.c"));
    std::fs::write(&file, text).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Werror", "-fsyntax-only", "-I"])
        .arg(program::root().join("include"))
        .arg(&file);
    program::succeed(&mut cc);
}

#[test]
fn structs_lie_in_memory_as_the_header_says() {
    let mut text = String::from("#include \"graft.h\"\n");
    let mut ours = BTreeSet::new();
    for (name, size, fields) in graft_abi::layouts() {
        ours.insert(name.to_owned());
        let _ = writeln!(
            text,
            "_Static_assert(sizeof({name}) == {size}, \"{name}\");"
        );
        for (field, offset, size) in fields {
            let _ = writeln!(
                text,
                "_Static_assert(offsetof({name}, {field}) == {offset}, \"{name}.{field}\");\n\
                 _Static_assert(sizeof((({name} *)0)->{field}) == {size}, \"{name}.{field}\");"
            );
        }
    }
    let theirs: BTreeSet<String> = header::structs().into_iter().collect();
    assert_eq!(theirs, ours, "structs of graft.h and of the library");
    compiles("layouts", &text);
}

#[test]
fn numbers_are_the_same_on_both_sides() {
    let pattern = Regex::new(r"(?m)^\s*pub const (GRAFT_\w+): \w+ = (.*);$").unwrap();
    let mut ours = BTreeSet::new();
    let mut text = String::from("#include \"graft.h\"\n");
    let mut compare = |name: &str, value: &str| {
        ours.insert(name.to_owned());
        let value = match value {
            "usize::MAX" => "SIZE_MAX".to_owned(),
            "u64::MAX" => "UINT64_MAX".to_owned(),
            "u32::MAX" => "UINT32_MAX".to_owned(),
            number => number.replace('_', ""),
        };
        let _ = writeln!(text, "_Static_assert({name} == ({value}), \"{name}\");");
    };
    for (number, name) in graft_abi::statuses() {
        compare(name.to_str().unwrap(), &number.to_string());
    }
    for entry in std::fs::read_dir(program::root().join("abi/src")).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for found in pattern.captures_iter(&source) {
            compare(&found[1], &found[2]);
        }
    }
    let theirs: BTreeSet<String> = header::numbers().into_keys().collect();
    let differ: Vec<_> = theirs.symmetric_difference(&ours).collect();
    assert!(differ.is_empty(), "on one side only: {differ:?}");
    compiles("numbers", &text);
}

#[test]
fn the_header_stands_alone_in_every_language_it_names() {
    let header = program::root().join("include/graft.h");
    for (compiler, language, standards) in [
        ("cc", "c", ["c99", "c11", "c17"]),
        ("c++", "c++", ["c++11", "c++17", "c++20"]),
    ] {
        for standard in standards {
            let mut compile = Command::new(compiler);
            compile
                .arg(format!("-std={standard}"))
                .args(["-pedantic", "-Wall", "-Wextra", "-Wpadded", "-Werror"])
                .args(["-fsyntax-only", "-x", language])
                .arg(&header);
            // g++ says of a header compiled alone that it is one.
            if language == "c++" {
                compile.arg("-Wno-pragma-once-outside-header");
            }
            program::succeed(&mut compile);
        }
    }
}

/// A function of any signature, called with integers and pointers only.
type Any = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize) -> usize;

/// The arguments that a function is called with: `handle` for every object it takes, else zero.
fn arguments(function: &header::Function, handle: usize) -> [usize; 8] {
    let mut arguments = [0; 8];
    assert!(function.takes.len() <= 8, "{function:?}");
    for (argument, kind) in arguments.iter_mut().zip(&function.takes) {
        // An object, not where one goes, and not a struct.
        let name = kind.trim_start_matches("const ").strip_suffix(" *");
        if name.is_some_and(|name| OBJECTS.contains(&name)) {
            *argument = handle;
        }
    }
    arguments
}

const OBJECTS: &[&str] = &[
    "graft_runtime",
    "graft_model",
    "graft_image",
    "graft_adapter",
    "graft_dataset",
    "graft_plugin",
    "graft_registry",
    "graft_session",
    "graft_batch",
    "graft_trainer",
    "graft_job",
    "graft_cancel",
    "graft_buffer",
    "graft_error",
];

/// Calls a function of the library.
fn call(library: &Library, name: &str, arguments: [usize; 8]) -> usize {
    let [a, b, c, d, e, f, g, h] = arguments;
    // SAFETY: every function takes at most eight integers and pointers (floating-point parameters have registers of
    // their own), all of which are zero or handles, which the library promises to survive.
    unsafe {
        let function = library.get::<Any>(name).unwrap();
        function(a, b, c, d, e, f, g, h)
    }
}

fn shared(variant: Option<&str>) -> Library {
    let path = program::installed(variant).join("lib/libgraft.so.0");
    // SAFETY: the library's constructors do nothing but Rust's own.
    unsafe { Library::new(path) }.unwrap()
}

#[test]
fn every_function_survives_null_released_objects_and_objects_of_another_kind() {
    let library = shared(None);
    // SAFETY: these are the signatures in graft.h.
    let (create, release) = unsafe {
        let create = library.get::<unsafe extern "C" fn(*mut usize) -> i32>("graft_cancel_create");
        let release = library.get::<unsafe extern "C" fn(usize)>("graft_cancel_release");
        (create.unwrap(), release.unwrap())
    };
    let mut token = 0;
    // SAFETY: there is room for the token, and it is one.
    let released = unsafe {
        assert_eq!(create(&raw mut token), 0);
        let released = token;
        release(token);
        assert_eq!(create(&raw mut token), 0);
        released
    };
    let local = 0_u64;
    let pointer = (&raw const local).addr();
    let functions = header::functions();
    for (name, function) in &functions {
        for handle in [0, released, token, pointer, usize::MAX, 1] {
            // A live token is one, so functions that take tokens may do as they are told.
            call(&library, name, arguments(function, handle));
        }
        let takes_object = arguments(function, 1)[0] == 1;
        let status = call(&library, name, arguments(function, released)) as u32 as i32;
        if function.returns == "graft_status" && takes_object {
            assert!(status < 0, "{name} of a released object: {status}");
        }
    }
}

#[test]
fn a_panic_in_any_function_becomes_a_status() {
    let library = shared(Some("failpoints"));
    for (name, function) in header::functions() {
        if name == "graft_cancel_signal" {
            continue; // for signal handlers: it has no place to panic and no guard
        }
        // SAFETY: the other tests of this binary do not read the environment.
        unsafe { std::env::set_var("GRAFT_FAILPOINT", &name) };
        let returned = call(&library, &name, [0; 8]);
        match function.returns.as_str() {
            "graft_status" if name == "graft_error_status" => {}
            "graft_status" => assert_eq!(returned as u32 as i32, -1, "{name}"),
            "const char *" if returned != 0 => {
                // SAFETY: texts that the library returns end with a NUL.
                let text = unsafe { CStr::from_ptr(returned as *const c_char) };
                assert!(text.to_bytes().len() < 1 << 16, "{name}");
            }
            _ => {}
        }
    }
}
