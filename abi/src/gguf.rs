//! GGUF files: what is in one, a float model in a block type, a checkpoint of Hugging Face's as one.

use graft::convert_hf::{self, ConvertOptions, ConvertedFile};
use graft::gguf::Gguf;
use graft::quantize::{self, Mix, QuantizeOptions};
use graft_kernels::QuantType;
use serde_json::{Map, Value, json};

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::callback::{Progress, UserData, graft_progress_fn};
use crate::cancel::CancelToken;
use crate::error::{ErrorOut, c_text};
use crate::fault::Fault;
use crate::handle::Handle;
use crate::model::short;
use crate::pointer::{In, Out, Text};
use crate::status::graft_status;
use crate::structs::c_struct;

/// Convert what is in a block type already, adding one error to the other.
pub const GRAFT_QUANTIZE_AGAIN: u32 = 1;

c_struct! {
    /// How files are written.
    graft_write_options {
        /// [`GRAFT_QUANTIZE_AGAIN`].
        flags: u32,
        /// Worker threads; 0 takes one per core.
        n_threads: u32,
        /// Zero.
        reserved_0: u32,
        /// Told after every tensor.
        progress: graft_progress_fn,
        /// First argument of `progress`.
        progress_userdata: UserData,
        /// Stops the work; NULL for nothing.
        cancel: CancelToken,
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_gguf_inspect(
    path: Text,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_gguf_inspect", err, || {
        let gguf = Gguf::open(path.path("path")?)?;
        let metadata = gguf.metadata().iter();
        let metadata = metadata.map(|(key, value)| (key.to_owned(), short(value)));
        out.give(buffer::json(&json!({
            "version": gguf.version(),
            "alignment": gguf.alignment(),
            "parts": gguf.part_count(),
            "bytes": gguf.file_bytes(),
            "metadata": metadata.collect::<Map<_, _>>(),
            "tensors": tensors(&gguf),
        })))?;
        DONE
    })
}

/// The tensors of a file as JSON.
pub fn tensors(gguf: &Gguf) -> Value {
    let tensors = gguf.tensors().iter().map(|t| {
        json!({"name": t.name, "shape": t.shape, "type": t.quant_type.name(), "bytes": t.bytes})
    });
    tensors.collect()
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_gguf_quantize(
    input: Text,
    output: Text,
    mix: Text,
    options: In<graft_write_options>,
    report: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_gguf_quantize", err, || {
        let options = options.read()?;
        if options.flags & !GRAFT_QUANTIZE_AGAIN != 0 {
            let message = format!(
                "flags is {:#x}; only GRAFT_QUANTIZE_AGAIN is known",
                options.flags
            );
            return Err(Fault::argument(message));
        }
        let cancel = options.cancel.flag()?;
        let progress = Progress::new(options.progress, options.progress_userdata);
        let mix: Mix = mix.required("type")?.parse()?;
        let done = quantize::quantize(
            input.path("input")?,
            output.path("output")?,
            mix,
            &QuantizeOptions {
                threads: options.n_threads as usize,
                progress: Some(&|done| {
                    progress.tell(&c_text(done.tensor), done.weights, done.of, &cancel);
                }),
                cancel: Some(&cancel),
                allow_requantize: options.flags & GRAFT_QUANTIZE_AGAIN != 0,
            },
        )?;
        let worst = done.worst();
        report.offer(buffer::json(&json!({
            "tensors": done.tensors.len(),
            "bytes_before": done.bytes_before,
            "bytes_after": done.bytes_after,
            "bits_per_weight": done.bits_per_weight(),
            "worst_tensor": worst.map(|t| &t.name),
            "worst_relative_error": worst.map(|t| t.error.relative()),
        })))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_gguf_import(
    folder: Text,
    output: Text,
    projector: Text,
    quant_type: Text,
    vision_tower: Text,
    options: In<graft_write_options>,
    report: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_gguf_import", err, || {
        let options = options.read()?;
        if options.flags != 0 || options.n_threads != 0 {
            let message = "importing takes neither flags nor n_threads";
            return Err(Fault::argument(message));
        }
        let cancel = options.cancel.flag()?;
        let progress = Progress::new(options.progress, options.progress_userdata);
        let quant_type = match quant_type.optional("type")?.unwrap_or("F16") {
            name if name.eq_ignore_ascii_case("F32") => QuantType::F32,
            name if name.eq_ignore_ascii_case("F16") => QuantType::F16,
            name if name.eq_ignore_ascii_case("BF16") => QuantType::BF16,
            name => {
                let message = format!("type is {name}; matrices are stored as F32, F16 or BF16");
                return Err(Fault::argument(message));
            }
        };
        let done = convert_hf::convert(
            folder.path("folder")?,
            output.path("output")?,
            projector.optional_path("projector")?,
            &ConvertOptions {
                quant_type,
                vision_tower: vision_tower.optional_path("vision_tower")?,
                progress: Some(&|done| {
                    progress.tell(&c_text(done.tensor), done.written, done.total, &cancel);
                }),
                cancel: cancel.clone(),
            },
        )?;
        let file =
            |f: &ConvertedFile| json!({"path": f.path, "tensors": f.tensors, "bytes": f.bytes});
        report.offer(buffer::json(&json!({
            "model": file(&done.model),
            "projector": done.mmproj.as_ref().map(file),
            "notes": done.notes,
        })))?;
        DONE
    })
}
