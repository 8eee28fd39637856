//! Plugins: WebAssembly components that turn exports into samples, or score predictions.

use std::path::Path;
use std::time::Duration;

use graft::cancel::Cancel;
use graft::dataset::conversion::{self, Conversion, ConversionWatch};
use graft::dataset::converter::DETECT_BYTES;
use graft::dataset::{Converter, Diagnostic};
use graft_plugins::{Grants, Host, Limits, Plugin, Trust, WasmConverter, WasmEvaluator};
use serde_json::{Value, json};

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::callback::{Diagnostics, Progress, UserData, graft_diagnostic_fn, graft_progress_fn};
use crate::cancel::CancelToken;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::{Handle, shared_kind};
use crate::pointer::{In, Out, OutStruct, Text};
use crate::runtime::Runtime;
use crate::source::{Source, graft_source};
use crate::status::{GRAFT_E_INCOMPATIBLE, graft_status};
use crate::structs::{CStruct, c_struct};

/// The plugin may ask the model that an evaluation gives it.
pub const GRAFT_PLUGIN_ALLOW_MODEL: u32 = 1;

/// A plugin that is checked and compiled.
pub struct PluginObject(Plugin);

shared_kind!(
    PluginObject,
    "plugin",
    graft_plugin_retain,
    graft_plugin_release
);

c_struct! {
    /// What a plugin may use; zero leaves a limit as it is.
    graft_plugin_limits {
        /// Open sources at a time.
        handles: u32,
        /// Bytes of its file.
        plugin_bytes: u64,
        /// Instructions per call, roughly.
        fuel: u64,
        /// Further instructions for each byte of input.
        fuel_per_byte: u64,
        /// Milliseconds of its own time per call.
        deadline_ms: u64,
        /// Bytes of linear memory.
        memory_bytes: u64,
        /// Bytes that one call between plugin and host may carry.
        call_bytes: u64,
        /// Companion files opened in all.
        assets: u64,
        /// Bytes of all samples.
        output_bytes: u64,
        /// Samples.
        samples: u64,
        /// Bytes of all log lines.
        log_bytes: u64,
        /// Remarks in all.
        diagnostics: u64,
        /// Remarks of one code that are told; the rest is counted.
        diagnostics_per_code: u64,
    }
}

c_struct! {
    /// How to load a plugin.
    graft_plugin_options {
        /// [`GRAFT_PLUGIN_ALLOW_MODEL`].
        flags: u32,
        /// Other limits than the default ones; NULL for those.
        limits: In<graft_plugin_limits>,
        /// The SHA-256 that its file must have, 64 hexadecimal digits; NULL for any.
        sha256: Text,
        /// The public key that must have signed it, minisign's; NULL for none.
        public_key: Text,
        /// The text of its signature, where it is loaded from memory; NULL for none.
        signature: Text,
    }
}

c_struct! {
    /// A conversion.
    graft_convert_request {
        /// Zero.
        reserved_0: u32,
        /// The export; NULL if `input` is given.
        input_path: Text,
        /// The export from elsewhere; NULL if `input_path` is given.
        input: In<graft_source>,
        /// What messages call `input`; NULL: "input".
        input_name: Text,
        /// The folder of the files it names; NULL: the folder of `input_path`.
        asset_dir: Text,
        /// The data set to write.
        output_path: Text,
        /// The plugin's options, a JSON object; NULL: none.
        options_json: Text,
        /// Told how many bytes are behind.
        on_progress: graft_progress_fn,
        /// Told what is remarked.
        on_diagnostic: graft_diagnostic_fn,
        /// First argument of both.
        userdata: UserData,
        /// Stops the work; NULL for nothing.
        cancel: CancelToken,
    }
}

c_struct! {
    /// What a conversion did.
    graft_convert_report {
        /// Zero.
        reserved_0: u32,
        /// Records read.
        records: u64,
        /// Samples written.
        samples: u64,
        /// Records that gave no sample.
        skipped: u64,
        /// Remarks that were told.
        diagnostics: u64,
    }
}

impl PluginObject {
    /// It as an evaluator.
    ///
    /// # Errors
    /// If it is a converter.
    pub fn evaluator(&self) -> Result<&WasmEvaluator, Fault> {
        match &self.0 {
            Plugin::Evaluator(evaluator) => Ok(evaluator),
            Plugin::Converter(_) => Err(self.wrong("a converter", "an evaluator")),
        }
    }

    /// What it was loaded as.
    pub fn name(&self) -> &str {
        &self.0.info().name
    }

    fn converter(&self) -> Result<&WasmConverter, Fault> {
        match &self.0 {
            Plugin::Converter(converter) => Ok(converter),
            Plugin::Evaluator(_) => Err(self.wrong("an evaluator", "a converter")),
        }
    }

    fn wrong(&self, is: &str, needed: &str) -> Fault {
        let name = self.name();
        let message = format!("the plugin {name} is {is}; {needed} is needed here");
        Fault::new(GRAFT_E_INCOMPATIBLE, message)
    }

    fn info(&self) -> Result<Value, Fault> {
        let mut info = json!(self.0.info());
        let (key, described, schema) = match &self.0 {
            Plugin::Converter(converter) => {
                let described = converter.describe()?;
                (
                    "formats",
                    json!(described.formats),
                    described.options_schema,
                )
            }
            Plugin::Evaluator(evaluator) => {
                let described = graft::evaluate::Evaluator::describe(evaluator)?;
                (
                    "metrics",
                    json!(described.metrics),
                    described.options_schema,
                )
            }
        };
        info[key] = described;
        // What a plugin publishes need not be JSON; then it is what it is, a text.
        info["options_schema"] = serde_json::from_str(&schema).unwrap_or(Value::String(schema));
        Ok(info)
    }
}

/// How a plugin is loaded.
struct Loading {
    host: Host,
    grants: Grants,
    trust: Trust,
}

impl Loading {
    fn new(runtime: Handle<Runtime>, options: &graft_plugin_options) -> Result<Self, Fault> {
        let flags = options.flags;
        if flags & !GRAFT_PLUGIN_ALLOW_MODEL != 0 {
            let message = format!("flags is {flags:#x}; only GRAFT_PLUGIN_ALLOW_MODEL is known");
            return Err(Fault::argument(message));
        }
        let runtime = Runtime::of(runtime)?;
        let host = runtime.plugins()?;
        let mut trust = Trust::default();
        if let Some(digits) = options.sha256.optional("sha256")? {
            trust = trust.pin(digits)?;
        }
        if let Some(key) = options.public_key.optional("public_key")? {
            trust = trust.key(key)?;
        }
        Ok(Self {
            host: host.with_limits(limits(host.limits(), &options.limits.read()?)),
            grants: Grants {
                model: flags & GRAFT_PLUGIN_ALLOW_MODEL != 0,
            },
            trust,
        })
    }
}

fn limits(default: &Limits, asked: &graft_plugin_limits) -> Limits {
    let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
    let size = |asked: u64, default: usize| match asked {
        0 => default,
        asked => usize::try_from(asked).unwrap_or(usize::MAX),
    };
    Limits {
        plugin_bytes: or(asked.plugin_bytes, default.plugin_bytes),
        fuel: or(asked.fuel, default.fuel),
        fuel_per_byte: or(asked.fuel_per_byte, default.fuel_per_byte),
        deadline: match asked.deadline_ms {
            0 => default.deadline,
            ms => Duration::from_millis(ms),
        },
        memory_bytes: or(asked.memory_bytes, default.memory_bytes),
        call_bytes: size(asked.call_bytes, default.call_bytes),
        handles: size(asked.handles.into(), default.handles),
        assets: or(asked.assets, default.assets),
        output_bytes: or(asked.output_bytes, default.output_bytes),
        samples: or(asked.samples, default.samples),
        log_bytes: or(asked.log_bytes, default.log_bytes),
        diagnostics: or(asked.diagnostics, default.diagnostics),
        diagnostics_per_code: or(asked.diagnostics_per_code, default.diagnostics_per_code),
        ..default.clone()
    }
}

/// Tells the caller's functions.
struct Watch {
    progress: Progress,
    listener: Diagnostics,
    cancel: Cancel,
    diagnostics: u64,
}

impl ConversionWatch for Watch {
    fn at(&mut self, done: u64, total: Option<u64>) {
        let total = total.unwrap_or(0);
        self.progress.tell(c"converting", done, total, &self.cancel);
    }

    fn remark(&mut self, diagnostic: Diagnostic) {
        self.diagnostics += 1;
        if self.listener.tell(&diagnostic).is_break() {
            self.cancel.raise();
        }
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plugin_load(
    runtime: Handle<Runtime>,
    path: Text,
    options: In<graft_plugin_options>,
    out: Out<Handle<PluginObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_plugin_load", err, || {
        out.check("out")?;
        let loading = Loading::new(runtime, &options.read()?)?;
        let path = path.path("path")?;
        let plugin = loading
            .host
            .load_trusted(path, &loading.grants, &loading.trust)?;
        out.give(PluginObject(plugin))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plugin_load_memory(
    runtime: Handle<Runtime>,
    name: Text,
    wasm: In<u8>,
    size: usize,
    options: In<graft_plugin_options>,
    out: Out<Handle<PluginObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_plugin_load_memory", err, || {
        out.check("out")?;
        let options = options.read()?;
        let loading = Loading::new(runtime, &options)?;
        let name = name.optional("name")?.unwrap_or("plugin");
        let bytes = wasm.slice(size, "wasm")?;
        let signature = options.signature.optional("signature")?;
        loading.trust.check(name, bytes, signature)?;
        let plugin = loading.host.load_bytes(name, bytes, &loading.grants)?;
        out.give(PluginObject(plugin))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plugin_info(
    plugin: Handle<PluginObject>,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_plugin_info", err, || {
        out.give(buffer::json(&plugin.get()?.info()?))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plugin_detect(
    plugin: Handle<PluginObject>,
    head: In<u8>,
    size: usize,
    name: Text,
    out: Out<u32>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_plugin_detect", err, || {
        let plugin = plugin.get()?;
        out.check("out")?;
        let head = head.slice(size, "head")?;
        let head = &head[..head.len().min(DETECT_BYTES)];
        let name = name.optional("name")?.unwrap_or_default();
        out.set(plugin.converter()?.detect(head, name)?.into());
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_plugin_convert(
    plugin: Handle<PluginObject>,
    request: In<graft_convert_request>,
    report: OutStruct<graft_convert_report>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_plugin_convert", err, || {
        let source = Source::take_from(&request, |request| &request.input)?;
        let request = request.required("request")?;
        let plugin = plugin.get()?;
        if !report.is_null() {
            report.check("report")?;
        }
        let path = request.input_path.optional_path("input_path")?;
        let name = request.input_name.optional("input_name")?;
        let mut input = match (path, source) {
            (Some(path), None) => crate::source_stream::file(path)?,
            (None, Some(source)) => source.stream(name.unwrap_or("input"))?,
            _ => return Err(Fault::argument("give either input_path or input")),
        };
        let beside = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let cancel = request.cancel.flag()?;
        let conversion = Conversion {
            assets: request
                .asset_dir
                .optional_path("asset_dir")?
                .unwrap_or(beside),
            output: request.output_path.path("output_path")?,
            options: request
                .options_json
                .optional("options_json")?
                .unwrap_or("{}"),
            cancel: cancel.clone(),
        };
        let mut watch = Watch {
            progress: Progress::new(request.on_progress, request.userdata),
            listener: Diagnostics::new(request.on_diagnostic, request.userdata),
            cancel,
            diagnostics: 0,
        };
        let converter = plugin.converter()?;
        let summary = conversion::convert(converter, &mut *input, &conversion, &mut watch)?;
        report.set(&graft_convert_report {
            records: summary.records,
            samples: summary.samples,
            skipped: summary.skipped,
            diagnostics: watch.diagnostics,
            ..graft_convert_report::zeroed()
        })?;
        DONE
    })
}
