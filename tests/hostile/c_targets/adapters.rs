//! Adapters, and what becomes of them.

use crate::c_functions::*;
use crate::c_program::{Program, path_of, run, runtime};
use crate::c_struct::{Struct, address};

use super::models::{session, talk};
use super::{begin, sound};

/// An adapter file, and as the second file its vision half: everything that becomes of adapters, and a model with it.
pub fn adapter(bytes: &[u8]) -> Option<()> {
    begin();
    run(bytes, |program, second, file| {
        let (mut options, mut given) = (Struct::new("graft_adapter_options"), None);
        if let Some(second) = second {
            let companion = program.source(second);
            options = options.set("companion", companion.at() as u64);
            given = Some(companion);
        }
        options = options
            .set("flags", program.pick(0, &[1]))
            .set("name", program.pick(0, &[1]) * address(c"\xff".as_ptr()))
            .set("cancel", program.cancel() as u64)
            .sized(program.choice());
        if given.is_some() && !options.reaches("companion") {
            program.was_not_taken();
        }
        let source = program.source(file);
        let model = program.pick(sound(), &[0]);
        let adapter = program.make(
            "graft_adapter_open_source",
            graft_adapter_release,
            |out, err| graft_adapter_open_source(model, source.at(), options.at(), out, err),
        )?;
        let mut info = Struct::new("graft_adapter_info")
            .sized(program.choice())
            .filled();
        let status = graft_adapter_get_info(adapter, info.to());
        program.status("graft_adapter_get_info", status);
        info.check();
        program.buffer("graft_adapter_metadata", |out, err| {
            graft_adapter_metadata(adapter, out, err)
        });
        program.call("graft_adapter_check", |err| {
            graft_adapter_check(adapter, sound(), err)
        });
        let others = become_others(program, adapter);
        for adapter in [Some(adapter), others].into_iter().flatten() {
            saved(program, adapter);
            attached(program, adapter)?;
        }
        Some(())
    })
}

/// Sums, smaller ranks, other strengths and another name.
fn become_others(program: &mut Program, adapter: Object) -> Option<Object> {
    let name = c"another".as_ptr().expose_provenance();
    let factor = program.pick(-2.0, &[0.0, f32::NAN, f32::MAX, f32::MIN_POSITIVE]);
    let scaled = program.make("graft_adapter_scale", graft_adapter_release, |out, err| {
        graft_adapter_scale(adapter, factor, out, err)
    });
    let renamed = program.make("graft_adapter_rename", graft_adapter_release, |out, err| {
        graft_adapter_rename(adapter, name, out, err)
    })?;
    let parts = bindings(program, &[adapter, scaled.unwrap_or(renamed)]);
    let at = parts.as_ptr().expose_provenance();
    let sum = program.make(
        "graft_adapter_combine",
        graft_adapter_release,
        |out, err| graft_adapter_combine(at, 2, name, out, err),
    )?;
    let options = Struct::new("graft_compress_options")
        .set("rank", program.pick(1, &[0, u32::MAX.into()]))
        .set(
            "energy",
            f64::to_bits(program.pick(0.0, &[0.5, 1.0, 2.0, f64::NAN, -1.0])),
        )
        .set("cancel", program.cancel() as u64)
        .sized(program.choice());
    let mut report: Object = 0;
    let to = (&raw mut report).expose_provenance();
    let smaller = program.make(
        "graft_adapter_compress",
        graft_adapter_release,
        |out, err| graft_adapter_compress(runtime(), sum, options.at(), out, to, err),
    );
    graft_buffer_release(report);
    smaller.or(Some(sum))
}

/// Adapters with their strengths, one struct after the other.
fn bindings(program: &mut Program, adapters: &[Object]) -> Vec<u64> {
    let bindings = adapters.iter().map(|&adapter| {
        let strength = program.pick(1.0_f32, &[0.0, -1.0, f32::NAN, f32::MAX]);
        Struct::new("graft_adapter_binding")
            .set("strength", strength.to_bits().into())
            .set("adapter", adapter as u64)
            .words()
    });
    bindings.collect::<Vec<_>>().concat()
}

/// A file or folder of it, read again.
fn saved(program: &mut Program, adapter: Object) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = path_of(&folder.path().join("adapter.gguf"));
    let path = path.as_ptr().expose_provenance();
    let options = Struct::new("graft_adapter_save_options")
        .set(
            "format",
            program.pick(
                0,
                &[
                    address(c"peft".as_ptr()),
                    address(c"gguf".as_ptr()),
                    address(c"none".as_ptr()),
                ],
            ),
        )
        .set(
            "quant_type",
            program.pick(
                0,
                &[
                    address(c"F16".as_ptr()),
                    address(c"BF16".as_ptr()),
                    address(c"Q4_0".as_ptr()),
                ],
            ),
        )
        .set(
            "layout",
            program.pick(
                0,
                &[
                    address(c"llava".as_ptr()),
                    address(c"llava-before5".as_ptr()),
                    address(c"none".as_ptr()),
                ],
            ),
        )
        .set("model", sound() as u64)
        .sized(program.choice());
    let done = program.call("graft_adapter_save", |err| {
        graft_adapter_save(adapter, path, options.at(), err)
    });
    if done.is_some() {
        program.make("graft_adapter_open", graft_adapter_release, |out, err| {
            graft_adapter_open(sound(), path, out, err)
        });
    }
}

/// Attached to a session that answers.
pub fn attached(program: &mut Program, adapter: Object) -> Option<()> {
    let session = session(program, sound())?;
    let (set, flags) = (bindings(program, &[adapter]), program.pick(0, &[1, 2]));
    let at = set.as_ptr().expose_provenance();
    let done = program.call("graft_session_set_adapters", |err| {
        graft_session_set_adapters(session, at, 1, flags, err)
    });
    talk(program, session, true);
    let mut out = Struct::new("graft_adapter_binding")
        .sized(program.choice())
        .filled();
    let mut needed = 0;
    let found = program.call("graft_session_adapters", |err| {
        graft_session_adapters(session, out.to(), 1, &mut needed, err)
    });
    out.check();
    // A reference of its own.
    if found.is_some() && needed == 1 {
        assert!(out.reaches("adapter"), "an object that nobody can release");
        graft_adapter_release(out.get("adapter") as Object);
    }
    done.map(|_| ())
}
