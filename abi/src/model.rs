//! Models: opened files, shared by sessions and trainers.

use std::sync::Arc;

use graft::device::{DeviceChoice, DeviceOptions};
use graft::gguf::{Array, Gguf, Value};
use graft::model::Model;
use graft::threads::Pool;
use serde_json::{Map, Value as Json, json};

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::callback::{Progress, UserData, graft_progress_fn};
use crate::cancel::CancelToken;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::gguf;
use crate::handle::{Handle, shared_kind};
use crate::pointer::{In, Out, OutStruct, Text};
use crate::runtime::Runtime;
use crate::source::{Reading, Source, graft_source};
use crate::status::{GRAFT_E_NOT_FOUND, graft_status};
use crate::structs::{CStruct, c_struct, fixed, number};

/// The model reads and writes text.
pub const GRAFT_MODEL_TEXT: u32 = 1;
/// The model sees images.
pub const GRAFT_MODEL_IMAGES: u32 = 2;

/// A model, and the runtime that it takes threads and memory from.
pub struct ModelObject {
    runtime: Arc<Runtime>,
    model: Arc<Model>,
}

shared_kind!(
    ModelObject,
    "model",
    graft_model_retain,
    graft_model_release
);

c_struct! {
    /// How to open a model.
    graft_model_options {
        /// Worker threads of its own; 0 shares the runtime's.
        n_threads: u32,
        /// The vision half, an mmproj file; NULL for none.
        projector_path: Text,
        /// The same from elsewhere; NULL for none.
        projector: In<graft_source>,
        /// Told while a reader is read.
        progress: graft_progress_fn,
        /// First argument of `progress`.
        progress_userdata: UserData,
        /// Stops while a reader is read; NULL for nothing.
        cancel: CancelToken,
        /// Flags, of which there are none yet.
        flags: u32,
        /// Zero.
        reserved_0: u32,
        /// What runs it; NULL for the processor.
        device: Text,
        /// Most bytes of a graphics device; 0 for four fifths of its memory.
        device_memory: u64,
        /// How many of the upper layers it runs; 0 for as many as fit.
        n_device_layers: u32,
        /// Positions of a session to leave room for; 0 for as many as a session has by itself.
        n_device_context: u32,
    }
}

c_struct! {
    /// What a model is.
    graft_model_info {
        /// [`GRAFT_MODEL_TEXT`] and [`GRAFT_MODEL_IMAGES`].
        capabilities: u32,
        /// "llama".
        architecture: [u8; 32],
        /// Its own name, or that of its file.
        name: [u8; 128],
        /// 64 hexadecimal digits that name these very weights.
        fingerprint: [u8; 72],
        /// How most weights are stored: "Q4_K".
        quant_type: [u8; 16],
        /// Weights.
        n_parameters: u64,
        /// Bytes of its files.
        file_bytes: u64,
        /// Layers.
        n_layers: u32,
        /// Width of a token.
        n_embedding: u32,
        /// Heads.
        n_heads: u32,
        /// Heads of keys and values.
        n_kv_heads: u32,
        /// Positions it was trained with.
        n_context: u32,
        /// Tokens of its vocabulary.
        n_vocabulary: u32,
        /// Positions an image takes; 0 if it sees none.
        n_image_tokens: u32,
        /// Threads that it works with.
        n_threads: u32,
    }
}

/// The library's words for what is to run a model.
fn device_of(options: &graft_model_options) -> Result<DeviceOptions, Fault> {
    let device = match options.device.optional("device")? {
        None => DeviceChoice::Cpu,
        Some(name) => name.parse().map_err(graft::Error::from)?,
    };
    Ok(DeviceOptions {
        device,
        layers: (options.n_device_layers > 0).then_some(options.n_device_layers as usize),
        memory: (options.device_memory > 0).then_some(options.device_memory),
        context_length: options.n_device_context as usize,
        training: None,
    })
}

impl ModelObject {
    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Where its sessions and trainers take memory from.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn open(
        runtime: Handle<Runtime>,
        options: &graft_model_options,
        projector: Option<Source>,
        open: impl FnOnce(&Reading<'_>) -> Result<Arc<Gguf>, Fault>,
    ) -> Result<Self, Fault> {
        let runtime = Runtime::of(runtime)?;
        if options.flags != 0 {
            let message = format!("flags is {:#x}; a model knows none", options.flags);
            return Err(Fault::argument(message));
        }
        let device = device_of(options)?;
        let cancel = options.cancel.flag()?;
        let progress = Progress::new(options.progress, options.progress_userdata);
        let reading = |name| Reading {
            name,
            progress: &progress,
            cancel: &cancel,
        };
        let gguf = open(&reading("the model"))?;
        let path = options.projector_path.optional_path("projector_path")?;
        let vision = match (path, projector) {
            (Some(_), Some(_)) => {
                let message = "projector_path and projector are both given; give one";
                return Err(Fault::argument(message));
            }
            (Some(path), None) => Some(Arc::new(Gguf::open(path)?)),
            (None, Some(source)) => Some(source.gguf(&reading("the projector"))?),
            (None, None) => None,
        };
        let pool = match options.n_threads {
            0 => runtime.pool().clone(),
            threads => Pool::new(threads as usize)?,
        };
        let model = Model::from_parts(gguf, vision, pool, &device)?;
        Ok(Self { runtime, model })
    }

    fn info(&self) -> graft_model_info {
        let (gguf, shape) = (self.model.gguf(), self.model.llama().shape());
        let text = u32::from(self.model.tokenizer().is_ok()) * GRAFT_MODEL_TEXT;
        let images = u32::from(self.model.vision().is_some()) * GRAFT_MODEL_IMAGES;
        let patches = |vision: &graft::model::Vision| vision.tower().shape().patches();
        let architecture = gguf.metadata().opt_str("general.architecture");
        graft_model_info {
            capabilities: text | images,
            architecture: fixed(architecture.ok().flatten().unwrap_or_default()),
            name: fixed(&self.model.name()),
            fingerprint: fixed(self.model.fingerprint()),
            quant_type: fixed(&main_type(gguf)),
            n_parameters: gguf.tensors().iter().map(|t| t.elements() as u64).sum(),
            file_bytes: gguf.file_bytes(),
            n_layers: number(shape.layers),
            n_embedding: number(shape.width),
            n_heads: number(shape.heads),
            n_kv_heads: number(shape.kv_heads),
            n_context: number(shape.context_length),
            n_vocabulary: number(shape.vocabulary),
            n_image_tokens: number(self.model.vision().map_or(0, patches)),
            n_threads: number(self.model.llama().pool().threads()),
            ..graft_model_info::zeroed()
        }
    }
}

/// The type that most bytes have.
fn main_type(gguf: &Gguf) -> String {
    let mut bytes: Vec<(&str, usize)> = Vec::new();
    for tensor in gguf.tensors() {
        let name = tensor.quant_type.name();
        match bytes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += tensor.bytes,
            None => bytes.push((name, tensor.bytes)),
        }
    }
    let most = bytes.iter().max_by_key(|(_, sum)| *sum);
    most.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_model_open(
    runtime: Handle<Runtime>,
    path: Text,
    options: In<graft_model_options>,
    out: Out<Handle<ModelObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_model_open", err, || {
        let projector = Source::take_from(&options, |options| &options.projector)?;
        out.check("out")?;
        let path = path.path("path")?;
        let open = |_: &Reading<'_>| Ok(Arc::new(Gguf::open(path)?));
        let options = options.read()?;
        out.give(ModelObject::open(runtime, &options, projector, open)?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_model_open_source(
    runtime: Handle<Runtime>,
    source: In<graft_source>,
    options: In<graft_model_options>,
    out: Out<Handle<ModelObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_model_open_source", err, || {
        let projector = Source::take_from(&options, |options| &options.projector);
        let (source, projector) = (Source::take(&source)?, projector?);
        let open = |reading: &Reading<'_>| source.gguf(reading);
        out.check("out")?;
        let options = options.read()?;
        out.give(ModelObject::open(runtime, &options, projector, open)?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_model_get_info(
    model: Handle<ModelObject>,
    out: OutStruct<graft_model_info>,
) -> graft_status {
    call::status("graft_model_get_info", || {
        let model = model.get()?;
        out.check("out")?;
        out.set(&model.info())?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_model_metadata(
    model: Handle<ModelObject>,
    key: Text,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_model_metadata", err, || {
        let model = model.get()?;
        let metadata = model.model().gguf().metadata();
        let json = match key.optional("key")? {
            None => metadata
                .iter()
                .map(|(key, value)| (key.to_owned(), short(value)))
                .collect::<Map<_, _>>()
                .into(),
            Some(key) => whole(metadata.get(key).ok_or_else(|| {
                let message = format!("the model has no metadata key {key}");
                Fault::new(GRAFT_E_NOT_FOUND, message).with("field", key)
            })?),
        };
        out.give(buffer::json(&json))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_model_tensors(
    model: Handle<ModelObject>,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_model_tensors", err, || {
        let model = model.get()?;
        out.give(buffer::json(&gguf::tensors(model.model().gguf())))?;
        DONE
    })
}

/// A value as JSON; of an array only what it is.
pub fn short(value: &Value) -> Json {
    match value {
        Value::Array(_) => value.summary().into(),
        other => whole(other),
    }
}

/// A value as JSON; numbers that JSON has no word for become null.
pub fn whole(value: &Value) -> Json {
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F32(v) => json!(v),
        Value::F64(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::Array(array) => whole_array(array),
    }
}

fn whole_array(array: &Array) -> Json {
    match array {
        Array::U8(v) => json!(v),
        Array::I8(v) => json!(v),
        Array::U16(v) => json!(v),
        Array::I16(v) => json!(v),
        Array::U32(v) => json!(v),
        Array::I32(v) => json!(v),
        Array::U64(v) => json!(v),
        Array::I64(v) => json!(v),
        Array::F32(v) => json!(v),
        Array::F64(v) => json!(v),
        Array::Bool(v) => json!(v),
        Array::String(v) => json!(v),
        Array::Array(v) => v.iter().map(whole_array).collect(),
    }
}
