//! Adapters: files, and what there is to say about them. What becomes of several is in [`crate::adapter_algebra`].

use std::sync::Arc;

use graft::adapter::{Adapter, folder, gguf_file, peft};
use graft_kernels::QuantType;
use serde_json::{Value as Json, json};

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::callback::{Progress, UserData, graft_progress_fn};
use crate::cancel::CancelToken;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::{Handle, shared_kind};
use crate::model::ModelObject;
use crate::pointer::{In, Out, OutStruct, Text};
use crate::source::{Reading, Source, graft_source};
use crate::status::graft_status;
use crate::structs::{CStruct, c_struct, fixed, number};

/// The adapter adds something in the vision half.
pub const GRAFT_ADAPTER_IMAGES: u32 = 1;

/// A LoRA adapter.
pub struct AdapterObject(Arc<Adapter>);

shared_kind!(
    AdapterObject,
    "adapter",
    graft_adapter_retain,
    graft_adapter_release
);

c_struct! {
    /// An adapter, and how strongly it counts.
    graft_adapter_binding {
        /// Multiplies what it adds.
        strength: f32,
        /// The adapter.
        adapter: Handle<AdapterObject>,
    }
}

c_struct! {
    /// How to open an adapter.
    graft_adapter_options {
        /// Flags, of which there are none yet.
        flags: u32,
        /// Its name where its file has none; NULL for the file's.
        name: Text,
        /// Its second file, with the pairs of the vision half; NULL for none, or with a path for the one beside it.
        companion: In<graft_source>,
        /// Told while a reader is read.
        progress: graft_progress_fn,
        /// First argument of `progress`.
        progress_userdata: UserData,
        /// Stops while a reader is read; NULL for nothing.
        cancel: CancelToken,
    }
}

c_struct! {
    /// What an adapter is.
    graft_adapter_info {
        /// [`GRAFT_ADAPTER_IMAGES`].
        capabilities: u32,
        /// Its name.
        name: [u8; 128],
        /// Name of the model that it was made for; empty if it does not say.
        base_name: [u8; 128],
        /// 64 hexadecimal digits of that model; empty if it does not say.
        base_fingerprint: [u8; 72],
        /// Trained values.
        n_parameters: u64,
        /// Bytes that they take.
        bytes: u64,
        /// Pairs of matrices.
        n_pairs: u32,
        /// The largest rank.
        max_rank: u32,
        /// Alpha, as files say it.
        alpha: f32,
        /// Zero.
        reserved_0: u32,
    }
}

c_struct! {
    /// How to save an adapter.
    graft_adapter_save_options {
        /// Flags, of which there are none yet.
        flags: u32,
        /// "gguf" or "peft"; NULL for "gguf".
        format: Text,
        /// Of "gguf": "F32", "F16" or "BF16"; NULL for "F32".
        quant_type: Text,
        /// Of "peft": the class it is for; NULL for "llama".
        layout: Text,
        /// Of "peft": the base model's name for PEFT's own loaders; NULL for none.
        base_model: Text,
        /// Of "peft": the base model, whose shapes are needed.
        model: Handle<ModelObject>,
    }
}

impl AdapterObject {
    /// An adapter for a program.
    pub fn new(adapter: Arc<Adapter>) -> Self {
        Self(adapter)
    }

    /// The adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.0
    }

    /// The adapter, to hold: the very same each time.
    pub fn shared(&self) -> Arc<Adapter> {
        Arc::clone(&self.0)
    }

    fn document(&self) -> Json {
        let adapter = self.adapter();
        let pairs = adapter.iter().map(|(site, pair)| {
            json!({
                "site": site.to_string(), "rank": pair.rank(), "scale": pair.scale,
                "inputs": pair.inputs(), "outputs": pair.outputs(),
            })
        });
        json!({
            "name": adapter.name(),
            "alpha": adapter.alpha(),
            "parameters": adapter.parameters(),
            "bytes": adapter.bytes(),
            "base_name": adapter.base().name,
            "base_fingerprint": adapter.base().fingerprint,
            "generation": adapter.generation().to_string(),
            "pairs": pairs.collect::<Vec<_>>(),
        })
    }

    fn info(&self) -> graft_adapter_info {
        use graft::model::AdapterView;
        let adapter = self.adapter();
        let base = adapter.base();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        graft_adapter_info {
            capabilities: u32::from(adapter.has_vision()) * GRAFT_ADAPTER_IMAGES,
            name: fixed(adapter.name()),
            base_name: fixed(&text(&base.name)),
            base_fingerprint: fixed(&text(&base.fingerprint)),
            n_parameters: adapter.parameters() as u64,
            bytes: adapter.bytes(),
            n_pairs: number(adapter.iter().count()),
            max_rank: number(adapter.max_rank()),
            alpha: adapter.alpha(),
            ..graft_adapter_info::zeroed()
        }
    }
}

/// Adapters with their strengths.
///
/// # Errors
/// If one is none, or its strength is not finite.
pub fn bindings(
    adapters: &In<graft_adapter_binding>,
    count: usize,
) -> Result<Vec<(Arc<AdapterObject>, f32)>, Fault> {
    let bindings = adapters.structs(count, "adapters")?;
    let each = bindings.iter().map(|binding| {
        let strength = binding.strength;
        if !strength.is_finite() {
            let message =
                format!("the strength of an adapter is {strength}; it is a finite number");
            return Err(Fault::argument(message).with("field", "strength"));
        }
        Ok((binding.adapter.get()?, strength))
    });
    each.collect()
}

/// What was opened, for the program, if it fits its model.
fn opened(adapter: Adapter, model: Option<&ModelObject>) -> Result<AdapterObject, Fault> {
    if let Some(model) = model {
        adapter.check_what_is_there(model.model())?;
    }
    Ok(AdapterObject::new(Arc::new(adapter)))
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_open(
    model: Handle<ModelObject>,
    path: Text,
    out: Out<Handle<AdapterObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_open", err, || {
        out.check("out")?;
        let model = model.optional()?;
        let path = path.path("path")?;
        let adapter = match (path.is_dir(), &model) {
            (false, _) => gguf_file::read(path)?,
            (true, Some(model)) => folder::read(path, model.model().llama().shape())?,
            (true, None) => {
                let message = format!("{} is a folder; give the model to read it", path.display());
                return Err(Fault::argument(message).with_path(path));
            }
        };
        out.give(opened(adapter, model.as_deref())?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_open_source(
    model: Handle<ModelObject>,
    source: In<graft_source>,
    options: In<graft_adapter_options>,
    out: Out<Handle<AdapterObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_open_source", err, || {
        let companion = Source::take_from(&options, |options| &options.companion);
        let (source, companion) = (Source::take(&source)?, companion?);
        let options = options.read()?;
        if options.flags != 0 {
            let message = format!("flags is {:#x}; an adapter knows none", options.flags);
            return Err(Fault::argument(message));
        }
        out.check("out")?;
        let model = model.optional()?;
        let (cancel, name) = (options.cancel.flag()?, options.name.optional("name")?);
        let progress = Progress::new(options.progress, options.progress_userdata);
        let reading = |name| Reading {
            name,
            progress: &progress,
            cancel: &cancel,
        };
        let gguf = source.gguf(&reading("the adapter"))?;
        let companion = companion.map(|source| source.gguf(&reading("the adapter's vision half")));
        let companion = companion.transpose()?;
        let name = name.unwrap_or("adapter");
        let adapter = gguf_file::from_parts(&gguf, companion.as_ref(), name)?;
        out.give(opened(adapter, model.as_deref())?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_get_info(
    adapter: Handle<AdapterObject>,
    out: OutStruct<graft_adapter_info>,
) -> graft_status {
    call::status("graft_adapter_get_info", || {
        let adapter = adapter.get()?;
        out.check("out")?;
        out.set(&adapter.info())?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_metadata(
    adapter: Handle<AdapterObject>,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_metadata", err, || {
        out.give(buffer::json(&adapter.get()?.document()))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_check(
    adapter: Handle<AdapterObject>,
    model: Handle<ModelObject>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_check", err, || {
        let (adapter, model) = (adapter.get()?, model.get()?);
        adapter.adapter().check_base(model.model())?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_save(
    adapter: Handle<AdapterObject>,
    path: Text,
    options: In<graft_adapter_save_options>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_save", err, || {
        let (adapter, path) = (adapter.get()?, path.path("path")?);
        let options = options.read()?;
        if options.flags != 0 {
            let message = format!("flags is {:#x}; saving knows none", options.flags);
            return Err(Fault::argument(message));
        }
        match options.format.optional("format")?.unwrap_or("gguf") {
            "gguf" => gguf_file::write_as(path, adapter.adapter(), options.quant_type()?)?,
            "peft" => {
                let model = options.model.get()?;
                let shape = model.model().llama().shape();
                peft::write(path, adapter.adapter(), shape, &options.export()?)?;
            }
            other => {
                let message = format!("format is {other:?}; it is gguf or peft");
                return Err(Fault::argument(message).with("field", "format"));
            }
        }
        DONE
    })
}

impl graft_adapter_save_options {
    fn quant_type(&self) -> Result<QuantType, Fault> {
        match self.quant_type.optional("quant_type")?.unwrap_or("F32") {
            "F32" => Ok(QuantType::F32),
            "F16" => Ok(QuantType::F16),
            "BF16" => Ok(QuantType::BF16),
            other => {
                let message = format!("quant_type is {other:?}; it is F32, F16 or BF16");
                Err(Fault::argument(message).with("field", "quant_type"))
            }
        }
    }

    fn export(&self) -> Result<peft::ExportOptions, Fault> {
        let layout = match self.layout.optional("layout")?.unwrap_or("llama") {
            "llama" => peft::Layout::CausalLm,
            "llava" => peft::Layout::Llava,
            "llava-before5" => peft::Layout::LlavaBefore5,
            "llava-before452" => peft::Layout::LlavaBefore452,
            other => {
                let message = format!(
                    "layout is {other:?}; it is llama, llava, llava-before5 or llava-before452"
                );
                return Err(Fault::argument(message).with("field", "layout"));
            }
        };
        let base_model = self.base_model.optional("base_model")?;
        Ok(peft::ExportOptions {
            layout,
            base_model: base_model.map(str::to_owned),
        })
    }
}
