//! What bytes from outside are given to where plugins are: the loader, the functions that a plugin may
//! call, and the converters that ship with graft. As in `targets.rs`, the fuzzers under tests/fuzz and
//! the replay of their corpora call the same functions.
//!
//! An error is the expected answer; a panic, a hang, memory without bound, or a byte from outside of
//! the export's folder is a defect.

#![allow(dead_code)] // a fuzzer calls one of them

#[path = "../plugins/desk.rs"]
mod desk;
#[path = "../plugins/guest.rs"]
mod guest;
#[path = "native_converters.rs"]
mod native_converters;
#[path = "../plugins/script.rs"]
mod script;

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::Unstructured;
use graft::dataset::{Converter, ImageRef, Sample};
use graft::evaluate::{Evaluator, Prediction, Remarks};
use graft_plugins::{Grants, Host, Limits, Plugin, WasmConverter};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, PackageId, Resolve};

use desk::{Desk, Memory};
pub use native_converters::converters;

/// A way into the library; `None` if the bytes were refused.
pub type Target = fn(&[u8]) -> Option<()>;

/// Every target under the name of its corpus.
pub const ALL: [(&str, Target); 3] = [
    ("component", component),
    ("host_calls", host_calls),
    ("converters", converters),
];

/// Enough for a plugin that does something, and soon over.
fn limits() -> Limits {
    Limits {
        fuel: 3_000_000,
        fuel_per_byte: 0,
        deadline: Duration::from_secs(10),
        memory_bytes: 4 << 20,
        call_bytes: 1 << 20,
        handles: 16,
        assets: 100,
        output_bytes: 1 << 20,
        samples: 1000,
        log_bytes: 1 << 16,
        diagnostics: 1000,
        ..Limits::default()
    }
}

static HOST: LazyLock<Host> = LazyLock::new(|| Host::new(limits(), None).expect("an engine"));

/// A plugin's file. The first byte says how the others become one: as they are, as changes of a plugin
/// that works, or as choices of a generator of components, of converters and of evaluators.
pub fn file(bytes: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = bytes.split_first()?;
    match kind >> 5 {
        0 => Some(rest.to_vec()),
        1..=3 => Some(changed(usize::from(*kind), rest)),
        4 => generated_component(rest),
        5 => generated_plugin("evaluator-plugin", rest),
        6 => generated_plugin("judge-plugin", rest),
        _ => generated_plugin("converter-plugin", rest),
    }
}

/// A plugin's [`file`], loaded and put to work.
pub fn component(bytes: &[u8]) -> Option<()> {
    let file = file(bytes)?;
    let plugin = HOST.load_bytes("fuzzed", &file, &Grants { model: true });
    match plugin.ok()? {
        Plugin::Converter(converter) => {
            let _ = converter.describe();
            let _ = converter.detect(b"[]", "export.json");
            let desk = Desk::new(Path::new("no such folder"));
            let mut samples = Vec::new();
            let _ = converter.convert(&mut Memory::new("[]"), &mut samples, "{}", &desk);
            assert!(samples.len() <= 1000);
        }
        Plugin::Evaluator(evaluator) => {
            let _ = evaluator.describe();
            if let Ok(mut run) = evaluator.start("{}", 1, Arc::new(Remarks::default())) {
                let _ = run.score(&Sample::default(), &Prediction::default());
                let _ = run.finish();
            }
        }
    }
    Some(())
}

/// A small plugin with some bytes changed: three for a place, one for what is written there.
fn changed(which: usize, changes: &[u8]) -> Vec<u8> {
    static PLUGINS: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
        [
            include_bytes!("../plugins/released/0.1.0/judge.wasm").to_vec(),
            include_bytes!("../plugins/released/0.1.0/exact-match.wasm").to_vec(),
            script::plugin(),
        ]
    });
    let mut bytes = PLUGINS[which % PLUGINS.len()].clone();
    for &[low, middle, high, value] in changes.as_chunks().0 {
        let at = u32::from_le_bytes([low, middle, high, 0]) as usize;
        let at = at % bytes.len();
        match value {
            0xfe => bytes.truncate(at.max(8)),
            0xff => bytes[at] = bytes[at].wrapping_add(1),
            value => bytes[at] = value,
        }
    }
    bytes
}

fn settings() -> wasm_smith::Config {
    wasm_smith::Config {
        // What the engine is not built with.
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        relaxed_simd_enabled: false,
        max_memories: 1,
        ..wasm_smith::Config::default()
    }
}

fn generated_component(choices: &[u8]) -> Option<Vec<u8>> {
    let mut choices = Unstructured::new(choices);
    let component = wasm_smith::Component::new(settings(), &mut choices);
    Some(component.ok()?.to_bytes())
}

/// A core module that imports and exports what the world wants and does anything else, encoded as a
/// plugin.
fn generated_plugin(world: &str, choices: &[u8]) -> Option<Vec<u8>> {
    static INTERFACE: LazyLock<(Resolve, PackageId)> = LazyLock::new(|| {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(guest::interface()).expect("our own");
        (resolve, package)
    });
    let (resolve, package) = &*INTERFACE;
    let world = resolve
        .select_world(&[*package], Some(world))
        .expect("our own");
    let abi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);
    let outside = dummy_module(resolve, world, abi);
    let settings = wasm_smith::Config {
        exports: Some(outside.clone()),
        available_imports: Some(outside),
        ..settings()
    };
    let module = wasm_smith::Module::new(settings, &mut Unstructured::new(choices));
    let mut module = module.ok()?.to_bytes();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).ok()?;
    let encoder = ComponentEncoder::default().module(&module);
    encoder.ok()?.encode().ok()
}

/// What stands where no plugin may read.
const SECRET: &str = "the key to the house";

/// Calls of a plugin to its host, see [`script`]: each of the functions that a converter may call, with
/// whatever numbers the bytes say.
pub fn host_calls(bytes: &[u8]) -> Option<()> {
    static PLUGIN: LazyLock<WasmConverter> = LazyLock::new(|| {
        let plugin = HOST.load_bytes("script", &script::plugin(), &Grants::default());
        let plugin = plugin.expect("a sound plugin");
        plugin.into_converter().expect("a converter")
    });
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, content: &[u8]| {
            std::fs::write(folder.path().join(name), content).expect("room for a small file");
        };
        for name in ["export", "export/images"] {
            std::fs::create_dir(folder.path().join(name)).expect("a new folder");
        }
        write("secret", SECRET.as_bytes());
        write("export/a", b"label");
        let picture = include_bytes!("../golden/plugins/csv/images/bus.png");
        write("export/images/b.png", picture);
        #[cfg(unix)]
        std::os::unix::fs::symlink("../secret", folder.path().join("export/link")).expect("a link");
        folder
    });
    let desk = Desk::new(&FOLDER.path().join("export"));
    let mut samples = Vec::new();
    let mut source = Memory::new(bytes);
    let result = PLUGIN.convert(&mut source, &mut samples, "{}", &desk);
    let told = format!("{result:?} {samples:?} {:?} {:?}", desk.remarks, desk.log);
    assert!(!told.contains(SECRET), "it read the secret: {told}");
    for image in samples.iter().flat_map(|sample| &sample.images) {
        if let ImageRef::Path(path) = image {
            let inside = |part| matches!(part, std::path::Component::Normal(_));
            assert!(path.components().all(inside), "{path:?} leads out");
        }
    }
    assert!(samples.len() <= 1000);
    result.ok().map(|_| ())
}
