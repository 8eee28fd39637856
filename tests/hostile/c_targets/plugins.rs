//! Plugins that convert and score.

use crate::c_functions::*;
use crate::c_program::{Program, path_of, run, runtime};
use crate::c_struct::{Struct, address};
use crate::plugin_targets;

use super::{begin, samples, sound, write};

/// A plugin's file, as `component` makes it of the bytes: loaded, asked, and put to work.
pub fn plugin(bytes: &[u8]) -> Option<()> {
    begin();
    run(bytes, |program, second, file| {
        let wasm = plugin_targets::file(file)?;
        let limits = Struct::new("graft_plugin_limits")
            .set("fuel", program.pick(3_000_000, &[1, 1000]))
            .set("fuel_per_byte", program.pick(1, &[100]))
            .set("deadline_ms", program.pick(10_000, &[1]))
            .set("memory_bytes", program.pick(4 << 20, &[1, 1 << 16]))
            .set("call_bytes", program.pick(1 << 20, &[1]))
            .set("handles", program.pick(16, &[1]))
            .set("output_bytes", program.pick(1 << 20, &[1]))
            .set("samples", program.pick(1000, &[1]))
            .set("log_bytes", program.pick(1 << 16, &[1]))
            .set("diagnostics", program.pick(1000, &[1]))
            .set("plugin_bytes", program.pick(0, &[1, u64::MAX]))
            .sized(program.choice());
        let second = program.text(second.unwrap_or_default()) as u64;
        let options = Struct::new("graft_plugin_options")
            .set("flags", program.pick(1, &[0, 2]))
            .set("limits", limits.at() as u64)
            .set("sha256", program.pick(0, &[second]))
            .set(
                "public_key",
                program.pick(0, &[second, address(KEY.as_ptr())]),
            )
            .set("signature", program.pick(0, &[second]))
            .sized(program.choice());
        let (at, name) = (
            wasm.as_ptr().expose_provenance(),
            program.pick(0, &[second]) as Address,
        );
        let plugin = program.make(
            "graft_plugin_load_memory",
            graft_plugin_release,
            |out, err| {
                graft_plugin_load_memory(runtime(), name, at, wasm.len(), options.at(), out, err)
            },
        )?;
        program.buffer("graft_plugin_info", |out, err| {
            graft_plugin_info(plugin, out, err)
        });
        let (head, mut sure) = ("[]".as_ptr().expose_provenance(), 0);
        program.call("graft_plugin_detect", |err| {
            graft_plugin_detect(plugin, head, 2, name, &mut sure, err)
        });
        assert!(sure <= 100);
        convert(program, plugin);
        let request = Struct::new("graft_evaluation_request")
            .set("flags", program.pick(0, &[1]))
            .set("model", sound() as u64)
            .set("dataset", samples() as u64)
            .set("metric", plugin as u64)
            .set("limit", program.pick(1, &[0, u64::MAX]))
            .set("max_tokens", 1)
            .set("n_context", program.pick(256, &[0, 1, 8]))
            .set(
                "template_name",
                program.pick(0, &[1]) * address(c"vicuna_v1".as_ptr()),
            )
            .set("judge", program.pick(sound(), &[0]) as u64)
            .set("cancel", program.cancel() as u64)
            .sized(program.choice());
        program.buffer("graft_evaluation_run", |out, err| {
            graft_evaluation_run(request.at(), out, err)
        });
        Some(())
    })
}

/// A key that signed nothing here.
const KEY: &std::ffi::CStr = c"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// An export from anywhere to a file.
fn convert(program: &mut Program, plugin: Object) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let export = path_of(&write(folder.path(), "export.json", b"[]"));
    let output = path_of(&folder.path().join("train.json"));
    let mut request = Struct::new("graft_convert_request")
        .set("output_path", address(output.as_ptr()))
        .set(
            "options_json",
            program.pick(0, &[address(c"{}".as_ptr()), address(c"{".as_ptr())]),
        )
        .set("cancel", program.cancel() as u64);
    let mut given = None;
    if program.choice() < 128 {
        request = request.set("input_path", address(export.as_ptr()));
    } else {
        let source = program.source(b"[]");
        request = request.set("input", source.at() as u64);
        given = Some(source);
    }
    let request = request.sized(program.choice());
    if given.is_some() && !request.reaches("input") {
        program.was_not_taken();
    }
    let mut report = Struct::new("graft_convert_report")
        .sized(program.choice())
        .filled();
    program.call("graft_plugin_convert", |err| {
        graft_plugin_convert(plugin, request.at(), report.to(), err)
    });
    report.check();
}
