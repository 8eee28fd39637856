//! The entrance of every plugin.
//!
//! [`Host::load`] reads the file, checks it ([`inspect`]), and compiles it or
//! finds it compiled in the [`Cache`]. No code of the plugin runs before it is used, and each use
//! gets a fresh store.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store, Trap};

use crate::bindings::converter::ConverterPluginPre;
use crate::bindings::judge::JudgePluginPre;
use crate::bindings::{dataset, host, input, model, types};
use crate::cache::Cache;
use crate::converter::WasmConverter;
use crate::engines::Engines;
use crate::error::{Exceeded, PluginError};
use crate::evaluator::WasmEvaluator;
use crate::grants::Grants;
use crate::guest::SLICE;
use crate::imports::{State, Stop};
use crate::inspect::{PluginInfo, World, inspect};
use crate::limits::Limits;
use crate::shipped;
use crate::trust::{Trust, read_signature};

/// Runs plugins: their engines and their rules.
#[derive(Clone)]
pub struct Host {
    engines: Arc<Engines>,
    limits: Limits,
    cache: Option<Cache>,
}

/// A plugin that is checked and compiled.
pub enum Plugin {
    /// It turns exports into samples.
    Converter(WasmConverter),
    /// It scores predictions.
    Evaluator(WasmEvaluator),
}

impl Host {
    /// A host with these limits; with `cache`, compiled plugins are kept there.
    pub fn new(limits: Limits, cache: Option<Cache>) -> Result<Self, PluginError> {
        let engines = Engines::new(limits.stack_bytes);
        engines.of(limits.memory_bytes)?;
        Ok(Self {
            engines: Arc::new(engines),
            limits,
            cache,
        })
    }

    /// The same engines and cache with other limits.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Self {
            limits,
            ..self.clone()
        }
    }

    /// What plugins may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Loads the plugin file `path`, or the shipped plugin of that name.
    pub fn load(&self, path: &Path, grants: &Grants) -> Result<Plugin, PluginError> {
        self.load_trusted(path, grants, &Trust::default())
    }

    /// The same if it is what `trust` asks for. A shipped plugin is part of this library and needs no
    /// signature of its own; a pinned digest holds for it as well.
    pub fn load_trusted(
        &self,
        path: &Path,
        grants: &Grants,
        trust: &Trust,
    ) -> Result<Plugin, PluginError> {
        let name = path.to_string_lossy();
        if let Some(bytes) = shipped::plugin(&name)
            && !path.is_file()
        {
            trust.check_pin(&name, bytes)?;
            return self.load_bytes(&name, bytes, grants);
        }
        let (name, bytes) = self.read(path)?;
        let signature = match trust.wants_signature() {
            true => read_signature(path)?,
            false => None,
        };
        trust.check(&name, &bytes, signature.as_deref())?;
        self.load_bytes(&name, &bytes, grants)
    }

    /// Loads a plugin from memory; messages call it `name`.
    pub fn load_bytes(
        &self,
        name: &str,
        bytes: &[u8],
        grants: &Grants,
    ) -> Result<Plugin, PluginError> {
        let info = inspect(name, bytes, &self.limits, grants)?;
        let engine = self.engines.of(info.limits.memory_bytes)?;
        let component = self.compile(engine, name, bytes, &info.sha256)?;
        let limits = info.limits.clone();
        let misfit = |error: wasmtime::Error| PluginError::Mismatch {
            plugin: name.to_owned(),
            reason: format!("{error:#}"),
        };
        let linker = linker(engine, info.world).map_err(misfit)?;
        let instance = linker.instantiate_pre(&component).map_err(misfit)?;
        Ok(match info.world {
            World::ConverterPlugin => Plugin::Converter(WasmConverter {
                info,
                engine: engine.clone(),
                limits,
                plugin: ConverterPluginPre::new(instance).map_err(misfit)?,
            }),
            World::EvaluatorPlugin | World::JudgePlugin => Plugin::Evaluator(WasmEvaluator {
                info,
                engine: engine.clone(),
                limits,
                plugin: JudgePluginPre::new(instance).map_err(misfit)?,
            }),
        })
    }

    /// Describes a plugin file or shipped plugin without compiling it.
    pub fn info(&self, path: &Path) -> Result<PluginInfo, PluginError> {
        let grants = Grants { model: true };
        let name = path.to_string_lossy();
        if let Some(bytes) = shipped::plugin(&name)
            && !path.is_file()
        {
            return inspect(&name, bytes, &self.limits, &grants);
        }
        let (name, bytes) = self.read(path)?;
        inspect(&name, &bytes, &self.limits, &grants)
    }

    fn read(&self, path: &Path) -> Result<(String, Vec<u8>), PluginError> {
        let failed = |source| PluginError::Read {
            path: path.to_owned(),
            source,
        };
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy().into_owned();
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(PluginError::Unknown {
                    name: path.display().to_string(),
                    shipped: shipped::names().collect::<Vec<_>>().join(", "),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        if metadata.len() > self.limits.plugin_bytes {
            return Err(PluginError::TooLarge {
                plugin: name,
                bytes: metadata.len(),
                limit: self.limits.plugin_bytes,
            });
        }
        let bytes = fs::read(path).map_err(failed)?;
        Ok((name, bytes))
    }

    /// The plugin compiled, now or before; `hash` is that of `bytes`.
    fn compile(
        &self,
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        hash: &str,
    ) -> Result<Component, PluginError> {
        let cached = self.cache.as_ref();
        if let Some(component) = cached.and_then(|cache| cache.load(engine, hash)) {
            return Ok(component);
        }
        let component =
            Component::from_binary(engine, bytes).map_err(|error| PluginError::Compile {
                plugin: name.to_owned(),
                reason: format!("{error:#}"),
            })?;
        if let Some(cache) = cached {
            cache.store(engine, hash, &component);
        }
        Ok(component)
    }
}

impl Plugin {
    /// What it is.
    pub fn info(&self) -> &PluginInfo {
        match self {
            Self::Converter(converter) => &converter.info,
            Self::Evaluator(evaluator) => &evaluator.info,
        }
    }

    /// The plugin as a converter.
    pub fn into_converter(self) -> Result<WasmConverter, PluginError> {
        match self {
            Self::Converter(converter) => Ok(converter),
            Self::Evaluator(other) => Err(wrong_world(other.info, World::ConverterPlugin)),
        }
    }

    /// The plugin as an evaluator.
    pub fn into_evaluator(self) -> Result<WasmEvaluator, PluginError> {
        match self {
            Self::Evaluator(evaluator) => Ok(evaluator),
            Self::Converter(other) => Err(wrong_world(other.info, World::EvaluatorPlugin)),
        }
    }
}

fn wrong_world(info: PluginInfo, wanted: World) -> PluginError {
    PluginError::WrongWorld {
        plugin: info.name,
        found: info.world.name(),
        wanted: wanted.name(),
    }
}

/// The interfaces that `world` may call, and nothing else.
fn linker(engine: &Engine, world: World) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    types::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    host::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    dataset::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    if world != World::EvaluatorPlugin {
        input::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if world == World::JudgePlugin {
        model::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    Ok(linker)
}

/// A store in which every limit holds.
pub(crate) fn store(engine: &Engine, state: State) -> Store<State> {
    let call_bytes = state.limits.call_bytes;
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(call_bytes);
    store
}

/// Gives a plugin its fuel for a call, in slices between which its clock is looked at.
pub(crate) fn fuel_up(store: &mut Store<State>, fuel: u64) -> wasmtime::Result<()> {
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(SLICE))
}

/// Says in our words why the engine ended a plugin.
pub(crate) fn explain(
    plugin: &str,
    error: wasmtime::Error,
    state: &State,
    fuel: u64,
) -> PluginError {
    let plugin = plugin.to_owned();
    let limit = |limit| PluginError::Limit {
        plugin: plugin.clone(),
        limit,
    };
    match error.downcast_ref::<Stop>() {
        Some(Stop::Limit(exceeded)) => return limit(*exceeded),
        Some(Stop::BadValue(reason)) => {
            let reason = reason.clone();
            return PluginError::BadValue { plugin, reason };
        }
        Some(Stop::Cancelled | Stop::Caller) => return PluginError::Cancelled { plugin },
        None => {}
    }
    if let Some(wanted) = state.memory.refused {
        let limit_bytes = state.limits.memory_bytes;
        return limit(Exceeded::Memory {
            wanted,
            limit: limit_bytes,
        });
    }
    if let Some(wasmtime::component::ResourceTableError::Full) = error.downcast_ref() {
        return limit(Exceeded::Handles(state.limits.handles));
    }
    let reason = format!("{:#}", error.root_cause());
    // What the operating system refuses is not the plugin's doing.
    if error.root_cause().is::<std::io::Error>() {
        return PluginError::Host { plugin, reason };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => limit(Exceeded::Fuel(fuel)),
        Some(Trap::StackOverflow) => limit(Exceeded::Stack(state.limits.stack_bytes)),
        Some(_) => PluginError::Trap { plugin, reason },
        // The engine has no type for this one.
        None if reason.contains("fuel allocated for hostcalls") => {
            limit(Exceeded::CallBytes(state.limits.call_bytes))
        }
        None => PluginError::BadValue { plugin, reason },
    }
}

/// Refuses options that are no JSON object before a plugin sees them.
pub(crate) fn check_options(options: &str) -> Result<(), String> {
    match serde_json::from_str(options) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err("expected a JSON object".into()),
        Err(error) => Err(error.to_string()),
    }
}
