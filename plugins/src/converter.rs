//! A plugin of the world `converter-plugin` as a [`Converter`] of the runtime.

use graft::cancel::Cancel;
use graft::dataset::converter::{ConverterDescription, DETECT_BYTES, Format};
use graft::dataset::{
    ConvertError, ConvertHost, Converter, Diagnostic, SampleSink, Source, Summary,
};
use wasmtime::component::Resource;
use wasmtime::{Engine, Store};

use crate::bindings::converter::exports::graft::plugin::converter as export;
use crate::bindings::converter::{ConverterPlugin, ConverterPluginPre};
use crate::bindings::types;
use crate::caller::{Caller, ConvertCaller, Failure};
use crate::error::PluginError;
use crate::guest::CallerLine;
use crate::host::{check_options, explain, fuel_up, store};
use crate::imports::{OpenSink, OpenSource, State};
use crate::inspect::PluginInfo;
use crate::limits::Limits;
use crate::translate::{self, readable};

/// A converter in a sandbox. Each conversion runs in a fresh one.
pub struct WasmConverter {
    pub(crate) info: PluginInfo,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) plugin: ConverterPluginPre<State>,
}

impl WasmConverter {
    /// What it is.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// What the plugin's `detect` says, whether or not it is one of 0 to 100.
    pub(crate) fn sure_of(&self, head: &[u8], name: &str) -> Result<u8, ConvertError> {
        let head = head[..head.len().min(DETECT_BYTES)].to_vec();
        let name = name.to_owned();
        self.ask(async |plugin, store| {
            let converter = plugin.graft_plugin_converter();
            converter.call_detect(store, &head, &name).await
        })
    }

    /// Runs `work` with a fresh instance of the plugin.
    fn run<R>(
        &self,
        caller: &mut dyn Caller,
        cancel: Cancel,
        fuel: u64,
        work: impl AsyncFnOnce(&ConverterPlugin, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Done<R> {
        let line = CallerLine::default();
        let state = State::new(self.limits.clone(), cancel, line.clone());
        let clock = state.clock.clone();
        let mut store = store(&self.engine, state);
        let result = line.serve(caller, &clock, async {
            fuel_up(&mut store, fuel)?;
            let instance = self.plugin.instantiate_async(&mut store).await?;
            work(&instance, &mut store).await
        });
        let state = store.data();
        Done {
            result: result.map_err(|error| explain(&self.info.name, error, state, fuel)),
            samples: state.samples,
            left_out: state.left_out(),
        }
    }

    /// A short call that needs nothing of the outside.
    fn ask<R>(
        &self,
        work: impl AsyncFnOnce(&ConverterPlugin, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, ConvertError> {
        let done = self.run(&mut Nobody, Cancel::new(), self.limits.fuel, work);
        done.result.map_err(failed)
    }
}

/// How a plugin ended, and what it did until then.
struct Done<R> {
    result: Result<R, PluginError>,
    samples: u64,
    left_out: Vec<Diagnostic>,
}

impl Converter for WasmConverter {
    fn describe(&self) -> Result<ConverterDescription, ConvertError> {
        let described = self.ask(async |plugin, store| {
            plugin.graft_plugin_converter().call_describe(store).await
        })?;
        let format = |format: export::Format| Format {
            id: format.id,
            title: format.title,
            extensions: format.extensions,
        };
        Ok(ConverterDescription {
            formats: described.formats.into_iter().map(format).collect(),
            options_schema: described.options_schema,
        })
    }

    fn detect(&self, head: &[u8], name: &str) -> Result<u8, ConvertError> {
        Ok(self.sure_of(head, name)?.min(100))
    }

    fn convert(
        &self,
        input: &mut dyn Source,
        output: &mut dyn SampleSink,
        options: &str,
        host: &dyn ConvertHost,
    ) -> Result<Summary, ConvertError> {
        check_options(options).map_err(ConvertError::InvalidOptions)?;
        let cancel = host.cancel();
        let (name, size) = (input.name().to_owned(), input.size());
        // Of a pipe we do not know the length; there the deadline alone stops a runaway.
        let bytes = size.unwrap_or(1 << 40);
        let fuel = self
            .limits
            .fuel
            .saturating_add(bytes.saturating_mul(self.limits.fuel_per_byte));
        let mut caller = ConvertCaller {
            input,
            output,
            host,
            failure: None,
        };
        let done = self.run(&mut caller, cancel.clone(), fuel, async |plugin, store| {
            let source = OpenSource::Input { name, size };
            let source = store.data_mut().table.push(source)?;
            let sink = store.data_mut().table.push(OpenSink)?;
            let source = Resource::new_borrow(source.rep());
            let sink = Resource::new_borrow(sink.rep());
            let converter = plugin.graft_plugin_converter();
            converter.call_convert(store, source, sink, options).await
        });
        if let Some(failure) = caller.failure {
            return Err(failure);
        }
        for remark in done.left_out {
            host.report(remark);
        }
        let summary = match done.result.map_err(failed)? {
            Ok(summary) => summary,
            Err(error) => return Err(told(error, &cancel)),
        };
        if summary.samples != done.samples {
            return Err(failed(PluginError::Summary {
                plugin: self.info.name.clone(),
                claimed: summary.samples,
                emitted: done.samples,
            }));
        }
        Ok(Summary {
            records: summary.records,
            samples: summary.samples,
            skipped: summary.skipped,
        })
    }
}

/// Nobody to talk to: for calls that only ask the plugin about itself.
struct Nobody;

impl Caller for Nobody {
    fn log(&mut self, _: graft::dataset::converter::LogLevel, _: &str) {}
    fn report(&mut self, _: Diagnostic) {}
    fn checkpoint(&mut self, _: u64, _: Option<u64>) -> Result<(), Failure> {
        Ok(())
    }
}

fn failed(error: PluginError) -> ConvertError {
    match error {
        PluginError::Cancelled { .. } => ConvertError::Cancelled,
        other => ConvertError::Plugin(Box::new(other)),
    }
}

/// What is said of a plugin that returns `cancelled` while the flag of its caller is not raised.
pub(crate) const UNASKED: &str = "it stopped although nobody asked it to";

/// An error that the plugin itself returned.
fn told(error: types::Error, cancel: &Cancel) -> ConvertError {
    match error {
        types::Error::Cancelled if cancel.is_raised() => ConvertError::Cancelled,
        types::Error::Cancelled => ConvertError::Internal(UNASKED.into()),
        types::Error::LimitExceeded(reason) => ConvertError::LimitExceeded(readable(&reason)),
        types::Error::Io(reason) => ConvertError::Io {
            what: "the converter could not read a file of the export".into(),
            source: std::io::Error::other(readable(&reason)),
        },
        types::Error::InvalidInput(diagnostic) => {
            ConvertError::InvalidInput(Box::new(translate::diagnostic(diagnostic)))
        }
        types::Error::InvalidOptions(reason) => ConvertError::InvalidOptions(readable(&reason)),
        types::Error::NotFound(name) => ConvertError::NotFound(readable(&name)),
        types::Error::Denied(reason) => ConvertError::Denied(readable(&reason)),
        types::Error::Unsupported(reason) => ConvertError::Unsupported(readable(&reason)),
        types::Error::Internal(reason) => ConvertError::Internal(readable(&reason)),
    }
}
